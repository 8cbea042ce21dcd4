package node

import (
	"github.com/elliptics-registry/elliptics-registry/elliptics/node/engine"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// del removes the record of the header's id, committed or not.
func del(r *request) wire.Status {
	n := r.conn.node
	if !r.hasAttr {
		return wire.ErrInvalid
	}
	if r.isReadOnly() {
		return wire.ErrReadOnly
	}
	if err := r.io.Decode(r.attr[:]); err != nil {
		return wire.ErrInvalid
	}
	if r.io.Flags&wire.IOCacheOnly != 0 {
		return wire.ErrNotSupported
	}
	commit, err := n.remove(r.store, r.hdr.ID)
	if err != nil {
		return n.statusOf(r, err)
	}
	return r.settle(commit)
}

// remove deletes a record, whatever it is.
func (n *Node) remove(store *engine.Store, id wire.ID) (*engine.Commit, error) {
	return store.Update(n.life, engine.Key(id), func(old *engine.Snapshot) (*engine.Change, error) {
		if old == nil {
			return nil, wire.ErrNotFound
		}
		return &engine.Change{Delete: true}, nil
	})
}

// isReadOnly tells whether changes are refused, of the backend or of the node.
func (r *request) isReadOnly() bool {
	return r.backend.readOnly.Load() || r.conn.node.readOnly.Load()
}

// settle lets the next request for the key go on and waits until a change is
// on stable storage.
func (r *request) settle(commit *engine.Commit) wire.Status {
	r.unlock()
	n := r.conn.node
	s := n.statusOf(r, commit.Wait(n.life))
	if s == wire.ErrAgain {
		// The change may have been made: not what ErrAgain promises.
		s = wire.ErrIO
	}
	return s
}
