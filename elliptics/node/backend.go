package node

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/elliptics-registry/elliptics-registry/elliptics/node/engine"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// backend is one directory of records, open or not.
type backend struct {
	node  *Node
	id    uint32
	group uint32
	dir   string
	queue *keyQueue

	readOnly  atomic.Bool
	delay     atomic.Int64 // time.Duration before each request
	control   sync.Mutex   // one change of the backend at a time
	iterators iterators

	mu       sync.Mutex
	store    *engine.Store // nil: disabled, or about to be
	users    int           // of the store: it is closed when there are none
	unused   sync.Cond     // users went down to 0
	ids      []wire.ID
	state    wire.BackendState
	started  time.Time // of the last opening
	startErr wire.Status
	compact  context.CancelFunc // while a compaction that was asked for runs
}

func newBackend(n *Node, cfg Backend) *backend {
	b := &backend{node: n, id: cfg.ID, group: cfg.Group, dir: cfg.Dir}
	b.iterators.stopping = n.stopping
	b.readOnly.Store(cfg.ReadOnly)
	b.queue = newKeyQueue(n.start)
	b.unused.L = &b.mu
	return b
}

// open opens the store. The caller tells clients.
func (b *backend) open() error {
	b.setState(wire.BackendActivating)
	err := b.openStore()
	b.iterators.open()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.started = time.Now()
	b.state, b.startErr = wire.BackendEnabled, wire.OK
	if err != nil {
		b.state, b.startErr = wire.BackendDisabled, wire.ErrIO
	}
	return err
}

func (b *backend) openStore() error {
	if err := engine.MakeDir(b.dir); err != nil {
		return fmt.Errorf("backend %d (group %d): %w", b.id, b.group, err)
	}
	ids, err := loadIDs(b.dir)
	if err != nil {
		return fmt.Errorf("backend %d (group %d): %w", b.id, b.group, err)
	}
	opt := engine.Options{
		Sync:         b.node.cfg.Sync,
		SyncInterval: b.node.cfg.SyncInterval,
		Logger:       b.node.log.With("backend", b.id, "group", b.group),
	}
	if edit := b.node.cfg.engineOptions; edit != nil {
		edit(Backend{ID: b.id, Group: b.group, Dir: b.dir}, &opt)
	}
	store, err := engine.Open(b.dir, opt)
	if err != nil {
		return fmt.Errorf("backend %d (group %d): %w", b.id, b.group, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ids, b.store = ids, store
	return nil
}

// close admits no further requests, waits for those that use the store, and
// closes it.
func (b *backend) close() error {
	b.mu.Lock()
	store := b.store
	b.store, b.state = nil, wire.BackendDeactivating
	if b.compact != nil {
		b.compact()
	}
	b.mu.Unlock()
	b.iterators.close()
	b.mu.Lock()
	for b.users > 0 {
		b.unused.Wait()
	}
	b.mu.Unlock()
	defer b.setState(wire.BackendDisabled)
	if store == nil {
		return nil
	}
	if err := store.Close(); err != nil {
		return fmt.Errorf("backend %d (group %d): %w", b.id, b.group, err)
	}
	return nil
}

func (b *backend) setState(s wire.BackendState) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state = s
}

// acquire answers the store, which stays open until release; nil when the
// backend is disabled or about to be.
func (b *backend) acquire() *engine.Store {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.store != nil {
		b.users++
	}
	return b.store
}

// hold is acquire for who holds the store already.
func (b *backend) hold() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.users++
}

func (b *backend) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.users--; b.users == 0 {
		b.unused.Broadcast()
	}
}

// announced are the ids that clients are told; none of a disabled backend.
func (b *backend) announced() []wire.ID {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state != wire.BackendEnabled {
		return nil
	}
	return b.ids
}

// backendFor chooses the backend for a request and holds it: the one that the
// request names, or the owner of its id in its group.
func (n *Node) backendFor(h *wire.Header) (*backend, *engine.Store) {
	var b *backend
	if h.Flags&wire.FlagDirectBackend != 0 {
		if h.Backend >= 0 {
			b = n.backend(uint32(h.Backend))
		}
	} else {
		b = n.ring.Load().owner(h.Group, &h.ID)
	}
	if b == nil {
		return nil, nil
	}
	store := b.acquire()
	if store == nil {
		return nil, nil
	}
	return b, store
}
