package node

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics/internal/vectors"
	"github.com/elliptics-registry/elliptics-registry/elliptics/node/engine"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

const (
	captures   = "../wire/testdata/vectors"
	captureDoc = "../../docs/vectors.md"
)

// notAsCaptured are the captures that this node cannot or does not want to
// answer the same way, and why. docs/vectors.md says the same.
var notAsCaptured = map[string]string{
	"address-two":                "a node has one address",
	"raw-cache-lookup-unsynced":  "a node has no memory cache",
	"raw-direct-not-owner":       "a node knows no other owner of a key, and never forwards",
	"raw-forwarded-read":         "a node knows no other owner of a key, and never forwards",
	"raw-forwarded-write":        "a node knows no other owner of a key, and never forwards",
	"raw-write-disabled-backend": "a node knows no other owner of a key, and never forwards",
	"server-join":                "a node joins nobody, and hangs up on JOIN",
	"v30-handshake-226-rejected": "a node accepts both generations",
	"write-cache":                "a node has no memory cache",
}

// scenes are the captures in the order in which they were made, as far as one
// builds on the other.
var scenes = []struct {
	name     string
	cluster  func(*testing.T) *cluster
	captures []string
}{
	{"one client", threeServers, []string{
		"connect", "handshake-versions",
		"write", "lookup", "lookup-checksum", "read", "read-range", "read-beyond", "read-missing", "lookup-missing",
		"append", "append-new", "overwrite-shorter", "write-offset", "read-latest-one-group",
		"prepare-plain-commit", "write-chunked", "prepare", "lookup-uncommitted", "read-uncommitted", "commit",
		"write-timestamp-userflags", "read-timestamp-userflags", "no-namespace-write", "write-cas", "bulk-read",
		"update-indexes", "list-indexes", "update-indexes-second-object",
		"find-all-one-tag", "find-all-two-tags", "find-any", "find-all-missing",
		"set-indexes", "set-indexes-empty", "find-all-after-set-empty", "remove-indexes",
		"remove", "remove-missing", "iterate", "monitor-stat", "write-empty",
		"g3-write", "g3-read", "g3-lookup", "g3-parallel-lookup", "g3-write-group2-only", "g3-read-latest",
		"g3-remove-group1-only", "g3-read-fallback-and-repair", "g3-remove",
		"g3-update-indexes", "g3-find-all", "g3-set-indexes-empty", "g3-group1-down-write",
	}},
	{"raw", threeServers, []string{
		"raw-write", "raw-read", "raw-read-csum", "raw-read-offset-equals-size",
		"raw-cas-mismatch", "raw-cas-match", "raw-cas-missing-key", "raw-cas-timestamp-older", "raw-cas-timestamp-equal",
		"raw-write-no-file-info", "raw-write-empty-existing", "raw-write-empty-missing", "raw-write-empty-prepare-commit-plain",
		"raw-read-empty", "raw-lookup-empty", "raw-prepare", "raw-plain", "raw-plain-beyond-reserved", "raw-commit-too-large",
		"raw-plain-missing", "raw-commit", "raw-commit-committed", "raw-plain-committed", "raw-read-committed",
		"raw-prepare-commit-plain-one-shot", "raw-readonly-write", "raw-readonly-remove", "raw-nospace-write",
		"raw-cacheonly-cacheless", "raw-unknown-group", "raw-unknown-command", "raw-write-short-payload",
		"raw-auth-ok", "raw-auth-bad", "raw-direct-backend", "raw-direct-backend-unknown",
		"raw-lookup-without-need-ack-missing", "raw-status", "raw-backend-status",
		"raw-backend-readonly", "raw-backend-readonly-again", "raw-backend-writable",
		"raw-backend-disable", "raw-backend-enable", "notify-update-ids", "raw-backend-unknown",
		"raw-read-corrupted-chunk", "raw-read-clean-chunk", "raw-remove", "raw-remove-again", "raw-indexes-both-flags",
	}},
	{"IPv6", func(t *testing.T) *cluster { return newCluster(t, "[::1]:1025") }, []string{"address-ipv6"}},
	{"3.0", func(t *testing.T) *cluster { return newCluster(t, "127.0.0.1:1025 alone") }, []string{
		"v30-handshake", "v30-route-list", "v30-write", "v30-append", "v30-read", "v30-read-range", "v30-read-beyond",
		"v30-lookup", "v30-lookup-missing", "v30-cas-mismatch", "v30-prepare", "v30-plain", "v30-read-uncommitted",
		"v30-commit", "v30-read-committed", "v30-bulk-read", "v30-indexes-update", "v30-indexes-find", "v30-indexes-internal",
		"v30-exec", "v30-status", "v30-backend-status", "v30-iterate", "v30-remove", "v30-remove-again",
		"v30-unknown", "v30-lookup-new", "v30-read-new",
	}},
}

