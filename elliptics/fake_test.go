package elliptics_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/elliptics/ellipticstest"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	patience = 20 * time.Second // until a test gives up
	instant  = 5 * time.Millisecond
)

// connect opens a client with the remotes, short time-outs and whatever edit
// changes, and waits until it is connected.
func connect(t testing.TB, remotes []string, edit ...func(*elliptics.Config)) *elliptics.Node {
	t.Helper()
	n := open(t, remotes, edit...)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, n.Wait(ctx))
	return n
}

// open is connect without the waiting.
func open(t testing.TB, remotes []string, edit ...func(*elliptics.Config)) *elliptics.Node {
	t.Helper()
	cfg := elliptics.Config{
		Remotes: remotes, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		CheckTimeout: 100 * time.Millisecond,
	}
	for _, e := range edit {
		e(&cfg)
	}
	n, err := elliptics.NewNode(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	return n
}

// cluster runs a node for each group and a client that knows all of them.
func cluster(t testing.TB, groups ...uint32) (*ellipticstest.Cluster, *elliptics.Node) {
	t.Helper()
	c := ellipticstest.Start(t, groups...)
	n := connect(t, c.Remotes())
	require.Eventually(t, func() bool { return connected(n) == c.Len() }, patience, instant)
	return c, n
}

// connected is how many nodes the client is connected to.
func connected(n *elliptics.Node) (up int) {
	for _, r := range n.Remotes() {
		if r.Connections > 0 {
			up++
		}
	}
	return up
}

// fake is a server on loopback that does what a test says.
type fake struct {
	t       testing.TB
	ln      net.Listener
	version wire.Version // hangs up on others
	shards  int32
	dials   atomic.Int32 // connections so far
	frozen  atomic.Bool  // answers nothing
	wg      sync.WaitGroup

	// handle is called by the reader of each connection for every request
	// behind the handshake.
	handle func(c *fakeConn, h wire.Header, payload []byte)
	// shake takes the place of the handshake when it is set.
	shake func(c *fakeConn, h wire.Header)

	mu       sync.Mutex
	conns    map[*fakeConn]bool
	asked    []wire.Version // by the handshakes
	backends []wire.BackendIDs
	nodes    []wire.Addr // of ROUTE_LIST
}

type fakeConn struct {
	net.Conn
	f *fake
}

// startFake runs a server with backend 1 in group 1, changed by edit before
// anybody connects.
func startFake(t testing.TB, edit func(*fake)) *fake {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f := newFake(t, ln, edit)
	f.wg.Go(f.accept)
	return f
}

// pipeFake is reached through pipes instead, see dialed, for tests in a bubble
// of testing/synctest, where time costs nothing.
func pipeFake(t testing.TB, edit func(*fake)) *fake { return newFake(t, nil, edit) }

func newFake(t testing.TB, ln net.Listener, edit func(*fake)) *fake {
	f := &fake{t: t, ln: ln, version: wire.Version226, conns: make(map[*fakeConn]bool)}
	f.backends = []wire.BackendIDs{{Backend: 1, Group: 1, IDs: []wire.ID{{}}}}
	f.nodes = []wire.Addr{f.addr()}
	if edit != nil {
		edit(f)
	}
	t.Cleanup(f.stop)
	return f
}

// dialed makes a client reach a pipeFake.
func (f *fake) dialed(c *elliptics.Config) {
	c.Dial = func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		f.take(theirs)
		return ours, nil
	}
}

func (f *fake) stop() {
	if f.ln != nil {
		f.ln.Close()
	}
	f.hangUp()
	f.wg.Wait()
}

// hangUp closes all connections.
func (f *fake) hangUp() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		c.Close()
	}
}

func (f *fake) addr() wire.Addr {
	if f.ln == nil {
		return wire.AddrFrom(netip.MustParseAddrPort("127.0.0.1:1025"))
	}
	return wire.AddrFrom(netip.MustParseAddrPort(f.ln.Addr().String()))
}

