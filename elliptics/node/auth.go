package node

import "github.com/elliptics-registry/elliptics-registry/elliptics/wire"

// auth compares the cookie that servers of one cluster share. It protects
// nothing: whatever the result, further commands are executed.
func auth(r *request) wire.Status {
	var sent wire.Auth
	if err := sent.Decode(r.payload()); err != nil {
		return wire.ErrInvalid
	}
	var own [wire.AuthCookieSize]byte
	copy(own[:], r.conn.node.cfg.AuthCookie)
	if sent.Cookie != own {
		return wire.ErrPermission
	}
	return wire.OK
}
