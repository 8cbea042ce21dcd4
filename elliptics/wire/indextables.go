package wire

import "bytes"

// IndexTable is the contents of an index record: of an object table the tags
// of an object, of an index shard the objects of a tag.
type IndexTable struct {
	Entries           []TableEntry // sorted by id
	Shard, ShardCount uint32
}

// TableEntry is one tag of an object, or one object of a tag.
type TableEntry struct {
	ID   ID
	Data []byte
	Time Time // of the insertion, by the server's clock; zero in object tables
}

// tableMagic begins every index record.
var tableMagic = []byte("\x27\x40\x73\xe7\xfb\x8c\xa3\x5d")

// tableVersion is the first element of every index record.
const tableVersion = 2

// Append writes t to dst.
func (t *IndexTable) Append(dst []byte) []byte {
	dst = append(dst, tableMagic...)
	dst = packArray(dst, 4)
	dst = packUint(dst, tableVersion)
	dst = packArray(dst, len(t.Entries))
	for i := range t.Entries {
		e := &t.Entries[i]
		dst = packArray(dst, 4)
		dst = packRaw(dst, e.ID[:])
		dst = packRaw(dst, e.Data)
		dst = packUint(dst, e.Time.Sec)
		dst = packUint(dst, e.Time.Nsec)
	}
	dst = packUint(dst, uint64(t.Shard))
	return packUint(dst, uint64(t.ShardCount))
}

// Decode reads t from the whole of src. The data of the entries stays in src.
func (t *IndexTable) Decode(src []byte) error {
	rest, ok := bytes.CutPrefix(src, tableMagic)
	if !ok {
		return malformed("a record of %d bytes does not begin as an index table", len(src))
	}
	u := unpacker{rest: rest, what: "index table"}
	u.array(4, 4)
	if v := u.uint(); v != tableVersion {
		u.fail("version %d, %d expected", v, tableVersion)
	}
	n := u.array(0, maxArray)
	*t = IndexTable{Entries: make([]TableEntry, 0, min(n, len(u.rest)/minTableEntry))}
	for range n {
		var e TableEntry
		fields := u.array(2, 4)
		u.id(&e.ID)
		e.Data = u.raw()
		switch fields {
		case 3:
			u.fail("entry of 3 fields")
		case 4:
			e.Time = Time{u.uint(), u.uint()}
		}
		if u.err != nil {
			return u.err
		}
		t.Entries = append(t.Entries, e)
	}
	t.Shard, t.ShardCount = u.uint32(), u.uint32()
	return u.end()
}

// IndexFound is the payload of an answer to INDEXES_FIND: the objects of one
// shard.
type IndexFound struct {
	Objects []FoundObject
}

// FoundObject is an object and what it has under the tags that were asked for.
type FoundObject struct {
	ID   ID
	Tags []FoundTag
}

// FoundTag is what an object has under one tag.
type FoundTag struct {
	Shard ID // the tag's index shard
	Data  []byte
}

// foundVersion is the first element of every object that was found.
const foundVersion = 1

// Append writes f to dst.
func (f *IndexFound) Append(dst []byte) []byte {
	dst = packArray(dst, len(f.Objects))
	for i := range f.Objects {
		o := &f.Objects[i]
		dst = packArray(dst, 3)
		dst = packUint(dst, foundVersion)
		dst = packRaw(dst, o.ID[:])
		dst = packArray(dst, len(o.Tags))
		for j := range o.Tags {
			dst = packArray(dst, 2)
			dst = packRaw(dst, o.Tags[j].Shard[:])
			dst = packRaw(dst, o.Tags[j].Data)
		}
	}
	return dst
}

// Decode reads f from the whole of src. The data of the tags stays in src.
func (f *IndexFound) Decode(src []byte) error {
	u := unpacker{rest: src, what: "result of a search"}
	n := u.array(0, maxArray)
	f.Objects = make([]FoundObject, 0, min(n, len(u.rest)/minFoundObject))
	for range n {
		var o FoundObject
		u.array(3, 3)
		if v := u.uint(); v != foundVersion {
			u.fail("version %d, %d expected", v, foundVersion)
		}
		u.id(&o.ID)
		tags := u.array(0, maxArray)
		o.Tags = make([]FoundTag, 0, min(tags, len(u.rest)/minFoundTag))
		for range tags {
			var t FoundTag
			u.array(2, 2)
			u.id(&t.Shard)
			t.Data = u.raw()
			if u.err != nil {
				return u.err
			}
			o.Tags = append(o.Tags, t)
		}
		if u.err != nil {
			return u.err
		}
		f.Objects = append(f.Objects, o)
	}
	return u.end()
}

// What an entry takes at least, in bytes: a count that does not fit into what
// follows allocates no more than that.
const (
	minTableEntry  = 1 + 3 + IDSize + 1
	minFoundTag    = 1 + 3 + IDSize + 1
	minFoundObject = 1 + 1 + 3 + IDSize + 1
)
