package node

import (
	"cmp"
	"math/bits"

	"github.com/elliptics-registry/elliptics-registry/elliptics/node/engine"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// indexesInternal puts an object into an index shard, takes it out, or removes
// whole shards. The shard is the record of the header's id; who removes an
// index names all of its shards here in one request.
func indexesInternal(r *request) wire.Status {
	n := r.conn.node
	var ask wire.IndexRequest
	if err := ask.Decode(r.payload()); err != nil || len(ask.Entries) == 0 {
		return wire.ErrInvalid
	}
	for _, e := range ask.Entries {
		actions := e.Flags & (wire.EntryInsert | wire.EntryRemove | wire.EntryDropAll)
		if bits.OnesCount64(actions) != 1 || e.ID != r.hdr.ID && actions != wire.EntryDropAll {
			return wire.ErrInvalid
		}
	}
	if r.isReadOnly() {
		return wire.ErrReadOnly
	}
	var told wire.IndexReply
	var commits []*engine.Commit
	var failed wire.Status
	for i := range ask.Entries {
		e := &ask.Entries[i]
		at := len(told.Entries)
		told.Entries = append(told.Entries, wire.IndexResult{ID: e.ID})
		c := shardChange{object: ask.ID, flags: e.Flags, limit: e.Limit, data: e.Data}
		commit, err := n.changeShard(r.store, e.ID, e.Shard, e.ShardCount, &c, &told.Entries)
		if err != nil {
			s := n.statusOf(r, err)
			told.Entries[at].Status = int32(s)
			failed = cmp.Or(failed, s)
			continue
		}
		commits = append(commits, commit)
	}
	if len(commits) == 0 {
		return failed
	}
	if s := r.settleAll(commits); s != wire.OK {
		return s
	}
	answer := packet{hdr: r.answer(), body: &told}
	if r.needAck() {
		r.sendMore(answer)
	} else {
		r.send(answer)
	}
	return wire.OK
}
