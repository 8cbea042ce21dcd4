package elliptics_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/elliptics/node"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

func TestNodeComesBack(t *testing.T) {
	c, n := cluster(t, 1)
	s := n.NewSession(1)
	key := s.Key("k")
	_, err := s.WriteData(t.Context(), key, []byte("before"))
	require.NoError(t, err)
	c.Stop(0)
	require.Eventually(t, func() bool { return connected(n) == 0 }, patience, instant)
	_, err = s.Read(t.Context(), key, 0, 0)
	require.ErrorIs(t, err, elliptics.ErrNoRoute)
	require.ErrorContains(t, err, "no node is connected")
	require.Error(t, n.Remotes()[0].Err)
	c.Restart(0)
	require.Eventually(t, func() bool {
		r, err := s.Read(t.Context(), key, 0, 0)
		return err == nil && string(r.Data) == "before"
	}, patience, instant)
	require.NoError(t, n.Remotes()[0].Err)
}

// The pauses between attempts grow, up to CheckTimeout, and begin anew when the
// node was there.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var attempts []time.Time
		down := true
		f := pipeFake(t, nil)
		n := open(t, []string{f.remote()}, oneConnection, f.dialed, func(c *elliptics.Config) {
			c.CheckTimeout = 10 * time.Second
			dial := c.Dial
			c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				mu.Lock()
				defer mu.Unlock()
				attempts = append(attempts, time.Now())
				if down {
					return nil, errors.New("down")
				}
				return dial(ctx, network, address)
			}
		})
		time.Sleep(5 * time.Minute)
		mu.Lock()
		require.Greater(t, len(attempts), 20)
		require.Less(t, len(attempts), 80)
		require.Less(t, attempts[1].Sub(attempts[0]), 200*time.Millisecond)
		for i := range attempts[1:] {
			require.LessOrEqual(t, attempts[i+1].Sub(attempts[i]), 20*time.Second)
		}
		down = false
		mu.Unlock()
		require.NoError(t, n.Wait(t.Context()))
		time.Sleep(time.Minute)
		lost := time.Now()
		mu.Lock()
		attempts = nil
		mu.Unlock()
		f.hangUp()
		time.Sleep(time.Second)
		mu.Lock()
		defer mu.Unlock()
		require.Equal(t, []time.Time{lost}, attempts, "a node that was there is tried at once")
		require.Equal(t, 1, connected(n))
	})
}

// A server that takes everybody and then drops them is not asked in a tight
// loop.
func TestBackoffOfDroppedConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := pipeFake(t, func(f *fake) {
			f.shake = func(c *fakeConn, h wire.Header) {
				r := wire.Routes{Addrs: []wire.Addr{c.f.addr()}}
				c.reply(h, 0, 0, r.Append(nil))
				c.Close()
			}
		})
		open(t, []string{f.remote()}, oneConnection, f.dialed, func(c *elliptics.Config) { c.CheckTimeout = 10 * time.Second })
		time.Sleep(5 * time.Minute)
		require.Less(t, f.dials.Load(), int32(80))
	})
}

// All requests in flight end when the node goes away, and say why.
func TestNodeGoesAwayInTheMiddle(t *testing.T) {
	var asked sync.WaitGroup
	asked.Add(10)
	f := startFake(t, func(f *fake) {
		f.handle = func(c *fakeConn, h wire.Header, _ []byte) {
			if h.Command == wire.CmdRead {
				asked.Done()
			}
		}
	})
	n := connect(t, []string{f.remote()}, func(c *elliptics.Config) { c.WaitTimeout = time.Hour })
	errs := make(chan error, 10)
	for i := range byte(10) {
		go func() {
			_, err := n.NewSession(1).Read(t.Context(), id(i), 0, 0)
			errs <- err
		}()
	}
	asked.Wait()
	f.hangUp()
	for range 10 {
		err := <-errs
		require.ErrorIs(t, err, elliptics.ErrConnectionReset)
		require.ErrorContains(t, err, "in group 1 at "+f.remote()+": connection lost (status -104): the node closed the connection")
		require.Equal(t, wire.RetryIdempotent, elliptics.Retry(err))
	}
}

func TestResetAndHalfAnAnswer(t *testing.T) {
	c, n := cluster(t, 1)
	s := n.NewSession(1)
	key := s.Key("k")
	_, err := s.WriteData(t.Context(), key, []byte("data"))
	require.NoError(t, err)
	for _, f := range []node.Fault{{Reset: true}, {ResetAnswer: true}} {
		c.Fail(0, wire.CmdRead, 1, f)
		_, err = s.Read(t.Context(), key, 0, 0)
		require.ErrorIs(t, err, elliptics.ErrConnectionReset)
	}
	f := startFake(t, func(f *fake) {
		f.handle = func(c *fakeConn, h wire.Header, _ []byte) {
			b := readAnswer(h, 0, "data")
			_, _ = c.Write(b[:len(b)-1])
			c.Close()
		}
	})
	n = connect(t, []string{f.remote()})
	_, err = n.NewSession(1).Read(t.Context(), key, 0, 0)
	require.ErrorIs(t, err, elliptics.ErrConnectionReset)
}

