package layout

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"sync"
	"sync/atomic"
	"time"
)

// Options tune a filesystem; the zero value of each field means its default.
type Options struct {
	// ChunkSize is the length of a chunk in bytes; default 4 MiB, at most 16.
	// It is recorded with each file, so it can change at any time.
	ChunkSize int
	// ChunksInFlight bounds the chunks that one writer sends at once, beside
	// the one that it fills; default 4. Fewer leave the disk idle between two
	// syncs.
	ChunksInFlight int
	// TrashGrace is how long content is kept after nobody needs it any more,
	// for readers that are in the middle of it; default 1 hour. No upload
	// step may take longer.
	TrashGrace time.Duration
	// Timeout bounds a whole operation that no longer depends on its caller's
	// context; default 1 minute.
	Timeout time.Duration
	// AllGroups makes every operation need all groups instead of a majority:
	// for tools that must not miss what a group that is away may know.
	AllGroups bool
	// ReadOrder says in which order the groups are asked for a chunk, given
	// its number; default: beginning with one that the number chooses, so that
	// they share the work.
	ReadOrder func(chunk int) []uint32
	// Logger gets what an operator should know; default slog.Default().
	Logger *slog.Logger
	// Now is the wall clock; default time.Now.
	Now func() time.Time
}

const maxChunkSize = 16 << 20

func (o *Options) fill() error {
	if o.ChunkSize == 0 {
		o.ChunkSize = 4 << 20
	}
	if o.ChunkSize < inlineLimit || o.ChunkSize > maxChunkSize {
		return fmt.Errorf("chunk size of %d bytes: %d to %d expected", o.ChunkSize, inlineLimit, maxChunkSize)
	}
	if o.ChunksInFlight == 0 {
		o.ChunksInFlight = 4
	}
	if o.TrashGrace == 0 {
		o.TrashGrace = time.Hour
	}
	if o.Timeout == 0 {
		o.Timeout = time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}

// FS is a filesystem in a Store. It is safe for concurrent use, and any number
// of them, in any number of processes, may use the same groups.
type FS struct {
	opt     Options
	cluster *cluster
	clock   *Clock
	life    *lifetime
	healer  healer
	pace    pace
	tidying atomic.Int32 // logs that are mended or compacted
	dirs    dirCache
	buffers *bufferPool

	mu      sync.Mutex
	writers map[string][]*Writer // open ones, by path
	warned  map[string]time.Time
}

// New makes a filesystem. It sends nothing.
func New(store Store, opt Options) (*FS, error) {
	if err := opt.fill(); err != nil {
		return nil, err
	}
	if len(store.Groups()) == 0 {
		return nil, errors.New("no groups")
	}
	fs := &FS{
		opt:     opt,
		clock:   NewClock(opt.Now),
		pace:    pace{slow: make([]atomic.Int64, len(store.Groups()))},
		life:    newLifetime(),
		buffers: newBufferPool(opt.ChunkSize),
		writers: make(map[string][]*Writer),
		warned:  make(map[string]time.Time),
	}
	fs.cluster = newCluster(store, opt.Timeout, fs.life, fs.groupFailed)
	if opt.AllGroups {
		fs.cluster.need = len(fs.cluster.groups)
	}
	return fs, nil
}

// Close waits for what runs in the background. Writers that are still open
// keep what they have written, but it is not acknowledged.
func (fs *FS) Close() error {
	fs.life.close()
	return nil
}

// Check asks a majority of the groups for the root directory.
func (fs *FS) Check(ctx context.Context) error {
	_, err := ask(ctx, fs.cluster, func(ctx context.Context, g uint32) (struct{}, error) {
		v, err := fs.cluster.store.Read(ctx, g, dirKey("/"), 0, 1)
		if isNotFound(err) {
			return struct{}{}, nil
		}
		v.Release()
		return struct{}{}, err
	}, func([]answer[struct{}]) bool { return true })
	return err
}

// groupFailed tells the operator, not more than once a minute for each group.
func (fs *FS) groupFailed(group uint32, err error) {
	if isConflict(err) || errors.Is(err, context.Canceled) {
		return
	}
	fs.warn(fmt.Sprint("group ", group), "a group does not answer or refuses", "group", group, "error", err)
}

func (fs *FS) warn(what, message string, args ...any) {
	now := fs.opt.Now()
	fs.mu.Lock()
	quiet := now.Sub(fs.warned[what]) < time.Minute
	if !quiet {
		if len(fs.warned) > 1000 {
			clear(fs.warned)
		}
		fs.warned[what] = now
	}
	fs.mu.Unlock()
	if !quiet {
		fs.opt.Logger.Warn(message, args...)
	}
}

// detach gives a write a deadline of its own: a client that hangs up must not
// leave it half done.
func (fs *FS) detach(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), fs.opt.Timeout)
}

