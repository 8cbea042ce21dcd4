package node

import (
	"context"
	"errors"
	"time"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// backendControl changes one backend and answers its state afterwards. A
// change that is refused is answered with the state first, and then with the
// status. Nothing of it survives a restart, except other ids.
func backendControl(r *request) wire.Status {
	n := r.conn.node
	var ask wire.BackendControl
	if err := ask.Decode(r.payload()); err != nil {
		return wire.ErrInvalid
	}
	b := n.backend(ask.Backend)
	if b == nil {
		return wire.ErrInvalid
	}
	s := wire.ErrInProgress
	if b.control.TryLock() {
		s = b.change(&ask)
		b.control.Unlock()
	}
	n.log.Info("a client controls a backend", "client", r.conn.nc.RemoteAddr(), "backend", b.id, "group", b.group,
		"command", int(ask.Command), "status", int(s))
	now := packet{hdr: r.answer(), body: &wire.BackendStatuses{Backends: []wire.BackendStatus{b.status()}}}
	if s == wire.OK {
		r.send(now)
	} else {
		r.sendMore(now)
		r.ack(s)
	}
	return s
}

// maxDelay is longer than any client waits for an answer. Disabling a backend
// waits for requests that are delayed.
const maxDelay = time.Minute

// change runs with control locked.
func (b *backend) change(ask *wire.BackendControl) wire.Status {
	switch ask.Command {
	case wire.BackendEnable:
		return b.enable()
	case wire.BackendDisable:
		return b.disable()
	case wire.BackendReadOnly, wire.BackendWritable:
		readOnly := ask.Command == wire.BackendReadOnly
		if b.readOnly.Swap(readOnly) == readOnly {
			return wire.ErrAlready
		}
		return wire.OK
	case wire.BackendSetDelay:
		if time.Duration(ask.Delay)*time.Millisecond > maxDelay {
			return wire.ErrInvalid
		}
		b.delay.Store(int64(ask.Delay) * int64(time.Millisecond))
		return wire.OK
	case wire.BackendSetIDs:
		return b.setIDs(ask.IDs)
	case wire.BackendStartDefrag:
		return b.startCompaction()
	case wire.BackendStopDefrag:
		return b.stopCompaction()
	}
	return wire.ErrNotSupported
}

// enable opens a disabled backend and tells clients.
func (b *backend) enable() wire.Status {
	if b.status().State == wire.BackendEnabled {
		return wire.ErrAlready
	}
	if err := b.open(); err != nil {
		b.node.log.Error("cannot enable a backend", "error", err)
		return wire.ErrIO
	}
	b.node.updateRing()
	b.node.pushIDs(b)
	return wire.OK
}

// disable closes an enabled backend and tells clients.
func (b *backend) disable() wire.Status {
	if b.status().State != wire.BackendEnabled {
		return wire.ErrAlready
	}
	b.setState(wire.BackendDeactivating)
	b.node.updateRing()
	b.node.pushIDs(b)
	if err := b.close(); err != nil {
		b.node.log.Error("closing a backend failed", "error", err)
		return wire.ErrIO
	}
	return wire.OK
}

// setIDs moves a backend on the ring of its group and tells clients. The
// records stay where they are.
func (b *backend) setIDs(ids []wire.ID) wire.Status {
	if len(ids) == 0 || len(ids) > maxIDs {
		return wire.ErrInvalid
	}
	if err := storeIDs(b.dir, ids); err != nil {
		b.node.log.Error("cannot change the ids of a backend", "backend", b.id, "error", err)
		return wire.ErrIO
	}
	b.mu.Lock()
	b.ids = ids
	enabled := b.state == wire.BackendEnabled
	b.mu.Unlock()
	if enabled {
		b.node.updateRing()
		b.node.pushIDs(b)
	}
	return wire.OK
}

// startCompaction gives back the space of removed and replaced records, which
// also happens without being asked for, but later.
func (b *backend) startCompaction() wire.Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.store == nil:
		return wire.ErrNotSupported
	case b.compact != nil:
		return wire.ErrAlready
	}
	ctx, cancel := context.WithCancel(b.node.life)
	b.compact = cancel
	b.users++
	store := b.store
	go func() { // close ends it, and waits for it
		defer b.release()
		err := store.Compact(ctx)
		cancel()
		if err != nil && !errors.Is(err, context.Canceled) {
			b.node.log.Error("compaction failed", "backend", b.id, "group", b.group, "error", err)
		}
		b.mu.Lock()
		b.compact = nil
		b.mu.Unlock()
	}()
	return wire.OK
}

func (b *backend) stopCompaction() wire.Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.compact == nil {
		return wire.ErrAlready
	}
	b.compact()
	return wire.OK
}
