package elliptics_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// who makes a server answer reads with its name.
func who(name string) func(*fakeConn, wire.Header, []byte) {
	return func(c *fakeConn, h wire.Header, _ []byte) {
		if h.Command == wire.CmdRead {
			_, _ = c.Write(readAnswer(h, 0, name))
		} else {
			c.reply(h, 0, wire.ErrNotSupported)
		}
	}
}

// reads is what a read of a key finds, or the error.
func reads(n *elliptics.Node, group uint32, key elliptics.Key) string {
	r, err := n.NewSession(group).Read(context.Background(), key, 0, 0)
	if err != nil {
		return err.Error()
	}
	return string(r.Data)
}

// A client that knows one node finds the others, and those that come later.
func TestDiscovery(t *testing.T) {
	a := startFake(t, func(f *fake) { f.handle = who("a") })
	b := startFake(t, func(f *fake) {
		f.handle = who("b")
		f.backends[0].Group = 2
	})
	c := startFake(t, func(f *fake) {
		f.handle = who("c")
		f.backends[0].Group = 3
	})
	know := func(f *fake, others ...*fake) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.nodes = []wire.Addr{f.addr()}
		for _, o := range others {
			f.nodes = append(f.nodes, o.addr())
		}
	}
	know(a, b)
	n := connect(t, []string{a.remote()})
	require.Eventually(t, func() bool { return connected(n) == 2 }, patience, instant)
	require.Equal(t, "b", reads(n, 2, id(1)))
	list := n.Remotes()
	require.True(t, list[0].Configured)
	require.False(t, list[1].Configured)
	know(a, b, c)
	require.Eventually(t, func() bool { return reads(n, 3, id(1)) == "c" }, patience, instant)
	// A node that is gone, and that nobody speaks of any more, is forgotten.
	c.stop()
	require.Eventually(t, func() bool { return connected(n) == 2 }, patience, instant)
	require.Len(t, n.Remotes(), 3)
	know(a, b)
	require.Eventually(t, func() bool { return len(n.Remotes()) == 2 }, patience, instant)
	// The configured one is not, and while it is away the others are asked.
	d := startFake(t, func(f *fake) {
		f.handle = who("d")
		f.backends[0].Group = 4
	})
	know(b, d)
	a.stop()
	require.Eventually(t, func() bool { return reads(n, 4, id(1)) == "d" }, patience, instant)
	require.Equal(t, a.remote(), n.Remotes()[0].Address)
}

func TestKnownOnly(t *testing.T) {
	b := startFake(t, nil)
	a := startFake(t, func(f *fake) { f.nodes = append(f.nodes, b.addr()) })
	n := connect(t, []string{a.remote()}, func(c *elliptics.Config) {
		c.KnownOnly = true
		c.CheckTimeout = time.Millisecond
	})
	time.Sleep(20 * time.Millisecond)
	require.Len(t, n.Remotes(), 1)
	require.Zero(t, b.dials.Load())
}

// A node that is configured by name is not connected to a second time by the
// address that the others know.
func TestConfiguredByName(t *testing.T) {
	a := startFake(t, nil)
	b := startFake(t, func(f *fake) { f.nodes = append(f.nodes, a.addr()) })
	ap, _ := a.addr().AddrPort()
	name := wire.Remote{Host: "localhost", Port: ap.Port(), Family: wire.FamilyIPv4}
	n := connect(t, []string{b.remote(), name.String()})
	require.Eventually(t, func() bool { return connected(n) == 2 }, patience, instant)
	time.Sleep(200 * time.Millisecond) // two rounds of discovery
	require.Len(t, n.Remotes(), 2)
}

// The owner of a key is the backend with the greatest id that is not above it.
func TestRouting(t *testing.T) {
	low := startFake(t, func(f *fake) {
		f.handle = who("low")
		f.backends = []wire.BackendIDs{{Backend: 1, Group: 1, IDs: []wire.ID{id(0x10), id(0x80)}}}
	})
	high := startFake(t, func(f *fake) {
		f.handle = who("high")
		f.backends = []wire.BackendIDs{{Backend: 1, Group: 1, IDs: []wire.ID{id(0x40), id(0xc0)}}}
	})
	n := connect(t, []string{low.remote(), high.remote()})
	require.Eventually(t, func() bool { return connected(n) == 2 }, patience, instant)
	for key, want := range map[byte]string{
		0x00: "high", 0x0f: "high", // round the ring
		0x10: "low", 0x3f: "low", 0x40: "high", 0x7f: "high", 0x80: "low", 0xbf: "low", 0xc0: "high", 0xff: "high",
	} {
		require.Equal(t, want, reads(n, 1, id(key)), "%x", key)
	}
	// Without one node the other has the whole ring.
	high.stop()
	require.Eventually(t, func() bool { return reads(n, 1, id(0x40)) == "low" }, patience, instant)
}

func TestPushes(t *testing.T) {
	f := startFake(t, func(f *fake) { f.handle = who("f") })
	n := connect(t, []string{f.remote()})
	require.Contains(t, reads(n, 2, id(1)), "the connected nodes have groups [1]")
	f.push(wire.BackendIDs{Backend: 2, Group: 2, IDs: []wire.ID{id(0)}})
	require.Eventually(t, func() bool { return reads(n, 2, id(1)) == "f" }, patience, instant)
	require.Len(t, n.Remotes()[0].Backends, 2)
	f.push(wire.BackendIDs{Backend: 1, Disabled: true})
	require.Eventually(t, func() bool { return reads(n, 1, id(1)) != "f" }, patience, instant)
	require.Equal(t, "f", reads(n, 2, id(1)))
	// Other ids take the place of the old ones.
	f.push(wire.BackendIDs{Backend: 2, Group: 3, IDs: []wire.ID{id(0)}})
	require.Eventually(t, func() bool { return reads(n, 3, id(1)) == "f" }, patience, instant)
	require.Contains(t, reads(n, 2, id(1)), "the connected nodes have groups [3]")
	// A backend without any id owns nothing.
	f.push(wire.BackendIDs{Backend: 2, Group: 3})
	require.Eventually(t, func() bool { return reads(n, 3, id(1)) != "f" }, patience, instant)
	require.Contains(t, reads(n, 3, id(1)), "the connected nodes have no backends")
}