const maxAttempts = 10

// errStale: something newer is there; with a newer timestamp it may work.
var errStale = errors.New("something newer is there")

// retry runs a write with one timestamp, and again with a newer one while
// somebody else was faster.
func (fs *FS) retry(ctx context.Context, op, p string, f func(ts Timestamp) error) error {
	for attempt := range maxAttempts {
		if fs.life.ctx.Err() != nil {
			return &PathError{op, p, errClosed}
		}
		ts := fs.clock.Next()
		err := f(ts)
		if err == nil {
			return nil
		}
		if !errors.Is(err, errStale) {
			return &PathError{op, p, err}
		}
		select {
		case <-time.After(ts.spread(time.Millisecond << min(attempt, 6))):
		case <-ctx.Done():
			return &PathError{op, p, context.Cause(ctx)}
		}
	}
	return &PathError{op, p, ErrConcurrent}
}

// observe follows a timestamp that was read.
func (fs *FS) observe(ts Timestamp, what string) bool {
	if fs.clock.Observe(ts) {
		return true
	}
	fs.warn("clock", "a record carries a timestamp far in the future; compare the clocks of the machines that run registries",
		"record", what, "timestamp", ts.Time())
	return false
}

// Info describes a file or a directory.
type Info struct {
	Path string
	Dir  bool
	Open bool // being written, not readable yet
	// Quarantined: not readable any more, see ErrQuarantined.
	Quarantined bool
	Size        int64
	Mtime       Timestamp // of files
	// Written is when the file's record was written last: with its content, or
	// by Renew.
	Written Timestamp
}

func (r *fileRecord) info() Info {
	return Info{Path: r.path, Open: r.state == stateOpen, Quarantined: r.state == stateQuarantined, Size: r.size(), Mtime: r.mtime, Written: r.ts}
}

// Stat describes what is at a path: a file, finished or not, or a directory.
func (fs *FS) Stat(ctx context.Context, p string) (Info, error) {
	if p != "/" {
		rec, err := fs.readRecord(ctx, p)
		if err != nil {
			return Info{}, &PathError{"stat", p, err}
		}
		if rec.alive() {
			return rec.info(), nil
		}
	}
	dir, err := fs.isDir(ctx, p)
	if err != nil {
		return Info{}, &PathError{"stat", p, err}
	}
	if !dir {
		return Info{}, &PathError{"stat", p, ErrNotExist}
	}
	return Info{Path: p, Dir: true}, nil
}

// isDir asks the parent, which knows.
func (fs *FS) isDir(ctx context.Context, p string) (bool, error) {
	if p == "/" {
		return true, fs.refresh(ctx, fs.dir("/"))
	}
	parent := fs.dir(path.Dir(p))
	if err := fs.refresh(ctx, parent); err != nil {
		return false, err
	}
	e, visible, _ := parent.lookup(path.Base(p))
	return visible && e.kind == KindDir, nil
}

// List returns the names in a directory, in bytewise order, unfinished files
// among them.
func (fs *FS) List(ctx context.Context, p string) ([]Entry, error) {
	d := fs.dir(p)
	if err := fs.refresh(ctx, d); err != nil {
		return nil, &PathError{"list", p, err}
	}
	entries, _ := d.entries()
	if len(entries) == 0 {
		dir, err := fs.isDir(ctx, p)
		if err != nil {
			return nil, &PathError{"list", p, err}
		}
		if !dir {
			return nil, &PathError{"list", p, ErrNotExist}
		}
	}
	return entries, nil
}
