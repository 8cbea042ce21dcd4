package node

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

const (
	// readBuffer is what is read ahead of a connection, in bytes.
	readBuffer = 32 << 10
	// A payload may take receiveTimeout, and a second more for each
	// receiveRate bytes: it holds memory that others wait for.
	receiveTimeout = 60 * time.Second
	receiveRate    = 64 << 10
	// farewell bounds what is read of a peer, and for how long, before a
	// connection on which it sent too much is closed: closing it with unread
	// bytes would take the answer back.
	farewellTime = time.Second
	farewellSize = 1 << 20
)

// conn is one connection to a client.
type conn struct {
	node *Node
	nc   net.Conn
	out  *outbox
	addr wire.Addr // of the node, as this client knows it

	v3 atomic.Bool // the generation that the client asked for is 3.0

	// greeted is set once the client was told this node's ids: from then on it
	// is told of changes. telling keeps what it is told in the order of the
	// changes: it is held from looking at the ids until they are queued.
	greeted atomic.Bool
	telling sync.Mutex

	// reading ends with the connection, and when the node stops reading from it.
	reading context.Context
	stop    context.CancelFunc

	mu       sync.Mutex
	stopping bool

	// The reader's own.
	br   *bufio.Reader
	head [wire.HeaderSize]byte
}

func newConn(n *Node, nc net.Conn, addr wire.Addr) *conn {
	c := &conn{node: n, nc: nc, out: newOutbox(nc), addr: addr, br: bufio.NewReaderSize(nc, readBuffer)}
	c.reading, c.stop = context.WithCancel(context.Background())
	return c
}

// serve reads requests until the client goes away, sends what cannot be
// understood, or stopReading is called. It returns when all requests that it
// read are finished.
func (c *conn) serve() {
	err := c.read()
	c.stop()
	if errors.Is(err, errTooLarge) {
		c.sayFarewell()
	}
	if c.isStopping() {
		// The answers of what is being executed still go out.
		c.out.idle()
	}
	c.out.abort(net.ErrClosed)
	c.out.idle()
}

var (
	errTooLarge = errors.New("request is too large")
	errHangUp   = errors.New("handshake with another version")
)

func (c *conn) read() error {
	for {
		if _, err := io.ReadFull(c.br, c.head[:]); err != nil {
			return err
		}
		r := newRequest(c)
		if err := r.hdr.Decode(c.head[:]); err != nil {
			return err
		}
		if r.hdr.Flags&wire.FlagReply != 0 {
			// This node asks nobody, so it is nobody's answer.
			if err := c.discard(r.hdr.Size); err != nil {
				return err
			}
			r.recycle()
			continue
		}
		if !c.out.admit() {
			return net.ErrClosed
		}
		if err := c.receive(r); err != nil {
			if errors.Is(err, errTooLarge) {
				c.node.log.Warn("closing a connection that announced a request that is too large",
					"client", c.nc.RemoteAddr(), "command", r.hdr.Command, "bytes", r.hdr.Size, "limit", c.node.cfg.MaxRequest)
				r.ack(wire.ErrInvalid)
			} else {
				r.end()
			}
			r.recycle()
			return err
		}
		if r.hdr.Command == wire.CmdReverseLookup && !c.greet(r) {
			r.end()
			r.recycle()
			return errHangUp
		}
		if r.hdr.Command == wire.CmdJoin {
			// A node of its own joins nobody; a server that tries is hung up on.
			c.node.log.Warn("hanging up on a server that wants to join: an embedded node is not part of a cluster", "server", c.nc.RemoteAddr())
			r.end()
			r.recycle()
			return errHangUp
		}
		c.node.dispatch(r)
	}
}

// receive reads the payload of r.
func (c *conn) receive(r *request) error {
	size := r.hdr.Size
	if size == 0 {
		return nil
	}
	if size > uint64(c.node.cfg.MaxRequest) {
		return errTooLarge
	}
	if size > uint64(c.br.Buffered()) {
		if !c.setReadDeadline(time.Now().Add(receiveTimeout + time.Duration(size/receiveRate)*time.Second)) {
			return net.ErrClosed
		}
		defer c.setReadDeadline(time.Time{})
	}
	if hasIOAttr(r.hdr.Command) && size >= wire.IOAttrSize {
		// The attribute goes next to the header, so that the data alone fills
		// its buffer.
		if _, err := io.ReadFull(c.br, r.attr[:]); err != nil {
			return err
		}
		r.hasAttr = true
		size -= wire.IOAttrSize
		if size == 0 {
			return nil
		}
	}
	buf, err := c.node.requests.get(c.reading, int64(size))
	if err != nil {
		return err
	}
	if _, err := io.ReadFull(c.br, buf.b); err != nil {
		buf.free()
		return err
	}
	r.data = buf
	return nil
}

func (c *conn) discard(size uint64) error {
	if size > uint64(c.node.cfg.MaxRequest) {
		return errTooLarge
	}
	_, err := io.CopyN(io.Discard, c.br, int64(size))
	return err
}

// sayFarewell lets the last answer reach a client that is still sending.
func (c *conn) sayFarewell() {
	c.out.idle()
	if !c.setReadDeadline(time.Now().Add(farewellTime)) {
		return
	}
	if half, ok := c.nc.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	_, _ = io.CopyN(io.Discard, c.br, farewellSize)
}

// stopReading makes the reader stop at the next packet; what was read is
// executed and answered.
func (c *conn) stopReading() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopping = true
	_ = c.nc.SetReadDeadline(time.Unix(1, 0))
	c.stop()
}

func (c *conn) isStopping() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stopping
}

// setReadDeadline answers false when the reader has to stop.
func (c *conn) setReadDeadline(t time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopping {
		return false
	}
	return c.nc.SetReadDeadline(t) == nil
}
