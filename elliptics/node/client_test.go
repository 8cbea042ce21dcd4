package node

import (
	"crypto/sha512"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testLog goes to the test's output.
func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

// startNode opens a node with backend 1 in group 1, changed by edit, and
// closes it at the end of the test.
func startNode(t testing.TB, edit ...func(*Config)) *Node {
	t.Helper()
	cfg := Config{
		Backends: []Backend{{ID: 1, Group: 1, Dir: filepath.Join(t.TempDir(), "group-1")}},
		Logger:   testLog(t),
	}
	for _, e := range edit {
		e(&cfg)
	}
	n, err := Open(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	return n
}

func listening(cfg *Config) { cfg.Listen = "127.0.0.1:0" }

// client speaks the protocol by hand.
type client struct {
	t     testing.TB
	nc    net.Conn
	trans uint64
}

// dial connects in process, or over TCP if the node listens.
func dial(t testing.TB, n *Node) *client {
	t.Helper()
	var nc net.Conn
	var err error
	if n.listener != nil {
		nc, err = net.Dial("tcp", n.Addr().String())
	} else {
		nc, err = n.Dial(t.Context(), "tcp", n.Addr().String())
	}
	require.NoError(t, err)
	t.Cleanup(func() { nc.Close() })
	return &client{t: t, nc: nc}
}

// reply is one packet from the node.
type reply struct {
	wire.Header
	payload []byte
}

// send sends a request and answers its transaction.
func (c *client) send(h wire.Header, payload ...[]byte) uint64 {
	c.t.Helper()
	c.trans++
	h.Trans = c.trans
	c.sendRaw(h, payload...)
	return h.Trans
}

func (c *client) sendRaw(h wire.Header, payload ...[]byte) {
	c.t.Helper()
	h.Size = 0
	for _, p := range payload {
		h.Size += uint64(len(p))
	}
	b := h.Append(nil)
	for _, p := range payload {
		b = append(b, p...)
	}
	_, err := c.nc.Write(b)
	require.NoError(c.t, err)
}

// receive reads the next packet.
func (c *client) receive() reply {
	c.t.Helper()
	r, err := c.tryReceive()
	require.NoError(c.t, err)
	return r
}

func (c *client) tryReceive() (r reply, err error) {
	if err := c.nc.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return r, err
	}
	head := make([]byte, wire.HeaderSize)
	if _, err := io.ReadFull(c.nc, head); err != nil {
		return r, err
	}
	if err := r.Decode(head); err != nil {
		return r, err
	}
	r.payload = make([]byte, r.Size)
	_, err = io.ReadFull(c.nc, r.payload)
	return r, err
}

// call sends one request and answers its only packet.
func (c *client) call(h wire.Header, payload ...[]byte) reply {
	c.t.Helper()
	trans := c.send(h, payload...)
	r := c.receive()
	require.Equal(c.t, trans, r.Trans)
	require.Zero(c.t, r.Flags&wire.FlagMore, "one packet only")
	return r
}

func key(name string) wire.ID { return wire.HashID("", name) }

// write sends a WRITE in group 1; num, timestamp and so on come from io.
func (c *client) write(name string, io wire.IOAttr, data string) reply {
	c.t.Helper()
	return c.call(c.writeRequest(name, &io, data))
}

func (c *client) writeRequest(name string, io *wire.IOAttr, data string) (wire.Header, []byte) {
	io.ID = key(name)
	io.Size = uint64(len(data))
	return wire.Header{ID: io.ID, Group: 1, Command: wire.CmdWrite, Flags: wire.FlagNeedAck}, append(io.Append(nil), data...)
}

// read sends a READ and answers status, attribute and data.
func (c *client) read(name string, offset, size uint64, flags wire.IOFlags) (wire.Status, wire.IOAttr, string) {
	c.t.Helper()
	id := key(name)
	io := wire.IOAttr{ID: id, Parent: id, Offset: offset, Size: size, Flags: flags}
	r := c.call(wire.Header{ID: id, Group: 1, Command: wire.CmdRead, Flags: wire.FlagNeedAck}, io.Append(nil))
	var got wire.IOAttr
	if r.Status != wire.OK {
		require.Empty(c.t, r.payload)
		return r.Status, got, ""
	}
	require.NoError(c.t, got.Decode(r.payload))
	require.EqualValues(c.t, len(r.payload)-wire.IOAttrSize, got.Size)
	return r.Status, got, string(r.payload[wire.IOAttrSize:])
}

func (c *client) lookup(name string, flags wire.Flags) (wire.Status, wire.FileInfo) {
	c.t.Helper()
	r := c.call(wire.Header{ID: key(name), Group: 1, Command: wire.CmdLookup, Flags: wire.FlagNeedAck | flags})
	var info wire.FileInfo
	if r.Status == wire.OK {
		require.NoError(c.t, info.Decode(r.payload))
	}
	return r.Status, info
}

func (c *client) del(name string) wire.Status {
	c.t.Helper()
	id := key(name)
	io := wire.IOAttr{ID: id, Parent: id}
	return c.call(wire.Header{ID: id, Group: 1, Command: wire.CmdDel, Flags: wire.FlagNeedAck}, io.Append(nil)).Status
}

// assertEqual is for goroutines other than the test's own.
func assertEqual[T comparable](t testing.TB, want, got T) bool {
	t.Helper()
	if want != got {
		t.Errorf("expected %v, got %v", want, got)
	}
	return want == got
}

func sum512(b []byte) [64]byte { return sha512.Sum512(b) }
