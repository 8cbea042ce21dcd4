package elliptics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"time"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// KeyRange is a range of keys, both ends included.
type KeyRange = wire.IDRange

// Iteration says what an iterator finds and what it sends of it. The zero
// Iteration finds every record, and sends everything but the data.
type Iteration struct {
	// Keys are the ranges that are of interest; none: all keys.
	Keys []KeyRange
	// From and To bound the records' timestamps, both included; zero: no bound.
	From, To Time
	// Data asks for the records' data as well.
	Data bool
	// NoMeta does without timestamps and user flags. Servers of 2.26 and 3.0, and
	// the embedded node, send them all the same.
	NoMeta bool
}

// Entry is a record that an iterator has found.
type Entry struct {
	Key         Key
	Timestamp   Time
	UserFlags   uint64
	Size        uint64 // of the record, bytes
	RecordFlags uint64 // see wire.RecordUncommitted: such records are found as well
	Data        []byte // with Iteration.Data; it is the caller's
	Backend     BackendRef
	Iterated    uint64 // records of the backend that the iterator has come by
	Total       uint64 // records of the backend
}

// BackendRef names a backend of a group.
type BackendRef struct {
	Group   uint32
	Remote  string // host:port:family of the node, as in RemoteStatus
	Backend uint32
}

func (b BackendRef) String() string {
	return fmt.Sprintf("backend %d of group %d at %s", b.Backend, b.Group, b.Remote)
}

// Backends lists the backends of a group on the nodes that are connected now.
// What is on other nodes cannot be told.
func (n *Node) Backends(group uint32) []BackendRef {
	n.mu.Lock()
	defer n.mu.Unlock()
	var list []BackendRef
	for _, r := range n.remotes {
		if r.up == 0 {
			continue
		}
		first := len(list)
		for _, b := range r.backends {
			if b.Group == group {
				list = append(list, BackendRef{Group: group, Remote: r.name.String(), Backend: b.Backend})
			}
		}
		slices.SortFunc(list[first:], func(a, b BackendRef) int { return int(a.Backend) - int(b.Backend) })
	}
	return list
}

// Iterate walks over all records of a group, one backend after the other. The
// groups of the session play no part.
//
// The records of a backend come in the order of its storage, and not from one
// point in time: what is written meanwhile may be missing, and what is moved
// may come twice. An error is yielded in place of what was lost by it: a
// record that is too large for Config.MaxReply (its Key and Size are set), the
// rest of a backend, or, with ErrNoRoute, the whole group. The iteration goes
// on behind it. Backends of nodes that are not connected are not seen, see
// Node.Backends.
//
// Each backend has a connection of its own, from which a record is read when
// it is asked for, so that the server waits for a slow loop and the memory is
// that of one record. The session's time-out bounds the wait for each of them.
// Leaving the loop, or the end of ctx, closes it, and that ends the iterator on
// the server.
func (s *Session) Iterate(ctx context.Context, group uint32, it Iteration) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		backends := s.node.Backends(group)
		if len(backends) == 0 {
			err := s.node.routes.Load().noRoute()
			if s.node.ctx.Err() != nil {
				err = ErrClosed
			}
			yield(Entry{}, &Error{Op: "iterate", Group: group, Err: err})
			return
		}
		for _, b := range backends {
			for e, err := range s.IterateBackend(ctx, b, it) {
				if !yield(e, err) || err != nil && ctx.Err() != nil {
					return
				}
			}
		}
	}
}

