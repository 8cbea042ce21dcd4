package node

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// both runs a test over the in-process connection and over TCP.
func both(t *testing.T, test func(t *testing.T, transport func(*Config))) {
	t.Run("pipe", func(t *testing.T) { test(t, func(*Config) {}) })
	t.Run("tcp", func(t *testing.T) { test(t, listening) })
}

// requireClosed reads until the node has closed the connection.
func (c *client) requireClosed() {
	c.t.Helper()
	require.NoError(c.t, c.nc.SetReadDeadline(time.Now().Add(20*time.Second)))
	_, err := io.Copy(io.Discard, c.nc)
	var timeout net.Error
	if errors.As(err, &timeout) {
		require.False(c.t, timeout.Timeout(), "the connection is still open")
	}
}

func TestAcknowledges(t *testing.T) {
	c := dial(t, startNode(t))
	id := key("missing")
	io := wire.IOAttr{ID: id}
	for _, cmd := range []wire.Command{wire.CmdLookup, wire.CmdRead, wire.CmdDel} {
		r := c.call(wire.Header{ID: id, Group: 1, Command: cmd}, io.Append(nil))
		require.Equal(t, wire.ErrNotFound, r.Status, "%v fails without NEED_ACK", cmd)
		require.Equal(t, wire.FlagReply, r.Flags)
	}
	// Flags are echoed, without NEED_ACK; MORE would make the answer endless.
	r := c.call(wire.Header{ID: id, Group: 1, Command: wire.CmdLookup, TraceID: 7,
		Flags: wire.FlagNeedAck | wire.FlagMore | wire.FlagNoLock | wire.FlagTrace})
	require.Equal(t, wire.FlagNoLock|wire.FlagTrace|wire.FlagReply, r.Flags)
	require.EqualValues(t, 7, r.TraceID)
	require.EqualValues(t, 1, r.Backend)

	// A removal that succeeds without NEED_ACK says nothing, nor does an
	// unknown command for which there is no backend: the next answer is the
	// lookup's.
	require.Equal(t, wire.OK, c.write("k", wire.IOAttr{}, "x").Status)
	c.send(wire.Header{ID: key("k"), Group: 1, Command: wire.CmdDel}, io.Append(nil))
	c.send(wire.Header{ID: key("k"), Group: 9, Command: 200})
	status, _ := c.lookup("k", 0)
	require.Equal(t, wire.ErrNotFound, status)

	r = c.call(wire.Header{ID: id, Group: 1, Command: 200})
	require.Equal(t, wire.ErrNotSupported, r.Status)
	require.EqualValues(t, 1, r.Backend)
	r = c.call(wire.Header{ID: id, Group: 9, Command: wire.CmdLookup, Flags: wire.FlagNeedAck})
	require.Equal(t, wire.ErrNotSupported, r.Status)
	require.EqualValues(t, -1, r.Backend)
	for _, b := range []int32{2, -1, math.MinInt32, math.MaxInt32} {
		r = c.call(wire.Header{ID: id, Backend: b, Command: wire.CmdLookup, Flags: wire.FlagNeedAck | wire.FlagDirectBackend})
		require.Equal(t, wire.ErrNotSupported, r.Status)
		require.EqualValues(t, -1, r.Backend)
	}
}

// TestAnswersAreIgnored sends what looks like answers to the node.
func TestAnswersAreIgnored(t *testing.T) {
	c := dial(t, startNode(t))
	for range 3 {
		c.send(wire.Header{Command: wire.CmdLookup, Flags: wire.FlagReply}, make([]byte, 100_000))
	}
	status, _ := c.lookup("k", 0)
	require.Equal(t, wire.ErrNotFound, status)
}

