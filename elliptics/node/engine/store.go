package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sync/semaphore"
)

// Key names a record.
type Key [64]byte

// Time is a record's timestamp. The engine does not interpret it.
type Time struct{ Sec, Nsec uint64 }

// Info describes a record.
type Info struct {
	Size      uint64 // bytes
	Reserved  uint64 // the user's
	Timestamp Time
	UserFlags uint64
	Flags     uint64 // the user's
}

// The engine's errors. They arrive wrapped.
var (
	ErrNotFound = errors.New("no such record")
	// ErrCorrupt: bytes on the disk are not those that were written.
	ErrCorrupt = errors.New("damaged on disk")
	// ErrNoSpace: the file system is full. Reads and deletions go on.
	ErrNoSpace = errors.New("no space left on the file system")
	// ErrReadOnly: the disk failed a write or a sync, so that nothing can be
	// promised any more. The store can be read; restart it when the disk is
	// well again.
	ErrReadOnly = errors.New("read-only after a disk error")
	ErrClosed   = errors.New("store is closed")
)

// SyncMode says when a change is acknowledged.
type SyncMode int

const (
	// SyncAlways acknowledges what is on stable storage. One sync serves all
	// changes that wait for it.
	SyncAlways SyncMode = iota
	// SyncInterval acknowledges at once and syncs every Options.SyncInterval.
	SyncInterval
	// SyncNone acknowledges at once and syncs when the engine needs it.
	SyncNone
)

// ParseSyncMode reads always, interval or none.
func ParseSyncMode(s string) (SyncMode, error) {
	switch s {
	case "always":
		return SyncAlways, nil
	case "interval":
		return SyncInterval, nil
	case "none":
		return SyncNone, nil
	}
	return 0, fmt.Errorf("sync mode %q: always, interval or none expected", s)
}

// String is what ParseSyncMode reads.
func (m SyncMode) String() string { return [...]string{"always", "interval", "none"}[m] }

// Options tune a store; the zero value of each field means its default.
type Options struct {
	Sync         SyncMode
	SyncInterval time.Duration // default 1 s
	SegmentSize  int64         // bytes after which a new segment begins; default 256 MiB
	// MinFree is the free space that only deletions and compaction may use,
	// in bytes; default 64 MiB.
	MinFree int64
	// MaxUnsynced bounds the bytes that wait for a sync; default 64 MiB.
	MaxUnsynced int64
	Logger      *slog.Logger
	FS          vfs.FS // default: the machine's
}

func (o *Options) fill() {
	def := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	if o.SyncInterval == 0 {
		o.SyncInterval = time.Second
	}
	def(&o.SegmentSize, 256<<20)
	def(&o.MinFree, 64<<20)
	def(&o.MaxUnsynced, 64<<20)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.FS == nil {
		o.FS = vfs.Default
	}
}

// Store is an open store. It is safe for concurrent use.
//
// Lock order: a key's lock, then mu. No file is touched under mu, except to
// begin a new segment.
type Store struct {
	opt   Options
	dir   string
	index *index
	keys  [256]sync.Mutex // see lockOf

	unsynced *semaphore.Weighted
	failed   atomic.Pointer[error] // why the store is read-only
	closing  chan struct{}
	wg       sync.WaitGroup

	mu       sync.Mutex
	seq      uint64
	durable  uint64 // all frames up to this one are on stable storage
	segments map[uint64]*segment
	active   *segment
	live     map[uint64]int64 // bytes that records need, by segment
	records  int64
	pending  []*Commit       // sequenced, not durable, in order
	overlay  map[Key]*Commit // the newest of pending for each key
	wake     chan struct{}   // the syncer has something to do
	hurry    chan struct{}   // somebody waits for it
	closed   bool
	lost     map[uint64]struct{} // segments that compaction could not read
	copied   atomic.Int64        // bytes that compaction wrote
}

// Open opens or makes the store in a directory. It waits for the replay of
// what the index lacks.
func Open(dir string, opt Options) (*Store, error) {
	opt.fill()
	s := &Store{
		opt: opt, dir: dir,
		unsynced: semaphore.NewWeighted(opt.MaxUnsynced),
		closing:  make(chan struct{}),
		segments: make(map[uint64]*segment),
		live:     make(map[uint64]int64),
		overlay:  make(map[Key]*Commit),
		wake:     make(chan struct{}, 1),
		hurry:    make(chan struct{}, 1),
		lost:     make(map[uint64]struct{}),
	}
	if err := s.recover(); err != nil {
		_ = s.closeFiles()
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	s.wg.Add(2)
	go s.syncer()
	go s.compactor()
	return s, nil
}

// Close makes everything durable and closes the files. Snapshots must be
// closed before.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	close(s.closing)
	s.wg.Wait()
	err := s.failure()
	if err == nil {
		err = s.index.flush()
	}
	return errors.Join(err, s.closeFiles())
}

func (s *Store) closeFiles() (err error) {
	if s.index != nil {
		err = s.index.close()
	}
	for _, g := range s.segments {
		err = errors.Join(err, g.file.Close())
	}
	return err
}

