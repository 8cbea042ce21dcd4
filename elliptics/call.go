package elliptics

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// call is one request and what came back.
type call struct {
	home    *sync.Pool
	head    []byte // header and what is encoded behind it
	data    [][]byte
	cost    int64
	timer   *time.Timer
	settled atomic.Bool // the result is final, or nobody waits for it
	done    chan struct{}
	moved   atomic.Int64 // when the last packet of the answer came, ns
	packets []packet
	bytes   int64 // in packets
	err     error

	// Room for what nearly every request needs.
	buf [wire.HeaderSize + wire.IOAttrSize]byte
	one [1]packet
}

func (n *Node) newCall(h *wire.Header, attr *wire.IOAttr, data [][]byte, cost int64, timeout time.Duration) *call {
	p, ok := n.calls.Get().(*call)
	if !ok {
		p = &call{home: &n.calls, done: make(chan struct{}, 1), timer: time.NewTimer(timeout)}
		p.packets = p.one[:0]
	}
	p.head = h.Append(p.buf[:0])
	if attr != nil {
		p.head = attr.Append(p.head)
	}
	p.data, p.cost = data, cost
	p.moved.Store(time.Now().UnixNano())
	p.timer.Reset(timeout)
	return p
}

// finish settles a call. Only the first one to do so may touch its result, and
// nobody may touch a call that has finished without an error.
func (p *call) finish(err error) {
	if p.settled.CompareAndSwap(false, true) {
		p.err = err
		p.done <- struct{}{}
	}
}

// result is what a finished call came to.
func (p *call) result() (*call, error) {
	if p.err != nil {
		return nil, p.err
	}
	return p, nil
}

// last is the packet that ended the answer.
func (p *call) last() *packet { return &p.packets[len(p.packets)-1] }

// free gives back a call of which all packets are used up or copied. Their
// buffers are not given back.
func (p *call) free() {
	clear(p.packets)
	p.packets, p.data, p.bytes = p.one[:0], nil, 0
	p.settled.Store(false)
	p.home.Put(p)
}

// packet is one answer. Its body follows the io attribute, if it has one.
type packet struct {
	header wire.Header
	remote *remote
	attr   wire.IOAttr // of READ answers
	body   []byte
	pooled *[]byte
}

// packetOverhead is what a packet of an answer costs beside its payload.
const packetOverhead = 512

// passOver is how many times MaxReply a packet may be for its bytes to be
// passed over; the connection survives. Who announces more talks nonsense.
const passOver = 64

func release(packets []packet) {
	for _, p := range packets {
		putBuffer(p.pooled)
	}
}
