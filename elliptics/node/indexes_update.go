package node

import (
	"bytes"
	"slices"

	"github.com/elliptics-registry/elliptics-registry/elliptics/node/engine"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// indexesUpdate changes which tags an object has: exactly those of the request,
// those too, or not those. Only in the first case the tags' index shards are
// changed as well; otherwise the client does that (see indexesInternal).
//
// A real server changes the shards here without their lock, so that changes at
// the same time are lost. This node loses none.
func indexesUpdate(r *request) wire.Status {
	var ask wire.IndexRequest
	if err := ask.Decode(r.payload()); err != nil {
		return wire.ErrInvalid
	}
	if ask.Flags&wire.IndexAdd != 0 && ask.Flags&wire.IndexRemove != 0 {
		return wire.ErrInvalid
	}
	var told wire.IndexReply
	s := wire.ErrReadOnly
	if !r.isReadOnly() {
		s = r.updateIndexes(&ask, &told)
	}
	r.sendMore(packet{hdr: r.answer(), body: &told})
	return s
}

func (r *request) updateIndexes(ask *wire.IndexRequest, told *wire.IndexReply) wire.Status {
	n := r.conn.node
	count := uint32(n.cfg.IndexShards)
	number := r.hdr.ID.ShardOf(count)
	empty := wire.IndexTable{Shard: number, ShardCount: count}
	given, more := sortedTags(ask.Entries)
	var put []wire.TableEntry // tags that are new, or whose data is
	var gone []wire.ID
	commit, err := n.changeTable(r.store, r.hdr.ID, empty, more, func(t *wire.IndexTable) edit {
		old := t.Entries
		switch {
		case ask.Flags&wire.IndexRemove != 0:
			t.Entries = without(old, given)
		case ask.Flags&wire.IndexAdd != 0:
			t.Entries = union(old, given)
		default:
			t.Entries = given
			for _, e := range given {
				if i, found := find(old, &e.ID); !found || !bytes.Equal(old[i].Data, e.Data) {
					put = append(put, e)
				}
			}
			for _, e := range without(old, given) {
				gone = append(gone, e.ID)
			}
		}
		return editWrite
	})
	if err != nil {
		return n.statusOf(r, err)
	}
	commits := []*engine.Commit{commit}
	failed := wire.OK
	change := func(tag wire.ID, c shardChange) {
		shard := tag.IndexShard(number, count)
		c.object = ask.ID
		store, release := r.storeOf(&shard)
		defer release()
		s := wire.ErrNotSupported
		if store != nil {
			commit, err := n.changeShard(store, shard, number, count, &c, nil)
			if err == nil {
				commits = append(commits, commit)
			}
			s = n.statusOf(r, err)
		}
		if s != wire.OK && failed == wire.OK {
			failed = s
		}
		told.Entries = append(told.Entries, wire.IndexResult{ID: shard, Status: int32(s)})
	}
	for _, e := range put {
		change(e.ID, shardChange{flags: wire.EntryInsert, data: e.Data})
	}
	for _, tag := range gone {
		change(tag, shardChange{flags: wire.EntryRemove})
	}
	// The object's key is held until here: of two sets of one object the shards
	// show the later one, as its own table does.
	if s := r.settleAll(commits); failed == wire.OK {
		failed = s
	}
	return failed
}

// sortedTags makes entries of an object table, of which each tag has one: the
// last that is given. more is how many bytes they take at most.
func sortedTags(entries []wire.IndexEntry) (given []wire.TableEntry, more int) {
	given = make([]wire.TableEntry, 0, len(entries))
	for _, e := range slices.Backward(entries) {
		given = append(given, wire.TableEntry{ID: e.ID, Data: e.Data})
		more += len(e.Data) + entryRoom
	}
	slices.SortStableFunc(given, func(a, b wire.TableEntry) int { return a.ID.Compare(b.ID) })
	return slices.CompactFunc(given, func(a, b wire.TableEntry) bool { return a.ID == b.ID }), more
}

// without is what is in old and not in given.
func without(old, given []wire.TableEntry) []wire.TableEntry {
	rest := make([]wire.TableEntry, 0, len(old))
	for _, e := range old {
		if _, found := find(given, &e.ID); !found {
			rest = append(rest, e)
		}
	}
	return rest
}

// union is what is in either, sorted; of a tag that is in both what is given.
func union(old, given []wire.TableEntry) []wire.TableEntry {
	all := append(without(old, given), given...)
	slices.SortFunc(all, func(a, b wire.TableEntry) int { return a.ID.Compare(b.ID) })
	return all
}

// storeOf is where an index shard of the request's group is kept, which may be
// another backend; nil when that is disabled. The store stays open until
// release.
func (r *request) storeOf(shard *wire.ID) (store *engine.Store, release func()) {
	owner := r.conn.node.ring.Load().owner(r.backend.group, shard)
	if owner == nil || owner == r.backend {
		return r.store, func() {}
	}
	if store = owner.acquire(); store == nil {
		return nil, func() {}
	}
	return store, owner.release
}
