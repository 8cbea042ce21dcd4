package wire_test

import (
	"crypto/sha512"
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics/internal/vectors"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// The objects and tags that the captures are about.
var (
	vecKey = wire.HashID("DOCKER", "vec-key")
	vecNew = wire.HashID("DOCKER", "vec-new")
	docker = wire.HashID("DOCKER", "docker")
	dir    = wire.HashID("DOCKER", "dir")
	other  = wire.HashID("DOCKER", "other")
)

// packet is number i of a capture, its payload in v.
func packet(t *testing.T, name string, i int, v codec) vectors.Packet {
	t.Helper()
	p := vectors.Load(t, captures, name)[i]
	if v != nil {
		require.NoError(t, v.Decode(p.Payload()), name)
	}
	return p
}

func server(port uint16) wire.Addr {
	return wire.AddrFrom(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port))
}

func TestHandshakeValues(t *testing.T) {
	p := packet(t, "connect", 0, nil)
	require.Equal(t, wire.Header{
		ID:      wire.Handshake{Version: wire.Version226, IndexShards: 16}.ID(),
		Command: wire.CmdReverseLookup, Flags: wire.FlagDirect | wire.FlagNoLock,
	}, p.Header)
	var routes wire.Routes
	p = packet(t, "connect", 1, &routes)
	require.Equal(t, wire.Handshake{Version: wire.Version226, IndexShards: 2}, wire.HandshakeOf(p.Header.ID))
	ids := func(backend, group uint32) wire.BackendIDs {
		return wire.BackendIDs{Backend: backend, Group: group, IDs: make([]wire.ID, 1)}
	}
	require.Equal(t, wire.Routes{
		Addrs:    []wire.Addr{server(1025)},
		Backends: []wire.BackendIDs{ids(1, 1), ids(2, 7), ids(3, 8), ids(4, 9), ids(5, 6)},
	}, routes)
	var list wire.RouteList
	packet(t, "connect", 3, &list)
	require.Equal(t, [][]wire.Addr{{server(1025)}, {server(1026)}, {server(1027)}}, list.Nodes())

	packet(t, "address-two", 3, &list)
	require.Len(t, list.Nodes(), 1)
	require.Equal(t, "127.0.0.1:1025:2", list.Nodes()[0][0].String())
	require.Equal(t, "::1:1025:10", list.Nodes()[0][1].String())

	var join wire.Routes
	packet(t, "server-join", 4, &join)
	require.Equal(t, wire.Routes{Addrs: []wire.Addr{server(1027)}, Backends: []wire.BackendIDs{ids(3, 3)}}, join)
	var auth wire.Auth
	packet(t, "server-join", 5, &auth)
	require.Equal(t, wire.Auth{Cookie: [wire.AuthCookieSize]byte{'q', 'w', 'e', 'r', 't', 'y'}}, auth)

	p = packet(t, "v30-handshake", 1, nil)
	require.Equal(t, wire.Handshake{Version: wire.Version300}, wire.HandshakeOf(p.Header.ID), "no indexes")

	var push wire.UpdateIDs
	p = packet(t, "notify-update-ids", 0, &push)
	require.Equal(t, wire.Header{Command: wire.CmdUpdateIDs, Flags: wire.FlagDirect | wire.FlagNoLock, Size: 20}, p.Header)
	require.Equal(t, []wire.BackendIDs{{Backend: 2, Disabled: true, IDs: []wire.ID{}}}, push.Backends)
	packet(t, "notify-update-ids", 1, &push)
	require.Equal(t, []wire.BackendIDs{ids(2, 7)}, push.Backends)
}

