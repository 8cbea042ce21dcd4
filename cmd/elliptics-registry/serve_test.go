package main

import (
	"bytes"
	"context"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/registry"
)

// What a newcomer reads first: where the images are, where to push, how to stop.
func TestGreeting(t *testing.T) {
	data := t.TempDir()
	s, err := registry.Default(data)
	require.NoError(t, err)
	s.Config.HTTP.Addr = "127.0.0.1:0"
	server, err := registry.New(context.Background(), s)
	require.NoError(t, err)
	var out bytes.Buffer
	greet(&out, s, server)
	ctx, stop := context.WithCancel(context.Background())
	stop()
	require.NoError(t, server.Run(ctx))

	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 4)
	require.Regexp(t, `^elliptics-registry \S`, lines[0])
	require.Contains(t, lines[1], "images in  "+data+" (embedded node at 127.0.0.1:")
	require.Regexp(t, `push to    localhost:\d+, as in: docker push localhost:\d+/hello:1`, lines[2])
	require.Contains(t, lines[3], "Ctrl-C")
}

func TestPushAddress(t *testing.T) {
	for addr, want := range map[string]string{
		"127.0.0.1:5000": "localhost:5000",
		"[::1]:5000":     "localhost:5000",
		"[::]:5000":      "localhost:5000",
		"192.0.2.7:5000": "192.0.2.7:5000",
	} {
		a, err := net.ResolveTCPAddr("tcp", addr)
		require.NoError(t, err)
		require.Equal(t, want, pushAddress(a))
	}
	require.Equal(t, "/run/registry.sock", pushAddress(&net.UnixAddr{Name: "/run/registry.sock"}))
}
