package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

const shards = 2

func twoShards(cfg *Config) { cfg.IndexShards = shards }

// answers are all packets of one answer.
func (c *client) answers(h wire.Header, payload []byte) []reply {
	c.t.Helper()
	trans := c.send(h, payload)
	var all []reply
	for len(all) == 0 || all[len(all)-1].Flags&wire.FlagMore != 0 {
		r := c.receive()
		require.Equal(c.t, trans, r.Trans)
		all = append(all, r)
	}
	return all
}

// tagged are tags with data, in pairs.
func tagged(pairs ...string) []wire.IndexEntry {
	var entries []wire.IndexEntry
	for i := 0; i < len(pairs); i += 2 {
		entries = append(entries, wire.IndexEntry{ID: key(pairs[i]), Data: []byte(pairs[i+1])})
	}
	return entries
}

// updateIndexes sends INDEXES_UPDATE and answers the shards that were looked
// at, and the status.
func (c *client) updateIndexes(object string, flags wire.IndexFlags, tags []wire.IndexEntry) ([]wire.IndexResult, wire.Status) {
	c.t.Helper()
	ask := wire.IndexRequest{ID: key(object), Group: 1, Flags: flags, Entries: tags}
	all := c.answers(wire.Header{ID: key(object).ObjectTable(), Group: 1, Command: wire.CmdIndexesUpdate, Flags: wire.FlagNeedAck}, ask.Append(nil))
	require.Len(c.t, all, 2)
	require.Equal(c.t, wire.OK, all[0].Status)
	var told wire.IndexReply
	require.NoError(c.t, told.Decode(all[0].payload))
	return told.Entries, all[1].Status
}

// internal sends INDEXES_INTERNAL for one object and tag.
func (c *client) internal(object, tag string, e wire.IndexEntry) ([]wire.IndexResult, wire.Status) {
	c.t.Helper()
	number := key(object).ObjectTable().ShardOf(shards)
	e.ID, e.Shard, e.ShardCount = key(tag).IndexShard(number, shards), number, shards
	ask := wire.IndexRequest{ID: key(object), Shard: number, ShardCount: shards, Entries: []wire.IndexEntry{e}}
	all := c.answers(wire.Header{ID: e.ID, Group: 1, Command: wire.CmdIndexesInternal, Flags: wire.FlagNeedAck}, ask.Append(nil))
	if len(all) == 1 {
		return nil, all[0].Status
	}
	require.Len(c.t, all, 2)
	var told wire.IndexReply
	require.NoError(c.t, told.Decode(all[0].payload))
	return told.Entries, all[1].Status
}

// find sends INDEXES_FIND for all shards and answers what each object has, as
// `object: tag=data tag=data`, in the order of the answers.
func (c *client) find(flags wire.IndexFlags, names map[string]string, tags ...string) ([]string, wire.Status) {
	c.t.Helper()
	byID := make(map[wire.ID]string)
	for name := range names {
		byID[key(name)] = name
	}
	var ask wire.IndexFind
	for shard := range uint32(shards) {
		b := wire.IndexRequest{Group: 1, Flags: flags}
		for _, tag := range tags {
			id := key(tag).IndexShard(shard, shards)
			byID[id] = tag
			b.Entries = append(b.Entries, wire.IndexEntry{ID: id})
		}
		b.ID = b.Entries[0].ID
		ask.Blocks = append(ask.Blocks, b)
	}
	var lines []string
	all := c.answers(wire.Header{ID: ask.Blocks[0].ID, Group: 1, Command: wire.CmdIndexesFind, Flags: wire.FlagNeedAck}, ask.Append(nil))
	for _, r := range all {
		if r.Size == 0 {
			continue
		}
		var got wire.IndexFound
		require.NoError(c.t, got.Decode(r.payload))
		for _, o := range got.Objects {
			line := byID[o.ID] + ":"
			for _, t := range o.Tags {
				line += " " + byID[t.Shard] + "=" + string(t.Data)
			}
			lines = append(lines, line)
		}
	}
	return lines, all[len(all)-1].Status
}

