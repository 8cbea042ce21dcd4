package node

import (
	"errors"
	"net"
	"time"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// Fault says how a request is spoiled, for tests of clients (see
// Config.Intercept). The zero Fault leaves it alone. Of the fields that
// contradict each other the first one counts.
type Fault struct {
	Delay time.Duration // wait before the execution; later requests for the key wait too

	Drop   bool        // neither execute nor answer
	Reset  bool        // reset the connection instead of executing
	Status wire.Status // answer this instead of executing

	DropAnswer  bool          // execute, do not answer
	ResetAnswer bool          // execute, and reset the connection instead of answering
	Twice       bool          // send each packet of the answer twice
	Slow        time.Duration // send the answer byte by byte, with this pause after each
}

func (f *Fault) spoilsAnswer() bool {
	return f.DropAnswer || f.ResetAnswer || f.Twice || f.Slow > 0
}

// intercept asks for the fault of r. It answers true when r is over.
func (r *request) intercept(ask func(wire.Header) Fault) bool {
	r.fault = ask(r.hdr)
	switch f := &r.fault; {
	case f.Drop:
		r.end()
	case f.Reset:
		r.conn.reset()
		r.end()
	case f.Status != wire.OK:
		r.conn.node.pause(f.Delay)
		r.ack(f.Status)
	default:
		return false
	}
	r.recycle()
	return true
}

// spoil sends p the way the fault wants; it answers false when the connection
// is broken.
func (r *request) spoil(p packet) bool {
	if r.fault.DropAnswer || r.fault.ResetAnswer {
		p.free()
		if r.fault.ResetAnswer {
			r.conn.reset()
		}
		if p.last {
			r.conn.out.finish()
		}
		return !r.fault.ResetAnswer
	}
	b, err := p.encode()
	p.free()
	if err != nil {
		r.conn.out.abort(err)
	}
	slow := &slowBytes{b: b, pause: r.fault.Slow, node: r.conn.node}
	if r.fault.Twice {
		r.conn.out.put(packet{stream: slow})
	}
	r.conn.out.put(packet{stream: slow, last: p.last})
	return err == nil
}

// encode is the whole packet as bytes.
func (p *packet) encode() ([]byte, error) {
	b := append([]byte(nil), noHeader[:]...)
	if p.body != nil {
		b = p.body.Append(b)
	}
	if p.data != nil {
		b = append(b, p.data.b...)
	}
	var err error
	if p.stream != nil {
		err = p.stream.writeTo(func(bufs ...[]byte) error {
			for _, buf := range bufs {
				b = append(b, buf...)
			}
			return nil
		})
	}
	p.hdr.Size = uint64(len(b) - wire.HeaderSize)
	p.hdr.Append(b[:0])
	return b, err
}

// slowBytes are sent one by one, or all at once without a pause.
type slowBytes struct {
	b     []byte
	pause time.Duration
	node  *Node
}

func (s *slowBytes) writeTo(write func(...[]byte) error) error {
	if s.pause <= 0 {
		return write(s.b)
	}
	for i := range s.b {
		if err := write(s.b[i : i+1]); err != nil {
			return err
		}
		s.node.pause(s.pause)
	}
	return nil
}

func (s *slowBytes) free() {}

var errReset = errors.New("connection reset on demand")

// reset breaks the connection without an orderly end.
func (c *conn) reset() {
	if tcp, ok := c.nc.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	c.out.abort(errReset)
}
