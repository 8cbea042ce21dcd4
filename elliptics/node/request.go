package node

import (
	"sync"
	"time"

	"github.com/elliptics-registry/elliptics-registry/elliptics/node/engine"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// request is one request from the packet's arrival until its last answer is
// queued. It is used again afterwards.
type request struct {
	conn *conn
	hdr  wire.Header
	cmd  *command // nil: unknown

	// The payload: for commands that begin with an io attribute, attr has its
	// bytes and data what is behind them.
	attr    [wire.IOAttrSize]byte
	hasAttr bool
	data    *buffer

	backend *backend      // held until the last answer; nil: none
	store   *engine.Store // of backend
	lock    lockMode
	locked  bool
	behind  *request // the next one in the key's queue

	began    time.Time
	fault    Fault
	answered bool

	// What answers are made in.
	reply wire.Header
	io    wire.IOAttr
	info  wire.FileInfo
}

var requests = sync.Pool{New: func() any { return new(request) }}

func newRequest(c *conn) *request {
	r := requests.Get().(*request)
	r.conn = c
	return r
}

// recycle is the end of r.
func (r *request) recycle() {
	r.letGo()
	*r = request{}
	requests.Put(r)
}

// payload is what followed the header, or the io attribute.
func (r *request) payload() []byte {
	if r.data == nil {
		return nil
	}
	return r.data.b
}

// lend is memory for the payload of an answer.
func (r *request) lend(n int64) (*buffer, error) {
	return r.conn.out.lend(r.conn.node.life, r.conn.node.answers, n)
}

// needAck tells whether the client asked for an acknowledge.
func (r *request) needAck() bool { return r.hdr.Flags&wire.FlagNeedAck != 0 }

// unlock lets the next request for the key run. It is called before the end
// by whoever has settled what this request changes or reads.
func (r *request) unlock() {
	if r.locked {
		r.locked = false
		r.backend.queue.unlock(r)
	}
}

// letGo gives back everything that others may wait for.
func (r *request) letGo() {
	r.unlock()
	r.data.free()
	r.data = nil
	if r.store != nil {
		r.backend.release()
		r.store = nil
	}
}

// answer prepares the header of an answer: the request's with REPLY instead
// of NEED_ACK. MORE is never taken over from a request: the answer would have
// no end.
func (r *request) answer() *wire.Header {
	r.reply = r.hdr
	r.reply.Flags = r.hdr.Flags&^(wire.FlagNeedAck|wire.FlagMore) | wire.FlagReply
	r.reply.Status = wire.OK
	return &r.reply
}

// send queues the last packet of the answer. The caller may find itself
// sending for the whole connection, so nothing is held meanwhile.
func (r *request) send(p packet) {
	r.letGo()
	r.answered = true
	p.last = true
	if r.fault.spoilsAnswer() {
		r.spoil(p)
		return
	}
	r.conn.out.put(p)
}

// sendMore queues a packet that others follow, and answers false when the
// connection is broken.
func (r *request) sendMore(p packet) bool {
	p.hdr.Flags |= wire.FlagMore
	if r.fault.spoilsAnswer() {
		return r.spoil(p)
	}
	return r.conn.out.putStream(p)
}

// ack sends an empty last packet.
func (r *request) ack(s wire.Status) {
	h := r.answer()
	h.Status = s
	r.send(packet{hdr: h})
}

// end is for a request that is not answered, or not any further.
func (r *request) end() {
	r.letGo()
	r.answered = true
	r.conn.out.finish()
}
