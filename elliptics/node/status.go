package node

import "github.com/elliptics-registry/elliptics-registry/elliptics/wire"

// nodeFlags are the configured flags of a server that takes part in a cluster,
// which is what clients expect.
const nodeFlags = 1

// nodeStatus answers the state of the node, and makes it read-only or writable
// again. Ending the process or changing what it logs is left to whoever
// embeds the node: such a request is refused and changes nothing.
func nodeStatus(r *request) wire.Status {
	n := r.conn.node
	var ask wire.NodeStatus
	if err := ask.Decode(r.payload()); err != nil {
		return wire.ErrInvalid
	}
	keep := wire.QueryNodeStatus
	switch {
	case ask.Flags != keep.Flags && ask.Flags != nodeFlags,
		ask.LogLevel != keep.LogLevel,
		ask.Status != keep.Status && ask.Status&^wire.NodeReadOnly != 0:
		return wire.ErrNotSupported
	case ask.Status != keep.Status:
		readOnly := ask.Status == wire.NodeReadOnly
		if n.readOnly.Swap(readOnly) != readOnly {
			n.log.Warn("a client has changed the node", "client", r.conn.nc.RemoteAddr(), "read-only", readOnly)
		}
	}
	now := wire.NodeStatus{Flags: nodeFlags, LogLevel: logInfo}
	if n.readOnly.Load() {
		now.Status |= wire.NodeReadOnly
	}
	r.sendMore(packet{hdr: r.answer(), body: &now})
	return wire.OK
}

// logInfo is the log level that is reported.
const logInfo = 2