func (f *fake) remote() string { return f.addr().String() }

func (f *fake) accept() {
	for {
		nc, err := f.ln.Accept()
		if err != nil {
			return
		}
		f.take(nc)
	}
}

func (f *fake) take(nc net.Conn) {
	f.dials.Add(1)
	c := &fakeConn{nc, f}
	f.mu.Lock()
	f.conns[c] = true
	f.mu.Unlock()
	f.wg.Go(func() {
		c.serve()
		f.mu.Lock()
		delete(f.conns, c)
		f.mu.Unlock()
		nc.Close()
	})
}

// versions are those that clients asked for so far.
func (f *fake) versions() []wire.Version {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]wire.Version(nil), f.asked...)
}

func (c *fakeConn) serve() {
	for {
		var head [wire.HeaderSize]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return
		}
		var h wire.Header
		if err := h.Decode(head[:]); err != nil {
			c.f.t.Error(err)
			return
		}
		payload := make([]byte, h.Size)
		if _, err := io.ReadFull(c, payload); err != nil {
			return
		}
		switch {
		case c.f.frozen.Load():
		case h.Command == wire.CmdReverseLookup:
			hello := wire.HandshakeOf(h.ID)
			c.f.mu.Lock()
			c.f.asked = append(c.f.asked, hello.Version)
			routes := wire.Routes{Addrs: []wire.Addr{c.f.addr()}, Backends: c.f.backends}
			version := c.f.version
			c.f.mu.Unlock()
			if c.f.shake != nil {
				c.f.shake(c, h)
				continue
			}
			if !hello.Version.Same(version) {
				return
			}
			h.ID = wire.Handshake{Version: version, IndexShards: c.f.shards}.ID()
			c.reply(h, 0, 0, routes.Append(nil))
		case h.Command == wire.CmdRouteList:
			c.f.mu.Lock()
			list := wire.RouteList{PerNode: 1, Addrs: c.f.nodes}
			c.f.mu.Unlock()
			c.reply(h, 0, 0, list.Append(nil))
		case c.f.handle != nil:
			c.f.handle(c, h, payload)
		}
	}
}

// reply answers a request with one packet.
func (c *fakeConn) reply(h wire.Header, flags wire.Flags, status wire.Status, payload ...[]byte) {
	_, _ = c.Write(answer(h, flags, status, payload...))
}

// answer is a packet that answers h.
func answer(h wire.Header, flags wire.Flags, status wire.Status, payload ...[]byte) []byte {
	h.Flags = h.Flags&^wire.FlagNeedAck | wire.FlagReply | flags
	h.Status, h.Size = status, 0
	for _, p := range payload {
		h.Size += uint64(len(p))
	}
	b := h.Append(nil)
	for _, p := range payload {
		b = append(b, p...)
	}
	return b
}

// readAnswer is a READ answer with data.
func readAnswer(h wire.Header, flags wire.Flags, data string) []byte {
	attr := wire.IOAttr{ID: h.ID, Size: uint64(len(data)), TotalSize: uint64(len(data))}
	return answer(h, flags, 0, attr.Append(nil), []byte(data))
}

// push changes a backend and tells every connection.
func (f *fake) push(b wire.BackendIDs) {
	u := wire.UpdateIDs{Backends: []wire.BackendIDs{b}}
	body := u.Append(nil)
	h := wire.Header{Command: wire.CmdUpdateIDs, Flags: wire.FlagDirect | wire.FlagNoLock, Size: uint64(len(body))}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.backends = slices.DeleteFunc(slices.Clone(f.backends), func(o wire.BackendIDs) bool { return o.Backend == b.Backend })
	if !b.Disabled {
		f.backends = append(f.backends, b)
	}
	for c := range f.conns {
		_, _ = c.Write(append(h.Append(nil), body...))
	}
}

func id(first byte) (k wire.ID) {
	k[0] = first
	return k
}