func TestRecordValues(t *testing.T) {
	written := wire.Time{Sec: 1795473352, Nsec: 927058000}
	const text = "hello elliptics"
	var io wire.IOAttr
	p := packet(t, "write", 0, &io)
	require.Equal(t, wire.Header{ID: vecKey, Group: 1, Command: wire.CmdWrite, Backend: 1, Flags: wire.FlagNeedAck, Trans: 2, Size: 223}, p.Header)
	require.Equal(t, wire.IOAttr{ID: vecKey, Timestamp: written, Size: 15}, io)
	require.Equal(t, text, string(p.Payload()[wire.IOAttrSize:]))
	var info wire.FileInfo
	p = packet(t, "write", 1, &info)
	require.Equal(t, wire.FlagReply, p.Header.Flags)
	require.Equal(t, wire.FileInfo{Addr: server(1025), RecordFlags: wire.RecordExtHeader | wire.RecordChunkedCsum,
		Size: 15, Offset: 144, Timestamp: written, Path: "/srv/elliptics/g1/b1/blob/data-0.0"}, info)
	packet(t, "lookup-checksum", 1, &info)
	require.Equal(t, sha512.Sum512([]byte(text)), info.Checksum)

	packet(t, "read", 0, &io)
	require.Equal(t, wire.IOAttr{Parent: vecKey, ID: vecKey}, io)
	p = packet(t, "read", 1, &io)
	require.Equal(t, wire.IOAttr{Parent: vecKey, ID: vecKey, Timestamp: written, TotalSize: 15, RecordFlags: 0x140, Size: 15}, io)
	require.Equal(t, text, string(p.Payload()[wire.IOAttrSize:]))

	p = packet(t, "write-timestamp-userflags", 0, &io)
	require.EqualValues(t, 0x1122334455667788, p.Header.TraceID)
	require.Equal(t, wire.Time{Sec: 1500000000, Nsec: 123456789}, io.Timestamp)
	require.EqualValues(t, 0xdeadbeef, io.UserFlags)
	packet(t, "read-timestamp-userflags", 1, &io)
	require.EqualValues(t, 0xdeadbeef, io.UserFlags)

	for name, want := range map[string]wire.IOAttr{
		"append":                            {Flags: wire.IOAppend},
		"prepare":                           {Flags: wire.IOPrepare | wire.IOPlainWrite, Num: 100},
		"commit":                            {Flags: wire.IOCommit | wire.IOPlainWrite, Offset: 4, Num: 6},
		"raw-prepare-commit-plain-one-shot": {Flags: wire.IOPrepare | wire.IOCommit | wire.IOPlainWrite, Num: 1000},
		"raw-cas-mismatch":                  {Flags: wire.IOCompareAndSwap},
		"raw-cas-timestamp-older":           {Flags: wire.IOCASTimestamp},
		"raw-read-csum":                     {Flags: wire.IOChecksum},
		"raw-write-no-file-info":            {Flags: wire.IOWriteNoFileInfo},
		"raw-cacheonly-cacheless":           {Flags: wire.IOCache | wire.IOCacheOnly},
		"write-cache":                       {Flags: wire.IOCache, Start: 5},
		"read-range":                        {Offset: 6},
	} {
		packet(t, name, 0, &io)
		require.Equal(t, want.Flags, io.Flags, name)
		require.Equal(t, want.Num, io.Num, name)
		require.Equal(t, want.Offset, io.Offset, name)
		require.Equal(t, want.Start, io.Start, name)
	}
}

