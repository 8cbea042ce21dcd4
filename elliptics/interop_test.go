package elliptics_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha512"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/elliptics/ellipticstest"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// TestInterop runs the whole client against the servers of
// ELLIPTICS_TEST_REMOTES (host:port:family, separated by spaces) and the groups
// of ELLIPTICS_TEST_GROUPS (numbers, separated by spaces; default: all that the
// servers have), or without them against three embedded nodes. What it writes
// is in a namespace of its own and removed at the end.
func TestInterop(t *testing.T) {
	s := interop(t)
	for name, test := range map[string]func(*testing.T, *peer){
		"records": interopRecords, "metadata": interopMetadata, "ranges": interopRanges, "empty": interopEmpty,
		"appends": interopAppends, "prepared": interopPrepared, "refused": interopRefused, "conditions": interopConditions,
		"updates": interopUpdates, "bulk": interopBulk, "large": interopLarge, "pipelined": interopPipelined,
		"replicas": interopReplicas, "iterators": interopIterators, "indexes": interopIndexes, "servers": interopServers,
	} {
		t.Run(name, func(t *testing.T) { test(t, s.sub(t, name)) })
	}
}

// peer is a session on servers that are as they are.
type peer struct {
	*elliptics.Session
	node     *elliptics.Node
	groups   []uint32
	embedded bool // this repository's own node

	mu   *sync.Mutex
	keys map[elliptics.Key]bool // to be removed at the end
}

// testServers are the remotes and groups that tests shall use, nil for
// embedded nodes.
func testServers(t testing.TB) (remotes []string, groups []uint32) {
	remotes = strings.Fields(os.Getenv("ELLIPTICS_TEST_REMOTES"))
	for _, f := range strings.Fields(os.Getenv("ELLIPTICS_TEST_GROUPS")) {
		g, err := strconv.ParseUint(f, 10, 32)
		require.NoError(t, err, "ELLIPTICS_TEST_GROUPS")
		groups = append(groups, uint32(g))
	}
	return remotes, groups
}

func interop(t testing.TB) *peer {
	remotes, groups := testServers(t)
	p := &peer{embedded: len(remotes) == 0, mu: new(sync.Mutex), keys: make(map[elliptics.Key]bool)}
	if p.embedded {
		remotes = ellipticstest.Start(t, 1, 2, 3).Remotes()
		groups = []uint32{1, 2, 3}
	}
	p.node = connect(t, remotes, func(c *elliptics.Config) { c.CheckTimeout = time.Second })
	if groups == nil {
		time.Sleep(2 * time.Second) // to find the other nodes
		for _, r := range p.node.Remotes() {
			for _, b := range r.Backends {
				if !slices.Contains(groups, b.Group) {
					groups = append(groups, b.Group)
				}
			}
		}
		slices.Sort(groups)
	}
	for _, g := range groups {
		require.Eventually(t, func() bool { return len(p.node.Backends(g)) > 0 }, patience, instant, "no backend of group %d", g)
	}
	for _, r := range p.node.Remotes() {
		t.Logf("%s: protocol %v, %d index shards, %d backends, %v", r.Address, r.Version, r.IndexShards, len(r.Backends), r.Err)
	}
	p.groups = groups
	p.Session = p.node.NewSession(groups...).WithChecker(elliptics.All)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		for key, err := range p.WithChecker(elliptics.One).BulkRemove(ctx, slices.Collect(mapKeys(p.keys))) {
			if !elliptics.Missing(err) {
				t.Errorf("left behind: %s: %v", key, err)
			}
		}
	})
	return p
}