func TestClose(t *testing.T) {
	f := startFake(t, nil)
	n := connect(t, []string{f.remote()})
	s := n.NewSession(1)
	errs := make(chan error)
	go func() {
		_, err := s.Read(t.Context(), id(1), 0, 0)
		errs <- err
	}()
	time.Sleep(10 * time.Millisecond) // most likely in flight; either way it ends
	require.NoError(t, n.Close())
	err := <-errs
	require.True(t, errors.Is(err, elliptics.ErrClosed), "%v", err)
	_, err = s.Read(t.Context(), id(1), 0, 0)
	require.ErrorIs(t, err, elliptics.ErrClosed)
	require.ErrorIs(t, n.Wait(t.Context()), elliptics.ErrClosed)
	require.NoError(t, n.Close(), "a second time")
}

// A node that takes requests and answers none is noticed by the check, so that
// requests fail at once instead of waiting each for its time-out.
func TestFrozenNodeIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := pipeFake(t, nil)
		n := connect(t, []string{f.remote()}, f.dialed, func(c *elliptics.Config) { c.CheckTimeout = 20 * time.Second })
		dials := f.dials.Load()
		f.frozen.Store(true)
		s := n.NewSession(1).WithTimeout(time.Hour)
		began := time.Now()
		_, err := s.Read(t.Context(), id(1), 0, 0)
		require.ErrorIs(t, err, elliptics.ErrConnectionReset)
		require.ErrorContains(t, err, "no sign of life for 5s")
		require.Less(t, time.Since(began), 2*time.Minute)
		require.Eventually(t, func() bool { return connected(n) == 0 }, 2*time.Minute, time.Second)
		require.Greater(t, f.dials.Load(), dials, "it is tried again")
		_, err = s.Read(t.Context(), id(1), 0, 0)
		require.ErrorIs(t, err, elliptics.ErrNoRoute)
	})
}

// An idle connection to a healthy node stays.
func TestIdleConnectionStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := pipeFake(t, func(f *fake) {
			f.handle = func(c *fakeConn, h wire.Header, _ []byte) { c.reply(h, 0, wire.ErrNotSupported) }
		})
		n := connect(t, []string{f.remote()}, f.dialed)
		time.Sleep(5 * time.Minute)
		require.EqualValues(t, 2, f.dials.Load())
		require.Equal(t, 1, connected(n))
	})
}

func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := pipeFake(t, func(f *fake) {
			f.handle = func(c *fakeConn, h wire.Header, _ []byte) {
				switch h.Command {
				case wire.CmdBulkRead: // each packet in time, the whole not
					for range 5 {
						time.Sleep(4 * time.Second)
						_, _ = c.Write(readAnswer(wire.Header{ID: id(2), Command: wire.CmdRead, Trans: h.Trans}, wire.FlagMore, "x"))
					}
					c.reply(h, 0, 0)
				case wire.CmdBackendStatus:
					c.reply(h, 0, 0)
				}
			}
		})
		n := connect(t, []string{f.remote()}, f.dialed, func(c *elliptics.Config) { c.CheckTimeout = time.Hour })
		s := n.NewSession(1)
		began := time.Now()
		_, err := s.Read(t.Context(), id(1), 0, 0)
		require.ErrorIs(t, err, elliptics.ErrTimeout)
		require.ErrorContains(t, err, "waited 5s")
		require.Equal(t, 5*time.Second, time.Since(began))
		_, err = s.WithTimeout(time.Second).Read(t.Context(), id(1), 0, 0)
		require.ErrorContains(t, err, "waited 1s")
		require.Equal(t, 6*time.Second, time.Since(began))
		found, err := s.BulkRead(t.Context(), []elliptics.Key{id(2)})
		require.NoError(t, err)
		require.Len(t, found, 1)
		require.Equal(t, 1, connected(n), "a node that answers pings is not given up")
	})
}