// TestStatusValues lists the captures that end with an error.
func TestStatusValues(t *testing.T) {
	want := map[string]wire.Status{
		"raw-auth-bad": wire.ErrPermission, "raw-commit-committed": wire.ErrPermission, "raw-plain-committed": wire.ErrPermission,
		"raw-plain-missing": wire.ErrNotFound, "raw-lookup-empty": wire.ErrNotFound, "raw-remove-again": wire.ErrNotFound,
		"raw-write-empty-missing": wire.ErrNotFound, "raw-lookup-without-need-ack-missing": wire.ErrNotFound,
		"lookup-missing": wire.ErrNotFound, "lookup-uncommitted": wire.ErrNotFound, "read-missing": wire.ErrNotFound,
		"read-uncommitted": wire.ErrNotFound, "remove-missing": wire.ErrNotFound, "write-empty": wire.ErrNotFound,
		"find-all-missing": wire.ErrNotFound, "v30-lookup-missing": wire.ErrNotFound, "v30-read-uncommitted": wire.ErrNotFound,
		"v30-remove-again": wire.ErrNotFound,
		"read-beyond":      wire.ErrTooBig, "raw-read-offset-equals-size": wire.ErrTooBig, "v30-read-beyond": wire.ErrTooBig,
		"raw-plain-beyond-reserved": wire.ErrTooBig,
		"raw-write-short-payload":   wire.ErrInvalid, "raw-backend-unknown": wire.ErrInvalid, "raw-indexes-both-flags": wire.ErrInvalid,
		"raw-nospace-write":   wire.ErrNoSpace,
		"raw-readonly-remove": wire.ErrReadOnly, "raw-readonly-write": wire.ErrReadOnly,
		"raw-commit-too-large": wire.ErrRange,
		"raw-cas-mismatch":     wire.ErrConflict, "raw-cas-timestamp-older": wire.ErrConflict, "v30-cas-mismatch": wire.ErrConflict,
		"raw-read-corrupted-chunk": wire.ErrChecksum,
		"raw-unknown-command":      wire.ErrNotSupported, "raw-unknown-group": wire.ErrNotSupported,
		"raw-cacheonly-cacheless": wire.ErrNotSupported, "raw-direct-backend-unknown": wire.ErrNotSupported,
		"raw-direct-not-owner": wire.ErrNotSupported, "v30-unknown": wire.ErrNotSupported, "v30-exec": wire.ErrNotSupported,
		"v30-lookup-new": wire.ErrNotSupported, "v30-read-new": wire.ErrNotSupported, "v30-indexes-find": wire.ErrNotSupported,
		"v30-indexes-internal": wire.ErrNotSupported, "v30-indexes-update": wire.ErrNotSupported,
		"raw-backend-readonly-again": wire.ErrAlready,
	}
	for _, name := range vectors.Names(t, captures) {
		packets := vectors.Load(t, captures, name)
		last := packets[len(packets)-1].Header
		require.Equal(t, want[name], last.Status, name)
	}
}

func TestAdministrationValues(t *testing.T) {
	var status wire.NodeStatus
	packet(t, "raw-status", 0, &status)
	require.Equal(t, wire.QueryNodeStatus, status)
	p := packet(t, "raw-status", 1, &status)
	require.Equal(t, wire.FlagReply|wire.FlagMore|wire.FlagDirect, p.Header.Flags)
	require.EqualValues(t, -1, p.Header.Backend)
	require.Equal(t, wire.NodeStatus{Flags: 1, Status: 0, LogLevel: 2}, status)

	var backends wire.BackendStatuses
	packet(t, "raw-backend-status", 1, &backends)
	require.Len(t, backends.Backends, 5)
	require.Equal(t, 1, backends.Room, "backend 0, which does not exist")
	for i, b := range backends.Backends {
		require.EqualValues(t, i+1, b.Backend)
		require.Equal(t, wire.BackendEnabled, b.State)
		require.EqualValues(t, 1795473343, b.LastStart.Sec)
		require.Equal(t, b.Backend == 3, b.ReadOnly)
	}
	for name, want := range map[string]struct {
		command  wire.BackendCommand
		state    wire.BackendState
		readOnly bool
	}{
		"raw-backend-readonly":       {wire.BackendReadOnly, wire.BackendEnabled, true},
		"raw-backend-readonly-again": {wire.BackendReadOnly, wire.BackendEnabled, true},
		"raw-backend-writable":       {wire.BackendWritable, wire.BackendEnabled, false},
		"raw-backend-disable":        {wire.BackendDisable, wire.BackendDisabled, false},
		"raw-backend-enable":         {wire.BackendEnable, wire.BackendEnabled, false},
	} {
		var control wire.BackendControl
		p := packet(t, name, 0, &control)
		require.Equal(t, wire.BackendControl{Backend: 2, Command: want.command}, control, name)
		require.Equal(t, control.ControlID(), p.Header.ID, name)
		packet(t, name, 1, &backends)
		require.Len(t, backends.Backends, 1, name)
		require.Equal(t, want.state, backends.Backends[0].State, name)
		require.Equal(t, want.readOnly, backends.Backends[0].ReadOnly, name)
	}

	var ask wire.MonitorRequest
	packet(t, "monitor-stat", 0, &ask)
	require.Equal(t, wire.MonitorIO, ask.Categories)
	var told wire.MonitorReply
	packet(t, "monitor-stat", 1, &told)
	var doc struct {
		Status   string `json:"monitor_status"`
		Backends map[string]struct {
			ID uint32 `json:"backend_id"`
		} `json:"backends"`
	}
	require.NoError(t, json.Unmarshal(told.JSON, &doc))
	require.Equal(t, "enabled", doc.Status)
	require.EqualValues(t, 3, doc.Backends["3"].ID)
}

