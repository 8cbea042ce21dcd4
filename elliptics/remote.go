package elliptics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// remote is one server: its connections, and what it announced.
type remote struct {
	node       *Node
	name       wire.Remote
	configured bool
	ctx        context.Context
	cancel     context.CancelFunc
	conns      []atomic.Pointer[conn]
	version    atomic.Int32 // index into versions of the one that worked last

	// guarded by node.mu
	up         int // connections
	lastErr    error
	handshake  wire.Handshake
	advertised []wire.Addr
	backends   map[uint32]wire.BackendIDs
	reported   bool // the failure to connect was logged
}

// versions a client tries, see wire.Version226.
var versions = []wire.Version{wire.Version226, wire.Version300}

// conn picks the connection for a key: the same one as long as it lives.
func (r *remote) conn(id *wire.ID) *conn {
	first := int(id[0]) % len(r.conns)
	for i := range r.conns {
		if c := r.conns[(first+i)%len(r.conns)].Load(); c != nil {
			return c
		}
	}
	return nil
}

// keep connects one slot, again and again, until the remote is given up.
func (r *remote) keep(slot int) {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval = 50 * time.Millisecond
	pause.MaxInterval = r.node.cfg.CheckTimeout
	for r.ctx.Err() == nil {
		c, hello, err := r.connect(r.ctx)
		if err != nil {
			r.failed(err)
		} else {
			joined := time.Now()
			r.joined(slot, c, hello)
			stop := context.AfterFunc(r.ctx, func() { c.close(ErrClosed) })
			err = c.serve()
			stop()
			r.left(slot, err)
			if time.Since(joined) >= shortLived {
				pause.Reset()
				continue
			}
		}
		select {
		case <-time.After(pause.NextBackOff()):
		case <-r.ctx.Done():
		}
	}
}

// shortLived is how long a connection must have lived for the next one to be
// made at once: some servers take everybody and then drop them.
const shortLived = time.Second

func (r *remote) failed(err error) {
	r.node.mu.Lock()
	defer r.node.mu.Unlock()
	if r.ctx.Err() != nil {
		return
	}
	first := r.lastErr == nil
	r.lastErr = err
	if first {
		r.node.update()
	}
	if r.up == 0 && !r.reported {
		r.reported = true
		r.node.cfg.Logger.Warn("cannot reach an elliptics node; trying again", "remote", r.name.String(), "error", err)
	}
}

func (r *remote) joined(slot int, c *conn, h hello) {
	r.node.mu.Lock()
	defer r.node.mu.Unlock()
	r.conns[slot].Store(c)
	r.handshake, r.advertised = h.handshake, h.routes.Addrs
	r.backends = make(map[uint32]wire.BackendIDs)
	for _, b := range h.routes.Backends {
		r.backends[b.Backend] = b
	}
	if r.up++; r.reported || r.up == 1 {
		r.node.cfg.Logger.Debug("connected to an elliptics node", "remote", r.name.String(), "version", h.handshake.Version, "backends", len(r.backends))
	}
	r.reported, r.lastErr = false, nil
	r.node.update()
}

func (r *remote) left(slot int, err error) {
	r.node.mu.Lock()
	defer r.node.mu.Unlock()
	r.conns[slot].Store(nil)
	if r.up--; r.up == 0 {
		r.lastErr = err
		if r.ctx.Err() == nil {
			r.reported = true
			r.node.cfg.Logger.Warn("lost an elliptics node; connecting again", "remote", r.name.String(), "error", err)
		}
	}
	r.node.update()
}

// pushed takes an UPDATE_IDS notification.
func (r *remote) pushed(u wire.UpdateIDs) {
	r.node.mu.Lock()
	defer r.node.mu.Unlock()
	for _, b := range u.Backends {
		if b.Disabled {
			delete(r.backends, b.Backend)
		} else if r.backends != nil {
			r.backends[b.Backend] = b
		}
	}
	r.node.update()
}

// hello is what a handshake told.
type hello struct {
	handshake wire.Handshake
	routes    wire.Routes
}

// errHungUp: the server closed the connection instead of answering the
// handshake, which is how it refuses a version.
var errHungUp = errors.New("hung up during the handshake")

// connect dials and shakes hands, with the version that worked last, and with
// the others when the server hangs up on that.
func (r *remote) connect(ctx context.Context) (*conn, hello, error) {
	first := int(r.version.Load())
	for i := range versions {
		v := (first + i) % len(versions)
		c, h, err := r.tryVersion(ctx, versions[v])
		if err == nil {
			r.version.Store(int32(v))
			return c, h, nil
		}
		if !errors.Is(err, errHungUp) {
			return nil, hello{}, err
		}
	}
	return nil, hello{}, fmt.Errorf("%w: the server takes neither protocol version 2.26 nor 3.0", wire.ErrProtocol)
}

func (r *remote) tryVersion(ctx context.Context, v wire.Version) (*conn, hello, error) {
	ctx, cancel := context.WithTimeout(ctx, max(2*time.Second, r.node.cfg.WaitTimeout))
	defer cancel()
	network := "tcp4"
	if r.name.Family == wire.FamilyIPv6 {
		network = "tcp6"
	}
	nc, err := r.node.cfg.Dial(ctx, network, net.JoinHostPort(r.name.Host, strconv.Itoa(int(r.name.Port))))
	if err != nil {
		return nil, hello{}, err
	}
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	c := newConn(r, nc)
	h, err := c.shake(v)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		nc.Close()
		if ctx.Err() != nil {
			err = fmt.Errorf("handshake: %w", wire.ErrTimeout)
		}
		return nil, hello{}, err
	}
	return c, h, nil
}

