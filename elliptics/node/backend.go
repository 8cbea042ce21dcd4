package node

import (
	"fmt"
	"sync"
	"sync/atomic"

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

	readOnly atomic.Bool

	mu      sync.Mutex
	store   *engine.Store // nil: disabled, or about to be
	users   int           // of the store: it is closed when there are none
	unused  sync.Cond     // users went down to 0
	ids     []wire.ID
	enabled bool
}

func newBackend(n *Node, cfg Backend) *backend {
	b := &backend{node: n, id: cfg.ID, group: cfg.Group, dir: cfg.Dir}
	b.readOnly.Store(cfg.ReadOnly)
	b.queue = newKeyQueue(n.start)
	b.unused.L = &b.mu
	return b
}

// open opens the store. The caller tells clients.
func (b *backend) open() error {
	err := b.openStore()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.enabled = err == nil
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
	store, err := engine.Open(b.dir, engine.Options{
		Sync:         b.node.cfg.Sync,
		SyncInterval: b.node.cfg.SyncInterval,
		Logger:       b.node.log.With("backend", b.id, "group", b.group),
	})
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
	b.store, b.enabled = nil, false
	for b.users > 0 {
		b.unused.Wait()
	}
	b.mu.Unlock()
	if store == nil {
		return nil
	}
	if err := store.Close(); err != nil {
		return fmt.Errorf("backend %d (group %d): %w", b.id, b.group, err)
	}
	return nil
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
	if !b.enabled {
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
