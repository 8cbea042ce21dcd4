package node

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/elliptics-registry/elliptics-registry/elliptics/node/engine"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// An index table is an ordinary record, which clients can read. It is changed
// by reading and writing all of it, one change after the other.
//
// A real server takes a table that it cannot read for an empty one, and
// replaces it with the next change. This node answers an error and leaves the
// table alone.

// readTable reads a table into b, which has its size; an error says why it is
// none.
func (n *Node) readTable(snap *engine.Snapshot, b []byte, t *wire.IndexTable) error {
	if err := n.readAt(snap, b, 0); err != nil {
		return err
	}
	if err := t.Decode(b); err != nil {
		return fmt.Errorf("%w: %w", engine.ErrCorrupt, err)
	}
	byID := func(a, b wire.TableEntry) int { return a.ID.Compare(b.ID) }
	if !slices.IsSortedFunc(t.Entries, byID) {
		slices.SortFunc(t.Entries, byID)
	}
	return nil
}

// isTable tells whether there is anything in a record to read.
func isTable(snap *engine.Snapshot) bool {
	return snap != nil && snap.Info().Flags&wire.RecordUncommitted == 0 && snap.Info().Size > 0
}

// edit is what becomes of a table.
type edit int

const (
	editWrite edit = iota // written, unless its bytes are the same
	editNone
)

// changeTable makes a change of the table of key in store. empty is the table
// that a missing record stands for; more is how many bytes the change may add.
func (n *Node) changeTable(store *engine.Store, key wire.ID, empty wire.IndexTable, more int, change func(*wire.IndexTable) edit) (*engine.Commit, error) {
	var buf *buffer
	defer func() { buf.free() }() // not before the store has taken the new table
	return store.Update(n.life, engine.Key(key), func(snap *engine.Snapshot) (*engine.Change, error) {
		size := int64(0)
		if isTable(snap) {
			size = int64(snap.Info().Size)
		}
		// Room for the old table and the new one.
		need := size + int64(more) + tableRoom
		if size > n.answers.limit || need+size > n.answers.limit {
			return nil, fmt.Errorf("%w: index table of %d bytes", wire.ErrNoMemory, size)
		}
		var err error
		if buf, err = n.answers.get(n.life, size+need); err != nil {
			return nil, err
		}
		old, table := buf.b[:size:size], empty
		if size > 0 {
			if err := n.readTable(snap, old, &table); err != nil {
				return nil, err
			}
		}
		if change(&table) == editNone {
			return nil, nil
		}
		b := table.Append(buf.b[size:size])
		if bytes.Equal(b, old) {
			return nil, nil
		}
		if int64(len(b)) > max(n.maxTables(), size) {
			return nil, fmt.Errorf("%w: index table of %d bytes", wire.ErrNoMemory, len(b))
		}
		return &engine.Change{
			Data:      [][]byte{b},
			Size:      uint64(len(b)),
			Timestamp: engine.Time(wire.TimeOf(time.Now())),
			Flags:     wire.RecordExtHeader | wire.RecordChunkedCsum | wire.RecordNoChecksum,
		}, nil
	})
}

// maxTables is how many bytes the tables may have that a search reads at one
// time: its answer can be twice as long. A single table does not grow beyond
// that.
func (n *Node) maxTables() int64 { return n.answers.limit / 4 }

// What a table takes beside its entries, and an entry beside its data, at most
// and in bytes.
const (
	tableRoom = 64
	entryRoom = 2 * wire.IDSize
)

// find looks for an id in a table.
func find(entries []wire.TableEntry, id *wire.ID) (int, bool) {
	return slices.BinarySearchFunc(entries, id, func(e wire.TableEntry, id *wire.ID) int { return e.ID.Compare(*id) })
}

// shardChange is what becomes of an object in an index shard.
type shardChange struct {
	object wire.ID
	flags  uint64 // wire.EntryInsert and so on
	limit  uint32
	data   []byte
}

// changeShard makes a change of an index shard. Objects that were pushed out of
// a capped collection are added to out. Removing a shard that is not there is
// an error.
func (n *Node) changeShard(store *engine.Store, shard wire.ID, number, count uint32, c *shardChange, out *[]wire.IndexResult) (*engine.Commit, error) {
	if c.flags&wire.EntryDropAll != 0 {
		return n.remove(store, shard)
	}
	empty := wire.IndexTable{Shard: number, ShardCount: count}
	return n.changeTable(store, shard, empty, len(c.data)+entryRoom, func(t *wire.IndexTable) edit {
		i, found := find(t.Entries, &c.object)
		switch {
		case c.flags&wire.EntryRemove != 0:
			if !found {
				return editNone
			}
			t.Entries = slices.Delete(t.Entries, i, i+1)
			return editWrite
		case found && bytes.Equal(t.Entries[i].Data, c.data):
			return editNone
		}
		e := wire.TableEntry{ID: c.object, Data: c.data, Time: wire.TimeOf(time.Now())}
		if found {
			t.Entries[i] = e
		} else {
			t.Entries = slices.Insert(t.Entries, i, e)
		}
		for c.flags&wire.EntryCapped != 0 && len(t.Entries) > int(c.limit) {
			oldest := 0
			for i := range t.Entries {
				if t.Entries[i].Time.Compare(t.Entries[oldest].Time) < 0 {
					oldest = i
				}
			}
			*out = append(*out, wire.IndexResult{ID: t.Entries[oldest].ID, Status: wire.IndexPushedOut})
			t.Entries = slices.Delete(t.Entries, oldest, oldest+1)
		}
		return editWrite
	})
}

// settleAll is settle for several changes.
func (r *request) settleAll(commits []*engine.Commit) wire.Status {
	s := wire.OK
	for _, c := range commits {
		if one := r.settle(c); one != wire.OK && s == wire.OK {
			s = one
		}
	}
	return s
}