// table reads an index table as any client can.
func (c *client) table(id wire.ID) (wire.IndexTable, wire.Status) {
	c.t.Helper()
	io := wire.IOAttr{ID: id}
	r := c.call(wire.Header{ID: id, Group: 1, Command: wire.CmdRead}, io.Append(nil))
	var t wire.IndexTable
	if r.Status == wire.OK {
		require.NoError(c.t, t.Decode(r.payload[wire.IOAttrSize:]))
	}
	return t, r.Status
}

func TestSetIndexes(t *testing.T) {
	c := dial(t, startNode(t, twoShards))
	names := map[string]string{"a": "", "b": ""}
	changed, status := c.updateIndexes("a", 0, tagged("red", "1", "blue", "2"))
	require.Equal(t, wire.OK, status)
	require.Len(t, changed, 2)
	_, status = c.updateIndexes("b", 0, tagged("red", "3"))
	require.Equal(t, wire.OK, status)
	lines, status := c.find(wire.IndexIntersect, names, "red", "blue")
	require.Equal(t, wire.OK, status)
	require.Equal(t, []string{"a: red=1 blue=2"}, lines)
	lines, _ = c.find(wire.IndexIntersect, names, "blue", "red")
	require.Equal(t, []string{"a: blue=2 red=1"}, lines, "in the order of the request")
	lines, _ = c.find(wire.IndexUnite, names, "blue", "red", "never used")
	require.ElementsMatch(t, []string{"a: blue=2 red=1", "b: red=3"}, lines)
	_, status = c.find(wire.IndexUnite, names, "never used")
	require.Equal(t, wire.ErrNotFound, status)
	_, status = c.find(wire.IndexIntersect, names, "red", "never used")
	require.Equal(t, wire.ErrNotFound, status)

	// The same again changes nothing; other data does.
	changed, _ = c.updateIndexes("a", 0, tagged("blue", "2", "red", "1"))
	require.Empty(t, changed)
	changed, _ = c.updateIndexes("a", 0, tagged("blue", "new", "blue", "newest"))
	require.Len(t, changed, 2, "blue has other data, red is gone")
	lines, _ = c.find(wire.IndexUnite, names, "blue", "red")
	require.ElementsMatch(t, []string{"a: blue=newest", "b: red=3"}, lines)
	table, _ := c.table(key("a").ObjectTable())
	require.Equal(t, []wire.TableEntry{{ID: key("blue"), Data: []byte("newest")}}, table.Entries)
	require.EqualValues(t, shards, table.ShardCount)
	require.Equal(t, key("a").ObjectTable().ShardOf(shards), table.Shard)

	// An empty set of an object without tags leaves an empty table behind.
	changed, status = c.updateIndexes("c", 0, nil)
	require.Equal(t, wire.OK, status)
	require.Empty(t, changed)
	table, status = c.table(key("c").ObjectTable())
	require.Equal(t, wire.OK, status)
	require.Empty(t, table.Entries)
}

