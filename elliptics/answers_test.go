package elliptics_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/elliptics/node"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// What a strange server answers to a READ of "data" becomes an error that says
// what is wrong, and the connection goes on unless the stream is lost.
func TestStrangeAnswers(t *testing.T) {
	attr := func(edit func(*wire.IOAttr), h wire.Header) []byte {
		a := wire.IOAttr{ID: h.ID, Size: 4, TotalSize: 4}
		edit(&a)
		return a.Append(nil)
	}
	for name, c := range map[string]struct {
		answer func(h wire.Header) []byte
		want   string // empty: data
		is     error
	}{
		"good":           {func(h wire.Header) []byte { return readAnswer(h, 0, "data") }, "", nil},
		"ack in between": {func(h wire.Header) []byte { return append(readAnswer(h, wire.FlagMore, "data"), answer(h, 0, 0)...) }, "", nil},
		"need-ack left set": {func(h wire.Header) []byte {
			b := readAnswer(h, 0, "data")
			b[96] |= byte(wire.FlagNeedAck)
			return b
		}, "", nil},
		"unknown transaction first": {func(h wire.Header) []byte {
			other := h
			other.Trans += 1000
			return append(readAnswer(other, 0, "other"), readAnswer(h, 0, "data")...)
		}, "", nil},
		"unknown push first": {func(h wire.Header) []byte {
			push := wire.Header{Command: wire.CmdNotify, Size: 5}
			return append(append(push.Append(nil), "pshhh"...), readAnswer(h, 0, "data")...)
		}, "", nil},
		"twice":         {func(h wire.Header) []byte { return append(readAnswer(h, 0, "data"), readAnswer(h, 0, "data")...) }, "", nil},
		"status":        {func(h wire.Header) []byte { return answer(h, 0, wire.ErrChecksum) }, "checksum does not match", elliptics.ErrChecksum},
		"strange error": {func(h wire.Header) []byte { return answer(h, 0, -99) }, "server error (status -99)", nil},
		"status with payload": {func(h wire.Header) []byte {
			return answer(h, 0, wire.ErrNotFound, attr(func(*wire.IOAttr) {}, h), []byte("data"))
		}, "no such record", elliptics.ErrNotFound},
		"bare ack":        {func(h wire.Header) []byte { return answer(h, 0, 0) }, "protocol error", elliptics.ErrProtocol},
		"short attribute": {func(h wire.Header) []byte { return answer(h, 0, 0, make([]byte, 100)) }, "protocol error", elliptics.ErrProtocol},
		"other key": {func(h wire.Header) []byte {
			return answer(h, 0, 0, attr(func(a *wire.IOAttr) { a.ID[0]++ }, h), []byte("data"))
		}, "an answer for 020000000000", elliptics.ErrProtocol},
		"less data than announced": {func(h wire.Header) []byte {
			return answer(h, 0, 0, attr(func(a *wire.IOAttr) { a.Size = 5 }, h), []byte("data"))
		}, "with 4 bytes announces 5", elliptics.ErrProtocol},
		"more data than announced": {func(h wire.Header) []byte {
			return answer(h, 0, 0, attr(func(a *wire.IOAttr) { a.Size = 3 }, h), []byte("data"))
		}, "with 4 bytes announces 3", elliptics.ErrProtocol},
		"more data than asked for": {func(h wire.Header) []byte { return readAnswer(h, 0, "data and more") }, "13 bytes, 4 were asked for", elliptics.ErrProtocol},
		"other command": {func(h wire.Header) []byte {
			h.Command = wire.CmdLookup
			return readAnswer(h, 0, "data")
		}, "protocol error", elliptics.ErrProtocol},
		"huge": {func(h wire.Header) []byte {
			b := readAnswer(h, 0, "data")
			copy(b[112:], "\xff\xff\xff\xff\xff\xff\xff\xff")
			return b
		}, "the node announces a packet of 18446744073709551615 bytes", elliptics.ErrProtocol},
		"large": {func(h wire.Header) []byte { return readAnswer(h, 0, strings.Repeat("x", 100<<10)) }, "too large for the client: 102608 bytes, at most 65536 are taken", elliptics.ErrTooLarge},
		"without an end": {func(h wire.Header) []byte {
			return []byte(strings.Repeat(string(readAnswer(h, wire.FlagMore, "data")), 1000))
		}, "too large for the client: more than 65536 bytes in several packets", elliptics.ErrTooLarge},
		"malformed push": {func(h wire.Header) []byte {
			push := wire.Header{Command: wire.CmdUpdateIDs, Size: 4}
			return append(push.Append(nil), 0xff, 0xff, 0xff, 0xff)
		}, "malformed", elliptics.ErrConnectionReset},
	} {
		t.Run(name, func(t *testing.T) {
			f := startFake(t, func(f *fake) {
				f.handle = func(fc *fakeConn, h wire.Header, _ []byte) {
					if h.Command != wire.CmdRead {
						return
					}
					if h.ID == id(1) {
						_, _ = fc.Write(c.answer(h))
					} else {
						_, _ = fc.Write(readAnswer(h, 0, "next"))
					}
				}
			})
			n := connect(t, []string{f.remote()}, oneConnection, func(c *elliptics.Config) { c.MaxReply = 64 << 10 })
			s := n.NewSession(1)
			r, err := s.Read(t.Context(), id(1), 0, 4)
			if c.want == "" {
				require.NoError(t, err)
				require.Equal(t, "data", string(r.Data))
			} else {
				require.ErrorContains(t, err, c.want)
				require.ErrorContains(t, err, "read 010000000000 in group 1")
			}
			if c.is != nil {
				require.ErrorIs(t, err, c.is)
			}
			require.Eventually(t, func() bool {
				r, err := s.Read(t.Context(), id(3), 0, 0)
				return err == nil && string(r.Data) == "next"
			}, patience, instant)
		})
	}
}