func mapKeys(m map[elliptics.Key]bool) func(func(elliptics.Key) bool) {
	return func(yield func(elliptics.Key) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// sub is the peer in a namespace of its own.
func (p *peer) sub(t *testing.T, name string) *peer {
	c := *p
	c.Session = p.WithNamespace(fmt.Sprintf("interop-%s-%d-%s", name, os.Getpid(), rand.Text()))
	return &c
}

// key is a key that is removed at the end.
func (p *peer) key(name string) elliptics.Key {
	k := p.Key(name)
	p.remember(k)
	return k
}

func (p *peer) remember(k elliptics.Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys[k] = true
}

// put writes a record and fails the test if it cannot.
func (p *peer) put(t *testing.T, key elliptics.Key, w elliptics.Write, data string) {
	t.Helper()
	if data != "" {
		w.Data = [][]byte{[]byte(data)}
	}
	_, err := p.Write(t.Context(), key, w)
	require.NoError(t, err)
}

// holds fails the test unless every group has the record with this data.
func (p *peer) holds(t *testing.T, key elliptics.Key, data string) {
	t.Helper()
	for _, g := range p.groups {
		r, err := p.WithGroups(g).Read(t.Context(), key, 0, 0)
		require.NoError(t, err)
		require.Equal(t, data, string(r.Data), "group %d", g)
		require.EqualValues(t, len(data), r.TotalSize)
		require.Equal(t, g, r.Group)
	}
}

// lacks fails the test unless no group has the record.
func (p *peer) lacks(t *testing.T, key elliptics.Key) {
	t.Helper()
	_, err := p.Read(t.Context(), key, 0, 0)
	require.True(t, elliptics.Missing(err), "%v", err)
	_, err = p.LookupAll(t.Context(), key)
	require.True(t, elliptics.Missing(err), "%v", err)
}

func interopRecords(t *testing.T, p *peer) {
	key := p.key("k")
	p.lacks(t, key)
	_, err := p.Remove(t.Context(), key)
	require.True(t, elliptics.Missing(err), "%v", err)
	results, err := p.WriteData(t.Context(), key, []byte("hello elliptics"))
	require.NoError(t, err)
	for _, r := range results {
		require.NotEmpty(t, r.Info.Path)
	}
	p.holds(t, key, "hello elliptics")
	found, err := p.LookupAll(t.Context(), key)
	require.NoError(t, err)
	for _, f := range found {
		require.EqualValues(t, 15, f.Info.Size)
	}
	// Shorter contents, and contents from the middle, end the record.
	p.put(t, key, elliptics.Write{}, "short")
	p.holds(t, key, "short")
	p.put(t, key, elliptics.Write{Offset: 3}, "XY")
	p.holds(t, key, "shoXY")
	p.put(t, key, elliptics.Write{Offset: 1}, "Z")
	p.holds(t, key, "sZ")
	p.put(t, key, elliptics.Write{Flags: wire.IOWriteNoFileInfo}, "no information")
	p.holds(t, key, "no information")
	p.put(t, key, elliptics.Write{Flags: wire.IONoChecksum}, "no checksum")
	p.holds(t, key, "no checksum")
	_, err = p.WithNamespace("other").Read(t.Context(), p.WithNamespace("other").Key("k"), 0, 0)
	require.True(t, elliptics.Missing(err), "%v", err)
	_, err = p.Remove(t.Context(), key)
	require.NoError(t, err)
	p.lacks(t, key)
}

func interopMetadata(t *testing.T, p *peer) {
	key := p.key("k")
	when := elliptics.Time{Sec: 1500000000, Nsec: 123456789}
	p.put(t, key, elliptics.Write{Timestamp: when, UserFlags: 0xdeadbeef12345678}, "data")
	r, err := p.WithTraceID(0x1122334455667788).Read(t.Context(), key, 0, 0)
	require.NoError(t, err)
	require.Equal(t, when, r.Timestamp)
	require.EqualValues(t, uint64(0xdeadbeef12345678), r.UserFlags)
	require.Zero(t, r.RecordFlags&(wire.RecordUncommitted|wire.RecordRemoved))
	sum := sha512.Sum512([]byte("data"))
	all, err := p.LookupChecksum(t.Context(), key)
	require.NoError(t, err)
	for _, l := range all {
		require.Equal(t, when, l.Info.Timestamp)
		require.Equal(t, sum, l.Info.Checksum)
	}
	r, err = p.WithIOFlags(wire.IOChecksum).Read(t.Context(), key, 1, 2)
	require.NoError(t, err)
	require.Equal(t, sha512.Sum512([]byte("at")), r.Checksum)
	results, err := p.Write(t.Context(), key, elliptics.Write{Data: [][]byte{[]byte("more")}, Checksum: true})
	require.NoError(t, err)
	require.Equal(t, sha512.Sum512([]byte("more")), results[0].Info.Checksum)
	r, err = p.Read(t.Context(), key, 0, 0)
	require.NoError(t, err)
	require.Zero(t, r.UserFlags, "new ones take the place of the old ones")
	require.WithinDuration(t, time.Now(), r.Timestamp.Time(), time.Minute)
}

func interopRanges(t *testing.T, p *peer) {
	key := p.key("k")
	p.put(t, key, elliptics.Write{}, "0123456789")
	for _, c := range []struct {
		offset, size uint64
		want         string
	}{{0, 0, "0123456789"}, {0, 4, "0123"}, {3, 4, "3456"}, {3, 0, "3456789"}, {8, 100, "89"}, {9, 1, "9"}} {
		r, err := p.Read(t.Context(), key, c.offset, c.size)
		require.NoError(t, err)
		require.Equal(t, c.want, string(r.Data))
		require.EqualValues(t, 10, r.TotalSize)
	}
	for _, offset := range []uint64{10, 11, 1 << 40} {
		_, err := p.WithGroups(p.groups[0]).Read(t.Context(), key, offset, 1)
		require.ErrorIs(t, err, elliptics.ErrTooBig)
	}
}

func interopEmpty(t *testing.T, p *peer) {
	key := p.key("k")
	_, err := p.WriteData(t.Context(), key, nil)
	require.ErrorIs(t, err, elliptics.ErrNotFound, "a plain write of nothing makes no record")
	p.put(t, key, elliptics.Write{Flags: wire.IOPrepare | wire.IOCommit | wire.IOPlainWrite}, "")
	r, err := p.Read(t.Context(), key, 0, 0)
	require.NoError(t, err)
	require.Empty(t, r.Data)
	require.Zero(t, r.TotalSize)
	_, err = p.LookupAll(t.Context(), key)
	require.True(t, elliptics.Missing(err), "an empty record cannot be looked up: %v", err)
	_, err = p.WriteChunked(t.Context(), key, strings.NewReader(""), 0, 0)
	require.NoError(t, err)
	p.put(t, key, elliptics.Write{}, "something")
	_, err = p.WriteData(t.Context(), key, nil)
	require.NoError(t, err)
	p.holds(t, key, "something")
}

func interopAppends(t *testing.T, p *peer) {
	key := p.key("k")
	want := ""
	for i := range 5 {
		piece := strings.Repeat(strconv.Itoa(i), 1000*i+1)
		_, err := p.Append(t.Context(), key, []byte(piece))
		require.NoError(t, err)
		want += piece
		p.holds(t, key, want)
	}
}

func interopPrepared(t *testing.T, p *peer) {
	key := p.key("k")
	_, err := p.Prepare(t.Context(), key, []byte("aaaa"), 0, 12)
	require.NoError(t, err)
	p.lacks(t, key)
	_, err = p.PlainWrite(t.Context(), key, []byte("bbbb"), 4)
	require.NoError(t, err)
	p.lacks(t, key)
	_, err = p.Commit(t.Context(), key, []byte("cccc"), 8, 12)
	require.NoError(t, err)
	p.holds(t, key, "aaaabbbbcccc")
	// A prepare hides what was there, a commit may be shorter than what is
	// reserved, and a removal ends it all.
	_, err = p.Prepare(t.Context(), key, []byte("dddd"), 0, 100)
	require.NoError(t, err)
	p.lacks(t, key)
	_, err = p.Commit(t.Context(), key, nil, 0, 4)
	require.NoError(t, err)
	p.holds(t, key, "dddd")
	_, err = p.Prepare(t.Context(), key, nil, 0, 100)
	require.NoError(t, err)
	_, err = p.Remove(t.Context(), key)
	require.NoError(t, err)
	p.lacks(t, key)

	text := strings.Repeat("0123456789abcdef", 100)
	for _, chunk := range []int{100, 1599, 1600, 4096} {
		key := p.key("chunked " + strconv.Itoa(chunk))
		_, err := p.WriteChunked(t.Context(), key, strings.NewReader(text), uint64(len(text)), chunk)
		require.NoError(t, err)
		p.holds(t, key, text)
	}
}

func interopRefused(t *testing.T, p *peer) {
	one := p.WithGroups(p.groups[0])
	ctx := t.Context()
	missing, committed, prepared := p.Key("missing"), p.key("committed"), p.key("prepared")
	p.put(t, committed, elliptics.Write{}, "data")
	_, err := one.Prepare(ctx, prepared, nil, 0, 10)
	require.NoError(t, err)
	if p.embedded { // another server may have a cache
		_, err = one.Write(ctx, committed, elliptics.Write{Data: [][]byte{{1}}, Flags: wire.IOCache | wire.IOCacheOnly})
		require.ErrorIs(t, err, elliptics.ErrNotSupported)
	}
	for _, c := range []struct {
		name string
		err  error
		want error
	}{
		{"plain write to a missing record", noInfo(one.PlainWrite(ctx, missing, []byte("x"), 0)), elliptics.ErrNotFound},
		{"commit of a missing record", noInfo(one.Commit(ctx, missing, nil, 0, 5)), elliptics.ErrNotFound},
		{"plain write to a committed record", noInfo(one.PlainWrite(ctx, committed, []byte("x"), 0)), elliptics.ErrPermission},
		{"commit of a committed record", noInfo(one.Commit(ctx, committed, nil, 0, 4)), elliptics.ErrPermission},
		{"plain write beyond the reservation", noInfo(one.PlainWrite(ctx, prepared, make([]byte, 20), 5)), elliptics.ErrTooBig},
		{"commit beyond the reservation", noInfo(one.Commit(ctx, prepared, nil, 0, 4096)), elliptics.ErrRange},
	} {
		require.ErrorIs(t, c.err, c.want, c.name)
	}
	p.holds(t, committed, "data")
}

func interopConditions(t *testing.T, p *peer) {
	key := p.key("k")
	one := p.WithGroups(p.groups[0])
	write := func(data string, w elliptics.Write) error {
		w.Data = [][]byte{[]byte(data)}
		return noInfo(one.Write(t.Context(), key, w))
	}
	var absent [64]byte
	sum := func(s string) *[64]byte { h := sha512.Sum512([]byte(s)); return &h }
	require.NoError(t, write("v1", elliptics.Write{IfChecksum: &absent}))
	require.ErrorIs(t, write("v2", elliptics.Write{IfChecksum: &absent}), elliptics.ErrConflict)
	require.ErrorIs(t, write("v2", elliptics.Write{IfChecksum: sum("v0")}), elliptics.ErrConflict)
	require.NoError(t, write("v2", elliptics.Write{IfChecksum: sum("v1"), Timestamp: elliptics.Time{Sec: 200}}))
	require.ErrorIs(t, write("v3", elliptics.Write{Flags: wire.IOCASTimestamp, Timestamp: elliptics.Time{Sec: 199}}), elliptics.ErrConflict)
	require.NoError(t, write("v3", elliptics.Write{Flags: wire.IOCASTimestamp, Timestamp: elliptics.Time{Sec: 200}}))
	require.NoError(t, write("v4", elliptics.Write{Flags: wire.IOCASTimestamp, Timestamp: elliptics.Time{Sec: 201}}))
	require.NoError(t, write("v5", elliptics.Write{Timestamp: elliptics.Time{Sec: 1}}), "without the flag an older one wins")
	r, err := one.Read(t.Context(), key, 0, 0)
	require.NoError(t, err)
	require.Equal(t, "v5", string(r.Data))
	missing := p.key("missing")
	_, err = one.Write(t.Context(), missing, elliptics.Write{Data: [][]byte{{1}}, IfChecksum: sum("anything")})
	require.NoError(t, err, "a missing record accepts everything")
}

func interopUpdates(t *testing.T, p *peer) {
	key := p.key("counter")
	one := p.WithGroups(p.groups[0])
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 5 {
				if _, err := one.Update(t.Context(), key, 1000, count); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	_, err := p.Update(t.Context(), key, 0, count)
	require.NoError(t, err)
	p.holds(t, key, "21")
}

func interopBulk(t *testing.T, p *peer) {
	var keys []elliptics.Key
	want := make(map[elliptics.Key]string)
	for i := range 300 {
		key := p.key(strconv.Itoa(i))
		keys = append(keys, key)
		if i%3 != 0 {
			want[key] = strings.Repeat(strconv.Itoa(i), i)
		}
	}
	var wg sync.WaitGroup
	for key, data := range want {
		wg.Go(func() {
			if _, err := p.WriteData(t.Context(), key, []byte(data)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	found, err := p.BulkRead(t.Context(), keys)
	require.NoError(t, err)
	require.Len(t, found, len(want))
	for key, data := range want {
		require.Equal(t, data, string(found[key].Data))
		require.False(t, found[key].Timestamp.IsZero())
	}
	for key, err := range p.BulkRemove(t.Context(), keys) {
		require.Empty(t, want[key])
		require.True(t, elliptics.Missing(err))
	}
	found, err = p.BulkRead(t.Context(), keys)
	require.NoError(t, err)
	require.Empty(t, found)
}

func interopLarge(t *testing.T, p *peer) {
	data := make([]byte, 8<<20+12345)
	_, _ = rand.Read(data)
	key, chunked := p.key("k"), p.key("chunked")
	_, err := p.WriteData(t.Context(), key, data)
	require.NoError(t, err)
	_, err = p.WriteChunked(t.Context(), chunked, bytes.NewReader(data), uint64(len(data)), 0)
	require.NoError(t, err)
	for _, key := range []elliptics.Key{key, chunked} {
		for _, g := range p.groups {
			s := p.WithGroups(g)
			r, err := s.Read(t.Context(), key, 0, 0)
			require.NoError(t, err)
			require.True(t, bytes.Equal(data, r.Data))
			r.Release()
			var parts []byte
			for off := 0; off < len(data); off += 1 << 20 {
				r, err := s.Read(t.Context(), key, uint64(off), 1<<20)
				require.NoError(t, err)
				parts = append(parts, r.Data...)
				r.Release()
			}
			require.True(t, bytes.Equal(data, parts))
			l, err := s.LookupChecksum(t.Context(), key)
			require.NoError(t, err)
			require.Equal(t, sha512.Sum512(data), l[0].Info.Checksum)
		}
	}
}

func interopPipelined(t *testing.T, p *peer) {
	var wg sync.WaitGroup
	for i := range 64 {
		key := p.key(strconv.Itoa(i))
		wg.Go(func() {
			for j := range 10 {
				want := bytes.Repeat([]byte{byte(i), byte(j)}, 1+200*i)
				if _, err := p.WriteData(t.Context(), key, want); err != nil {
					t.Error(err)
				}
				r, err := p.Read(t.Context(), key, 0, 0)
				if err != nil || !bytes.Equal(want, r.Data) {
					t.Errorf("key %d: %v, or other data", i, err)
					return
				}
				r.Release()
			}
		})
	}
	wg.Wait()
}

var errStop = errors.New("enough")