func TestIteratorValues(t *testing.T) {
	var ask wire.IteratorRequest
	p := packet(t, "iterate", 0, &ask)
	require.Equal(t, wire.FlagNeedAck|wire.FlagDirect|wire.FlagDirectBackend|wire.FlagNoLock, p.Header.Flags)
	require.EqualValues(t, 1, p.Header.Backend)
	require.Equal(t, wire.IteratorRequest{Action: wire.IteratorStart, End: wire.EndOfTime,
		Type: wire.IteratorNetwork, Flags: wire.IteratorData}, ask)
	packets := vectors.Load(t, captures, "iterate")
	keys := make(map[wire.ID]string)
	for i, p := range packets[1 : len(packets)-1] {
		var r wire.IteratorReply
		require.NoError(t, r.Decode(p.Payload()))
		require.EqualValues(t, i+1, r.Iterated)
		require.EqualValues(t, 12, r.Total)
		require.Zero(t, r.Status)
		keys[r.Key] = string(p.Payload()[wire.IteratorReplySize:])
		require.EqualValues(t, len(keys[r.Key]), r.Size)
	}
	require.Len(t, keys, 12)
	require.Equal(t, "first", keys[vecNew])
	require.Equal(t, "ts", keys[wire.HashID("DOCKER", "vec-ts")])
	require.Contains(t, keys, docker.IndexShard(1, 2))
}

func TestIndexValues(t *testing.T) {
	var ask wire.IndexRequest
	p := packet(t, "update-indexes", 0, &ask)
	require.Equal(t, vecKey.ObjectTable(), p.Header.ID)
	require.Equal(t, wire.IndexRequest{ID: vecKey, Group: 1, Flags: wire.IndexAdd, Entries: []wire.IndexEntry{
		{ID: docker, Data: []byte("vec-key")}, {ID: dir, Data: []byte("vec-key")},
	}}, ask)
	p = packet(t, "update-indexes", 1, &ask)
	require.Equal(t, docker.IndexShard(0, 2), p.Header.ID)
	require.Equal(t, wire.IndexRequest{ID: vecKey, ShardCount: 2, Entries: []wire.IndexEntry{
		{ID: docker.IndexShard(0, 2), Flags: wire.EntryInsert, ShardCount: 2, Data: []byte("vec-key")},
	}}, ask)
	packet(t, "remove-indexes", 1, &ask)
	require.Equal(t, wire.IndexRequest{ID: vecNew, Shard: 1, ShardCount: 2, Entries: []wire.IndexEntry{
		{ID: docker.IndexShard(1, 2), Flags: wire.EntryRemove, Shard: 1, ShardCount: 2, Data: []byte{}},
	}}, ask)

	// What a set has changed comes first, then what it has removed, by the tags' ids.
	var told wire.IndexReply
	packet(t, "set-indexes", 1, &told)
	require.Equal(t, []wire.IndexResult{{ID: other.IndexShard(0, 2)}, {ID: dir.IndexShard(0, 2)}, {ID: docker.IndexShard(0, 2)}}, told.Entries)
	packet(t, "update-indexes", 5, &told)
	require.Empty(t, told.Entries)

	var find wire.IndexFind
	p = packet(t, "find-all-two-tags", 0, &find)
	require.Equal(t, docker.IndexShard(0, 2), p.Header.ID)
	block := func(shard uint32) wire.IndexRequest {
		return wire.IndexRequest{ID: docker.IndexShard(shard, 2), Group: 1, Flags: wire.IndexIntersect, Entries: []wire.IndexEntry{
			{ID: docker.IndexShard(shard, 2), Data: []byte{}}, {ID: dir.IndexShard(shard, 2), Data: []byte{}},
		}}
	}
	require.Equal(t, []wire.IndexRequest{block(0), block(1)}, find.Blocks)
	var found wire.IndexFound
	packet(t, "find-all-two-tags", 1, &found)
	require.Equal(t, []wire.FoundObject{{ID: vecKey, Tags: []wire.FoundTag{
		{Shard: docker.IndexShard(0, 2), Data: []byte("vec-key")}, {Shard: dir.IndexShard(0, 2), Data: []byte("vec-key")},
	}}}, found.Objects)
	packet(t, "find-all-after-set-empty", 1, &found)
	require.Empty(t, found.Objects)

	var table wire.IndexTable
	p = packet(t, "list-indexes", 3, nil)
	require.NoError(t, table.Decode(p.Payload()[wire.IOAttrSize:]))
	require.Equal(t, wire.IndexTable{ShardCount: 2, Entries: []wire.TableEntry{
		{ID: dir, Data: []byte("vec-key")}, {ID: docker, Data: []byte("vec-key")},
	}}, table)
}