func TestUpdateAndRemoveIndexes(t *testing.T) {
	c := dial(t, startNode(t, twoShards))
	names := map[string]string{"a": ""}
	update := func(object, tag, data string) {
		t.Helper()
		changed, status := c.updateIndexes(object, wire.IndexAdd, tagged(tag, data))
		require.Equal(t, wire.OK, status)
		require.Empty(t, changed, "the shards are left to the client")
		results, status := c.internal(object, tag, wire.IndexEntry{Flags: wire.EntryInsert, Data: []byte(data)})
		require.Equal(t, wire.OK, status)
		require.Len(t, results, 1)
		require.Zero(t, results[0].Status)
	}
	update("a", "red", "1")
	update("a", "blue", "2")
	update("a", "red", "3")
	lines, _ := c.find(wire.IndexIntersect, names, "red", "blue")
	require.Equal(t, []string{"a: red=3 blue=2"}, lines)
	table, _ := c.table(key("a").ObjectTable())
	require.Len(t, table.Entries, 2)

	shard := key("red").IndexShard(key("a").ObjectTable().ShardOf(shards), shards)
	before, _ := c.table(shard)
	require.NotZero(t, before.Entries[0].Time, "when it was inserted")
	update("a", "red", "3")
	after, _ := c.table(shard)
	require.Equal(t, before, after, "the same data writes nothing")

	_, status := c.updateIndexes("a", wire.IndexRemove, tagged("red", "", "never", ""))
	require.Equal(t, wire.OK, status)
	_, status = c.internal("a", "red", wire.IndexEntry{Flags: wire.EntryRemove})
	require.Equal(t, wire.OK, status)
	lines, status = c.find(wire.IndexIntersect, names, "red")
	require.Equal(t, wire.OK, status)
	require.Empty(t, lines)
	table, _ = c.table(key("a").ObjectTable())
	require.Equal(t, []wire.TableEntry{{ID: key("blue"), Data: []byte("2")}}, table.Entries)

	_, status = c.internal("a", "never", wire.IndexEntry{Flags: wire.EntryRemove})
	require.Equal(t, wire.OK, status)
	_, status = c.table(key("never").IndexShard(key("a").ObjectTable().ShardOf(shards), shards))
	require.Equal(t, wire.ErrNotFound, status, "removing what is not there writes nothing")
	for _, want := range []wire.Status{wire.OK, wire.ErrNotFound} {
		_, status = c.internal("a", "red", wire.IndexEntry{Flags: wire.EntryDropAll})
		require.Equal(t, want, status)
		_, status = c.table(shard)
		require.Equal(t, wire.ErrNotFound, status)
	}
}

// Who removes a tag names all of its shards that a node has in one request.
func TestDropAllShards(t *testing.T) {
	c := dial(t, startNode(t, twoShards))
	var ask wire.IndexRequest
	for i := range uint32(shards) {
		ask.Entries = append(ask.Entries, wire.IndexEntry{ID: key("red").IndexShard(i, shards), Flags: wire.EntryDropAll, Shard: i, ShardCount: shards})
	}
	names := map[string]string{"a": "", "b": "", "c": "", "d": ""}
	for name := range names {
		_, status := c.internal(name, "red", wire.IndexEntry{Flags: wire.EntryInsert})
		require.Equal(t, wire.OK, status)
	}
	all := c.answers(wire.Header{ID: ask.Entries[0].ID, Group: 1, Command: wire.CmdIndexesInternal, Flags: wire.FlagNeedAck}, ask.Append(nil))
	require.Len(t, all, 2)
	require.Equal(t, wire.OK, all[1].Status)
	var told wire.IndexReply
	require.NoError(t, told.Decode(all[0].payload))
	require.Len(t, told.Entries, shards)
	for _, e := range told.Entries {
		require.Zero(t, e.Status)
	}
	for _, e := range ask.Entries {
		_, status := c.table(e.ID)
		require.Equal(t, wire.ErrNotFound, status)
	}

	ask.Entries[1].Flags = wire.EntryInsert
	all = c.answers(wire.Header{ID: ask.Entries[0].ID, Group: 1, Command: wire.CmdIndexesInternal, Flags: wire.FlagNeedAck}, ask.Append(nil))
	require.Equal(t, wire.ErrInvalid, all[len(all)-1].Status, "an insertion into a shard that is not locked")
}

func TestCappedCollection(t *testing.T) {
	c := dial(t, startNode(t, func(cfg *Config) { cfg.IndexShards = 1 }))
	insert := func(object string) []wire.IndexResult {
		t.Helper()
		id := key("tag").IndexShard(0, 1)
		ask := wire.IndexRequest{ID: key(object), ShardCount: 1, Entries: []wire.IndexEntry{
			{ID: id, Flags: wire.EntryInsert | wire.EntryCapped, Limit: 2, ShardCount: 1},
		}}
		all := c.answers(wire.Header{ID: id, Group: 1, Command: wire.CmdIndexesInternal, Flags: wire.FlagNeedAck}, ask.Append(nil))
		var told wire.IndexReply
		require.NoError(t, told.Decode(all[0].payload))
		return told.Entries
	}
	require.Len(t, insert("a"), 1)
	require.Len(t, insert("b"), 1)
	require.Equal(t, wire.IndexResult{ID: key("a"), Status: wire.IndexPushedOut}, insert("c")[1], "the oldest goes")
	require.Equal(t, wire.IndexResult{ID: key("b"), Status: wire.IndexPushedOut}, insert("d")[1])
	table, _ := c.table(key("tag").IndexShard(0, 1))
	require.Len(t, table.Entries, 2)
}

