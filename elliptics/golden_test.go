package elliptics_test

import (
	"context"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/elliptics/internal/vectors"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// notSent are captures of what this client never does.
var notSent = map[string]string{
	"raw-auth-bad":                        "only servers send AUTH",
	"raw-auth-ok":                         "only servers send AUTH",
	"server-join":                         "only servers JOIN",
	"raw-direct-not-owner":                "DIRECT goes with DIRECT_BACKEND only",
	"raw-indexes-both-flags":              "a request adds or removes tags",
	"raw-lookup-without-need-ack-missing": "every request asks for an acknowledge",
	"raw-unknown-command":                 "there is no such command",
	"raw-write-short-payload":             "the length of a write is right",
	"v30-exec":                            "EXEC is not part of this client",
	"v30-unknown":                         "there is no such command",
	"v30-lookup-new":                      "a command of 2.27, to an older server",
	"v30-read-new":                        "a command of 2.27, to an older server",
	"v30-indexes-find":                    "nothing is sent to servers without indexes",
	"v30-indexes-internal":                "nothing is sent to servers without indexes",
	"v30-indexes-update":                  "nothing is sent to servers without indexes",
}

// elsewhere are captures with tests of their own.
var elsewhere = map[string]string{
	"connect": "TestGoldenHandshakes", "address-ipv6": "TestGoldenHandshakes", "address-two": "TestGoldenHandshakes",
	"handshake-versions": "TestGoldenHandshakes", "v30-handshake": "TestGoldenHandshakes",
	"v30-handshake-226-rejected": "TestGoldenHandshakes", "v30-route-list": "TestGoldenHandshakes",
	"notify-update-ids": "TestGoldenPush",
	"iterate":           "TestGoldenIterators", "v30-iterate": "TestGoldenIterators",
}

// TestGolden does what each capture shows: the requests must be the captured
// ones, and the captured answers must give the right values.
func TestGolden(t *testing.T) {
	names := vectors.Names(t, captures)
	for name := range specially {
		require.Contains(t, names, name)
	}
	for _, name := range names {
		if notSent[name] != "" || elsewhere[name] != "" || goldenIndexes[name].do != nil {
			continue
		}
		t.Run(name, func(t *testing.T) {
			packets := vectors.Load(t, captures, name)
			if c, ok := specially[name]; ok {
				c.do(t, replayed(t, name, c.mask), packets)
				return
			}
			n := replayed(t, name, nil)
			for _, p := range packets {
				if p.Direction == vectors.Request {
					again(t, n, &p, answersOf(packets, &p))
				}
			}
		})
	}
}

// answersOf are the packets that answer a request.
func answersOf(packets []vectors.Packet, p *vectors.Packet) (answers []vectors.Packet) {
	for _, q := range packets {
		if q.Direction == vectors.Reply && q.Conn == p.Conn && q.Header.Trans == p.Header.Trans {
			answers = append(answers, q)
		}
	}
	return answers
}

// again sends a captured request through the methods that take what is in it,
// and compares what they return with the captured answer.
func again(t *testing.T, n *elliptics.Node, p *vectors.Packet, answers []vectors.Packet) {
	ctx := t.Context()
	s := n.NewSession(p.Header.Group).WithTraceID(p.Header.TraceID)
	if p.Header.Flags&wire.FlagDirectBackend != 0 {
		s = s.WithBackend(elliptics.BackendRef{Group: p.Header.Group, Remote: n.Remotes()[0].Address, Backend: uint32(p.Header.Backend)})
	}
	key, last := p.Header.ID, answers[len(answers)-1]
	var attr wire.IOAttr
	if p.Header.Size >= wire.IOAttrSize {
		require.NoError(t, attr.Decode(p.Payload()))
	}
	check := func(info elliptics.FileInfo, err error) {
		t.Helper()
		if status := last.Header.Status; status != wire.OK {
			require.ErrorIs(t, err, status)
			return
		}
		require.NoError(t, err)
		var want wire.FileInfo
		if last.Header.Size > 0 {
			require.NoError(t, want.Decode(last.Payload()))
		}
		require.Equal(t, want, info)
	}
	switch p.Header.Command {
	case wire.CmdLookup:
		lookup := s.LookupAll
		if p.Header.Flags&wire.FlagChecksum != 0 {
			lookup = s.LookupChecksum
		}
		found, err := lookup(ctx, key)
		check(found[0].Info, err)
	case wire.CmdRead:
		r, err := s.WithIOFlags(attr.Flags).Read(ctx, key, attr.Offset, attr.Size)
		if err != nil {
			check(elliptics.FileInfo{}, err)
			return
		}
		var want wire.IOAttr
		require.NoError(t, want.Decode(last.Payload()))
		require.Equal(t, string(last.Payload()[wire.IOAttrSize:]), string(r.Data))
		require.Equal(t, want.Timestamp, r.Timestamp)
		require.Equal(t, want.UserFlags, r.UserFlags)
		require.Equal(t, want.TotalSize, r.TotalSize)
		require.Equal(t, want.RecordFlags, r.RecordFlags)
		require.Equal(t, want.Parent, r.Checksum)
		require.Equal(t, p.Header.Group, r.Group)
	case wire.CmdWrite:
		w := elliptics.Write{
			Offset: attr.Offset, Flags: attr.Flags, Num: attr.Num, Timestamp: attr.Timestamp,
			UserFlags: attr.UserFlags, Lifetime: attr.Start,
		}
		if data := p.Payload()[wire.IOAttrSize:]; len(data) > 0 {
			w.Data = [][]byte{data}
		}
		if attr.Flags&wire.IOCompareAndSwap != 0 {
			w.IfChecksum = &attr.Parent
		}
		results, err := s.Write(ctx, key, w)
		check(results[0].Info, err)
	case wire.CmdDel:
		results, err := s.Remove(ctx, key)
		check(results[0].Info, err)
	case wire.CmdBackendControl:
		var c wire.BackendControl
		require.NoError(t, c.Decode(p.Payload()))
		got, err := n.ControlBackend(ctx, n.Remotes()[0].Address, c)
		if last.Header.Status != wire.OK {
			require.ErrorIs(t, err, last.Header.Status)
			return
		}
		require.NoError(t, err)
		var want wire.BackendStatuses
		require.NoError(t, want.Decode(last.Payload()))
		require.Equal(t, want.Backends[0], got)
	case wire.CmdBackendStatus:
		got, err := n.BackendStatus(ctx, n.Remotes()[0].Address)
		require.NoError(t, err)
		var want wire.BackendStatuses
		require.NoError(t, want.Decode(last.Payload()))
		require.Equal(t, want.Backends, got)
	case wire.CmdStatus:
		got, err := n.Status(ctx, n.Remotes()[0].Address)
		require.NoError(t, err)
		var want wire.NodeStatus
		require.NoError(t, want.Decode(answers[0].Payload()))
		require.Equal(t, want, got)
	default:
		t.Fatalf("nothing sends %s", p.Op)
	}
}

// masked as they cannot be equal: the time of a write is the time of the test.
func timestamps(h *wire.Header, payload []byte) {
	if h.Command == wire.CmdWrite && len(payload) >= wire.IOAttrSize {
		clear(payload[144:160])
	}
}

// noInfo drops the results of operations of which only the error counts.
func noInfo(_ []elliptics.GroupResult, err error) error { return err }

// specially are captures of operations with methods of their own.
var specially = map[string]struct {
	mask func(h *wire.Header, payload []byte)
	do   func(t *testing.T, n *elliptics.Node, packets []vectors.Packet)
}{
	"write": {timestamps, func(t *testing.T, n *elliptics.Node, _ []vectors.Packet) {
		s := docker(n)
		require.NoError(t, noInfo(s.WriteData(t.Context(), s.Key("vec-key"), []byte("hello elliptics"))))
	}},
	"no-namespace-write": {timestamps, func(t *testing.T, n *elliptics.Node, _ []vectors.Packet) {
		s := n.NewSession(1)
		require.NoError(t, noInfo(s.WriteData(t.Context(), s.Key("vec-key"), []byte("plain"))))
	}},
	"write-timestamp-userflags": {nil, func(t *testing.T, n *elliptics.Node, _ []vectors.Packet) {
		s := docker(n).WithTimestamp(elliptics.Time{Sec: 1500000000, Nsec: 123456789}).WithUserFlags(0xdeadbeef).WithTraceID(0x1122334455667788)
		require.NoError(t, noInfo(s.WriteData(t.Context(), s.Key("vec-ts"), []byte("ts"))))
	}},
	"append": {timestamps, func(t *testing.T, n *elliptics.Node, _ []vectors.Packet) {
		s := docker(n)
		require.NoError(t, noInfo(s.Append(t.Context(), s.Key("vec-key"), []byte("+app"))))
	}},
	"append-new": {timestamps, func(t *testing.T, n *elliptics.Node, _ []vectors.Packet) {
		s := docker(n)
		require.NoError(t, noInfo(s.Append(t.Context(), s.Key("vec-new"), []byte("first"))))
	}},
	"prepare": {timestamps, func(t *testing.T, n *elliptics.Node, _ []vectors.Packet) {
		s := docker(n)
		require.NoError(t, noInfo(s.Prepare(t.Context(), s.Key("vec-prep"), []byte("aaaa"), 0, 100)))
	}},
	"commit": {timestamps, func(t *testing.T, n *elliptics.Node, _ []vectors.Packet) {
		s := docker(n)
		require.NoError(t, noInfo(s.Commit(t.Context(), s.Key("vec-prep"), []byte("zz"), 4, 6)))
	}},
	"prepare-plain-commit": {timestamps, func(t *testing.T, n *elliptics.Node, _ []vectors.Packet) {
		s := docker(n)
		key := s.Key("vec-ppc")
		require.NoError(t, noInfo(s.Prepare(t.Context(), key, []byte("aaaa"), 0, 12)))
		require.NoError(t, noInfo(s.PlainWrite(t.Context(), key, []byte("bbbb"), 4)))
		require.NoError(t, noInfo(s.Commit(t.Context(), key, []byte("cccc"), 8, 12)))
	}},
	"write-chunked": {timestamps, func(t *testing.T, n *elliptics.Node, _ []vectors.Packet) {
		s := docker(n)
		require.NoError(t, noInfo(s.WriteChunked(t.Context(), s.Key("vec-chunk"), strings.NewReader("0123456789"), 10, 4)))
	}},
	"write-cas": {timestamps, func(t *testing.T, n *elliptics.Node, _ []vectors.Packet) {
		s := docker(n)
		require.NoError(t, noInfo(s.Update(t.Context(), s.Key("vec-key"), 0, func(old []byte) ([]byte, error) {
			require.Len(t, old, 5)
			return []byte("after cas"), nil
		})))
	}},
	"read": {nil, func(t *testing.T, n *elliptics.Node, _ []vectors.Packet) {
		s := docker(n)
		r, err := s.Read(t.Context(), s.Key("vec-key"), 0, 0)
		require.NoError(t, err)
		require.Equal(t, "hello elliptics", string(r.Data))
	}},
	"read-latest-one-group": {nil, func(t *testing.T, n *elliptics.Node, _ []vectors.Packet) {
		s := docker(n)
		r, err := s.ReadLatest(t.Context(), s.Key("vec-key"), 0, 0)
		require.NoError(t, err)
		require.Equal(t, "shoXY", string(r.Data))
	}},
	"bulk-read": {nil, func(t *testing.T, n *elliptics.Node, _ []vectors.Packet) {
		s := docker(n)
		found, err := s.BulkRead(t.Context(), tags(s, "vec-key", "vec-new", "no-such-key", "vec-ts"))
		require.NoError(t, err)
		require.Len(t, found, 3)
		require.Equal(t, "ts", string(found[s.Key("vec-ts")].Data))
	}},
	// The captured client asked for the keys as they came, and filled in one more
	// id that is not used.
	"v30-bulk-read": {sortKeys, func(t *testing.T, n *elliptics.Node, packets []vectors.Packet) {
		var keys []elliptics.Key
		for _, p := range packets[1:3] {
			keys = append(keys, p.Header.ID)
		}
		found, err := n.NewSession(1).BulkRead(t.Context(), keys)
		require.NoError(t, err)
		require.Len(t, found, 2)
		require.Equal(t, "01234", string(found[keys[1]].Data))
	}},
	"monitor-stat": {nil, func(t *testing.T, n *elliptics.Node, _ []vectors.Packet) {
		for _, r := range n.Remotes() {
			stats := make(map[string]any)
			require.NoError(t, n.Monitor(t.Context(), r.Address, wire.MonitorIO, &stats))
			require.Contains(t, stats, "io")
			var raw json.RawMessage
			require.Error(t, n.Monitor(canceled(), r.Address, wire.MonitorIO, &raw))
		}
	}},
	"g3-write": {timestamps, func(t *testing.T, n *elliptics.Node, _ []vectors.Packet) {
		s := docker(n, 1, 2, 3).WithChecker(elliptics.All)
		require.NoError(t, noInfo(s.WriteData(t.Context(), s.Key("tri-key"), []byte("three copies"))))
	}},
	"g3-write-group2-only": {timestamps, func(t *testing.T, n *elliptics.Node, _ []vectors.Packet) {
		s := docker(n, 2)
		require.NoError(t, noInfo(s.WriteData(t.Context(), s.Key("tri-key"), []byte("newer in 2"))))
	}},
	"g3-group1-down-write": {timestamps, func(t *testing.T, n *elliptics.Node, packets []vectors.Packet) {
		var data []byte
		for _, p := range packets {
			if p.Direction == vectors.Request {
				data = p.Payload()[wire.IOAttrSize:]
			}
		}
		s := docker(n, 1, 2, 3)
		results, err := s.WriteData(t.Context(), packets[0].Header.ID, data)
		require.NoError(t, err)
		require.ErrorIs(t, results[0].Err, elliptics.ErrNoRoute)
	}},
	"g3-read": {nil, func(t *testing.T, n *elliptics.Node, _ []vectors.Packet) {
		s := docker(n, 1, 2, 3)
		r, err := s.Read(t.Context(), s.Key("tri-key"), 0, 0)
		require.NoError(t, err)
		require.EqualValues(t, 1, r.Group)
		require.Equal(t, "three copies", string(r.Data))
	}},
	"g3-lookup": {nil, func(t *testing.T, n *elliptics.Node, _ []vectors.Packet) {
		s := docker(n, 1, 2, 3)
		l, err := s.Lookup(t.Context(), s.Key("tri-key"))
		require.NoError(t, err)
		require.EqualValues(t, 1, l.Group)
		require.EqualValues(t, 12, l.Info.Size)
	}},
	"g3-parallel-lookup": {nil, func(t *testing.T, n *elliptics.Node, _ []vectors.Packet) {
		s := docker(n, 1, 2, 3).WithChecker(elliptics.All)
		all, err := s.LookupAll(t.Context(), s.Key("tri-key"))
		require.NoError(t, err)
		require.Len(t, all, 3)
	}},
	"g3-read-latest": {nil, func(t *testing.T, n *elliptics.Node, _ []vectors.Packet) {
		s := docker(n, 1, 2, 3)
		r, err := s.ReadLatest(t.Context(), s.Key("tri-key"), 0, 0)
		require.NoError(t, err)
		require.EqualValues(t, 2, r.Group)
		require.Equal(t, "newer in 2", string(r.Data))
	}},
	// Written back on the condition that there is nothing newer (CAS_TIMESTAMP in
	// flags), and without what belongs to answers (parent, total_size,
	// record_flags).
	"g3-read-fallback-and-repair": {func(h *wire.Header, payload []byte) {
		if h.Command == wire.CmdWrite {
			clear(payload[:64])
			clear(payload[168:192])
		}
	}, func(t *testing.T, n *elliptics.Node, _ []vectors.Packet) {
		s := docker(n, 1, 2).WithWriteBack(true)
		r, err := s.Read(t.Context(), s.Key("tri-key"), 0, 0)
		require.NoError(t, err)
		require.EqualValues(t, 2, r.Group)
	}},
	"g3-remove": {nil, func(t *testing.T, n *elliptics.Node, _ []vectors.Packet) {
		s := docker(n, 1, 2, 3).WithChecker(elliptics.All)
		require.NoError(t, noInfo(s.Remove(t.Context(), s.Key("tri-key"))))
	}},
	"g3-remove-group1-only": {nil, func(t *testing.T, n *elliptics.Node, _ []vectors.Packet) {
		s := docker(n)
		require.Empty(t, s.BulkRemove(t.Context(), tags(s, "tri-key")))
	}},
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// sortKeys puts the items of a BULK_READ in order.
func sortKeys(h *wire.Header, payload []byte) {
	if h.Command != wire.CmdBulkRead {
		return
	}
	var items []string
	for item := range slices.Chunk(payload[wire.IOAttrSize:], wire.IOAttrSize) {
		items = append(items, string(item))
	}
	slices.Sort(items)
	copy(payload[wire.IOAttrSize:], strings.Join(items, ""))
	clear(h.ID[:]) // of the first item, here and there
	clear(payload[64:128])
}

func TestGoldenIterators(t *testing.T) {
	for name, want := range map[string][]string{
		"iterate":     {"50efa5bb", "29051ee2", "c7cd75c1", "dbb23f73", "baaf48f5", "7f0d7597", "00000000", "1da6cf4e", "00000000", "547dec5d", "80000000", "00000000"},
		"v30-iterate": {"ec9d04bf", "61d40a32"},
	} {
		t.Run(name, func(t *testing.T) {
			var times func(*wire.Header, []byte)
			if name == "v30-iterate" { // that client sent no times at all
				times = func(_ *wire.Header, payload []byte) { clear(payload[20:52]) }
			}
			packets := vectors.Load(t, captures, name)
			n := replayed(t, name, times)
			i := 0
			for e, err := range n.NewSession().Iterate(t.Context(), 1, elliptics.Iteration{Data: true}) {
				require.NoError(t, err)
				require.True(t, strings.HasPrefix(e.Key.String(), want[i]), "%d: %s", i, e.Key)
				require.EqualValues(t, i+1, e.Iterated)
				require.EqualValues(t, len(want), e.Total)
				require.Equal(t, string(packets[i+1].Payload()[wire.IteratorReplySize:]), string(e.Data))
				require.EqualValues(t, len(e.Data), e.Size)
				require.NotZero(t, e.RecordFlags&wire.RecordExtHeader)
				require.EqualValues(t, 1, e.Backend.Backend)
				i++
			}
			require.Len(t, want, i)
		})
	}
}

// TestCaptureDocument keeps docs/vectors.md true, as far as it is about the
// client.
func TestCaptureDocument(t *testing.T) {
	b, err := os.ReadFile("../docs/vectors.md")
	require.NoError(t, err)
	told := make(map[string]string)
	for line := range strings.Lines(string(b)) {
		if cells := strings.Split(line, "|"); len(cells) == 5 {
			told[strings.Trim(cells[1], " `")] = strings.TrimSpace(cells[2])
		}
	}
	for _, name := range vectors.Names(t, captures) {
		want := "yes"
		if reason := notSent[name]; reason != "" {
			want = "no: " + reason
		}
		require.Equal(t, want, told[name], "the client's column of %s", name)
	}
}
