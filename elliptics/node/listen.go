package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// listen opens the listener, if one is configured, and settles the address
// that clients are told.
func (n *Node) listen() error {
	if n.cfg.Listen == "" {
		n.addr = wire.AddrFrom(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), defaultPort))
		return nil
	}
	ap, err := n.cfg.resolve()
	if err != nil {
		return err
	}
	// The keep-alive of the original server: it is what finds dead clients.
	lc := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 10 * time.Second, Interval: 10 * time.Second, Count: 3,
	}}
	l, err := lc.Listen(context.Background(), "tcp", ap.String())
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	n.listener = l
	if bound := n.Addr(); !bound.Addr().IsUnspecified() {
		n.addr = wire.AddrFrom(bound)
	}
	return nil
}

// serve starts the accept loop.
func (n *Node) serve() {
	if n.listener == nil {
		return
	}
	n.running.Go(func() {
		for {
			nc, err := n.listener.Accept()
			if err != nil {
				if errors.Is(err, net.ErrClosed) {
					return
				}
				// Out of file descriptors, or a client that was gone at once.
				n.log.Warn("cannot accept a connection", "listen", n.Addr(), "error", err)
				n.pause(100 * time.Millisecond)
				continue
			}
			addr := n.addr
			if addr.IsZero() {
				// Listening everywhere: this client's address for the node is
				// the one that it dialled.
				addr = wire.AddrFrom(nc.LocalAddr().(*net.TCPAddr).AddrPort())
			}
			n.take(nc, addr)
		}
	})
}

// take serves a connection; it answers false, and closes it, when the node is
// closing or has too many.
func (n *Node) take(nc net.Conn, addr wire.Addr) bool {
	c := newConn(n, nc, addr)
	n.mu.Lock()
	full := len(n.conns) >= maxConnections
	if n.closing || full {
		n.mu.Unlock()
		if full {
			n.log.Warn("too many connections, closing a new one", "client", nc.RemoteAddr(), "limit", maxConnections)
		}
		nc.Close()
		return false
	}
	n.conns[c] = struct{}{}
	n.running.Add(1)
	n.mu.Unlock()
	go func() {
		defer n.running.Done()
		c.serve()
		n.mu.Lock()
		delete(n.conns, c)
		n.mu.Unlock()
	}()
	return true
}
