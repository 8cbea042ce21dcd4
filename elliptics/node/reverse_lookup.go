package node

import "github.com/elliptics-registry/elliptics-registry/elliptics/wire"

// greet looks at the version of a handshake before anything else of the
// connection is executed. It answers false for a version that is neither
// 2.26 nor 3.0: such a client is hung up on without a word, which is how it
// learns to try another one.
func (c *conn) greet(r *request) bool {
	h := wire.HandshakeOf(r.hdr.ID)
	switch {
	case h.Version.Same(wire.Version226):
		c.v3.Store(false)
	case h.Version.Same(wire.Version300):
		c.v3.Store(true)
	default:
		c.node.log.Info("hanging up on a client of another version", "client", c.nc.RemoteAddr(), "version", h.Version)
		return false
	}
	return true
}

// reverseLookup answers the handshake in the generation that the client asked
// for: version, addresses, and the ids of all enabled backends. A 2.26 client
// is told the number of index shards; a 3.0 client gets back what it sent,
// which means that there are no indexes.
func reverseLookup(r *request) wire.Status {
	n := r.conn.node
	c := r.conn
	h := wire.HandshakeOf(r.hdr.ID)
	if c.v3.Load() {
		h.Version = wire.Version300
	} else {
		h.Version = wire.Version226
		h.IndexShards = int32(n.cfg.IndexShards)
	}
	a := r.nodeAnswer()
	a.ID = h.ID()
	if first := n.backend(0); first != nil && a.Group == 0 {
		a.Group = first.group
	}
	c.greeted.Store(true)
	c.telling.Lock()
	defer c.telling.Unlock()
	r.send(packet{hdr: a, body: &wire.Routes{Addrs: []wire.Addr{c.addr}, Backends: n.announced()}})
	return wire.OK
}

// nodeAnswer is the header of the answers about the node itself.
func (r *request) nodeAnswer() *wire.Header {
	a := r.answer()
	a.Flags = a.Flags &^ wire.FlagDirect
	a.Backend = 0
	a.TraceID = 0
	return a
}

// announced lists the enabled backends and their ids.
func (n *Node) announced() []wire.BackendIDs {
	var all []wire.BackendIDs
	for _, b := range n.backends {
		if ids := b.announced(); len(ids) > 0 {
			all = append(all, wire.BackendIDs{Backend: b.id, Group: b.group, IDs: ids})
		}
	}
	return all
}

// pushIDs tells all clients that have been told this node's ids of a change of
// one backend. No answer is expected.
func (n *Node) pushIDs(b *backend) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		if c.greeted.Load() {
			// One client that does not read must not hold up the rest.
			n.running.Go(func() { c.push(b) })
		}
	}
}

// push sends UPDATE_IDS for one backend.
func (c *conn) push(b *backend) {
	c.telling.Lock()
	defer c.telling.Unlock()
	u := wire.BackendIDs{Backend: b.id, IDs: b.announced()}
	if len(u.IDs) == 0 {
		u.Disabled = true
	} else {
		u.Group = b.group
	}
	h := wire.Header{Command: wire.CmdUpdateIDs, Flags: wire.FlagDirect | wire.FlagNoLock}
	c.out.put(packet{hdr: &h, body: &wire.UpdateIDs{Backends: []wire.BackendIDs{u}}})
}

// updateIDs is what servers tell each other. It is not answered, and nothing
// that a client says changes this node's ids.
func updateIDs(r *request) wire.Status {
	r.end()
	return wire.OK
}