// TestIndexesAtTheSameTime: whichever command they use, changes of one tag and
// of one object do not lose each other.
func TestIndexesAtTheSameTime(t *testing.T) {
	n := startNode(t, twoShards)
	const objects = 40
	var wg sync.WaitGroup
	for i := range objects {
		c := dial(t, n)
		wg.Go(func() {
			object := fmt.Sprint("object ", i)
			if i%2 == 0 {
				_, status := c.updateIndexes(object, 0, tagged("tag", object))
				assertEqual(t, wire.OK, status)
				return
			}
			_, status := c.updateIndexes(object, wire.IndexAdd, tagged("tag", object))
			assertEqual(t, wire.OK, status)
			_, status = c.internal(object, "tag", wire.IndexEntry{Flags: wire.EntryInsert, Data: []byte(object)})
			assertEqual(t, wire.OK, status)
		})
		same := dial(t, n)
		wg.Go(func() {
			_, status := same.updateIndexes("same", wire.IndexAdd, tagged(fmt.Sprint("tag ", i), ""))
			assertEqual(t, wire.OK, status)
		})
	}
	wg.Wait()
	c := dial(t, n)
	lines, _ := c.find(wire.IndexIntersect, nil, "tag")
	require.Len(t, lines, objects)
	table, _ := c.table(key("same").ObjectTable())
	require.Len(t, table.Entries, objects)
}

// TestIndexesOfTwoBackends has one group on two backends: a set changes shards
// in both.
func TestIndexesOfTwoBackends(t *testing.T) {
	dir := t.TempDir()
	n := startNode(t, func(cfg *Config) {
		cfg.IndexShards = shards
		cfg.Backends = nil
		for i, first := range []byte{0, 0x80} {
			b := Backend{ID: uint32(i), Group: 1, Dir: filepath.Join(dir, fmt.Sprint(i))}
			require.NoError(t, os.MkdirAll(b.Dir, 0o700))
			require.NoError(t, storeIDs(b.Dir, []wire.ID{{first}}))
			cfg.Backends = append(cfg.Backends, b)
		}
	})
	c := dial(t, n)
	for i := range 20 {
		_, status := c.updateIndexes(fmt.Sprint(i), 0, tagged("tag", fmt.Sprint(i)))
		require.Equal(t, wire.OK, status)
	}
	total := 0
	for shard := range uint32(shards) {
		table, status := c.table(key("tag").IndexShard(shard, shards))
		require.Equal(t, wire.OK, status)
		total += len(table.Entries)
	}
	require.Equal(t, 20, total)
	// A shard whose backend is disabled moves to the other one, as all keys do.
	status, _ := c.control(wire.BackendControl{Backend: 1, Command: wire.BackendDisable})
	require.Equal(t, wire.OK, status, "nothing holds it")
	_, status = c.updateIndexes("another", 0, tagged("tag", "x", "other tag", "y"))
	require.Equal(t, wire.OK, status)
}

