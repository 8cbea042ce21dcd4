package elliptics_test

import (
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// frugal answers every request without allocating anything itself.
func frugal(c *fakeConn, h wire.Header, _ []byte) {
	info := wire.FileInfo{Path: "/data/blob-0.0"}
	attr := wire.IOAttr{ID: h.ID, Size: 4, TotalSize: 4}
	b := make([]byte, 0, 1<<10)
	payload := make([]byte, 1<<10)
	for {
		h.Flags, h.Size = wire.FlagReply, wire.FileInfoSize+uint64(len(info.Path))+1
		if h.Command == wire.CmdRead {
			h.Size = wire.IOAttrSize + 4
			b = append(attr.Append(h.Append(b[:0])), "data"...)
		} else {
			b = info.Append(h.Append(b[:0]))
		}
		if _, err := c.Write(b); err != nil {
			return
		}
		if _, err := io.ReadFull(c, payload[:wire.HeaderSize]); err != nil {
			return
		}
		if err := h.Decode(payload); err != nil {
			return
		}
		if _, err := io.ReadFull(c, payload[:h.Size]); err != nil {
			return
		}
	}
}

// A small operation costs few allocations.
func TestAllocations(t *testing.T) {
	f := startFake(t, func(f *fake) { f.handle = frugal })
	n := connect(t, []string{f.remote()}, oneConnection, func(c *elliptics.Config) {
		c.KnownOnly = true
		c.CheckTimeout = 1 << 40
	})
	s := n.NewSession(1)
	key := s.Key("k")
	ctx := t.Context()
	w := elliptics.Write{Data: [][]byte{[]byte("data")}}
	for name, op := range map[string]func() error{
		"lookup": func() error { _, err := s.Lookup(ctx, key); return err },
		"write":  func() error { _, err := s.Write(ctx, key, w); return err },
		"remove": func() error { _, err := s.Remove(ctx, key); return err },
		"read": func() error {
			r, err := s.Read(ctx, key, 0, 0)
			if err == nil {
				r.Release()
			}
			return err
		},
	} {
		require.NoError(t, op())
		allocs := testing.AllocsPerRun(1000, func() { _ = op() })
		t.Logf("%s: %v allocations", name, allocs)
		require.LessOrEqual(t, allocs, 9.0, name)
	}
}
