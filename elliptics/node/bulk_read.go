package node

import "github.com/elliptics-registry/elliptics-registry/elliptics/wire"

// bulkRead answers several records, one packet each. The payload is one io
// attribute for the whole and one for each key. A key that cannot be read is
// an empty packet with a status and the request's own id.
func bulkRead(r *request) wire.Status {
	attrs := r.payload()
	if len(attrs) < wire.IOAttrSize || len(attrs)%wire.IOAttrSize != 0 {
		return wire.ErrInvalid
	}
	for attrs = attrs[wire.IOAttrSize:]; len(attrs) > 0; attrs = attrs[wire.IOAttrSize:] {
		if err := r.io.Decode(attrs); err != nil {
			return wire.ErrInvalid
		}
		p, s := r.readRecord(&r.io)
		p.hdr = r.answer()
		p.hdr.Command = wire.CmdRead
		p.hdr.Status = s
		if s == wire.OK {
			p.hdr.ID = r.io.ID
		}
		if !r.sendMore(p) {
			break
		}
	}
	return wire.OK
}