func TestIndexErrors(t *testing.T) {
	n := startNode(t, twoShards)
	c := dial(t, n)
	update := wire.Header{ID: key("a").ObjectTable(), Group: 1, Command: wire.CmdIndexesUpdate, Flags: wire.FlagNeedAck}
	internal, find := update, update
	internal.Command, find.Command = wire.CmdIndexesInternal, wire.CmdIndexesFind
	both := wire.IndexRequest{ID: key("a"), Flags: wire.IndexAdd | wire.IndexRemove}
	entry := func(id wire.ID, flags uint64) []byte {
		return (&wire.IndexRequest{ID: key("a"), Entries: []wire.IndexEntry{{ID: id, Flags: flags}}}).Append(nil)
	}
	finds := func(flags wire.IndexFlags) []byte {
		return (&wire.IndexFind{Blocks: []wire.IndexRequest{{Flags: flags, Entries: make([]wire.IndexEntry, 1)}}}).Append(nil)
	}
	for _, tt := range []struct {
		h       wire.Header
		payload []byte
	}{
		{update, nil}, {internal, nil}, {find, nil},
		{update, both.Append(nil)},
		{internal, (&wire.IndexRequest{}).Append(nil)},
		{internal, entry(internal.ID, 0)},
		{internal, entry(internal.ID, wire.EntryInsert|wire.EntryRemove)},
		{internal, entry(key("another shard"), wire.EntryInsert)},
		{find, finds(0)}, {find, finds(wire.IndexIntersect | wire.IndexUnite)},
	} {
		r := c.call(tt.h, tt.payload)
		require.Equal(t, wire.ErrInvalid, r.Status, "%v %x", tt.h.Command, tt.payload)
	}
	_, status := c.control(wire.BackendControl{Backend: 1, Command: wire.BackendReadOnly})
	require.True(t, status.ReadOnly)
	_, s := c.updateIndexes("a", 0, tagged("red", "1"))
	require.Equal(t, wire.ErrReadOnly, s)
	_, s = c.internal("a", "red", wire.IndexEntry{Flags: wire.EntryInsert})
	require.Equal(t, wire.ErrReadOnly, s)
	requireNothingLent(t, n)
}

// TestDamagedTable: a table that cannot be read is an error, for finding as
// for changing, and is left as it is.
func TestDamagedTable(t *testing.T) {
	n := startNode(t, func(cfg *Config) { cfg.IndexShards = 1 })
	c := dial(t, n)
	shard := key("tag").IndexShard(0, 1)
	for _, contents := range []string{"no table", string((&wire.IndexTable{}).Append(nil)) + "x"} {
		io := wire.IOAttr{ID: shard, Size: uint64(len(contents))}
		require.Equal(t, wire.OK, c.call(wire.Header{ID: shard, Group: 1, Command: wire.CmdWrite}, append(io.Append(nil), contents...)).Status)
		results, status := c.updateIndexes("a", 0, tagged("tag", "1"))
		require.Equal(t, wire.ErrChecksum, status)
		require.EqualValues(t, wire.ErrChecksum, results[0].Status)
		ask := wire.IndexFind{Blocks: []wire.IndexRequest{{ID: shard, Flags: wire.IndexUnite, Entries: []wire.IndexEntry{{ID: shard}}}}}
		require.Equal(t, wire.ErrChecksum, c.call(wire.Header{ID: shard, Group: 1, Command: wire.CmdIndexesFind}, ask.Append(nil)).Status)
		io.Size = 0
		r := c.call(wire.Header{ID: shard, Group: 1, Command: wire.CmdRead}, io.Append(nil))
		require.Equal(t, contents, string(r.payload[wire.IOAttrSize:]))
		_, status = c.updateIndexes("a", 0, nil)
		require.Equal(t, wire.ErrChecksum, status, "the tag is still in the shard, for all that is known")
		_, _ = c.updateIndexes("a", wire.IndexRemove, tagged("tag", ""))
	}
}

// TestTableTooLarge: what does not fit into the memory for answers is refused,
// and nothing is lent afterwards.
func TestTableTooLarge(t *testing.T) {
	n := startNode(t, func(cfg *Config) {
		cfg.IndexShards = 1
		cfg.MaxRequest, cfg.MaxMemory = 2<<20, 2<<20
	})
	c := dial(t, n)
	status := wire.OK
	for i := 0; status == wire.OK && i < 10; i++ {
		_, status = c.updateIndexes("a", wire.IndexAdd, tagged(fmt.Sprint(i), strings.Repeat("x", 100_000)))
	}
	require.Equal(t, wire.ErrNoMemory, status)
	table, status := c.table(key("a").ObjectTable())
	require.Equal(t, wire.OK, status)
	require.Len(t, table.Entries, 5, "what fits into a quarter")
	_, status = c.updateIndexes("a", 0, tagged("small", "x"))
	require.Equal(t, wire.OK, status, "it can become smaller again")
	requireNothingLent(t, n)
}