// IterateBackend is Iterate over a single backend. To go over the backends of a
// group at the same time, use it in several goroutines.
func (s *Session) IterateBackend(ctx context.Context, b BackendRef, it Iteration) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		fail := func(err error) {
			yield(Entry{Backend: b}, &Error{Op: "iterate", Group: b.Group, Remote: b.Remote, Err: fmt.Errorf("backend %d: %w", b.Backend, err)})
		}
		r := s.node.remote(b.Remote)
		if r == nil {
			fail(fmt.Errorf("%w: no such node", wire.ErrNoRoute))
			return
		}
		st, err := s.startIterator(ctx, r, b, it)
		if err != nil {
			fail(err)
			return
		}
		defer st.close()
		for {
			e, last, err := st.next()
			switch {
			case last && err == nil:
				return
			case last:
				fail(err)
				return
			case err != nil:
				err = &Error{Op: "iterate", Group: b.Group, Remote: b.Remote, Key: e.Key, Err: err}
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// remote finds a node by its address; nil when it is not known.
func (n *Node) remote(address string) *remote {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.remotes {
		if r.name.String() == address {
			return r
		}
	}
	return nil
}

// stream is a running iterator and its connection.
type stream struct {
	ctx     context.Context
	conn    *conn
	backend BackendRef
	timeout time.Duration
	trans   uint64
	limit   uint64
	close   func()
}

func (s *Session) startIterator(ctx context.Context, r *remote, b BackendRef, it Iteration) (*stream, error) {
	if err := s.node.ctx.Err(); err != nil {
		return nil, ErrClosed
	}
	ctx, cancel := context.WithCancelCause(ctx)
	unlink := context.AfterFunc(s.node.ctx, func() { cancel(ErrClosed) })
	c, _, err := r.connect(ctx)
	if err != nil {
		unlink()
		cancel(nil)
		return nil, ended(ctx, err)
	}
	// A read that waits ends when the connection is closed.
	stop := context.AfterFunc(ctx, func() { c.nc.Close() })
	st := &stream{
		ctx: ctx, conn: c, backend: b, timeout: s.timeout,
		trans: s.node.trans.Add(1), limit: uint64(s.node.cfg.MaxReply),
		close: func() {
			stop()
			unlink()
			c.nc.Close()
			cancel(nil)
		},
	}
	req := it.request()
	body := req.Append(nil)
	h := wire.Header{
		Group: b.Group, Command: wire.CmdIterator, Backend: int32(b.Backend), TraceID: s.traceID,
		Flags: s.flags | wire.FlagNeedAck | wire.FlagDirect | wire.FlagNoLock | wire.FlagDirectBackend,
		Trans: st.trans, Size: uint64(len(body)),
	}
	_ = c.nc.SetWriteDeadline(time.Now().Add(s.timeout))
	if _, err := c.nc.Write(append(h.Append(nil), body...)); err != nil {
		st.close()
		return nil, ended(ctx, err)
	}
	return st, nil
}

func (it *Iteration) request() wire.IteratorRequest {
	req := wire.IteratorRequest{
		Action: wire.IteratorStart, Type: wire.IteratorNetwork,
		Begin: it.From, End: it.To, Ranges: it.Keys,
	}
	if it.To.IsZero() {
		req.End = wire.EndOfTime
	}
	for flag, set := range map[wire.IteratorFlags]bool{
		wire.IteratorData: it.Data, wire.IteratorNoMeta: it.NoMeta, wire.IteratorKeyRange: len(it.Keys) > 0,
		wire.IteratorTimeRange: !it.From.IsZero() || !it.To.IsZero(),
	} {
		if set {
			req.Flags |= flag
		}
	}
	return req
}

// ended is why a stream ended: the context's cause, if that has ended.
func ended(ctx context.Context, err error) error {
	var status wire.Status
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &status):
		return err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%w: %w", wire.ErrTimeout, err)
	}
	return lost(err)
}

// next is the next record, or the end: last tells that nothing follows. An
// error without last concerns one record.
func (st *stream) next() (e Entry, last bool, err error) {
	var buf [wire.IteratorReplySize]byte
	for {
		if st.ctx.Err() != nil {
			return e, true, context.Cause(st.ctx)
		}
		h, err := st.header()
		if err != nil {
			return e, true, ended(st.ctx, err)
		}
		if h.Flags&wire.FlagMore == 0 {
			return e, true, h.Status.Err()
		}
		if h.Status != wire.OK {
			return e, false, h.Status
		}
		if h.Size < wire.IteratorReplySize {
			return e, true, fmt.Errorf("%w: an iterator's answer of %d bytes", wire.ErrProtocol, h.Size)
		}
		if _, err := io.ReadFull(st.conn.br, buf[:]); err != nil {
			return e, true, ended(st.ctx, err)
		}
		var rep wire.IteratorReply
		if err := rep.Decode(buf[:]); err != nil {
			return e, true, err
		}
		e = Entry{
			Key: rep.Key, Timestamp: rep.Timestamp, UserFlags: rep.UserFlags, Size: rep.Size,
			RecordFlags: rep.RecordFlags, Backend: st.backend, Iterated: rep.Iterated, Total: rep.Total,
		}
		data := h.Size - wire.IteratorReplySize
		if data > st.limit {
			if err := st.skip(data); err != nil {
				return e, true, ended(st.ctx, err)
			}
			return e, false, fmt.Errorf("%w: %d bytes, at most %d are taken", ErrTooLarge, data, st.limit)
		}
		if data > 0 {
			e.Data = make([]byte, data)
			if _, err := io.ReadFull(st.conn.br, e.Data); err != nil {
				return e, true, ended(st.ctx, err)
			}
		}
		if rep.Status == wire.IteratorKeepAlive {
			continue
		}
		return e, false, wire.Status(rep.Status).Err()
	}
}

// header reads up to the next packet of the iterator.
func (st *stream) header() (h wire.Header, err error) {
	var head [wire.HeaderSize]byte
	for {
		_ = st.conn.nc.SetReadDeadline(time.Now().Add(st.timeout))
		if _, err := io.ReadFull(st.conn.br, head[:]); err != nil {
			return h, err
		}
		if err := h.Decode(head[:]); err != nil {
			return h, err
		}
		switch {
		case h.Flags&wire.FlagReply == 0:
			err = st.conn.push(&h)
		case h.Trans != st.trans || h.Status != wire.OK || h.Flags&wire.FlagMore == 0:
			err = st.skip(h.Size)
		}
		if err != nil || h.Flags&wire.FlagReply != 0 && h.Trans == st.trans {
			return h, err
		}
	}
}

// skip passes over bytes that nobody wants.
func (st *stream) skip(n uint64) error {
	if n/passOver > st.limit {
		return fmt.Errorf("%w: the node announces a packet of %d bytes", wire.ErrProtocol, n)
	}
	_, err := io.CopyN(io.Discard, st.conn.br, int64(n))
	return err
}
