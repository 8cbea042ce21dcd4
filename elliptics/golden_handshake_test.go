package elliptics_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/elliptics/internal/vectors"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// numbers cannot be equal in handshakes: the last two of the version, which
// nobody compares, and the number of index shards, of which this client sends 0.
func numbers(h *wire.Header, _ []byte) {
	if h.Command == wire.CmdReverseLookup {
		clear(h.ID[8:16])
		clear(h.ID[20:24])
	}
}

// dialReplay makes a client reach the captured servers by their addresses. Others
// refuse.
func dialReplay(t *testing.T, packets []vectors.Packet, hangUp func(wire.Version) bool) (*replay, func(*elliptics.Config)) {
	r := &replay{t: t, name: t.Name(), packets: packets, mask: numbers}
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	nodes := make(map[string]bool)
	for _, p := range packets {
		nodes[p.Node] = true
	}
	return r, func(c *elliptics.Config) {
		c.CheckTimeout = time.Hour
		c.Dial = func(_ context.Context, _, address string) (net.Conn, error) {
			if !nodes[address] {
				return nil, errors.New("refused")
			}
			ours, theirs := net.Pipe()
			wg.Go(func() {
				defer theirs.Close()
				var head [wire.HeaderSize]byte
				for {
					if _, err := io.ReadFull(theirs, head[:]); err != nil {
						return
					}
					var h wire.Header
					if err := h.Decode(head[:]); err != nil {
						return
					}
					payload := make([]byte, h.Size)
					if _, err := io.ReadFull(theirs, payload); err != nil {
						return
					}
					r.answer(address, &fakeConn{Conn: theirs}, h, payload)
					if h.Command == wire.CmdReverseLookup && hangUp != nil && hangUp(wire.HandshakeOf(h.ID).Version) {
						return
					}
				}
			})
			return ours, nil
		}
	}
}

// announced is what a captured server says in its handshake.
func announced(t *testing.T, packets []vectors.Packet, node string) (h wire.Handshake, routes wire.Routes) {
	for _, p := range packets {
		if p.Node == node && p.Direction == vectors.Reply && p.Header.Command == wire.CmdReverseLookup {
			require.NoError(t, routes.Decode(p.Payload()))
			return wire.HandshakeOf(p.Header.ID), routes
		}
	}
	t.Fatalf("%s announces nothing", node)
	return
}

func TestGoldenHandshakes(t *testing.T) {
	for name, c := range map[string]struct {
		also   []string // captures that belong to it
		remote string
		nodes  map[string]string // address in the capture by the client's name for it
	}{
		"connect": {nil, "127.0.0.1:1025:2", map[string]string{
			"127.0.0.1:1025:2": "127.0.0.1:1025", "127.0.0.1:1026:2": "127.0.0.1:1026", "127.0.0.1:1027:2": "127.0.0.1:1027"}},
		"address-ipv6":               {nil, "::1:1025:10", map[string]string{"::1:1025:10": "[::1]:1025"}},
		"address-two":                {nil, "127.0.0.1:1025:2", map[string]string{"127.0.0.1:1025:2": "127.0.0.1:1025"}},
		"v30-handshake-226-rejected": {[]string{"v30-handshake", "v30-route-list"}, "127.0.0.1:1025:2", map[string]string{"127.0.0.1:1025:2": "127.0.0.1:1025"}},
	} {
		t.Run(name, func(t *testing.T) {
			packets := vectors.Load(t, captures, name)
			var hangUp func(wire.Version) bool
			for i, also := range c.also {
				for _, p := range vectors.Load(t, captures, also) {
					p.Conn += 1 + i // the numbers are those within a capture
					packets = append(packets, p)
				}
				hangUp = func(v wire.Version) bool { return v.Same(wire.Version226) }
			}
			r, dialed := dialReplay(t, packets, hangUp)
			n := connect(t, []string{c.remote}, oneConnection, dialed)
			require.Eventually(t, func() bool { return connected(n) == len(c.nodes) }, patience, instant)
			require.Len(t, n.Remotes(), len(c.nodes))
			for _, remote := range n.Remotes() {
				h, routes := announced(t, packets, c.nodes[remote.Address])
				require.Equal(t, h.Version, remote.Version)
				require.EqualValues(t, h.IndexShards, remote.IndexShards)
				require.ElementsMatch(t, routes.Backends, remote.Backends)
			}
			for _, p := range packets { // what else was done there
				if p.Direction == vectors.Request && p.Header.Group != 0 {
					again(t, n, &p, answersOf(packets, &p))
				}
			}
			require.Eventually(t, func() bool {
				r.mu.Lock()
				defer r.mu.Unlock()
				return len(r.packets) == 0
			}, patience, instant)
		})
	}
	// A client says which version it has; the rest of this capture is of clients
	// with other versions.
	t.Run("handshake-versions", func(t *testing.T) {
		packets := vectors.Load(t, captures, "handshake-versions")[:2]
		_, dialed := dialReplay(t, packets, nil)
		n := connect(t, []string{"127.0.0.1:1025:2"}, oneConnection, dialed, func(c *elliptics.Config) { c.KnownOnly = true })
		h, _ := announced(t, packets, "127.0.0.1:1025")
		require.Equal(t, h.Version, n.Remotes()[0].Version)
	})
}

// A backend is disabled, and enabled again.
func TestGoldenPush(t *testing.T) {
	packets := vectors.Load(t, captures, "notify-update-ids")
	f := startFake(t, func(f *fake) { f.backends[0].Backend = 2 })
	n := connect(t, []string{f.remote()}, oneConnection)
	for i, want := range []int{0, 1} {
		f.mu.Lock()
		for c := range f.conns {
			_, _ = c.Write(packets[i].Bytes)
		}
		f.mu.Unlock()
		require.Eventually(t, func() bool { return len(n.Remotes()[0].Backends) == want }, patience, instant)
	}
	var u wire.UpdateIDs
	require.NoError(t, u.Decode(packets[1].Payload()))
	require.Equal(t, u.Backends, n.Remotes()[0].Backends)
}
