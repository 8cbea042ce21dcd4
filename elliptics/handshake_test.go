package elliptics_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

func oneConnection(c *elliptics.Config) { c.Connections = 1 }

func TestHandshake226(t *testing.T) {
	f := startFake(t, func(f *fake) { f.shards = 16 })
	n := connect(t, []string{f.remote()}, oneConnection)
	require.Equal(t, []wire.Version{wire.Version226}, f.versions())
	r := n.Remotes()[0]
	require.Equal(t, f.remote(), r.Address)
	require.Equal(t, wire.Version226, r.Version)
	require.Equal(t, 16, r.IndexShards)
	require.Equal(t, f.backends, r.Backends)
	require.NoError(t, r.Err)
}

// A 3.0 server hangs up on 2.26. Next time it is asked for 3.0 at once.
func TestHandshakeFallsBackAndRemembers(t *testing.T) {
	f := startFake(t, func(f *fake) { f.version = wire.Version300 })
	n := connect(t, []string{f.remote()}, oneConnection)
	require.Equal(t, wire.Version300, n.Remotes()[0].Version)
	require.Equal(t, []wire.Version{wire.Version226, wire.Version300}, f.versions())
	f.hangUp()
	require.Eventually(t, func() bool { return len(f.versions()) == 3 }, patience, instant)
	require.Equal(t, wire.Version300, f.versions()[2])
	// It may be replaced by a server of the other line.
	f.mu.Lock()
	f.version = wire.Version226
	f.mu.Unlock()
	f.hangUp()
	require.Eventually(t, func() bool { return n.Remotes()[0].Version == wire.Version226 }, patience, instant)
	require.Equal(t, []wire.Version{wire.Version300, wire.Version226}, f.versions()[3:])
}

// Silence is no refusal: the server may be busy, so that the same version is
// tried again.
func TestHandshakeTimeoutIsNoRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := pipeFake(t, func(f *fake) { f.shake = func(*fakeConn, wire.Header) {} })
		n := open(t, []string{f.remote()}, oneConnection, f.dialed)
		time.Sleep(time.Minute)
		require.GreaterOrEqual(t, len(f.versions()), 3)
		for _, v := range f.versions() {
			require.Equal(t, wire.Version226, v)
		}
		require.ErrorIs(t, n.Remotes()[0].Err, elliptics.ErrTimeout)
	})
}

func TestHandshakeRefused(t *testing.T) {
	routes := func(f *fake) []byte {
		r := wire.Routes{Addrs: []wire.Addr{f.addr()}, Backends: f.backends}
		return r.Append(nil)
	}
	for name, c := range map[string]struct {
		shake func(c *fakeConn, h wire.Header)
		want  string
	}{
		"neither version": {func(c *fakeConn, h wire.Header) { c.Close() }, "neither protocol version 2.26 nor 3.0"},
		"other version": {func(c *fakeConn, h wire.Header) {
			h.ID = wire.Handshake{Version: wire.Version{2, 25, 0, 0}}.ID()
			c.reply(h, 0, 0, routes(c.f))
		}, "asked for version [2 26 11 1], got [2 25 0 0]"},
		"other command": {func(c *fakeConn, h wire.Header) {
			h.Command = wire.CmdLookup
			c.reply(h, 0, 0, routes(c.f))
		}, "answered by LOOKUP"},
		"no reply": {func(c *fakeConn, h wire.Header) { _, _ = c.Write(h.Append(nil)) }, "answered by REVERSE_LOOKUP"},
		"status":   {func(c *fakeConn, h wire.Header) { c.reply(h, 0, wire.ErrPermission) }, "not permitted"},
		"too long": {func(c *fakeConn, h wire.Header) {
			h.Flags |= wire.FlagReply
			h.Size = 1 << 62
			_, _ = c.Write(h.Append(nil))
		}, "handshake of 4611686018427387904 bytes"},
		"malformed":    {func(c *fakeConn, h wire.Header) { c.reply(h, 0, 0, []byte("\xff\xff\xff\xff\xff\xff\xff\xff")) }, "malformed"},
		"half a reply": {func(c *fakeConn, h wire.Header) { _, _ = c.Write(h.Append(nil)[:50]); c.Close() }, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			f := startFake(t, func(f *fake) { f.shake = c.shake })
			n := open(t, []string{f.remote()}, oneConnection)
			require.Eventually(t, func() bool { return n.Remotes()[0].Err != nil }, patience, instant)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			err := n.Wait(ctx)
			require.ErrorIs(t, err, elliptics.ErrNoRoute)
			require.ErrorContains(t, err, f.remote())
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestConfigErrors(t *testing.T) {
	for want, cfg := range map[string]elliptics.Config{
		"at least one":                      {},
		"expected host:port:family":         {Remotes: []string{"localhost"}},
		"bad port":                          {Remotes: []string{"localhost:0:2"}},
		"a time-out or a limit is negative": {Remotes: []string{"localhost:1025:2"}, WaitTimeout: -1},
	} {
		n, err := elliptics.NewNode(cfg)
		require.Nil(t, n)
		require.ErrorContains(t, err, want)
	}
}
