package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/elliptics-registry/elliptics-registry/elliptics/node/internal/pipe"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// Node is a running server. All methods may be used by several goroutines.
type Node struct {
	cfg      Config
	log      *slog.Logger
	addr     wire.Addr // advertised; zero port and all when each connection has its own
	listener net.Listener
	dir      *dataDir // of OpenDir; nil for Open

	backends []*backend // in the order of the configuration
	ring     atomic.Pointer[ring]

	readOnly atomic.Bool // the whole node, by STATUS

	requests *memory // lent to payloads of requests
	answers  *memory // lent to payloads of answers
	disk     chan struct{}
	stats    *stats
	started  time.Time

	// life is what the store's operations obey; it ends when Close has lost
	// its patience. stopping is closed as soon as the node stops.
	life     context.Context
	kill     context.CancelFunc
	stopping chan struct{}

	mu      sync.Mutex
	conns   map[*conn]struct{}
	closing bool
	closed  chan struct{} // everything is closed, with closeErr
	err     error
	running sync.WaitGroup // accept loop and connections
}

const (
	// maxConnections bounds the connections of a node. Further ones are closed.
	maxConnections = 4096
	// maxDiskReads bounds the reads that occupy an operating system thread.
	maxDiskReads = 64
	// defaultPort is what a node without a listener says its address is.
	defaultPort = 1025
)

// Open opens the backends, begins to listen, and serves until Close or
// Shutdown.
func Open(cfg Config) (*Node, error) {
	n, err := open(cfg)
	if err != nil {
		return nil, err
	}
	n.serve()
	return n, nil
}

// open does all of Open that can fail.
func open(cfg Config) (*Node, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	n := &Node{
		cfg:      cfg,
		log:      cfg.Logger,
		requests: newMemory(cfg.MaxMemory),
		answers:  newMemory(cfg.MaxMemory),
		disk:     make(chan struct{}, maxDiskReads),
		stats:    newStats(),
		started:  time.Now(),
		stopping: make(chan struct{}),
		closed:   make(chan struct{}),
		conns:    make(map[*conn]struct{}),
	}
	n.life, n.kill = context.WithCancel(context.Background())
	for _, b := range cfg.Backends {
		n.backends = append(n.backends, newBackend(n, b))
	}
	for _, b := range n.backends {
		if err := b.open(); err != nil {
			return nil, errors.Join(err, n.closeBackends())
		}
	}
	n.updateRing()
	if err := n.listen(); err != nil {
		return nil, errors.Join(err, n.closeBackends())
	}
	return n, nil
}

// Addr is the address that the node listens on; without a listener one that
// only Dial understands.
func (n *Node) Addr() netip.AddrPort {
	if n.listener != nil {
		return n.listener.Addr().(*net.TCPAddr).AddrPort()
	}
	ap, _ := n.addr.AddrPort()
	return ap
}

// Remote is Addr as `host:port:family`, the form in which clients are told of
// a node. A node that listens on all addresses answers its loopback address.
func (n *Node) Remote() string {
	ap := n.Addr()
	if ap.Addr().IsUnspecified() {
		ip := netip.AddrFrom4([4]byte{127, 0, 0, 1})
		ap = netip.AddrPortFrom(ip, ap.Port())
	}
	return wire.AddrFrom(ap).String()
}

// Dial connects to the node from inside the process, without a socket of the
// operating system; it fits elliptics.Config.Dial. The address must be the
// node's own: a client that is told to talk to another one should not end up
// here.
func (n *Node) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ap, err := netip.ParseAddrPort(address)
	own, _ := netip.ParseAddrPort(dialAddress(n.Remote()))
	if err != nil || netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()) != own {
		return nil, fmt.Errorf("dial %s: this process holds only the embedded node %s", address, own)
	}
	server := net.TCPAddrFromAddrPort(own)
	client, nc := pipe.New(pipeAddr("inside"), server)
	if !n.take(nc, wire.AddrFrom(own)) {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: server, Err: net.ErrClosed}
	}
	return client, nil
}

// pipeAddr names the client end of an in-process connection.
type pipeAddr string

func (pipeAddr) Network() string  { return "pipe" }
func (a pipeAddr) String() string { return string(a) }

func dialAddress(remote string) string {
	r, err := wire.ParseRemote(remote)
	if err != nil {
		return ""
	}
	return net.JoinHostPort(r.Host, fmt.Sprint(r.Port))
}

// Close stops the node at once: connections are cut, requests that are being
// executed end without an answer. What was answered is on stable storage as
// the sync mode says. Further calls wait for the first one.
func (n *Node) Close() error {
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	return n.shutdown(gone)
}

// Shutdown stops the node in order: it accepts no connections and reads no
// requests any more, answers those that it has read, and closes its backends.
// When ctx ends before that, it goes on as Close does and answers ctx's error.
func (n *Node) Shutdown(ctx context.Context) error {
	return n.shutdown(ctx)
}

func (n *Node) shutdown(ctx context.Context) error {
	n.mu.Lock()
	if n.closing {
		n.mu.Unlock()
		<-n.closed
		return n.err
	}
	n.closing = true
	for c := range n.conns {
		c.stopReading()
	}
	n.mu.Unlock()
	close(n.stopping)
	var impatient error
	var errs []error
	if n.listener != nil {
		errs = append(errs, n.listener.Close())
	}

	drained := make(chan struct{})
	go func() {
		n.running.Wait()
		close(drained)
	}()
	immediate := ctx.Err() != nil
	select {
	case <-drained:
	case <-ctx.Done():
		if !immediate {
			impatient = fmt.Errorf("node: connections were cut while requests were unanswered: %w", context.Cause(ctx))
		}
		n.kill()
		n.mu.Lock()
		for c := range n.conns {
			c.out.abort(net.ErrClosed)
		}
		n.mu.Unlock()
		<-drained
	}
	n.kill()
	errs = append(errs, n.closeBackends())
	if n.dir != nil {
		errs = append(errs, n.dir.close())
	}
	n.err = errors.Join(errs...)
	close(n.closed)
	return errors.Join(impatient, n.err)
}

func (n *Node) closeBackends() error {
	var errs []error
	for _, b := range n.backends {
		if err := b.close(); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
