// Package pipe connects two goroutines of one process the way a TCP
// connection connects two processes: a stream in each direction, deadlines,
// and a close that lets the other side read what was already sent.
//
// It is what an embedded node is dialled through, so it is made for frames of
// a hundred bytes as well as for megabytes of payload. A write that fits into
// a small ring is copied there and returns at once. A larger one waits for
// the reader, which copies straight out of the writer's memory into its own:
// large payloads move with a single copy. When the reader waits already, the
// writer copies straight into the reader's memory.
//
// A Write never looks at the caller's memory again once it has returned,
// whatever it returned. The package knows nothing of what the bytes mean.
package pipe

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// ringSize is what may be written in one direction without a reader, in bytes.
const ringSize = 64 << 10

// Conn is one end of a connection. It implements net.Conn; any number of
// goroutines may use it at the same time.
type Conn struct {
	in, out       *half
	local, remote net.Addr
}

// New makes a connection between two addresses and answers its two ends. The
// addresses are only what LocalAddr and RemoteAddr answer.
func New(a, b net.Addr) (*Conn, *Conn) {
	ab, ba := newHalf(), newHalf()
	return &Conn{in: ba, out: ab, local: a, remote: b},
		&Conn{in: ab, out: ba, local: b, remote: a}
}

// Read waits for at least one byte. After the other side was closed it
// answers what was sent before that, then io.EOF.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.in.read(p)
	return n, c.wrap("read", err)
}

// Write sends p whole, or answers how much of it the other side may have got.
func (c *Conn) Write(p []byte) (int, error) {
	h := c.out
	h.writes.Lock()
	defer h.writes.Unlock()
	h.single[0] = p
	n, err := h.write(h.single[:])
	h.single[0] = nil
	return int(n), c.wrap("write", err)
}

// WriteBuffers sends all of bufs as one write does: it is to a Conn what
// net.Buffers.WriteTo is to a TCP connection. Neither bufs nor its elements
// are changed.
func (c *Conn) WriteBuffers(bufs [][]byte) (int64, error) {
	c.out.writes.Lock()
	defer c.out.writes.Unlock()
	n, err := c.out.write(bufs)
	return n, c.wrap("write", err)
}

// Close ends both directions. Everything that waits on this end fails with
// net.ErrClosed; the other end can read what is in flight.
func (c *Conn) Close() error {
	c.out.close(&c.out.writer)
	c.in.close(&c.in.reader)
	return nil
}

// CloseWrite ends what this end sends: the other end reads what is in flight,
// then io.EOF, and can still be read from.
func (c *Conn) CloseWrite() error {
	c.out.close(&c.out.writer)
	return nil
}

// LocalAddr is the address of this end.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr is the address of the other end.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline sets both deadlines; the zero time means none.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline makes reads fail with os.ErrDeadlineExceeded from t on.
func (c *Conn) SetReadDeadline(t time.Time) error {
	return c.wrap("set", c.in.setDeadline(&c.in.reader, t))
}

// SetWriteDeadline makes writes fail with os.ErrDeadlineExceeded from t on.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	return c.wrap("set", c.out.setDeadline(&c.out.writer, t))
}

func (c *Conn) wrap(op string, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return &net.OpError{Op: op, Net: c.remote.Network(), Source: c.local, Addr: c.remote, Err: err}
}

// half is one direction of a connection.
type half struct {
	writes, reads sync.Mutex // one writer and one reader at a time; taken before mu
	single        [1][]byte  // what Write passes on; guarded by writes

	mu     sync.Mutex
	ring   []byte // made when the first byte is stored
	start  int    // of what is stored in ring
	stored int
	offer  [][]byte // what the waiting writer still has to give; behind what is in ring
	want   []byte   // the waiting reader's memory; filled only while ring and offer are empty
	got    int      // bytes the writer put into want

	writer, reader side
}

// side is the state of one of the two parties of a half.
type side struct {
	wake     sync.Cond
	waiting  bool
	closed   bool
	deadline time.Time
	timer    *time.Timer
	armed    time.Time // when timer fires; zero when it does not
}

func newHalf() *half {
	h := &half{}
	h.writer.wake.L = &h.mu
	h.reader.wake.L = &h.mu
	return h
}

// write runs with writes locked.
func (h *half) write(bufs [][]byte) (int64, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.checkWriter(); err != nil {
		return 0, err
	}
	total := size(bufs)
	left := total
	if h.want != nil && h.stored == 0 && total > 0 {
		var n int
		n, bufs = gather(h.want, bufs)
		h.got, h.want = n, nil
		left -= int64(n)
		h.reader.wake.Signal()
	}
	if left == 0 {
		return total, nil
	}
	if left <= int64(ringSize-h.stored) {
		h.store(bufs)
		h.notify(&h.reader)
		return total, nil
	}
	h.offer = bufs
	h.notify(&h.reader)
	for {
		h.sleep(&h.writer)
		if h.offer == nil {
			return total, nil
		}
		if err := h.checkWriter(); err != nil {
			sent := total - size(h.offer)
			h.offer = nil
			return sent, err
		}
	}
}