// FileInfo of writes and lookups that is none.
func TestStrangeFileInfo(t *testing.T) {
	f := startFake(t, func(f *fake) {
		f.handle = func(fc *fakeConn, h wire.Header, _ []byte) { fc.reply(h, 0, 0, make([]byte, 10)) }
	})
	n := connect(t, []string{f.remote()})
	s := n.NewSession(1)
	_, err := s.WriteData(t.Context(), id(1), []byte("data"))
	require.ErrorIs(t, err, wire.ErrMalformed)
	require.ErrorContains(t, err, "write 010000000000 in group 1 at "+f.remote())
	_, err = s.Lookup(t.Context(), id(1))
	require.ErrorIs(t, err, wire.ErrMalformed)
}

// The faults of test clusters, as a client sees them.
func TestSlowAndRepeatedAnswers(t *testing.T) {
	c, n := cluster(t, 1)
	s := n.NewSession(1)
	key := s.Key("k")
	slow := c.Fail(0, wire.CmdWrite, 1, node.Fault{Slow: time.Microsecond})
	_, err := s.WriteData(t.Context(), key, []byte("byte by byte"))
	require.NoError(t, err)
	require.Equal(t, 1, slow.Hits())
	twice := c.Fail(0, wire.CmdRead, 2, node.Fault{Twice: true})
	for range 4 {
		r, err := s.Read(t.Context(), key, 0, 0)
		require.NoError(t, err)
		require.Equal(t, "byte by byte", string(r.Data))
	}
	require.Equal(t, 2, twice.Hits())
	c.Fail(0, wire.CmdBulkRead, 1, node.Fault{Twice: true, Slow: time.Microsecond})
	found, err := s.BulkRead(t.Context(), []elliptics.Key{key, s.Key("missing")})
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.Equal(t, "byte by byte", string(found[key].Data))
}

// An answer of several packets that is too large as a whole is asked for in
// parts.
func TestBulkReadInParts(t *testing.T) {
	c, _ := cluster(t, 1)
	n := connect(t, c.Remotes(), func(c *elliptics.Config) { c.MaxReply = 64 << 10 })
	s := n.NewSession(1)
	var keys []elliptics.Key
	for i := range 100 {
		keys = append(keys, s.Key(fmt.Sprint(i)))
		_, err := s.WriteData(t.Context(), keys[i], make([]byte, 10<<10))
		require.NoError(t, err)
	}
	found, err := s.BulkRead(t.Context(), keys)
	require.NoError(t, err)
	require.Len(t, found, 100)
	_, err = s.WriteData(t.Context(), keys[50], make([]byte, 100<<10))
	require.NoError(t, err)
	found, err = s.BulkRead(t.Context(), keys)
	require.ErrorIs(t, err, elliptics.ErrTooLarge)
	require.ErrorContains(t, err, keys[50].Short())
	require.Len(t, found, 99, "all but the one that is too large alone")
}

func TestReleaseIsOptional(t *testing.T) {
	_, n := cluster(t, 1)
	s := n.NewSession(1)
	for i, size := range []int{0, 1, 4 << 10, 5 << 10, 1 << 20, 9 << 20} {
		key := s.Key(fmt.Sprint(size))
		data := []byte(strings.Repeat(string(rune('a'+i)), size))
		w := elliptics.Write{Data: [][]byte{data}}
		if size == 0 {
			w.Flags = wire.IOPrepare | wire.IOCommit | wire.IOPlainWrite
		}
		_, err := s.Write(t.Context(), key, w)
		require.NoError(t, err)
		kept, err := s.Read(t.Context(), key, 0, 0)
		require.NoError(t, err)
		for range 3 { // buffers that are given back do not disturb one that is kept
			r, err := s.Read(t.Context(), key, 0, 0)
			require.NoError(t, err)
			require.Equal(t, len(data), len(r.Data))
			clear(r.Data)
			r.Release()
			require.Nil(t, r.Data)
			r.Release()
		}
		require.True(t, string(data) == string(kept.Data))
	}
}
