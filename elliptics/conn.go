package elliptics

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// conn is one connection. Requests are pipelined: a writer goroutine sends what
// has queued up in one go, a reader goroutine finds the call that each packet
// answers by its transaction number.
//
// Lock order: node.mu, then conn.mu. Neither is held while a socket is used.
type conn struct {
	remote *remote
	nc     net.Conn
	br     *bufio.Reader
	budget *semaphore.Weighted // bytes of unanswered requests
	wake   chan struct{}       // there is something in queue
	heard  atomic.Int64        // when the last packet came, ns
	pings  atomic.Bool         // a ping is under way

	mu      sync.Mutex
	pending map[uint64]*call
	queue   []*call
	writing []*call    // what the writer sends now
	wrote   *sync.Cond // the writer has finished a batch
	err     error      // why the connection ended; nil while it lives
}

func newConn(r *remote, nc net.Conn) *conn {
	c := &conn{
		remote: r, nc: nc, br: bufio.NewReaderSize(nc, 64<<10),
		budget:  semaphore.NewWeighted(r.node.cfg.MaxQueued),
		wake:    make(chan struct{}, 1),
		pending: make(map[uint64]*call),
	}
	c.wrote = sync.NewCond(&c.mu)
	c.heard.Store(time.Now().UnixNano())
	return c
}

// serve runs the connection until it ends, and tells why.
func (c *conn) serve() error {
	written := make(chan struct{})
	go func() {
		defer close(written)
		c.write()
	}()
	c.close(why(c.read()))
	<-written
	// Only now nobody reads the payloads any more.
	c.mu.Lock()
	pending := c.pending
	c.pending = nil
	err := c.err
	c.mu.Unlock()
	for _, p := range pending {
		p.finish(lost(err))
	}
	return err
}

// why puts the end of a connection into words.
func why(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the node closed the connection")
	}
	return err
}

// lost is the error of who waited for an answer on a connection that ended.
func lost(err error) error { return fmt.Errorf("%w: %w", wire.ErrConnectionReset, why(err)) }

// close ends the connection. The first reason counts.
func (c *conn) close(err error) {
	c.mu.Lock()
	if c.err == nil {
		c.err = err
	}
	c.mu.Unlock()
	c.nc.Close()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// send sends a request and waits for the whole answer: up to the session's
// time-out without a packet, and not longer than ctx. When it returns, nothing
// reads data any more. The call that it returns has at least one packet, and
// may be given back with free.
func (c *conn) send(ctx context.Context, h wire.Header, attr *wire.IOAttr, data [][]byte, timeout time.Duration) (*call, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	size := 0
	for _, d := range data {
		size += len(d)
	}
	cost := min(int64(size)+1024, c.remote.node.cfg.MaxQueued)
	if !c.budget.TryAcquire(cost) {
		wctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("%w: too many requests wait for this node", wire.ErrTimeout))
		err := c.budget.Acquire(wctx, cost)
		cancel()
		if err != nil {
			return nil, context.Cause(wctx)
		}
	}
	defer c.budget.Release(cost)
	h.Trans = c.remote.node.trans.Add(1)
	h.Size = uint64(size)
	if attr != nil {
		h.Size += wire.IOAttrSize
	}
	p := c.remote.node.newCall(&h, attr, data, cost, timeout)
	defer p.timer.Stop()
	c.mu.Lock()
	if c.err != nil || c.pending == nil {
		err := c.err
		c.mu.Unlock()
		return nil, lost(err)
	}
	c.pending[h.Trans] = p
	c.queue = append(c.queue, p)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
	for {
		select {
		case <-p.done:
			c.mu.Lock()
			c.awaitWriter(p) // a server may answer before it has read everything
			c.mu.Unlock()
			return p.result()
		case <-ctx.Done():
			return c.forget(h.Trans, p, context.Cause(ctx))
		case <-p.timer.C:
			if left := timeout - time.Since(time.Unix(0, p.moved.Load())); left > 0 {
				p.timer.Reset(left)
				continue
			}
			c.ping()
			return c.forget(h.Trans, p, fmt.Errorf("%w: waited %v", wire.ErrTimeout, timeout))
		}
	}
}