func TestRequestThatIsTooLarge(t *testing.T) {
	both(t, func(t *testing.T, transport func(*Config)) {
		n := startNode(t, transport, func(cfg *Config) { cfg.MaxRequest = 1 << 20 })
		for _, size := range []uint64{1<<20 + 1, math.MaxInt64, math.MaxUint64} {
			c := dial(t, n)
			h := wire.Header{ID: key("k"), Group: 1, Command: wire.CmdWrite, Trans: 5, Size: size}
			go func() {
				c.nc.Write(h.Append(nil))
				c.nc.Write(make([]byte, 100_000))
			}()
			r := c.receive()
			require.Equal(t, wire.ErrInvalid, r.Status)
			require.EqualValues(t, 5, r.Trans)
			c.requireClosed()
		}
		c := dial(t, n)
		data := strings.Repeat("x", 1<<20-wire.IOAttrSize)
		require.Equal(t, wire.OK, c.write("k", wire.IOAttr{}, data).Status, "the limit itself is fine")
		c.sendRaw(wire.Header{Flags: wire.FlagReply, Command: wire.CmdRead}, make([]byte, 1<<20))
		_, err := c.nc.Write((&wire.Header{Flags: wire.FlagReply, Size: 1<<20 + 1}).Append(nil))
		require.NoError(t, err)
		c.requireClosed()
	})
}

// TestClientLeaves cuts connections at every kind of place. The node goes on,
// holds nothing for them, and has not executed what did not arrive whole.
func TestClientLeaves(t *testing.T) {
	both(t, func(t *testing.T, transport func(*Config)) {
		n := startNode(t, transport)
		probe := dial(t, n)
		h, payload := probe.writeRequest("k", &wire.IOAttr{}, strings.Repeat("x", 100_000))
		h.Size = uint64(len(payload))
		packet := append(h.Append(nil), payload...)
		for _, cut := range []int{0, 1, wire.HeaderSize - 1, wire.HeaderSize, wire.HeaderSize + 5,
			wire.HeaderSize + wire.IOAttrSize, 50_000, len(packet) - 1} {
			c := dial(t, n)
			go c.nc.Write(packet[:cut])
			if cut > 0 {
				// Not before the node has seen something of it.
				time.Sleep(time.Millisecond)
			}
			c.nc.Close()
		}
		require.Eventually(t, func() bool {
			n.mu.Lock()
			defer n.mu.Unlock()
			return len(n.conns) == 1
		}, 10*time.Second, time.Millisecond)
		requireNothingLent(t, n)
		status, _ := probe.lookup("k", 0)
		require.Equal(t, wire.ErrNotFound, status)
		// Whole: it is executed although nobody waits for the answer.
		c := dial(t, n)
		_, err := c.nc.Write(packet)
		require.NoError(t, err)
		c.nc.Close()
		require.Eventually(t, func() bool {
			status, _ := probe.lookup("k", 0)
			return status == wire.OK
		}, 10*time.Second, time.Millisecond)
	})
}

// requireNothingLent waits until all payload memory was given back.
func requireNothingLent(t testing.TB, n *Node) {
	t.Helper()
	for _, m := range []*memory{n.requests, n.answers} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		require.NoError(t, m.lent.Acquire(ctx, m.limit), "memory is still lent")
		m.lent.Release(m.limit)
	}
}

// requireBacklog waits until a connection has as much memory for answers as it
// gets.
func requireBacklog(t testing.TB, n *Node) {
	t.Helper()
	require.Eventually(t, func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		for c := range n.conns {
			if !c.out.ahead.TryAcquire(maxAhead) {
				return true
			}
			c.out.ahead.Release(maxAhead)
		}
		return false
	}, 10*time.Second, time.Millisecond)
}

