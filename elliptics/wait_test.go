package elliptics_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// Who needs all groups waits for the nodes that are slow to answer, also for
// those that only a route list names.
func TestWaitForGroups(t *testing.T) {
	second := startFake(t, func(f *fake) { f.backends[0].Group = 2 })
	first := startFake(t, func(f *fake) { f.nodes = append(f.nodes, second.addr()) })
	slowly := func(c *elliptics.Config) {
		c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if address != first.ln.Addr().String() {
				time.Sleep(50 * time.Millisecond)
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		}
	}
	for name, remotes := range map[string][]string{
		"both configured": {first.remote(), second.remote()},
		"one listed":      {first.remote()},
	} {
		t.Run(name, func(t *testing.T) {
			n := open(t, remotes, slowly)
			require.NoError(t, n.Wait(t.Context(), 1, 2))
			require.NotEmpty(t, n.Backends(2))
		})
	}
}

// A group whose node is away holds nobody up, nor does one that nobody has.
func TestWaitForGroupsThatAreAway(t *testing.T) {
	f := startFake(t, nil)
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, gone.Close())
	n := open(t, []string{f.remote(), gone.Addr().String() + ":2"})
	require.NoError(t, n.Wait(t.Context(), 1, 2, 7))
	require.NotEmpty(t, n.Backends(1))
}

// A node that never answers does not hold up for longer than the caller will.
func TestWaitForGroupsThatHang(t *testing.T) {
	f := startFake(t, nil)
	hung := startFake(t, func(f *fake) { f.shake = func(*fakeConn, wire.Header) {} })
	n := open(t, []string{f.remote(), hung.remote()})
	require.NoError(t, n.Wait(t.Context()))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.NoError(t, n.Wait(ctx, 1, 2), "one node is enough to begin with")
}