// TestGolden sends the captured requests to nodes like the servers that were
// captured, and compares the answers with the captured ones.
func TestGolden(t *testing.T) {
	done := make(map[string]bool)
	for _, s := range scenes {
		t.Run(s.name, func(t *testing.T) {
			c := s.cluster(t)
			for _, name := range s.captures {
				require.False(t, done[name], name)
				done[name] = true
				if prepare := before[name]; prepare != nil {
					prepare(t, c)
				}
				t.Run(name, func(t *testing.T) { c.play(t, name) })
			}
		})
	}
	for _, name := range vectors.Names(t, captures) {
		_, not := notAsCaptured[name]
		require.NotEqual(t, done[name], not, "%s: either it is played or there is a reason", name)
	}
}

// TestCaptureDocument keeps docs/vectors.md true, as far as it is about the
// node.
func TestCaptureDocument(t *testing.T) {
	b, err := os.ReadFile(captureDoc)
	require.NoError(t, err)
	told := make(map[string]string)
	for line := range strings.Lines(string(b)) {
		if cells := strings.Split(line, "|"); len(cells) == 5 {
			told[strings.Trim(cells[1], " `")] = strings.TrimSpace(cells[3])
		}
	}
	for _, name := range vectors.Names(t, captures) {
		want := "yes"
		if reason := notAsCaptured[name]; reason != "" {
			want = "no: " + reason
		}
		require.Equal(t, want, told[name], "the node's column of %s", name)
	}
}