// fail makes the store read-only: after a failed write or sync nobody knows
// what is on the disk.
func (s *Store) fail(err error) error {
	err = fmt.Errorf("%w: %w", ErrReadOnly, err)
	if s.failed.CompareAndSwap(nil, &err) {
		s.opt.Logger.Error("the store is read-only from now on: the disk failed", "directory", s.dir, "error", err)
	}
	return *s.failed.Load()
}

func (s *Store) failure() error {
	if p := s.failed.Load(); p != nil {
		return *p
	}
	return nil
}

// Change is what becomes of a record.
type Change struct {
	Delete    bool // the rest does not matter then
	Data      [][]byte
	Offset    uint64 // where Data goes
	Size      uint64 // of the record afterwards, which cuts it or fills it with zeros
	Reserved  uint64
	Timestamp Time
	UserFlags uint64
	Flags     uint64
}

// Commit is a change that has its place in the order of all changes.
type Commit struct {
	store   *Store
	key     Key
	old     *record
	record  *record // nil: deleted
	segment *segment
	end     uint64 // of the frame
	cost    int64
	seq     uint64
	void    bool // changes nothing
	written bool // guarded by Store.mu
	done    chan struct{}
	err     error
	now     bool // acknowledged before it is durable
}

// Info describes the record after the change; the zero Info after a deletion.
func (c *Commit) Info() Info {
	if c.record == nil {
		return Info{}
	}
	return c.record.info
}

// Position is where the change is: a file's name within the store's directory,
// and an offset.
func (c *Commit) Position() (file string, offset uint64) {
	if c.record == nil {
		return "", 0
	}
	return c.store.position(c.record)
}

// Wait returns when the change is acknowledged in the sense of the SyncMode.
func (c *Commit) Wait(ctx context.Context) error {
	if c.now || c.done == nil {
		return nil
	}
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// current is the newest state of a key and, while that is not durable, the
// change that made it.
func (s *Store) current(key Key) (*record, *Commit, error) {
	s.mu.Lock()
	c := s.overlay[key]
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return nil, nil, ErrClosed
	}
	if c != nil {
		return c.record, c, nil
	}
	r, err := s.index.get(key)
	return r, nil, err
}

// lockOf is the lock of a key, which other keys may have too. Keys that are
// made from others can differ in a few of their bytes only.
func (s *Store) lockOf(key *Key) *sync.Mutex { return &s.keys[key[0]^key[1]^key[63]] }

// Get finds a record. It waits until what it finds is durable, in the sense of
// the SyncMode, so that nobody sees what a crash would take back.
func (s *Store) Get(ctx context.Context, key Key) (*Snapshot, error) {
	for {
		r, c, err := s.current(key)
		if err != nil {
			return nil, err
		}
		if c != nil {
			if err := c.Wait(ctx); err != nil {
				return nil, err
			}
		}
		if r == nil {
			return nil, ErrNotFound
		}
		if snap, ok := s.snapshot(key, r); ok {
			return snap, nil
		}
		// Compaction has moved the record since: look again.
	}
}

// Update changes a record: fn sees its newest state (nil: there is none), which
// need not be durable yet, and says what becomes of it (nil: nothing). When
// Update returns, the change is in its place before all later ones of the key;
// Commit.Wait tells when it is acknowledged. Changes of one key are made one
// after the other. The data must not change before Update returns.
func (s *Store) Update(ctx context.Context, key Key, fn func(old *Snapshot) (*Change, error)) (*Commit, error) {
	lock := s.lockOf(&key)
	lock.Lock()
	defer lock.Unlock()
	var old *record
	var last *Commit
	var snap *Snapshot
	for {
		var err error
		if old, last, err = s.current(key); err != nil {
			return nil, err
		}
		if old == nil {
			break
		}
		var ok bool
		if snap, ok = s.snapshot(key, old); ok {
			defer snap.Close()
			break
		}
	}
	change, err := fn(snap)
	if err != nil {
		return nil, err
	}
	if change == nil || change.Delete && old == nil {
		if last != nil { // as good as what it leaves alone
			return last, nil
		}
		return &Commit{store: s, key: key, record: old}, nil
	}
	f := frame{key: key, kind: kindPut, offset: change.Offset, info: Info{
		Size: change.Size, Reserved: change.Reserved, Timestamp: change.Timestamp, UserFlags: change.UserFlags, Flags: change.Flags,
	}}
	data := change.Data
	for _, d := range data {
		f.dataLen += uint64(len(d))
	}
	if f.dataLen > maxDataSize || change.Offset+f.dataLen < change.Offset {
		return nil, fmt.Errorf("change of %d bytes at %d is too large", f.dataLen, change.Offset)
	}
	if change.Delete {
		f = frame{key: key, kind: kindDelete}
		data = nil
	} else if old != nil {
		f.keep = min(old.info.Size, change.Size)
		if change.Offset == old.info.Size && f.dataLen > 0 { // an append
			from := mergeFrom(old.extents, old.info.Size, f.dataLen)
			if from < len(old.extents) {
				at := old.extents[from].at
				tail := make([]byte, old.info.Size-at)
				if err := snap.ReadAt(tail, int64(at)); err == nil { // damage stays where it is
					data = append([][]byte{tail}, data...)
					f.offset, f.dataLen = at, f.dataLen+uint64(len(tail))
				}
			}
		}
	}
	return s.append(ctx, old, &f, data)
}