// TestSlowReader has a client that asks for much more than it reads: the node
// holds a bounded part of it, serves others meanwhile, large reads included, and lets go of
// everything when the client is cut off.
func TestSlowReader(t *testing.T) {
	both(t, func(t *testing.T, transport func(*Config)) {
		n := startNode(t, transport, func(cfg *Config) { cfg.MaxMemory = 64 << 20 })
		other := dial(t, n)
		require.Equal(t, wire.OK, other.write("k", wire.IOAttr{}, strings.Repeat("x", 4<<20)).Status)
		slow := dial(t, n)
		id := key("k")
		attr := wire.IOAttr{ID: id}
		h := wire.Header{ID: id, Group: 1, Command: wire.CmdRead, Size: wire.IOAttrSize}
		packet := attr.Append(h.Append(nil))
		var asking sync.WaitGroup
		asking.Go(func() {
			// More than the node takes at one time; the rest stays in the socket.
			for range 4 * maxInflight {
				if _, err := slow.nc.Write(packet); err != nil {
					return
				}
			}
		})
		requireBacklog(t, n)
		for range 10 {
			require.Equal(t, wire.OK, other.write("other", wire.IOAttr{}, "x").Status)
			status, _ := other.lookup("other", 0)
			require.Equal(t, wire.OK, status)
			_, _, data := other.read("k", 0, 0, 0)
			require.Len(t, data, 4<<20)
		}
		slow.nc.Close()
		asking.Wait()
		requireNothingLent(t, n)
		_, _, data := other.read("k", 0, 0, 0)
		require.Len(t, data, 4<<20)
	})
}

// TestManyInFlight pipelines more requests than the node takes at one time,
// and reads all answers.
func TestManyInFlight(t *testing.T) {
	both(t, func(t *testing.T, transport func(*Config)) {
		c := dial(t, startNode(t, transport))
		require.Equal(t, wire.OK, c.write("k", wire.IOAttr{}, "x").Status)
		const total = 5 * maxInflight
		go func() {
			h := wire.Header{ID: key("k"), Group: 1, Command: wire.CmdLookup}
			for i := range total {
				h.Trans = uint64(i)
				c.nc.Write(h.Append(nil))
			}
		}()
		seen := make(map[uint64]bool)
		for range total {
			r := c.receive()
			require.Equal(t, wire.OK, r.Status)
			require.False(t, seen[r.Trans])
			seen[r.Trans] = true
		}
	})
}

// TestLargeAndSmall moves records of many sizes both ways, with a few in
// flight, and compares the bytes.
func TestLargeAndSmall(t *testing.T) {
	both(t, func(t *testing.T, transport func(*Config)) {
		n := startNode(t, transport)
		var wg sync.WaitGroup
		for _, size := range []int{1, inlinePayload, inlinePayload + 1, readBuffer, 1 << 20, 4<<20 + 17, maxBuffered, maxBuffered + 1, 40 << 20} {
			wg.Go(func() {
				rng := rand.NewChaCha8([32]byte{byte(size), byte(size >> 8), byte(size >> 16), byte(size >> 24)})
				data := make([]byte, size)
				rng.Read(data)
				c := dial(t, n)
				name := strconv.Itoa(size)
				if !assertEqual(t, wire.OK, c.write(name, wire.IOAttr{}, string(data)).Status) {
					return
				}
				status, attr, got := c.read(name, 0, 0, wire.IOChecksum)
				assertEqual(t, wire.OK, status)
				assertEqual(t, uint64(size), attr.TotalSize)
				assertEqual(t, sum512(data), attr.Parent)
				if !bytes.Equal(data, []byte(got)) {
					t.Errorf("%d bytes came back as others", size)
				}
				_, _, got = c.read(name, uint64(size/3), uint64(size/2), 0)
				if want := data[size/3:][:min(max(size/2, 1), size-size/3)]; size/2 > 0 && got != string(want) {
					t.Errorf("a range of %d bytes came back as another", size)
				}
				_, info := c.lookup(name, wire.FlagChecksum)
				assertEqual(t, sum512(data), info.Checksum)
			})
		}
		wg.Wait()
		requireNothingLent(t, n)
	})
}