// before are the states that captures presuppose and no other capture makes.
var before = map[string]func(*testing.T, *cluster){
	"raw-backend-disable": func(t *testing.T, c *cluster) {
		c.subscriber = dial(t, c.nodes["127.0.0.1:1025"])
		require.NotEmpty(t, c.subscriber.call(wire.Header{ID: wire.Handshake{Version: wire.Version226}.ID(), Command: wire.CmdReverseLookup}).payload)
	},
	"raw-read-corrupted-chunk": func(t *testing.T, c *cluster) {
		ask := vectors.Load(t, captures, "raw-read-corrupted-chunk")[0].Header
		io := wire.IOAttr{ID: ask.ID, Timestamp: wire.Time{Sec: 1500000000}, Size: 1_200_000}
		n := c.nodes["127.0.0.1:1025"]
		r := dial(t, n).call(wire.Header{ID: ask.ID, Group: 1, Command: wire.CmdWrite}, io.Append(nil), bytes.Repeat([]byte("A"), int(io.Size)))
		var info wire.FileInfo
		require.NoError(t, info.Decode(r.payload))
		f, err := os.OpenFile(filepath.Join(n.backend(1).dir, info.Path), os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = f.WriteAt([]byte("B"), int64(info.Offset)+1_100_005)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	},
}

// cluster is some nodes that do not know each other.
type cluster struct {
	t          *testing.T // of the whole scene
	nodes      map[string]*Node
	conns      map[string]*client
	subscriber *client // has greeted node 1025 and gets its pushes
}

// fullDisk is a file system without free space.
type fullDisk struct{ vfs.FS }

func (fullDisk) GetDiskUsage(string) (vfs.DiskUsage, error) { return vfs.DiskUsage{}, nil }

func threeServers(t *testing.T) *cluster {
	return newCluster(t, "127.0.0.1:1025", "127.0.0.1:1026", "127.0.0.1:1027")
}

// newCluster opens nodes with the addresses, backends, groups and ids of the
// servers that were captured.
func newCluster(t *testing.T, servers ...string) *cluster {
	c := &cluster{t: t, nodes: make(map[string]*Node), conns: make(map[string]*client)}
	for _, server := range servers {
		address, alone := strings.CutSuffix(server, " alone")
		type place struct {
			backend, group uint32
			first          byte // of its id
		}
		var places []place
		switch {
		case alone:
			places = []place{{1, 1, 0}}
		case strings.HasSuffix(address, ":1025"):
			places = []place{{1, 1, 0}, {2, 7, 0}, {3, 8, 0}, {4, 9, 0}, {5, 6, 0}}
		case strings.HasSuffix(address, ":1026"):
			places = []place{{2, 2, 0}, {9, 7, 0x80}}
		default:
			places = []place{{3, 3, 0}}
		}
		dir := t.TempDir()
		n := startNode(t, func(cfg *Config) {
			cfg.IndexShards = 2
			cfg.AuthCookie = "qwerty"
			cfg.Sync = engine.SyncNone
			cfg.Backends = nil
			for _, p := range places {
				b := Backend{ID: p.backend, Group: p.group, ReadOnly: p.group == 8,
					Dir: filepath.Join(dir, "group-"+string('0'+rune(p.group)))}
				require.NoError(t, os.MkdirAll(b.Dir, 0o700))
				require.NoError(t, storeIDs(b.Dir, []wire.ID{{p.first}}))
				cfg.Backends = append(cfg.Backends, b)
			}
			cfg.engineOptions = func(b Backend, opt *engine.Options) {
				if b.Group == 9 {
					opt.FS = fullDisk{vfs.Default}
				}
			}
		})
		// A node without a listener has the address that the test wants.
		n.addr = wire.AddrFrom(netip.MustParseAddrPort(address))
		c.nodes[address] = n
	}
	return c
}

// conn is the connection of a captured packet. Only captures of handshakes need
// new ones.
func (c *cluster) conn(t *testing.T, p *vectors.Packet, name string) *client {
	key := p.Node
	if strings.HasPrefix(name, "handshake") {
		key += string('0' + rune(p.Conn))
	}
	if c.conns[key] == nil {
		n := c.nodes[p.Node]
		require.NotNil(t, n, "%s: no node %s", name, p.Node)
		c.conns[key] = dial(c.t, n)
	}
	return c.conns[key]
}

// play sends the requests of a capture and compares the answers.
func (c *cluster) play(t *testing.T, name string) {
	packets := vectors.Load(t, captures, name)
	for i := range packets {
		p := &packets[i]
		if p.Direction == vectors.Notify {
			requireSame(t, []vectors.Packet{*p}, []reply{c.subscriber.receive()}, name)
			continue
		}
		if p.Direction != vectors.Request {
			continue
		}
		conn := c.conn(t, p, name)
		var want []vectors.Packet
		for _, q := range packets[i:] {
			if q.Direction == vectors.Reply && q.Node == p.Node && q.Conn == p.Conn && q.Header.Trans == p.Header.Trans {
				want = append(want, q)
			}
		}
		if len(want) == 0 && wire.HandshakeOf(p.Header.ID).Version.Same(wire.Version300) {
			continue // a 2.26 server hangs up, a node does not
		}
		_, err := conn.nc.Write(p.Bytes)
		require.NoError(t, err)
		if len(want) == 0 {
			conn.requireClosed()
			continue
		}
		var got []reply
		for len(got) == 0 || got[len(got)-1].Flags&wire.FlagMore != 0 {
			got = append(got, conn.receive())
		}
		requireSame(t, want, got, name)
	}
}

func requireSame(t *testing.T, want []vectors.Packet, got []reply, name string) {
	t.Helper()
	require.Len(t, got, len(want), "%s: packets of the answer", name)
	if got[0].Command == wire.CmdIterator {
		// In what order an iterator finds records is its own affair.
		byKey := func(a, b []byte) int { return bytes.Compare(a[8:72], b[8:72]) }
		records := want[:len(want)-1]
		slices.SortFunc(records, func(a, b vectors.Packet) int { return byKey(a.Payload(), b.Payload()) })
		slices.SortFunc(got[:len(got)-1], func(a, b reply) int { return byKey(a.payload, b.payload) })
	}
	for i := range want {
		wantHead, wantBody := masked(t, want[i].Header, want[i].Payload())
		gotHead, gotBody := masked(t, got[i].Header, got[i].payload)
		require.Equal(t, wantHead, gotHead, "%s: header of packet %d of the answer", name, i)
		require.Equal(t, wantBody, gotBody, "%s: payload of packet %d of the answer", name, i)
	}
}

// masked is a packet without what cannot be equal. Every field that is not
// named here has to be.
func masked(t *testing.T, h wire.Header, payload []byte) (wire.Header, any) {
	if h.Size == 0 {
		return h, nil
	}
	decode := func(c interface{ Decode([]byte) error }) { require.NoError(t, c.Decode(payload)) }
	switch h.Command {
	case wire.CmdWrite, wire.CmdLookup:
		var v wire.FileInfo
		decode(&v)
		v.Path, v.Offset = "", 0 // where the store has put the record
		h.Size = 0               // depends on the length of the path
		if v.RecordFlags&wire.RecordNoChecksum != 0 {
			v.Timestamp = wire.Time{} // index table: the server's clock
		}
		return h, v
	case wire.CmdRead:
		var v wire.IOAttr
		decode(&v)
		if v.RecordFlags&wire.RecordNoChecksum != 0 {
			v.Timestamp = wire.Time{} // index table: the server's clock
		}
		return h, []any{v, string(payload[wire.IOAttrSize:])}
	case wire.CmdIterator:
		var v wire.IteratorReply
		decode(&v)
		v.Iterated = 0 // depends on the order
		if v.RecordFlags&wire.RecordNoChecksum != 0 {
			v.Timestamp = wire.Time{} // index table: the server's clock
		}
		return h, []any{v, string(payload[wire.IteratorReplySize:])}
	case wire.CmdRouteList:
		var v wire.RouteList
		decode(&v)
		v.Addrs, h.Size = v.Addrs[:1], 0 // a node knows itself only
		return h, v
	case wire.CmdStatus:
		var v wire.NodeStatus
		decode(&v)
		v.Flags = 0 // the servers' configuration
		return h, v
	case wire.CmdBackendStatus, wire.CmdBackendControl:
		var v wire.BackendStatuses
		decode(&v)
		for i := range v.Backends {
			v.Backends[i].LastStart = wire.Time{}
		}
		return h, v
	case wire.CmdMonitorStat:
		var v wire.MonitorReply
		decode(&v)
		var doc map[string]any
		require.NoError(t, json.Unmarshal(v.JSON, &doc))
		h.Size = 0 // compressed
		delete(doc, "timestamp")
		delete(doc, "string_timestamp")
		for _, b := range doc["backends"].(map[string]any) {
			status := b.(map[string]any)["status"].(map[string]any)
			delete(status, "last_start")
			delete(status, "string_last_time")
		}
		delete(doc["io"].(map[string]any), "states") // the clients' addresses
		return h, doc
	}
	return h, payload
}
