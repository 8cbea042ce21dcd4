package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/elliptics-registry/elliptics-registry/elliptics/node/engine"
)

// A data directory holds the backends of one node, and what others need to
// find the node that runs on it:
//
//	LOCK       held (flock) by the process whose node runs here
//	node.json  that node's address and process, while it runs
//	group-N/   the backend of group N
const (
	lockFile = "LOCK"
	nodeFile = "node.json"
	groupDir = "group-"
)

// announcement is the contents of node.json. It counts only while the lock is
// held: a killed process leaves it behind, and the next one removes it.
type announcement struct {
	Remote string `json:"remote"` // host:port:family; empty: no listener
	PID    int    `json:"pid"`
}

// ErrInUse is what OpenDir answers when a node runs on the directory already.
type ErrInUse struct {
	Dir    string
	Remote string // of the running node; empty when it has no listener, or is still starting
	PID    int    // 0 when it is not known yet
}

// Error names the directory, and how to reach the node that has it.
func (e *ErrInUse) Error() string {
	switch {
	case e.PID == 0:
		return fmt.Sprintf("data directory %s is being opened by another process", e.Dir)
	case e.Remote == "":
		return fmt.Sprintf("data directory %s is in use by process %d, whose node cannot be reached from outside", e.Dir, e.PID)
	}
	return fmt.Sprintf("data directory %s is in use by process %d: talk to its node at %s, or stop it", e.Dir, e.PID, e.Remote)
}

// dataDir is a locked data directory.
type dataDir struct {
	path      string
	lock      *os.File
	announced bool
}

// lockPatience is how long OpenDir waits for the lock: Running takes it for a
// moment.
const lockPatience = 300 * time.Millisecond

// OpenDir opens a node on the data directory dir, one backend for each of
// groups, and makes what does not exist. Backends of cfg are refused. Other
// processes find the node with Running. It answers *ErrInUse when another
// node, of this process or another, runs on dir.
func OpenDir(dir string, groups []uint32, cfg Config) (*Node, error) {
	if len(cfg.Backends) != 0 {
		return nil, errors.New("node: backends of a data directory follow from its groups; Config.Backends must be empty")
	}
	if len(groups) == 0 {
		return nil, fmt.Errorf("node: data directory %s: no groups", dir)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("node: data directory %s: %w", dir, err)
	}
	seen := make(map[uint32]bool)
	for i, group := range groups {
		if seen[group] {
			return nil, fmt.Errorf("node: data directory %s: group %d is named twice", dir, group)
		}
		seen[group] = true
		cfg.Backends = append(cfg.Backends, Backend{
			ID:    uint32(i) + 1,
			Group: group,
			Dir:   filepath.Join(abs, groupDir+strconv.FormatUint(uint64(group), 10)),
		})
	}
	d, err := lockDir(abs)
	if err != nil {
		return nil, err
	}
	n, err := open(cfg)
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	n.dir = d
	remote := ""
	if n.listener != nil {
		remote = n.Remote()
	}
	if err := d.announce(remote); err != nil {
		return nil, errors.Join(fmt.Errorf("node: data directory %s: %w", dir, err), n.Close())
	}
	n.serve()
	return n, nil
}

func lockDir(path string) (*dataDir, error) {
	if err := engine.MakeDir(path); err != nil {
		return nil, fmt.Errorf("node: data directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(path, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("node: data directory: %w", err)
	}
	for end := time.Now().Add(lockPatience); ; time.Sleep(10 * time.Millisecond) {
		ok, err := tryLock(f, true)
		switch {
		case err != nil:
			f.Close()
			return nil, fmt.Errorf("node: cannot lock data directory %s: %w", path, err)
		case ok:
			// A killed process leaves its announcement behind. From here on
			// there is none until this node listens.
			if err := os.Remove(filepath.Join(path, nodeFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				f.Close()
				return nil, fmt.Errorf("node: data directory: %w", err)
			}
			return &dataDir{path: path, lock: f}, nil
		case time.Now().After(end):
			f.Close()
			a, _ := readAnnouncement(path)
			return nil, &ErrInUse{Dir: path, Remote: a.Remote, PID: a.PID}
		}
	}
}

func (d *dataDir) announce(remote string) error {
	b, err := json.Marshal(announcement{Remote: remote, PID: os.Getpid()})
	if err != nil {
		return err
	}
	d.announced = true
	return writeFile(filepath.Join(d.path, nodeFile), append(b, '\n'))
}

func (d *dataDir) close() error {
	var err error
	if d.announced {
		err = os.Remove(filepath.Join(d.path, nodeFile))
	}
	return errors.Join(err, d.lock.Close())
}

func readAnnouncement(path string) (announcement, error) {
	var a announcement
	b, err := os.ReadFile(filepath.Join(path, nodeFile))
	if err != nil {
		return a, err
	}
	return a, json.Unmarshal(b, &a)
}

// Running finds the node that runs on the data directory dir, for tools that
// work beside it. It answers its address as `host:port:family`, and false
// when no node runs there or there is no such directory. A node that has no
// listener, or has not said where it listens yet, is an *ErrInUse.
func Running(dir string) (remote string, ok bool, err error) {
	f, err := os.Open(filepath.Join(dir, lockFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("node: data directory: %w", err)
	}
	defer f.Close()
	for end := time.Now().Add(lockPatience); ; time.Sleep(10 * time.Millisecond) {
		free, err := tryLock(f, false)
		if err != nil {
			return "", false, fmt.Errorf("node: cannot look at the lock of data directory %s: %w", dir, err)
		}
		if free {
			return "", false, nil
		}
		a, err := readAnnouncement(dir)
		if err == nil && a.Remote != "" {
			return a.Remote, true, nil
		}
		if time.Now().After(end) {
			return "", false, &ErrInUse{Dir: dir, PID: a.PID}
		}
	}
}