func TestReads(t *testing.T) {
	c := dial(t, startNode(t))
	require.Equal(t, wire.OK, c.write("k", wire.IOAttr{}, "0123456789").Status)
	for _, tt := range []struct {
		offset, size uint64
		status       wire.Status
		data         string
	}{
		{0, 0, 0, "0123456789"},
		{0, 3, 0, "012"},
		{6, 4, 0, "6789"},
		{6, 400, 0, "6789"},
		{9, math.MaxUint64, 0, "9"},
		{10, 0, wire.ErrTooBig, ""},
		{10, 1, wire.ErrTooBig, ""},
		{math.MaxUint64, math.MaxUint64, wire.ErrTooBig, ""},
	} {
		status, attr, data := c.read("k", tt.offset, tt.size, 0)
		require.Equal(t, tt.status, status, "%+v", tt)
		require.Equal(t, tt.data, data, "%+v", tt)
		if status == wire.OK {
			require.EqualValues(t, 10, attr.TotalSize)
			require.Equal(t, tt.offset, attr.Offset)
			require.Equal(t, [64]byte(key("k")), attr.Parent, "as sent")
		}
	}
	require.Equal(t, wire.OK, c.write("empty", wire.IOAttr{Flags: oneShot}, "").Status)
	status, attr, data := c.read("empty", 0, 5, wire.IOChecksum)
	require.Equal(t, wire.OK, status)
	require.Empty(t, data)
	require.Zero(t, attr.Parent)
	status, _, _ = c.read("empty", 5, 0, 0)
	require.Equal(t, wire.ErrTooBig, status)
	status, _ = c.lookup("empty", 0)
	require.Equal(t, wire.ErrNotFound, status, "an empty record can be read but not looked up")
	status, _, _ = c.read("k", 0, 0, wire.IOCacheOnly)
	require.Equal(t, wire.ErrNotSupported, status)
	h := wire.Header{ID: key("k"), Group: 1, Command: wire.CmdRead}
	require.Equal(t, wire.ErrInvalid, c.call(h, make([]byte, 207)).Status)
	h.Command = wire.CmdDel
	require.Equal(t, wire.ErrInvalid, c.call(h, make([]byte, 207)).Status)
}

func TestBulkRead(t *testing.T) {
	c := dial(t, startNode(t))
	for _, name := range []string{"a", "b", "large"} {
		data := name
		if name == "large" {
			data = strings.Repeat("x", maxBuffered+1)
		}
		require.Equal(t, wire.OK, c.write(name, wire.IOAttr{UserFlags: 3}, data).Status)
	}
	first := wire.IOAttr{ID: key("a")}
	payload := first.Append(nil)
	names := []string{"a", "missing", "large", "b", "a"}
	for _, name := range names {
		io := wire.IOAttr{ID: key(name)}
		payload = io.Append(payload)
	}
	h := wire.Header{ID: key("a"), Group: 1, Command: wire.CmdBulkRead, Flags: wire.FlagNeedAck}
	c.send(h, payload)
	for _, name := range names {
		r := c.receive()
		require.Equal(t, wire.CmdRead, r.Command)
		require.Equal(t, wire.FlagReply|wire.FlagMore, r.Flags)
		if name == "missing" {
			require.Equal(t, wire.ErrNotFound, r.Status)
			require.Equal(t, key("a"), r.ID, "the request's")
			require.Empty(t, r.payload)
			continue
		}
		require.Equal(t, key(name), r.ID)
		var io wire.IOAttr
		require.NoError(t, io.Decode(r.payload))
		require.Equal(t, key(name), io.ID)
		require.EqualValues(t, 3, io.UserFlags)
		if name != "large" {
			require.Equal(t, name, string(r.payload[wire.IOAttrSize:]))
		}
		require.EqualValues(t, len(r.payload)-wire.IOAttrSize, io.Size)
	}
	r := c.receive()
	require.Equal(t, wire.CmdBulkRead, r.Command)
	require.Equal(t, wire.FlagReply, r.Flags)
	require.Equal(t, wire.OK, r.Status)

	require.Equal(t, wire.OK, c.call(h, first.Append(nil)).Status, "no keys")
	require.Equal(t, wire.ErrInvalid, c.call(h).Status)
	require.Equal(t, wire.ErrInvalid, c.call(h, payload[:500]).Status)
}
