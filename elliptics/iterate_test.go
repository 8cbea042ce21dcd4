package elliptics_test

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// found is a packet of an iterator.
func found(h wire.Header, key wire.ID, data string) []byte {
	r := wire.IteratorReply{Key: key, Size: uint64(len(data))}
	return answer(h, wire.FlagMore, 0, r.Append(nil), []byte(data))
}

// iterators makes a fake serve ITERATOR only.
func iterators(serve func(c *fakeConn, h wire.Header, req wire.IteratorRequest)) func(*fake) {
	return func(f *fake) {
		f.handle = func(c *fakeConn, h wire.Header, payload []byte) {
			var req wire.IteratorRequest
			if h.Command == wire.CmdIterator && req.Decode(payload) == nil {
				serve(c, h, req)
			} else {
				c.reply(h, 0, wire.ErrNotSupported)
			}
		}
	}
}

// walk collects what an iteration of group 1 finds, and its errors.
func walk(ctx context.Context, n *elliptics.Node, it elliptics.Iteration) (entries []elliptics.Entry, errs []error) {
	for e, err := range n.NewSession().Iterate(ctx, 1, it) {
		if err != nil {
			errs = append(errs, err)
		} else {
			entries = append(entries, e)
		}
	}
	return entries, errs
}

func TestIterationRequest(t *testing.T) {
	got := make(chan wire.IteratorRequest, 1)
	f := startFake(t, iterators(func(c *fakeConn, h wire.Header, req wire.IteratorRequest) {
		got <- req
		c.reply(h, 0, 0)
	}))
	n := connect(t, []string{f.remote()})
	whole := wire.IteratorRequest{Action: wire.IteratorStart, Type: wire.IteratorNetwork, End: wire.EndOfTime}
	for _, c := range []struct {
		it   elliptics.Iteration
		want func(*wire.IteratorRequest)
	}{
		{elliptics.Iteration{}, func(*wire.IteratorRequest) {}},
		{elliptics.Iteration{Data: true, NoMeta: true}, func(r *wire.IteratorRequest) { r.Flags = wire.IteratorData | wire.IteratorNoMeta }},
		{elliptics.Iteration{From: elliptics.Time{Sec: 5}}, func(r *wire.IteratorRequest) {
			r.Flags, r.Begin = wire.IteratorTimeRange, wire.Time{Sec: 5}
		}},
		{elliptics.Iteration{To: elliptics.Time{Sec: 7}}, func(r *wire.IteratorRequest) {
			r.Flags, r.End = wire.IteratorTimeRange, wire.Time{Sec: 7}
		}},
		{elliptics.Iteration{Keys: []elliptics.KeyRange{{First: id(1), Last: id(2)}}}, func(r *wire.IteratorRequest) {
			r.Flags, r.Ranges = wire.IteratorKeyRange, []wire.IDRange{{First: id(1), Last: id(2)}}
		}},
	} {
		entries, errs := walk(t.Context(), n, c.it)
		require.Empty(t, entries)
		require.Empty(t, errs)
		want := whole
		c.want(&want)
		require.Equal(t, want, <-got)
	}
}