// shake sends REVERSE_LOOKUP and reads the answer.
func (c *conn) shake(v wire.Version) (h hello, err error) {
	req := wire.Header{
		ID: wire.Handshake{Version: v}.ID(), Command: wire.CmdReverseLookup,
		Flags: wire.FlagDirect | wire.FlagNoLock,
	}
	if _, err := c.nc.Write(req.Append(nil)); err != nil {
		return h, hungUp(err)
	}
	var head [wire.HeaderSize]byte
	if n, err := io.ReadFull(c.br, head[:]); err != nil {
		if n == 0 {
			return h, hungUp(err)
		}
		return h, err
	}
	var reply wire.Header
	if err := reply.Decode(head[:]); err != nil {
		return h, err
	}
	if reply.Command != wire.CmdReverseLookup || reply.Flags&wire.FlagReply == 0 {
		return h, fmt.Errorf("%w: the handshake was answered by %v", wire.ErrProtocol, reply.Command)
	}
	if err := reply.Status.Err(); err != nil {
		return h, fmt.Errorf("handshake: %w", err)
	}
	if reply.Size > uint64(c.remote.node.cfg.MaxReply) {
		return h, fmt.Errorf("%w: handshake of %d bytes", wire.ErrProtocol, reply.Size)
	}
	body := make([]byte, reply.Size)
	if _, err := io.ReadFull(c.br, body); err != nil {
		return h, err
	}
	h.handshake = wire.HandshakeOf(reply.ID)
	if !h.handshake.Version.Same(v) {
		return h, fmt.Errorf("%w: asked for version %v, got %v", wire.ErrProtocol, v, h.handshake.Version)
	}
	return h, h.routes.Decode(body)
}

func hungUp(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe) {
		return fmt.Errorf("%w (%w)", errHungUp, err)
	}
	return err
}

// watch checks the connections, and looks for other nodes, when the remote is
// first connected and every CheckTimeout.
func (r *remote) watch() {
	for r.ctx.Err() == nil {
		changed := r.node.nextChange()
		up := false
		for i := range r.conns {
			if c := r.conns[i].Load(); c != nil {
				up = true
				c.check()
			}
		}
		if !up {
			select {
			case <-changed:
			case <-r.ctx.Done():
			}
			continue
		}
		if r.discovers() {
			if r.node.resolving() {
				select {
				case <-changed:
				case <-r.ctx.Done():
				}
				continue
			}
			if err := r.discover(); err != nil {
				r.node.cfg.Logger.Debug("could not read the route list", "remote", r.name.String(), "error", err)
			}
			r.node.looked()
		}
		select {
		case <-time.After(jitter(r.node.cfg.CheckTimeout)):
		case <-r.ctx.Done():
		}
	}
}

// looked notes that somebody was asked for other nodes.
func (n *Node) looked() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.listed {
		n.listed = true
		n.update()
	}
}

// discovers tells whether this remote is asked for others: the configured ones
// are, or, when none of them is there, everybody.
func (r *remote) discovers() bool {
	n := r.node
	if r.configured || n.cfg.KnownOnly {
		return !n.cfg.KnownOnly
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return !slices.ContainsFunc(n.remotes, func(o *remote) bool { return o.configured && o.up > 0 })
}

// resolving tells that a remote with a name was not reached or given up yet.
// Only then it is known which of the addresses in a route list is the same node.
func (n *Node) resolving() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.ContainsFunc(n.remotes, func(o *remote) bool {
		_, err := netip.ParseAddr(o.name.Host)
		return err != nil && o.up == 0 && o.lastErr == nil
	})
}

// discover asks a node for the addresses of all nodes.
func (r *remote) discover() error {
	var zero wire.ID
	c := r.conn(&zero)
	if c == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(r.ctx, r.node.cfg.WaitTimeout)
	defer cancel()
	body, err := c.roundTrip(ctx, wire.Header{Command: wire.CmdRouteList, Flags: wire.FlagNeedAck | wire.FlagDirect | wire.FlagNoLock}, nil)
	if err != nil {
		return err
	}
	var list wire.RouteList
	if err := list.Decode(body); err != nil {
		return err
	}
	n := r.node
	n.mu.Lock()
	defer n.mu.Unlock()
	position := max(0, slices.IndexFunc(r.advertised, func(a wire.Addr) bool { return a.String() == r.name.String() }))
	known := make(map[wire.Addr]bool)
	for _, o := range n.remotes {
		for _, a := range o.advertised {
			known[a] = true
		}
		if ip, err := netip.ParseAddr(o.name.Host); err == nil {
			known[wire.AddrFrom(netip.AddrPortFrom(ip, o.name.Port))] = true
		}
	}
	listed := make(map[string]bool)
	for _, addrs := range list.Nodes() {
		for _, a := range addrs {
			listed[a.String()] = true
		}
		a := addrs[min(position, len(addrs)-1)]
		if slices.ContainsFunc(addrs, func(a wire.Addr) bool { return known[a] }) || len(n.remotes) >= maxRemotes {
			continue
		}
		ap, ok := a.AddrPort()
		if !ok || ap.Port() == 0 {
			continue
		}
		family := wire.FamilyIPv4
		if ap.Addr().Is6() {
			family = wire.FamilyIPv6
		}
		n.addRemote(wire.Remote{Host: ap.Addr().String(), Port: ap.Port(), Family: family}, false)
		known[a] = true
	}
	n.remotes = slices.DeleteFunc(n.remotes, func(o *remote) bool {
		gone := !o.configured && o.up == 0 && o.lastErr != nil && !listed[o.name.String()]
		if gone {
			o.cancel()
		}
		return gone
	})
	return nil
}

// maxRemotes bounds what a route list can make a client connect to.
const maxRemotes = 4096
