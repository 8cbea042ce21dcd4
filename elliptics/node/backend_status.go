package node

import "github.com/elliptics-registry/elliptics-registry/elliptics/wire"

// backendStatus answers the state of all backends, enabled or not. It is also
// what clients ping with.
func backendStatus(r *request) wire.Status {
	var all wire.BackendStatuses
	highest := uint32(0)
	for _, b := range r.conn.node.backends {
		all.Backends = append(all.Backends, b.status())
		highest = max(highest, b.id)
	}
	// A server has room for each number up to its highest.
	all.Room = int(highest) + 1 - len(all.Backends)
	r.send(packet{hdr: r.answer(), body: &all})
	return wire.OK
}

func (b *backend) status() wire.BackendStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := wire.BackendStatus{
		Backend:    b.id,
		State:      b.state,
		LastStart:  wire.TimeOf(b.started),
		StartError: int32(b.startErr),
		ReadOnly:   b.readOnly.Load(),
		Delay:      uint32(b.delay.Load() / 1e6),
	}
	if b.compact != nil {
		s.Defrag = wire.DefragRunning
	}
	return s
}
