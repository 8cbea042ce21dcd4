package node

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/elliptics-registry/elliptics-registry/elliptics/node/engine"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// Config says what a node serves and where. Only Backends is required.
type Config struct {
	// Listen is the TCP address, `host:port` with a literal IP address or
	// "localhost"; port 0 takes a free one. Empty: no listener, the node is
	// reached over Dial only.
	Listen string
	// AllowRemote permits a Listen address that other machines can reach.
	// Whoever reaches it can read, write and remove everything: the protocol
	// does not authenticate clients.
	AllowRemote bool

	// Backends are opened by Open; at least one.
	Backends []Backend

	// Sync says when a write counts as stored; SyncInterval is the period of
	// engine.SyncInterval. Default: engine.SyncAlways.
	Sync         engine.SyncMode
	SyncInterval time.Duration

	// IndexShards is the number of records that each secondary index is spread
	// over. It must never change once indexes were written. Default 16.
	IndexShards int

	// MaxRequest bounds the payload of one request, in bytes. A connection that
	// announces more is answered -22 and closed. Default 64 MiB.
	MaxRequest int64
	// MaxMemory bounds the payloads of all requests that are held at one time,
	// and once more those of all answers, in bytes. Requests beyond it wait.
	// Default 64 MiB, at least MaxRequest.
	MaxMemory int64

	// AuthCookie is compared by the AUTH command that servers send each other,
	// at most 31 bytes. It protects nothing.
	AuthCookie string

	// Logger takes the node's messages. Default: slog.Default().
	Logger *slog.Logger

	// Intercept, when set, sees each request before it is executed and may
	// spoil it. It is for tests of clients: see package ellipticstest.
	Intercept func(wire.Header) Fault

	// engineOptions changes how a backend is stored, for tests of this package.
	engineOptions func(Backend, *engine.Options)
}

// Backend is a directory that holds one replica of a group's records, or,
// when several backends have the same group, a part of them.
type Backend struct {
	ID       uint32 // number of the backend within the node, below 1024
	Group    uint32
	Dir      string // made when it does not exist
	ReadOnly bool   // writes and removals are answered -30
}

const (
	maxBackend         = 1024
	defaultIndexShards = 16
	defaultMaxRequest  = 64 << 20
	defaultMaxMemory   = 64 << 20
)

// withDefaults checks c and fills in what was left out.
func (c Config) withDefaults() (Config, error) {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.IndexShards == 0 {
		c.IndexShards = defaultIndexShards
	}
	if c.MaxRequest == 0 {
		c.MaxRequest = defaultMaxRequest
	}
	if c.MaxMemory == 0 {
		c.MaxMemory = max(defaultMaxMemory, c.MaxRequest)
	}
	switch {
	case len(c.Backends) == 0:
		return c, errors.New("node: no backends; at least one group with its directory is needed")
	case c.IndexShards < 0 || c.IndexShards > 1<<16:
		return c, fmt.Errorf("node: %d index shards; 1 to 65536 are possible", c.IndexShards)
	case c.MaxRequest < minMaxRequest:
		return c, fmt.Errorf("node: MaxRequest of %d bytes; at least %d are needed", c.MaxRequest, minMaxRequest)
	case c.MaxMemory < c.MaxRequest:
		return c, fmt.Errorf("node: MaxMemory of %d bytes is less than MaxRequest, %d bytes", c.MaxMemory, c.MaxRequest)
	case len(c.AuthCookie) >= wire.AuthCookieSize:
		return c, fmt.Errorf("node: AuthCookie has %d bytes; at most %d are possible", len(c.AuthCookie), wire.AuthCookieSize-1)
	}
	seen := make(map[uint32]bool)
	dirs := make(map[string]uint32)
	for _, b := range c.Backends {
		other, used := dirs[b.Dir]
		switch {
		case b.ID >= maxBackend:
			return c, fmt.Errorf("node: backend number %d; numbers below %d are possible", b.ID, maxBackend)
		case seen[b.ID]:
			return c, fmt.Errorf("node: backend %d is configured twice", b.ID)
		case b.Group == 0:
			return c, fmt.Errorf("node: backend %d has no group; groups are numbered from 1", b.ID)
		case b.Dir == "":
			return c, fmt.Errorf("node: backend %d (group %d) has no directory", b.ID, b.Group)
		case used:
			return c, fmt.Errorf("node: backends %d and %d have the same directory %s", other, b.ID, b.Dir)
		}
		seen[b.ID], dirs[b.Dir] = true, b.ID
	}
	return c, nil
}

// minMaxRequest is what a request without data may need: an iterator with
// thousands of ranges, a bulk read of thousands of keys.
const minMaxRequest = 1 << 20

// resolve makes an address of Listen.
func (c *Config) resolve() (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("node: listen address %q: %w; expected host:port, as in 127.0.0.1:1025", c.Listen, err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("node: listen address %q: bad port %q; expected a number, 0 for any free port", c.Listen, port)
	}
	ip := netip.IPv6Unspecified()
	switch host {
	case "":
	case "localhost":
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	default:
		ip, err = netip.ParseAddr(host)
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("node: listen address %q: the host must be an IP address or localhost, because it is told to clients", c.Listen)
		}
	}
	if !ip.IsLoopback() && !c.AllowRemote {
		return netip.AddrPort{}, fmt.Errorf("node: listen address %q can be reached from other machines, and the protocol does not authenticate clients: use a loopback address, or allow remote clients explicitly", c.Listen)
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(n)), nil
}
