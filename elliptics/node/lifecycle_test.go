package node

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

func TestConfigErrors(t *testing.T) {
	backend := Backend{ID: 1, Group: 1, Dir: t.TempDir()}
	for want, edit := range map[string]func(*Config){
		"no backends":                  func(c *Config) { c.Backends = nil },
		"backend number 1024":          func(c *Config) { c.Backends[0].ID = 1024 },
		"backend 1 is configured":      func(c *Config) { c.Backends = append(c.Backends, backend) },
		"backend 1 has no group":       func(c *Config) { c.Backends[0].Group = 0 },
		"backend 1 (group 1) has no d": func(c *Config) { c.Backends[0].Dir = "" },
		"backends 1 and 2 have the same directory": func(c *Config) {
			c.Backends = append(c.Backends, Backend{ID: 2, Group: 2, Dir: backend.Dir})
		},
		"index shards":                   func(c *Config) { c.IndexShards = -1 },
		"MaxRequest of 5 bytes":          func(c *Config) { c.MaxRequest = 5 },
		"less than MaxRequest":           func(c *Config) { c.MaxMemory = 2 << 20 },
		"AuthCookie has 32 bytes":        func(c *Config) { c.AuthCookie = strings.Repeat("x", 32) },
		"expected host:port":             func(c *Config) { c.Listen = "127.0.0.1" },
		"bad port":                       func(c *Config) { c.Listen = "127.0.0.1:x" },
		"must be an IP address":          func(c *Config) { c.Listen = "example.org:1" },
		"can be reached from other mach": func(c *Config) { c.Listen = "0.0.0.0:0" },
		`":0" can be reached`:            func(c *Config) { c.Listen = ":0" },
	} {
		t.Run(want, func(t *testing.T) {
			cfg := Config{Backends: []Backend{backend}, Logger: testLog(t)}
			edit(&cfg)
			_, err := Open(cfg)
			require.ErrorContains(t, err, want)
		})
	}
}

func TestListen(t *testing.T) {
	for _, listen := range []string{"127.0.0.1:0", "localhost:0", "127.0.0.2:0"} {
		n := startNode(t, func(c *Config) { c.Listen = listen })
		require.True(t, n.Addr().Addr().IsLoopback())
		require.Equal(t, n.Addr().String()+":2", n.Remote())
		dial(t, n).lookup("k", 0)
	}
	// Who listens everywhere tells each client the address that it dialled.
	n := startNode(t, func(c *Config) { c.Listen, c.AllowRemote = "0.0.0.0:0", true })
	require.True(t, strings.HasPrefix(n.Remote(), "127.0.0.1:"), n.Remote())
	for _, host := range []string{"127.0.0.1", "127.0.0.3"} {
		address := net.JoinHostPort(host, strings.Split(n.Remote(), ":")[1])
		nc, err := net.Dial("tcp", address)
		require.NoError(t, err)
		c := &client{t: t, nc: nc}
		r := c.call(wire.Header{Command: wire.CmdRouteList, Flags: wire.FlagNeedAck})
		var routes wire.RouteList
		require.NoError(t, routes.Decode(r.payload))
		require.Len(t, routes.Addrs, 1)
		require.Equal(t, address+":2", routes.Addrs[0].String())
		require.NoError(t, nc.Close())
	}
}

func TestDial(t *testing.T) {
	n := startNode(t)
	_, err := n.Dial(t.Context(), "tcp", "127.0.0.1:1026")
	require.ErrorContains(t, err, "127.0.0.1:1026: this process holds only the embedded node 127.0.0.1:1025")
	_, err = n.Dial(t.Context(), "tcp", "nonsense")
	require.Error(t, err)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = n.Dial(gone, "tcp", n.Addr().String())
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, n.Close())
	_, err = n.Dial(t.Context(), "tcp", n.Addr().String())
	require.ErrorIs(t, err, net.ErrClosed)
}

// TestShutdown lets a node finish what it has read: of a request that is being
// executed and one behind it both are answered, of one that arrives only half
// nothing is, and the connection is closed behind the answers.
func TestShutdown(t *testing.T) {
	both(t, func(t *testing.T, transport func(*Config)) {
		executing := make(chan struct{})
		release := make(chan struct{})
		n := startNode(t, transport, func(cfg *Config) {
			cfg.Intercept = func(h wire.Header) Fault {
				if h.ID == key("slow") {
					return Fault{Delay: 200 * time.Millisecond}
				}
				if h.ID == key("last") {
					close(executing)
					<-release
				}
				return Fault{}
			}
		})
		c := dial(t, n)
		for _, name := range []string{"slow", "slow", "last"} {
			h, payload := c.writeRequest(name, &wire.IOAttr{Flags: wire.IOAppend}, "x")
			c.send(h, payload)
		}
		h, payload := c.writeRequest("half", &wire.IOAttr{}, "x")
		h.Size = uint64(len(payload))
		_, err := c.nc.Write(append(h.Append(nil), payload[:10]...))
		require.NoError(t, err)
		<-executing
		done := make(chan error)
		go func() { done <- n.Shutdown(context.Background()) }()
		<-n.stopping
		close(release)
		seen := make(map[wire.ID]int)
		for range 3 {
			r := c.receive()
			require.Equal(t, wire.OK, r.Status)
			seen[r.ID]++
		}
		require.Equal(t, map[wire.ID]int{key("slow"): 2, key("last"): 1}, seen)
		c.requireClosed()
		require.NoError(t, <-done)
		require.NoError(t, n.Shutdown(t.Context()), "again")
		if n.listener != nil {
			_, err := net.Dial("tcp", n.Addr().String())
			require.Error(t, err)
		}
	})
}