// forget gives up a call: its answer, should it come, is dropped. It waits for
// the writer to let go of the payload, and closes a connection that does not.
func (c *conn) forget(trans uint64, p *call, err error) (*call, error) {
	lost := p.settled.CompareAndSwap(false, true)
	if !lost {
		<-p.done // it has just been settled
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !lost {
		c.awaitWriter(p)
		return p.result()
	}
	delete(c.pending, trans)
	if i := slices.Index(c.queue, p); i >= 0 {
		c.queue = slices.Delete(c.queue, i, i+1)
		return nil, err
	}
	c.awaitWriter(p)
	return nil, err
}

// awaitWriter returns when the writer no longer reads p. Called with c.mu held.
func (c *conn) awaitWriter(p *call) {
	if !c.isWriting(p) {
		return
	}
	stuck := time.AfterFunc(time.Second, func() { c.close(errors.New("the node does not take what it is sent")) })
	for c.isWriting(p) {
		c.wrote.Wait()
	}
	stuck.Stop()
}

func (c *conn) isWriting(p *call) bool { return slices.Contains(c.writing, p) }

const (
	// gather is the length up to which pieces are copied together, so that
	// small requests cost one write for all of them; larger ones go to the
	// socket from where they are.
	gather = 4 << 10
	// writeBatch bounds what is sent in one go, in bytes.
	writeBatch = 4 << 20
)

// write sends what is queued until the connection ends.
func (c *conn) write() {
	var scratch []byte
	var batch net.Buffers
	for {
		c.mu.Lock()
		clear(c.writing)
		c.writing = c.writing[:0]
		c.wrote.Broadcast()
		if c.err != nil {
			c.queue = nil
			c.mu.Unlock()
			return
		}
		n, size := 0, int64(0)
		for n < len(c.queue) && (n == 0 || size+c.queue[n].cost <= writeBatch) {
			size += c.queue[n].cost
			n++
		}
		c.writing = append(c.writing, c.queue[:n]...)
		c.queue = slices.Delete(c.queue, 0, n)
		calls := c.writing
		c.mu.Unlock()
		if n == 0 {
			<-c.wake
			continue
		}
		scratch, batch = scratch[:0], batch[:0]
		mark := 0
		need := 0
		for _, p := range calls {
			need += len(p.head)
			for _, d := range p.data {
				if len(d) <= gather {
					need += len(d)
				}
			}
		}
		if cap(scratch) < need { // it must not move while batch points into it
			scratch = make([]byte, 0, need)
		}
		for _, p := range calls {
			scratch = append(scratch, p.head...)
			for _, d := range p.data {
				if len(d) <= gather {
					scratch = append(scratch, d...)
					continue
				}
				batch = append(batch, scratch[mark:], d)
				mark = len(scratch)
			}
		}
		if mark < len(scratch) {
			batch = append(batch, scratch[mark:])
		}
		_ = c.nc.SetWriteDeadline(time.Now().Add(c.remote.node.cfg.WaitTimeout + 10*time.Second))
		out := batch
		if _, err := out.WriteTo(c.nc); err != nil {
			c.close(err)
		}
		clear(batch) // no reference to a payload survives
	}
}

// read takes packets until the connection ends.
func (c *conn) read() error {
	var head [wire.HeaderSize]byte
	var attr [wire.IOAttrSize]byte
	for {
		if _, err := io.ReadFull(c.br, head[:]); err != nil {
			return err
		}
		now := time.Now().UnixNano()
		c.heard.Store(now)
		var h wire.Header
		if err := h.Decode(head[:]); err != nil {
			return err
		}
		limit := c.remote.node.cfg.MaxReply
		if h.Size/passOver > uint64(limit) {
			return fmt.Errorf("%w: the node announces a packet of %d bytes", wire.ErrProtocol, h.Size)
		}
		if h.Flags&wire.FlagReply == 0 {
			if err := c.push(&h); err != nil {
				return err
			}
			continue
		}
		c.mu.Lock()
		p := c.pending[h.Trans]
		if p != nil && h.Flags&wire.FlagMore == 0 {
			delete(c.pending, h.Trans)
		}
		c.mu.Unlock()
		if p != nil && h.Size > uint64(limit) {
			p.finish(fmt.Errorf("%w: %d bytes, at most %d are taken", ErrTooLarge, h.Size, limit))
		}
		if p == nil || p.settled.Load() {
			if _, err := io.CopyN(io.Discard, c.br, int64(h.Size)); err != nil {
				return err
			}
			continue
		}
		pk := packet{header: h, remote: c.remote}
		size := int(h.Size)
		if h.Command == wire.CmdRead && size >= wire.IOAttrSize {
			if _, err := io.ReadFull(c.br, attr[:]); err != nil {
				p.finish(lost(err))
				return err
			}
			if err := pk.attr.Decode(attr[:]); err != nil {
				return err
			}
			size -= wire.IOAttrSize
		}
		if size > 0 {
			pk.body, pk.pooled = getBuffer(size)
			if _, err := io.ReadFull(c.br, pk.body); err != nil {
				p.finish(lost(err))
				return err
			}
		}
		p.moved.Store(now)
		p.bytes += int64(h.Size) + packetOverhead
		if len(p.packets) > 0 && p.bytes > limit {
			putBuffer(pk.pooled)
			p.finish(fmt.Errorf("%w: more than %d bytes in several packets", ErrTooLarge, limit))
			continue
		}
		// Nobody else touches packets before done is closed.
		p.packets = append(p.packets, pk)
		if h.Flags&wire.FlagMore == 0 {
			p.finish(nil)
		}
	}
}

// push takes a packet that answers nothing: UPDATE_IDS, and whatever else a
// server may think of, which is passed over.
func (c *conn) push(h *wire.Header) error {
	if h.Command != wire.CmdUpdateIDs || h.Size > 16<<20 {
		_, err := io.CopyN(io.Discard, c.br, int64(h.Size))
		return err
	}
	body := make([]byte, h.Size)
	if _, err := io.ReadFull(c.br, body); err != nil {
		return err
	}
	var u wire.UpdateIDs
	if err := u.Decode(body); err != nil {
		return err
	}
	c.remote.pushed(u)
	return nil
}

// roundTrip sends a request of the node itself and returns the payload of the
// first packet that has one.
func (c *conn) roundTrip(ctx context.Context, h wire.Header, payload []byte) ([]byte, error) {
	var data [][]byte
	if len(payload) > 0 {
		data = [][]byte{payload}
	}
	answer, err := c.send(ctx, h, nil, data, c.remote.node.cfg.WaitTimeout)
	if err != nil {
		return nil, err
	}
	var body []byte
	for _, p := range answer.packets {
		if p.header.Status != 0 {
			return nil, p.header.Status
		}
		if body == nil {
			body = p.body
		}
	}
	return body, nil
}

// check pings a connection on which nothing was heard for a while.
func (c *conn) check() {
	if time.Since(time.Unix(0, c.heard.Load())) >= c.remote.node.cfg.CheckTimeout {
		c.ping()
	}
}

// ping asks for something harmless, in the background, and closes the
// connection if no packet at all comes.
func (c *conn) ping() {
	if !c.pings.CompareAndSwap(false, true) {
		return
	}
	n := c.remote.node
	n.spawn(func() {
		defer c.pings.Store(false)
		asked := time.Now()
		ctx, cancel := context.WithTimeout(n.ctx, n.cfg.WaitTimeout)
		defer cancel()
		h := wire.Header{Command: wire.CmdBackendStatus, Flags: wire.FlagNeedAck | wire.FlagDirect}
		_, err := c.send(ctx, h, nil, [][]byte{wire.QueryNodeStatus.Append(nil)}, 2*n.cfg.WaitTimeout)
		if err != nil && n.ctx.Err() == nil && c.heard.Load() < asked.UnixNano() {
			c.close(fmt.Errorf("no sign of life for %v", n.cfg.WaitTimeout))
		}
	})
}

// jitter is d, give or take a fifth.
func jitter(d time.Duration) time.Duration {
	return d*4/5 + rand.N(d*2/5+1)
}