// All backends of the group, and no others, whatever happens to one of them.
func TestIterateGroup(t *testing.T) {
	serve := func(c *fakeConn, h wire.Header, _ wire.IteratorRequest) {
		switch h.Backend {
		case 3:
			c.reply(h, 0, wire.ErrNotSupported)
		case 4:
			_, _ = c.Write(found(h, id(4), "half"))
			c.Close()
		default:
			_, _ = c.Write(found(h, id(byte(h.Backend)), "data"))
			c.reply(h, 0, 0)
		}
	}
	backends := func(list ...wire.BackendIDs) func(*fake) {
		return func(f *fake) {
			iterators(serve)(f)
			f.backends = list
		}
	}
	ring := []wire.ID{{}}
	a := startFake(t, backends(
		wire.BackendIDs{Backend: 2, Group: 1, IDs: ring}, wire.BackendIDs{Backend: 1, Group: 1, IDs: []wire.ID{id(1)}},
		wire.BackendIDs{Backend: 9, Group: 2, IDs: ring}))
	b := startFake(t, backends(
		wire.BackendIDs{Backend: 3, Group: 1, IDs: []wire.ID{id(3)}}, wire.BackendIDs{Backend: 4, Group: 1, IDs: []wire.ID{id(4)}},
		wire.BackendIDs{Backend: 5, Group: 1})) // without ids: it has records all the same
	n := connect(t, []string{a.remote(), b.remote()})
	require.Eventually(t, func() bool { return connected(n) == 2 }, patience, instant)
	entries, errs := walk(t.Context(), n, elliptics.Iteration{Data: true})
	var keys []elliptics.Key
	for _, e := range entries {
		keys = append(keys, e.Key)
	}
	require.Equal(t, []elliptics.Key{id(1), id(2), id(4), id(5)}, keys)
	require.Equal(t, elliptics.BackendRef{Group: 1, Remote: b.remote(), Backend: 5}, entries[3].Backend)
	require.Len(t, errs, 2)
	require.ErrorIs(t, errs[0], elliptics.ErrNotSupported)
	require.ErrorContains(t, errs[0], "in group 1 at "+b.remote()+": backend 3: not supported")
	require.ErrorIs(t, errs[1], elliptics.ErrConnectionReset)

	for _, err := range n.NewSession().Iterate(t.Context(), 7, elliptics.Iteration{}) {
		require.ErrorIs(t, err, elliptics.ErrNoRoute)
		require.ErrorContains(t, err, "the connected nodes have groups [1 2]")
	}
	for _, err := range n.NewSession().IterateBackend(t.Context(), elliptics.BackendRef{Group: 1, Remote: "192.0.2.1:1:2"}, elliptics.Iteration{}) {
		require.ErrorIs(t, err, elliptics.ErrNoRoute)
		require.ErrorContains(t, err, "no such node")
	}
}

func TestStrangeIterators(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(h wire.Header) []byte
		keys   int // found before or behind the error
		want   string
		is     error
	}{
		"keep-alives": {func(h wire.Header) []byte {
			r := wire.IteratorReply{Status: wire.IteratorKeepAlive}
			alive := answer(h, wire.FlagMore, 0, r.Append(nil))
			return append(append(alive, found(h, id(1), "")...), answer(h, 0, 0)...)
		}, 1, "", nil},
		"pushes and others' packets": {func(h wire.Header) []byte {
			u := wire.UpdateIDs{}
			push := wire.Header{Command: wire.CmdUpdateIDs, Size: 4}
			other := h
			other.Trans++
			b := append(u.Append(push.Append(nil)), found(other, id(9), "other")...)
			return append(append(b, found(h, id(1), "")...), answer(h, 0, 0)...)
		}, 1, "", nil},
		"too large a record": {func(h wire.Header) []byte {
			return append(append(found(h, id(1), string(make([]byte, 100<<10))), found(h, id(2), "")...), answer(h, 0, 0)...)
		}, 1, "iterate 010000000000 in group 1", elliptics.ErrTooLarge},
		"status of a record": {func(h wire.Header) []byte {
			r := wire.IteratorReply{Key: id(1), Status: int32(wire.ErrChecksum)}
			return append(append(answer(h, wire.FlagMore, 0, r.Append(nil)), found(h, id(2), "")...), answer(h, 0, 0)...)
		}, 1, "iterate 010000000000", elliptics.ErrChecksum},
		"status at the end":    {func(h wire.Header) []byte { return append(found(h, id(1), ""), answer(h, 0, wire.ErrExec)...) }, 1, "cancelled", wire.ErrExec},
		"payload at the end":   {func(h wire.Header) []byte { return answer(h, 0, 0, make([]byte, 50)) }, 0, "", nil},
		"too short":            {func(h wire.Header) []byte { return answer(h, wire.FlagMore, 0, make([]byte, 50)) }, 0, "an iterator's answer of 50 bytes", elliptics.ErrProtocol},
		"nonsense length":      {func(h wire.Header) []byte { b := found(h, id(1), ""); b[118] = 0xff; return b }, 0, "announces a packet", elliptics.ErrProtocol},
		"silence":              {func(h wire.Header) []byte { return found(h, id(1), "") }, 1, "no answer in time", elliptics.ErrTimeout},
		"half a record":        {func(h wire.Header) []byte { b := found(h, id(1), "data"); return b[:len(b)-1] }, 0, "no answer in time", elliptics.ErrTimeout},
		"half a record's head": {func(h wire.Header) []byte { return found(h, id(1), "data")[:200] }, 0, "no answer in time", elliptics.ErrTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			f := startFake(t, iterators(func(fc *fakeConn, h wire.Header, _ wire.IteratorRequest) { _, _ = fc.Write(c.answer(h)) }))
			silent := c.is
			n := connect(t, []string{f.remote()}, func(c *elliptics.Config) {
				c.MaxReply = 64 << 10
				if errors.Is(silent, elliptics.ErrTimeout) {
					c.WaitTimeout = 500 * time.Millisecond
				}
			})
			entries, errs := walk(t.Context(), n, elliptics.Iteration{Data: true})
			require.Len(t, entries, c.keys)
			if c.want == "" {
				require.Empty(t, errs)
				return
			}
			require.Len(t, errs, 1)
			require.ErrorContains(t, errs[0], c.want)
			require.ErrorIs(t, errs[0], c.is)
		})
	}
}