// TestShutdownLosesPatience has a client that does not read its answers.
func TestShutdownLosesPatience(t *testing.T) {
	both(t, func(t *testing.T, transport func(*Config)) {
		n := startNode(t, transport)
		c := dial(t, n)
		require.Equal(t, wire.OK, c.write("k", wire.IOAttr{}, strings.Repeat("x", 8<<20)).Status)
		io := wire.IOAttr{ID: key("k")}
		for range 16 {
			c.send(wire.Header{ID: key("k"), Group: 1, Command: wire.CmdRead}, io.Append(nil))
		}
		requireBacklog(t, n)
		impatient, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, n.Shutdown(impatient), context.DeadlineExceeded)
		c.requireClosed()
	})
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{Logger: testLog(t)}
	for i := range 3 {
		n, err := OpenDir(dir, []uint32{5, 7}, cfg)
		require.NoError(t, err)
		c := dial(t, n)
		r := c.call(wire.Header{ID: wire.Handshake{Version: wire.Version226}.ID(), Command: wire.CmdReverseLookup})
		var routes wire.Routes
		require.NoError(t, routes.Decode(r.payload))
		require.Len(t, routes.Backends, 2)
		require.EqualValues(t, 5, routes.Backends[0].Group)
		require.EqualValues(t, 7, routes.Backends[1].Group)
		ids, err := os.ReadFile(filepath.Join(dir, "group-7", "ids"))
		require.NoError(t, err)
		require.Equal(t, ids, routes.Backends[1].IDs[0][:], "the ids stay the same")
		h, payload := c.writeRequest("k", &wire.IOAttr{Flags: wire.IOAppend}, "x")
		h.Group = 7
		require.Equal(t, wire.OK, c.call(h, payload).Status)
		io := wire.IOAttr{ID: key("k")}
		h.Command = wire.CmdRead
		require.Len(t, c.call(h, io.Append(nil)).payload, wire.IOAttrSize+i+1, "what was written before is there")
		require.NoError(t, n.Close())
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "group-7", "ids"), []byte("damaged"), 0o600))
	_, err := OpenDir(dir, []uint32{7}, cfg)
	require.ErrorContains(t, err, "ids has 7 bytes")
}

func TestDataDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	_, running, err := Running(dir)
	require.NoError(t, err)
	require.False(t, running, "there is no such directory")

	cfg := Config{Logger: testLog(t), Listen: "127.0.0.1:0"}
	n, err := OpenDir(dir, []uint32{1}, cfg)
	require.NoError(t, err)
	remote, running, err := Running(dir)
	require.NoError(t, err)
	require.True(t, running)
	require.Equal(t, n.Remote(), remote)

	_, err = OpenDir(dir, []uint32{1}, cfg)
	var inUse *ErrInUse
	require.ErrorAs(t, err, &inUse)
	require.Equal(t, &ErrInUse{Dir: dir, Remote: n.Remote(), PID: os.Getpid()}, inUse)
	require.ErrorContains(t, err, n.Remote())

	announced, err := os.ReadFile(filepath.Join(dir, nodeFile))
	require.NoError(t, err)
	require.NoError(t, n.Close())
	_, err = os.Stat(filepath.Join(dir, nodeFile))
	require.ErrorIs(t, err, os.ErrNotExist)

	// What a killed process leaves behind counts for nothing.
	require.NoError(t, os.WriteFile(filepath.Join(dir, nodeFile), announced, 0o600))
	_, running, err = Running(dir)
	require.NoError(t, err)
	require.False(t, running)

	cfg.Listen = ""
	n, err = OpenDir(dir, []uint32{1}, cfg)
	require.NoError(t, err)
	_, running, err = Running(dir)
	require.ErrorAs(t, err, &inUse)
	require.False(t, running)
	require.NoError(t, n.Close())

	for _, groups := range [][]uint32{nil, {0}, {1, 1}} {
		_, err = OpenDir(dir, groups, cfg)
		require.Error(t, err, "groups %v", groups)
	}
	cfg.Listen = "192.0.2.1:1"
	_, err = OpenDir(dir, []uint32{1}, cfg)
	require.Error(t, err)
	_, running, err = Running(dir)
	require.NoError(t, err)
	require.False(t, running, "the lock is given back when opening fails")
}

// TestStatusOfErrors: an error of the store that has no status of its own is a
// disk error.
func TestStatusOfErrors(t *testing.T) {
	n := startNode(t)
	require.Equal(t, wire.ErrIO, n.statusOf(&request{}, errors.New("surprise")))
	require.Equal(t, wire.OK, n.statusOf(&request{}, nil))
	require.Equal(t, wire.ErrConflict, n.statusOf(&request{}, wire.ErrConflict))
	require.Equal(t, wire.ErrAgain, n.statusOf(&request{}, context.Canceled))
}
