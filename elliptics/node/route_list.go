package node

import "github.com/elliptics-registry/elliptics-registry/elliptics/wire"

// routeList answers the addresses of all nodes that this one knows: itself.
func routeList(r *request) wire.Status {
	a := r.nodeAnswer()
	r.send(packet{hdr: a, body: &wire.RouteList{PerNode: 1, Addrs: []wire.Addr{r.conn.addr}}})
	return wire.OK
}
