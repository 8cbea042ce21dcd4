package node

import (
	"fmt"

	"github.com/elliptics-registry/elliptics-registry/elliptics/node/engine"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// indexesFind answers which objects have all, or any, of some tags: a packet
// for each index shard that is asked for and has been written to. It looks
// into the backend of the header's id only.
func indexesFind(r *request) wire.Status {
	var ask wire.IndexFind
	if err := ask.Decode(r.payload()); err != nil {
		return wire.ErrInvalid
	}
	for i := range ask.Blocks {
		if f := ask.Blocks[i].Flags & (wire.IndexIntersect | wire.IndexUnite); f != wire.IndexIntersect && f != wire.IndexUnite {
			return wire.ErrInvalid
		}
	}
	failed, found := wire.OK, false
	for i := range ask.Blocks {
		b := &ask.Blocks[i]
		p, s := r.findBlock(b)
		if s != wire.OK {
			if failed == wire.OK {
				failed = s
			}
			continue
		}
		found = true
		p.hdr = r.answer()
		p.hdr.ID = b.ID
		if i == len(ask.Blocks)-1 {
			r.send(p)
			return wire.OK
		}
		if !r.sendMore(p) {
			break
		}
	}
	if found {
		return wire.OK
	}
	return failed
}

// findBlock looks into the shards that a block names and prepares its packet.
func (r *request) findBlock(b *wire.IndexRequest) (p packet, s wire.Status) {
	n := r.conn.node
	intersect := b.Flags&wire.IndexIntersect != 0
	var snaps []*engine.Snapshot
	defer func() {
		for _, snap := range snaps {
			snap.Close()
		}
	}()
	var shards []wire.ID
	size := int64(0)
	for i := range b.Entries {
		snap, err := r.store.Get(n.life, engine.Key(b.Entries[i].ID))
		if err == nil {
			snaps = append(snaps, snap)
			if !isTable(snap) {
				err = engine.ErrNotFound
			}
		}
		if s := n.statusOf(r, err); s == wire.ErrNotFound && !intersect {
			continue
		} else if s != wire.OK {
			return p, s
		}
		shards = append(shards, b.Entries[i].ID)
		if size += int64(min(snap.Info().Size, uint64(n.answers.limit))); size > n.maxTables() {
			return p, n.statusOf(r, fmt.Errorf("%w: index tables of %d bytes and more", wire.ErrNoMemory, size))
		}
	}
	if len(shards) == 0 {
		return p, wire.ErrNotFound
	}
	// The answer goes into the front of the buffer, the tables are behind it.
	// An entry of a table takes at least 69 bytes, and at most 74 more in the
	// answer.
	room := 2*size + size/8 + tableRoom
	buf, err := r.lend(room + size)
	if err != nil {
		return p, n.statusOf(r, err)
	}
	tables := make([]wire.IndexTable, 0, len(shards))
	rest := buf.b[room:]
	for _, snap := range snaps {
		if !isTable(snap) {
			continue
		}
		length := snap.Info().Size
		var t wire.IndexTable
		if err := n.readTable(snap, rest[:length:length], &t); err != nil {
			buf.free()
			return p, n.statusOf(r, err)
		}
		rest = rest[length:]
		tables = append(tables, t)
	}
	found := unite
	if intersect {
		found = intersection
	}
	answer := (&wire.IndexFound{Objects: found(shards, tables)}).Append(buf.b[:0:room])
	if len(answer) > len(buf.b) {
		buf.free()
		return p, wire.ErrNoMemory
	}
	buf.b = buf.b[:copy(buf.b, answer)]
	return packet{data: buf}, wire.OK
}

// intersection is the objects that are in all tables, by their ids.
func intersection(shards []wire.ID, tables []wire.IndexTable) []wire.FoundObject {
	var objects []wire.FoundObject
next:
	for _, e := range tables[0].Entries {
		o := wire.FoundObject{ID: e.ID, Tags: make([]wire.FoundTag, 0, len(tables))}
		for i := range tables {
			at, found := find(tables[i].Entries, &e.ID)
			if !found {
				continue next
			}
			o.Tags = append(o.Tags, wire.FoundTag{Shard: shards[i], Data: tables[i].Entries[at].Data})
		}
		objects = append(objects, o)
	}
	return objects
}

// unite is the objects that are in any table, as they appear.
func unite(shards []wire.ID, tables []wire.IndexTable) []wire.FoundObject {
	var objects []wire.FoundObject
	seen := make(map[wire.ID]int)
	for i := range tables {
		for _, e := range tables[i].Entries {
			at, ok := seen[e.ID]
			if !ok {
				at = len(objects)
				seen[e.ID] = at
				objects = append(objects, wire.FoundObject{ID: e.ID})
			}
			objects[at].Tags = append(objects[at].Tags, wire.FoundTag{Shard: shards[i], Data: e.Data})
		}
	}
	return objects
}
