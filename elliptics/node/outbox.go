package node

import (
	"context"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/elliptics-registry/elliptics-registry/elliptics/node/internal/pipe"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// outbox sends the packets of one connection in the order in which they were
// put into it. There is no goroutine for it: whoever puts a packet while
// nobody sends becomes the sender, and sends what others put meanwhile, all
// of it with one system call.
//
// Its size is bounded by what may be in flight (admit) and by the memory that
// payloads are lent from; a peer that does not read for sendTimeout is cut off.
type outbox struct {
	nc net.Conn

	mu       sync.Mutex
	changed  sync.Cond // inflight or queued went down, or err was set
	queued   batch     // what the sender takes next
	sending  bool
	ahead    *semaphore.Weighted // memory for answers that this connection may have
	size     int64               // bytes that are queued or being sent
	inflight int                 // requests that were admitted and are not finished
	err      error               // the connection is broken; nothing is sent any more

	// The sender's own.
	sent     batch
	vec      [][]byte
	rest     net.Buffers // of vec, while it is being written
	deadline time.Time
}

// batch is a run of packets: bytes in a row, with large payloads between them.
type batch struct {
	row      []byte
	parts    []part
	finished int // requests whose last packet is in here
}

// part is sent before byte number at of the row: a lent buffer, or a stream.
type part struct {
	at     int
	buf    *buffer
	stream stream
}

// stream is a payload that is made while it is sent.
type stream interface {
	writeTo(write func(...[]byte) error) error
	free() // called once, when it was sent or never will be
}

const (
	// inlinePayload is up to which length a payload is copied into the row
	// instead of being sent from where it is.
	inlinePayload = 8 << 10
	// maxInflight is how many requests of one connection may be executed or
	// wait at one time. Further ones stay in the socket.
	maxInflight = 512
	// sendTimeout is how long a peer may take for sendStep bytes.
	sendTimeout = 60 * time.Second
	sendStep    = 4 << 20
	// streamBacklog is up to how many waiting bytes an answer of many packets
	// goes on.
	streamBacklog = 1 << 20
	// maxAhead is how much memory for payloads of answers a connection has: one
	// large payload is read while another is sent. More would not make it
	// faster, and a client that does not read would keep it from others.
	maxAhead = 8 << 20
	// keepRow is up to which size the memory of a row is kept for the next.
	keepRow = 256 << 10
)

func newOutbox(nc net.Conn) *outbox {
	o := &outbox{nc: nc, ahead: semaphore.NewWeighted(maxAhead)}
	o.changed.L = &o.mu
	return o
}

// admit waits until one more request may be in flight and counts it; it
// answers false when the connection is broken.
func (o *outbox) admit() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.inflight >= maxInflight && o.err == nil {
		o.changed.Wait()
	}
	if o.err != nil {
		return false
	}
	o.inflight++
	return true
}

// lend waits for memory for the payload of an answer, which is put into this
// outbox or given back. Nothing is made for a connection that is broken.
func (o *outbox) lend(ctx context.Context, m *memory, n int64) (*buffer, error) {
	part := min(n, maxAhead)
	if err := o.ahead.Acquire(ctx, part); err != nil {
		return nil, err
	}
	o.mu.Lock()
	broken := o.err != nil
	o.mu.Unlock()
	buf, err := (*buffer)(nil), context.Canceled
	if !broken {
		buf, err = m.get(ctx, n)
	}
	if err != nil {
		o.ahead.Release(part)
		return nil, err
	}
	buf.ahead, buf.part = o.ahead, part
	return buf, nil
}

// finish ends a request that sends nothing (more).
func (o *outbox) finish() {
	o.mu.Lock()
	o.inflight--
	o.changed.Broadcast()
	o.mu.Unlock()
}

// packet is what put sends: a header, a structure behind it, and the rest of
// the payload. Header.Size is set by put.
type packet struct {
	hdr  *wire.Header // nil: the stream begins with it
	body appender     // nil: none
	data *buffer      // given away; nil: none
	// stream makes streamed further bytes of payload; given away.
	stream   stream
	streamed uint64
	last     bool // the last packet of its request
}

type appender interface{ Append([]byte) []byte }

// free gives back what a packet that is not sent was given.
func (p *packet) free() {
	p.data.free()
	if p.stream != nil {
		p.stream.free()
	}
}

var noHeader [wire.HeaderSize]byte

