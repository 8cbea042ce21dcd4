package wire

import "crypto/sha512"

// Secondary indexes are records with ids that are derived from those of
// objects and tags. A tag's id is that of its name, hashed as a key is.

// ObjectTable is the id of the record that lists the tags of the object id.
func (id ID) ObjectTable() ID {
	return derive(id, "\x00object_table\x00")
}

// IndexShard is the id of one of count records that list the objects which
// have the tag id.
func (id ID) IndexShard(shard, count uint32) ID {
	base := derive(id, "\x00index_table\x00")
	clear(base[:32])
	if count > 0 {
		be.PutUint32(base[:], uint32(uint64(shard)<<32/uint64(count)))
	}
	return base
}

// ShardOf is in which of count shards of each tag the object is listed whose
// table is id.
func (id ID) ShardOf(count uint32) uint32 {
	if count == 0 {
		return 0
	}
	rest := uint64(0) // of the id as one big number
	for i := 0; i < IDSize; i += 4 {
		rest = (rest<<32 | uint64(be.Uint32(id[i:]))) % uint64(count)
	}
	return uint32(rest)
}

func derive(id ID, suffix string) ID {
	return sha512.Sum512(append(id[:], suffix...))
}
