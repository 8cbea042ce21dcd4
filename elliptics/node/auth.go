package node

import "github.com/elliptics-registry/elliptics-registry/elliptics/wire"

// authSize is a cookie of 32 bytes, flags and 24 reserved bytes.
const authSize = 64

// auth compares the cookie that servers of one cluster share. It protects
// nothing: whatever the result, further commands are executed.
func auth(r *request) wire.Status {
	p := r.payload()
	if len(p) != authSize {
		return wire.ErrInvalid
	}
	var own [cookieSize]byte
	copy(own[:], r.conn.node.cfg.AuthCookie)
	if [cookieSize]byte(p[:cookieSize]) != own {
		return wire.ErrPermission
	}
	return wire.OK
}