// endless serves an iterator that never ends, and counts what it could send.
func endless(sent *atomic.Int64, gone chan error) func(*fake) {
	return iterators(func(c *fakeConn, h wire.Header, _ wire.IteratorRequest) {
		for {
			if _, err := c.Write(found(h, id(1), string(make([]byte, 32<<10)))); err != nil {
				gone <- err
				return
			}
			sent.Add(1)
		}
	})
}

// The server waits for a slow loop; leaving it ends the iterator.
func TestSlowIteration(t *testing.T) {
	var sent atomic.Int64
	gone := make(chan error, 1)
	f := startFake(t, endless(&sent, gone))
	n := connect(t, []string{f.remote()})
	got := 0
	for e, err := range n.NewSession().Iterate(t.Context(), 1, elliptics.Iteration{Data: true}) {
		require.NoError(t, err)
		require.Len(t, e.Data, 32<<10)
		if got++; got == 3 {
			break
		}
		last := int64(-1) // the server gets stuck
		require.Eventually(t, func() bool {
			now := sent.Load()
			stuck := now == last
			last = now
			return stuck
		}, patience, 50*time.Millisecond)
	}
	require.Error(t, <-gone)
	require.Less(t, sent.Load(), int64(64<<20/(32<<10)), "what sockets hold, not what there is")
	require.Equal(t, 1, connected(n), "other connections live on")
}

func TestIterationEndsWithItsContext(t *testing.T) {
	var sent atomic.Int64
	gone := make(chan error, 2)
	f := startFake(t, endless(&sent, gone))
	n := connect(t, []string{f.remote()})
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var last error
	for e, err := range n.NewSession().Iterate(ctx, 1, elliptics.Iteration{}) {
		require.NoError(t, last, "nothing follows the end")
		if last = err; err == nil {
			require.Equal(t, id(1), e.Key)
			cancel(why)
		}
	}
	require.ErrorIs(t, last, why)
	require.Error(t, <-gone)
	// Before it begins.
	_, errs := walk(ctx, n, elliptics.Iteration{})
	require.Len(t, errs, 1)
	require.ErrorIs(t, errs[0], why)
	// While it waits, and when the client is closed.
	for err := range closedWhileWaiting(t) {
		require.ErrorIs(t, err, elliptics.ErrClosed)
	}
}

func closedWhileWaiting(t *testing.T) map[error]bool {
	asked := make(chan bool, 1)
	f := startFake(t, iterators(func(c *fakeConn, h wire.Header, _ wire.IteratorRequest) {
		asked <- true
		_, _ = io.Copy(io.Discard, c)
	}))
	n := connect(t, []string{f.remote()})
	go func() {
		<-asked
		n.Close()
	}()
	errs := make(map[error]bool)
	_, list := walk(t.Context(), n, elliptics.Iteration{})
	for _, err := range list {
		errs[err] = true
	}
	require.NotEmpty(t, errs)
	_, list = walk(t.Context(), n, elliptics.Iteration{})
	for _, err := range list {
		errs[err] = true
	}
	return errs
}
