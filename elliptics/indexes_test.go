package elliptics_test

import (
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// indexServer answers INDEXES_FIND: of each shard what tables say (nil: there
// is no table), and other commands with a status.
func indexServer(t *testing.T, group uint32, shards int32, tables [][]wire.FoundObject, status wire.Status) *fake {
	return startFake(t, func(f *fake) {
		f.shards = shards
		f.backends[0].Group = group
		f.handle = func(c *fakeConn, h wire.Header, payload []byte) {
			var find wire.IndexFind
			if h.Command != wire.CmdIndexesFind || status != 0 || find.Decode(payload) != nil {
				c.reply(h, 0, status)
				return
			}
			some := false
			for i, b := range find.Blocks {
				shard := -1
				for s := range tables {
					if b.ID[0] == byte(256*s/len(tables)) {
						shard = s
					}
				}
				last := i == len(find.Blocks)-1
				if tables[shard] == nil {
					if last && some {
						c.reply(h, 0, 0)
					} else if last {
						c.reply(h, 0, wire.ErrNotFound)
					}
					continue
				}
				some = true
				found := wire.IndexFound{Objects: tables[shard]}
				for j := range found.Objects {
					found.Objects[j].Tags = []wire.FoundTag{{Shard: b.Entries[0].ID, Data: []byte("data")}}
				}
				more := wire.FlagMore
				if last {
					more = 0
				}
				a := h
				a.ID = b.ID
				c.reply(a, more, 0, found.Append(nil))
			}
		}
	})
}

func objects(keys ...byte) []wire.FoundObject {
	list := []wire.FoundObject{}
	for _, k := range keys {
		list = append(list, wire.FoundObject{ID: id(k)})
	}
	return list
}

// Shards that one group has not are taken from the next. What no group could
// be asked for is an error, what none has is not.
func TestFindOverGroups(t *testing.T) {
	for name, c := range map[string]struct {
		servers []*fake
		want    []byte
		fails   string
	}{
		"one has everything": {[]*fake{
			indexServer(t, 1, 2, [][]wire.FoundObject{objects(1), objects(2)}, 0),
			indexServer(t, 2, 2, [][]wire.FoundObject{objects(3), objects(4)}, 0),
		}, []byte{1, 2}, ""},
		"the second has the rest": {[]*fake{
			indexServer(t, 1, 2, [][]wire.FoundObject{nil, objects(2)}, 0),
			indexServer(t, 2, 2, [][]wire.FoundObject{objects(3), objects(4)}, 0),
		}, []byte{2, 3}, ""},
		"an empty table counts": {[]*fake{
			indexServer(t, 1, 2, [][]wire.FoundObject{objects(), objects(2)}, 0),
			indexServer(t, 2, 2, [][]wire.FoundObject{objects(3), objects(4)}, 0),
		}, []byte{2}, ""},
		"nobody has a shard": {[]*fake{
			indexServer(t, 1, 2, [][]wire.FoundObject{objects(1), nil}, 0),
			indexServer(t, 2, 2, [][]wire.FoundObject{nil, nil}, 0),
		}, []byte{1}, ""},
		"nobody has any": {[]*fake{indexServer(t, 1, 4, [][]wire.FoundObject{nil, nil, nil, nil}, 0)}, nil, ""},
		"one group is in trouble": {[]*fake{
			indexServer(t, 1, 2, nil, wire.ErrIO),
			indexServer(t, 2, 2, [][]wire.FoundObject{objects(3), nil}, 0),
		}, []byte{3}, ""},
		"all are in trouble": {[]*fake{
			indexServer(t, 1, 2, nil, wire.ErrIO), indexServer(t, 2, 2, nil, wire.ErrIO),
		}, nil, "2 of 2 shards have no answer from any group"},
		"other number of shards": {[]*fake{
			indexServer(t, 1, 2, nil, wire.ErrIO),
			indexServer(t, 2, 4, [][]wire.FoundObject{nil, nil, nil, nil}, 0),
		}, nil, "the group has 4 index shards, others have 2"},
		"one without indexes": {[]*fake{
			indexServer(t, 1, 0, nil, 0), indexServer(t, 2, 2, [][]wire.FoundObject{objects(1), nil}, 0),
		}, []byte{1}, ""},
		"none with indexes": {[]*fake{indexServer(t, 1, 0, nil, 0)}, nil, "these servers have no secondary indexes"},
	} {
		t.Run(name, func(t *testing.T) {
			var remotes []string
			for _, f := range c.servers {
				remotes = append(remotes, f.remote())
			}
			n := connect(t, remotes)
			require.Eventually(t, func() bool { return connected(n) == len(remotes) }, patience, instant)
			s := n.NewSession([]uint32{1, 2}[:len(remotes)]...)
			for _, find := range []func() ([]elliptics.FoundObject, error){
				func() ([]elliptics.FoundObject, error) { return s.FindAllIndexes(t.Context(), tags(s, "tag")) },
				func() ([]elliptics.FoundObject, error) { return s.FindAnyIndexes(t.Context(), tags(s, "tag", "tag")) },
			} {
				found, err := find()
				var keys []byte
				for _, o := range found {
					keys = append(keys, o.Key[0])
					require.Equal(t, tagged(s, "tag=data"), o.Indexes)
				}
				require.ElementsMatch(t, c.want, keys)
				if c.fails == "" {
					require.NoError(t, err)
				} else {
					require.ErrorContains(t, err, c.fails)
				}
			}
		})
	}
}

// A group that is not connected has answered nothing.
func TestFindWithoutGroups(t *testing.T) {
	f := indexServer(t, 1, 2, [][]wire.FoundObject{nil, nil}, 0)
	n := connect(t, []string{f.remote()})
	s := n.NewSession(7)
	_, err := s.FindAllIndexes(t.Context(), tags(s, "tag"))
	require.ErrorIs(t, err, elliptics.ErrNoRoute)
	_, err = s.WithGroups().FindAllIndexes(t.Context(), tags(s, "tag"))
	require.ErrorIs(t, err, elliptics.ErrNoRoute)
	_, err = s.WithGroups(1).FindAllIndexes(t.Context(), nil)
	require.ErrorIs(t, err, elliptics.ErrInvalid)
	found, err := s.WithGroups(7, 1).FindAllIndexes(t.Context(), tags(s, "tag"))
	require.NoError(t, err, "the second group answered for all shards")
	require.Empty(t, found)
}

// Servers without indexes are not even asked.
func TestNoIndexes(t *testing.T) {
	var asked atomic.Int32
	f := startFake(t, func(f *fake) {
		f.version = wire.Version300
		f.handle = func(c *fakeConn, h wire.Header, _ []byte) {
			asked.Add(1)
			c.reply(h, 0, wire.ErrNotSupported)
		}
	})
	n := connect(t, []string{f.remote()}, func(c *elliptics.Config) { c.CheckTimeout = 1 << 40 })
	s := n.NewSession(1)
	key := s.Key("k")
	for name, do := range map[string]func() error{
		"set":    func() error { _, err := s.SetIndexes(t.Context(), key, nil); return err },
		"update": func() error { _, err := s.UpdateIndexes(t.Context(), key, tagged(s, "tag=data")); return err },
		"remove": func() error { _, err := s.RemoveIndexes(t.Context(), key, tags(s, "tag")); return err },
		"list":   func() error { _, err := s.ListIndexes(t.Context(), key); return err },
		"find":   func() error { _, err := s.FindAllIndexes(t.Context(), tags(s, "tag")); return err },
		"any":    func() error { _, err := s.FindAnyIndexes(t.Context(), tags(s, "tag")); return err },
	} {
		err := do()
		require.ErrorIs(t, err, elliptics.ErrNoIndexes, name)
		require.ErrorIs(t, err, elliptics.ErrNotSupported, name)
		require.ErrorContains(t, err, "these servers have no secondary indexes")
	}
	require.Zero(t, asked.Load())
}

// A tag that could not be written makes the group fail, and the error names
// the object.
func TestUpdateIndexesFailsInPart(t *testing.T) {
	for name, refuse := range map[string]func(c *fakeConn, h wire.Header){
		"acknowledge": func(c *fakeConn, h wire.Header) { c.reply(h, 0, wire.ErrNoSpace) },
		"in an entry": func(c *fakeConn, h wire.Header) {
			r := wire.IndexReply{Entries: []wire.IndexResult{{ID: h.ID, Status: int32(wire.ErrNoSpace)}}}
			c.reply(h, wire.FlagMore, 0, r.Append(nil))
			c.reply(h, 0, 0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := startFake(t, func(f *fake) {
				f.shards = 2
				f.handle = func(c *fakeConn, h wire.Header, _ []byte) {
					if h.Command == wire.CmdIndexesInternal {
						refuse(c, h)
					} else {
						c.reply(h, 0, 0)
					}
				}
			})
			n := connect(t, []string{f.remote()})
			s := n.NewSession(1)
			key := s.Key("k")
			_, err := s.UpdateIndexes(t.Context(), key, tagged(s, "a=1", "b=2"))
			require.ErrorIs(t, err, elliptics.ErrNoSpace)
			require.ErrorContains(t, err, "update indexes "+key.Short()+" in group 1 at "+f.remote())
			_, err = s.SetIndexes(t.Context(), key, tagged(s, "a=1", "b=2"))
			require.NoError(t, err, "the server does the rest")
		})
	}
}

func TestNodesDisagreeAboutShards(t *testing.T) {
	a := indexServer(t, 1, 2, nil, 0)
	b := indexServer(t, 1, 3, nil, 0)
	b.backends[0].IDs = []wire.ID{id(0x80)}
	n := connect(t, []string{a.remote(), b.remote()})
	require.Eventually(t, func() bool { return connected(n) == 2 }, patience, instant)
	s := n.NewSession(1)
	_, err := s.UpdateIndexes(t.Context(), s.Key("k"), tagged(s, "a=1"))
	require.ErrorContains(t, err, "disagree about the number of index shards: [2 3]")
}