func TestContext(t *testing.T) {
	f := startFake(t, nil)
	n := connect(t, []string{f.remote()})
	s := n.NewSession(1)
	why := errors.New("the user went away")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(10*time.Millisecond, func() { cancel(why) })
	_, err := s.Read(ctx, id(1), 0, 0)
	require.ErrorIs(t, err, why)
	require.Equal(t, wire.RetryNever, elliptics.Retry(err))
	_, err = s.WriteData(ctx, id(1), nil)
	require.ErrorIs(t, err, why, "not even begun")
	short, stop := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer stop()
	_, err = s.WithGroups(1, 2).Read(short, id(1), 0, 0)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// When a write returns, its payload belongs to the caller again, whatever
// became of it. The race detector watches.
func TestCancelledPayloadIsNotRead(t *testing.T) {
	gate := make(chan struct{})
	f := startFake(t, func(f *fake) {
		f.handle = func(c *fakeConn, h wire.Header, payload []byte) { <-gate }
	})
	defer close(gate)
	n := connect(t, []string{f.remote()}, oneConnection)
	s := n.NewSession(1)
	var wg sync.WaitGroup
	for i := range byte(8) { // more than the socket's buffers take
		wg.Go(func() {
			data := bytes.Repeat([]byte{i}, 4<<20)
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_, err := s.WriteData(ctx, id(i), data)
			if err == nil {
				t.Error("a write succeeded at a server that does not read")
			}
			for j := range data {
				data[j]++
			}
		})
	}
	wg.Wait()
}

// A server may refuse a request before it has read all of it.
func TestAnswerBeforeTheRequestIsRead(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f := newFake(t, ln, nil)
	f.wg.Go(func() {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		c := &fakeConn{nc, f}
		var h wire.Header
		head := make([]byte, wire.HeaderSize)
		_, _ = io.ReadFull(nc, head)
		_ = h.Decode(head)
		r := wire.Routes{Addrs: []wire.Addr{f.addr()}, Backends: f.backends}
		c.reply(h, 0, 0, r.Append(nil))
		_, _ = io.ReadFull(nc, head)
		_ = h.Decode(head)
		c.reply(h, 0, wire.ErrNoSpace)
		time.Sleep(10 * time.Millisecond)
		_, _ = io.CopyN(io.Discard, nc, int64(h.Size))
		_, _ = io.Copy(io.Discard, nc)
		nc.Close()
	})
	n := connect(t, []string{f.remote()}, oneConnection, func(c *elliptics.Config) { c.KnownOnly = true })
	data := make([]byte, 8<<20)
	_, err = n.NewSession(1).WriteData(t.Context(), id(1), data)
	clear(data)
	require.ErrorIs(t, err, elliptics.ErrNoSpace)
	require.NoError(t, n.Close())
}

// Who wants to send more than MaxQueued waits, and not for ever.
func TestMaxQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var waiting []wire.Header
		f := pipeFake(t, func(f *fake) {
			f.handle = func(c *fakeConn, h wire.Header, _ []byte) {
				mu.Lock()
				defer mu.Unlock()
				if h.Command == wire.CmdWrite {
					waiting = append(waiting, h)
				} else {
					c.reply(h, 0, 0)
				}
			}
		})
		n := connect(t, []string{f.remote()}, f.dialed, oneConnection, func(c *elliptics.Config) {
			c.MaxQueued = 100 << 10
			c.CheckTimeout = time.Hour
		})
		s := n.NewSession(1).WithTimeout(time.Minute)
		const writers = 20
		errs := make(chan error, writers)
		for i := range byte(writers) {
			go func() {
				_, err := s.WriteData(t.Context(), id(i), make([]byte, 30<<10))
				errs <- err
			}()
		}
		synctest.Wait()
		mu.Lock()
		require.Len(t, waiting, 3, "no more fit")
		mu.Unlock()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := s.WriteData(ctx, id(1), make([]byte, 30<<10))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		_, err = s.WithTimeout(2*time.Second).WriteData(t.Context(), id(1), make([]byte, 30<<10))
		require.ErrorIs(t, err, elliptics.ErrTimeout)
		require.ErrorContains(t, err, "too many requests wait for this node")
		// All come to their turn as answers arrive.
		for done := 0; done < writers; {
			mu.Lock()
			answered := waiting
			waiting = nil
			mu.Unlock()
			f.mu.Lock()
			for c := range f.conns {
				for _, h := range answered {
					var info wire.FileInfo
					c.reply(h, 0, 0, info.Append(nil))
				}
			}
			f.mu.Unlock()
			for range answered {
				require.NoError(t, <-errs)
				done++
			}
			synctest.Wait()
		}
		// A request that is larger than MaxQueued goes alone.
		go func() {
			_, err := s.WriteData(t.Context(), id(1), make([]byte, 200<<10))
			errs <- err
		}()
		synctest.Wait()
		require.Len(t, waiting, 1)
		f.hangUp()
		require.ErrorIs(t, <-errs, elliptics.ErrConnectionReset)
	})
}

func TestManyKeysAtOnce(t *testing.T) {
	_, n := cluster(t, 1, 2)
	s := n.NewSession(1, 2).WithChecker(elliptics.All)
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			key := s.Key(strings.Repeat("k", i+1))
			for j := range 10 {
				want := bytes.Repeat([]byte{byte(i), byte(j)}, 1+1000*i)
				if _, err := s.WriteData(t.Context(), key, want); err != nil {
					t.Error(err)
				}
				r, err := s.Read(t.Context(), key, 0, 0)
				if err != nil || !bytes.Equal(want, r.Data) {
					t.Errorf("key %d: %v, or other data", i, err)
					return
				}
				r.Release()
			}
		})
	}
	wg.Wait()
}