func (h *half) read(p []byte) (int, error) {
	h.reads.Lock()
	defer h.reads.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.checkReader(); err != nil {
		return 0, err
	}
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if n := h.take(p); n > 0 {
			return n, nil
		}
		if h.writer.closed {
			return 0, io.EOF
		}
		h.want, h.got = p, 0
		h.sleep(&h.reader)
		err := h.checkReader()
		h.want = nil
		if h.got > 0 {
			return h.got, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

// take moves what is there into p: first what is stored, then what the
// waiting writer offers.
func (h *half) take(p []byte) int {
	n := 0
	for h.stored > 0 && n < len(p) {
		chunk := h.ring[h.start:min(h.start+h.stored, len(h.ring))]
		m := copy(p[n:], chunk)
		n += m
		h.stored -= m
		h.start = (h.start + m) % len(h.ring)
	}
	if h.offer != nil && n < len(p) {
		m, rest := gather(p[n:], h.offer)
		n += m
		if len(rest) == 0 {
			rest = nil
			h.writer.wake.Signal()
		}
		h.offer = rest
	}
	return n
}

// store copies bufs behind what the ring holds; the caller knows that they fit.
func (h *half) store(bufs [][]byte) {
	if h.ring == nil {
		h.ring = make([]byte, ringSize)
	}
	if h.stored == 0 {
		h.start = 0
	}
	for _, b := range bufs {
		for len(b) > 0 {
			end := (h.start + h.stored) % len(h.ring)
			n := copy(h.ring[end:], b)
			h.stored += n
			b = b[n:]
		}
	}
}

// gather copies bufs into p until one of them is used up and answers what is
// left of bufs, without changing the caller's slices.
func gather(p []byte, bufs [][]byte) (n int, rest [][]byte) {
	for i, b := range bufs {
		m := copy(p[n:], b)
		n += m
		if m < len(b) {
			rest = append(rest, b[m:])
			return n, append(rest, bufs[i+1:]...)
		}
	}
	return n, nil
}

func size(bufs [][]byte) (n int64) {
	for _, b := range bufs {
		n += int64(len(b))
	}
	return n
}

// notify wakes the other side when it waits.
func (h *half) notify(s *side) {
	if s.waiting {
		s.wake.Signal()
	}
}

// checkWriter answers why the writer cannot go on.
func (h *half) checkWriter() error {
	switch {
	case h.writer.closed:
		return net.ErrClosed
	case h.reader.closed:
		return io.ErrClosedPipe
	}
	return h.writer.expired()
}

func (h *half) checkReader() error {
	if h.reader.closed {
		return net.ErrClosed
	}
	return h.reader.expired()
}

// sleep waits until somebody wakes s, at the latest at its deadline.
func (h *half) sleep(s *side) {
	if !s.deadline.IsZero() && (s.armed.IsZero() || s.armed.After(s.deadline)) {
		s.arm(&h.mu)
	}
	s.waiting = true
	s.wake.Wait()
	s.waiting = false
}

func (s *side) expired() error {
	if !s.deadline.IsZero() && !time.Now().Before(s.deadline) {
		return os.ErrDeadlineExceeded
	}
	return nil
}

// arm sets the timer for the deadline. A timer that is set for an earlier
// time is left alone by the callers: it fires, finds that the deadline has
// moved, and is set anew then. So moving a deadline forward costs nothing.
func (s *side) arm(mu *sync.Mutex) {
	d := time.Until(s.deadline)
	s.armed = s.deadline
	if s.timer != nil {
		s.timer.Reset(d)
		return
	}
	s.timer = time.AfterFunc(d, func() {
		mu.Lock()
		defer mu.Unlock()
		s.armed = time.Time{}
		if !s.deadline.IsZero() && time.Now().Before(s.deadline) && s.waiting {
			s.arm(mu)
			return
		}
		s.wake.Broadcast()
	})
}

func (h *half) setDeadline(s *side, t time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	s.deadline = t
	if s.waiting && !t.IsZero() && (s.armed.IsZero() || s.armed.After(t)) {
		s.arm(&h.mu)
	}
	return nil
}

func (h *half) close(s *side) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s.closed = true
	if s.timer != nil {
		s.timer.Stop()
	}
	h.writer.wake.Broadcast()
	h.reader.wake.Broadcast()
}