// TestOldMsgpack: index tables never contain the types of today's msgpack, and
// are not read with them: real servers take such a table for an empty one.
func TestOldMsgpack(t *testing.T) {
	for size, head := range map[int]string{0: "\xa0", 31: "\xbf", 32: "\xda\x00\x20", 255: "\xda\x00\xff", 65535: "\xda\xff\xff", 65536: "\xdb\x00\x01\x00\x00"} {
		table := wire.IndexTable{ShardCount: 300, Entries: []wire.TableEntry{{Data: make([]byte, size), Time: wire.Time{Sec: 1 << 40, Nsec: 70000}}}}
		b := table.Append(nil)
		require.Equal(t, head, string(b[8+1+1+1+1+3+64:][:len(head)]), "raw of %d bytes", size)
		var again wire.IndexTable
		require.NoError(t, again.Decode(b))
		require.Equal(t, table, again)
	}
	empty := (&wire.IndexTable{ShardCount: 2}).Append(nil)
	require.Equal(t, "\x27\x40\x73\xe7\xfb\x8c\xa3\x5d\x94\x02\x90\x00\x02", string(empty))
	for _, bad := range []string{
		"", "\x27\x40\x73\xe7\xfb\x8c\xa3", "\x27\x40\x73\xe7\xfb\x8c\xa3\x5d", string(empty[:12]), string(empty) + "\x00",
		"\x27\x40\x73\xe7\xfb\x8c\xa3\x5d\x94\x01\x90\x00\x02",                 // version
		"\x27\x40\x73\xe7\xfb\x8c\xa3\x5d\x94\x02\xdd\x7f\xff\xff\xff\x00\x02", // more entries than there are
		"\x27\x40\x73\xe7\xfb\x8c\xa3\x5d\x94\x02\x91\x92\xd9\x40",             // str 8
		"\x27\x40\x73\xe7\xfb\x8c\xa3\x5d\x94\x02\x91\x92\xa1x\xa0\x00\x02",    // short id
	} {
		var table wire.IndexTable
		require.ErrorIs(t, table.Decode([]byte(bad)), wire.ErrMalformed, "%q", bad)
	}
	// Entries without times are accepted.
	var table wire.IndexTable
	id := string(vecKey[:])
	require.NoError(t, table.Decode([]byte("\x27\x40\x73\xe7\xfb\x8c\xa3\x5d\x94\x02\x91\x92\xda\x00\x40"+id+"\xa1x\x00\x02")))
	require.Equal(t, []wire.TableEntry{{ID: vecKey, Data: []byte("x")}}, table.Entries)
}