// put queues p and sends, if nobody else does.
func (o *outbox) put(p packet) {
	o.mu.Lock()
	if o.err != nil {
		o.mu.Unlock()
		p.free()
		if p.last {
			o.finish()
		}
		return
	}
	b := &o.queued
	start := len(b.row)
	if p.hdr != nil {
		b.row = append(b.row, noHeader[:]...)
	}
	if p.body != nil {
		b.row = p.body.Append(b.row)
	}
	var lent *buffer
	large := uint64(0)
	if p.data != nil {
		if len(p.data.b) <= inlinePayload {
			b.row = append(b.row, p.data.b...)
			lent = p.data
		} else {
			b.parts = append(b.parts, part{at: len(b.row), buf: p.data})
			large = uint64(len(p.data.b))
		}
	}
	if p.stream != nil {
		b.parts = append(b.parts, part{at: len(b.row), stream: p.stream})
	}
	if p.hdr != nil {
		p.hdr.Size = uint64(len(b.row)-start-wire.HeaderSize) + large + p.streamed
		p.hdr.Append(b.row[:start]) // over the room that was left for it
	}
	o.size += int64(len(b.row)-start) + int64(large)
	if p.last {
		b.finished++
	}
	send := !o.sending
	o.sending = true
	o.mu.Unlock()
	lent.free()
	if send {
		o.send()
	}
}

// putStream is put for answers of many packets: it waits while too much is
// queued, and answers false when the connection is broken.
func (o *outbox) putStream(p packet) bool {
	o.mu.Lock()
	for o.size > streamBacklog && o.err == nil {
		o.changed.Wait()
	}
	broken := o.err != nil
	o.mu.Unlock()
	o.put(p)
	return !broken
}

// send writes what is queued until nothing is.
func (o *outbox) send() {
	for {
		o.mu.Lock()
		if o.err != nil || (len(o.queued.row) == 0 && len(o.queued.parts) == 0) {
			o.sending = false
			o.drop(&o.queued)
			o.size = 0
			o.changed.Broadcast()
			o.mu.Unlock()
			return
		}
		o.sent, o.queued = o.queued, o.sent
		size := o.size
		o.mu.Unlock()

		err := o.write(&o.sent)

		o.mu.Lock()
		o.size -= size
		o.drop(&o.sent)
		if err != nil {
			o.fail(err)
		}
		o.changed.Broadcast()
		o.mu.Unlock()
	}
}

// drop empties b, gives back what it was lent and ends its requests. It runs
// with mu locked.
func (o *outbox) drop(b *batch) {
	for i := range b.parts {
		p := &b.parts[i]
		p.buf.free()
		if p.stream != nil {
			p.stream.free()
		}
		*p = part{}
	}
	if cap(b.row) > keepRow {
		b.row = nil
	}
	o.inflight -= b.finished
	b.row, b.parts, b.finished = b.row[:0], b.parts[:0], 0
}

// fail notes that the connection is broken and closes it, which ends its
// reader. It runs with mu locked.
func (o *outbox) fail(err error) {
	if o.err == nil {
		o.err = err
		o.changed.Broadcast()
	}
	o.nc.Close()
}

// abort breaks the connection from outside.
func (o *outbox) abort(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fail(err)
}

// idle waits until no request is in flight and nobody sends.
func (o *outbox) idle() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.inflight > 0 || o.sending {
		o.changed.Wait()
	}
}

func (o *outbox) write(b *batch) error {
	pos := 0
	vec := o.vec[:0]
	size := 0
	add := func(p []byte) error {
		for len(p) > 0 {
			if size == sendStep {
				if err := o.writeVec(vec); err != nil {
					return err
				}
				vec, size = vec[:0], 0
			}
			n := min(len(p), sendStep-size)
			vec = append(vec, p[:n])
			size += n
			p = p[n:]
		}
		return nil
	}
	for i := range b.parts {
		p := &b.parts[i]
		if err := add(b.row[pos:p.at]); err != nil {
			return err
		}
		pos = p.at
		if p.stream != nil {
			if err := o.writeVec(vec); err != nil {
				return err
			}
			vec, size = vec[:0], 0
			if err := p.stream.writeTo(func(bufs ...[]byte) error { return o.writeVec(bufs) }); err != nil {
				return err
			}
			continue
		}
		if err := add(p.buf.b); err != nil {
			return err
		}
	}
	if err := add(b.row[pos:]); err != nil {
		return err
	}
	err := o.writeVec(vec)
	clear(vec)
	o.vec = vec[:0]
	return err
}

func (o *outbox) writeVec(vec [][]byte) error {
	if len(vec) == 0 {
		return nil
	}
	// Moving the deadline for each write would cost more than a small write.
	if now := time.Now(); o.deadline.Sub(now) < sendTimeout {
		o.deadline = now.Add(sendTimeout + sendTimeout/4)
		if err := o.nc.SetWriteDeadline(o.deadline); err != nil {
			return err
		}
	}
	if len(vec) == 1 {
		_, err := o.nc.Write(vec[0])
		return err
	}
	if p, ok := o.nc.(*pipe.Conn); ok {
		_, err := p.WriteBuffers(vec)
		return err
	}
	o.rest = vec
	_, err := o.rest.WriteTo(o.nc)
	return err
}
