package elliptics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// Config describes a cluster and how to talk to it. Only Remotes is required.
type Config struct {
	// Remotes are some of the cluster's nodes, as host:port:family (family 2
	// is IPv4, 10 is IPv6). The others are found through them.
	Remotes []string
	// WaitTimeout bounds the wait for an answer, and for each further packet
	// of an answer. Default 5 s.
	WaitTimeout time.Duration
	// CheckTimeout is how often connections are checked and the list of nodes
	// is asked for again; it also bounds the pause between two attempts to
	// reach a node. Default 20 s.
	CheckTimeout time.Duration
	// Connections to each node. All requests for one key take the same one
	// while it lives, so that a server executes them in order. Default 2.
	Connections int
	// MaxReply bounds the payload of an answer, in bytes: a request whose answer
	// is larger fails with ErrTooLarge. Default 64 MiB.
	MaxReply int64
	// MaxQueued bounds the bytes of unanswered requests on each connection;
	// who comes later waits. Default 64 MiB.
	MaxQueued int64
	// KnownOnly keeps to Remotes instead of asking them for other nodes.
	KnownOnly bool
	// Dial opens connections. Default: TCP.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Logger gets what happens to connections. Default slog.Default().
	Logger *slog.Logger
}

func (c *Config) fill() error {
	if len(c.Remotes) == 0 {
		return errors.New("no remotes: at least one host:port:family is needed")
	}
	if c.WaitTimeout < 0 || c.CheckTimeout < 0 || c.Connections < 0 || c.MaxReply < 0 || c.MaxQueued < 0 {
		return errors.New("a time-out or a limit is negative")
	}
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.WaitTimeout, 5*time.Second)
	def(&c.CheckTimeout, 20*time.Second)
	if c.Connections == 0 {
		c.Connections = 2
	}
	if c.MaxReply == 0 {
		c.MaxReply = 64 << 20
	}
	if c.MaxQueued == 0 {
		c.MaxQueued = 64 << 20
	}
	if c.Dial == nil {
		d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 10 * time.Second, Count: 3}}
		c.Dial = d.DialContext
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return nil
}

// Node is a client of a cluster: connections and the routing table. It is safe
// for concurrent use, and one is enough for a process.
type Node struct {
	cfg    Config
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	trans  atomic.Uint64
	routes atomic.Pointer[routeTable]
	calls  sync.Pool // those whose whole answer came: nobody else knows them any more

	mu      sync.Mutex // guards what follows, and every remote's state
	remotes []*remote
	listed  bool          // a route list was read, or asked for in vain
	changed chan struct{} // closed and replaced when a remote's state changes
}

// NewNode checks the configuration and begins to connect, in the background.
// It never fails because of a server: what cannot be reached is tried again,
// and requests fail with ErrNoRoute until then.
func NewNode(cfg Config) (*Node, error) {
	if err := cfg.fill(); err != nil {
		return nil, fmt.Errorf("elliptics: %w", err)
	}
	cfg.Remotes = slices.Clone(cfg.Remotes)
	n := &Node{cfg: cfg, changed: make(chan struct{})}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.routes.Store(newRouteTable(nil))
	var list []wire.Remote
	for _, s := range cfg.Remotes {
		r, err := wire.ParseRemote(s)
		if err != nil {
			n.cancel()
			return nil, fmt.Errorf("elliptics: %w", err)
		}
		if !slices.Contains(list, r) {
			list = append(list, r)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range list {
		n.addRemote(r, true)
	}
	return n, nil
}

// Close ends all connections; requests in flight fail with ErrConnectionReset.
func (n *Node) Close() error {
	n.mu.Lock()
	n.cancel()
	n.mu.Unlock()
	n.wg.Wait()
	return nil
}

// spawn runs f in the background, unless the node is closed.
func (n *Node) spawn(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ctx.Err() == nil {
		n.wg.Go(f)
	}
}

// Wait returns when at least one node is connected and has announced its
// backends. With groups it goes on until each of them has a backend, or every
// node that is known, from Config.Remotes and from a route list, was tried: a
// group that is away is no error. When ctx ends before a node is connected, the
// error says what is wrong with each remote.
func (n *Node) Wait(ctx context.Context, groups ...uint32) error {
	for {
		n.mu.Lock()
		changed := n.changed
		up, done := n.reached(groups)
		n.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-n.ctx.Done():
			return ErrClosed
		case <-ctx.Done():
			if up {
				return nil
			}
			return n.unreachable()
		}
	}
}

// reached tells whether a node is connected, and whether Wait has nothing more
// to wait for. Called with n.mu held.
func (n *Node) reached(groups []uint32) (up, done bool) {
	untried := !n.listed && !n.cfg.KnownOnly
	for _, r := range n.remotes {
		up = up || r.up > 0
		untried = untried || r.up == 0 && r.lastErr == nil
	}
	table := n.routes.Load()
	missing := slices.ContainsFunc(groups, func(g uint32) bool { return len(table.groups[g]) == 0 })
	return up, up && (!missing || !untried)
}

// unreachable says what is wrong with each remote.
func (n *Node) unreachable() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var failed []string
	for _, r := range n.remotes {
		why := "not connected yet"
		if r.lastErr != nil {
			why = r.lastErr.Error()
		}
		failed = append(failed, r.name.String()+": "+why)
	}
	return fmt.Errorf("elliptics: no node can be reached: %s: %w", strings.Join(failed, "; "), ErrNoRoute)
}

// RemoteStatus describes a node for people.
type RemoteStatus struct {
	Address     string       // host:port:family, as dialled
	Configured  bool         // in Config.Remotes, not found through others
	Connections int          // that are up
	Version     wire.Version // of the protocol; zero when never connected
	IndexShards int          // of secondary indexes; 0: the node has none
	Backends    []wire.BackendIDs
	Err         error // why the last attempt to connect failed; nil when up
}

// Remotes describes the nodes that are known.
func (n *Node) Remotes() []RemoteStatus {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := make([]RemoteStatus, 0, len(n.remotes))
	for _, r := range n.remotes {
		s := RemoteStatus{
			Address: r.name.String(), Configured: r.configured, Connections: r.up,
			Version: r.handshake.Version, IndexShards: int(r.handshake.IndexShards), Err: r.lastErr,
		}
		for _, b := range r.backends {
			s.Backends = append(s.Backends, b)
		}
		slices.SortFunc(s.Backends, func(a, b wire.BackendIDs) int { return int(a.Backend) - int(b.Backend) })
		list = append(list, s)
	}
	return list
}

// addRemote begins to connect to a node. Called with n.mu held.
func (n *Node) addRemote(name wire.Remote, configured bool) *remote {
	r := &remote{node: n, name: name, configured: configured, conns: make([]atomic.Pointer[conn], n.cfg.Connections)}
	r.ctx, r.cancel = context.WithCancel(n.ctx)
	n.remotes = append(n.remotes, r)
	for slot := range r.conns {
		n.wg.Go(func() { r.keep(slot) })
	}
	n.wg.Go(r.watch)
	return r
}

// nextChange is closed when a remote's state changes.
func (n *Node) nextChange() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.changed
}

// update tells everybody that a remote's state has changed. Called with n.mu
// held.
func (n *Node) update() {
	up := make([]*remote, 0, len(n.remotes))
	for _, r := range n.remotes {
		if r.up > 0 {
			up = append(up, r)
		}
	}
	n.routes.Store(newRouteTable(up))
	close(n.changed)
	n.changed = make(chan struct{})
}
