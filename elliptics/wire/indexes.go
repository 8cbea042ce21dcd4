package wire

// IndexFlags belong to an index command as a whole, or to an entry of
// INDEXES_INTERNAL.
type IndexFlags uint32

// Flags of INDEXES_UPDATE. None of them sets exactly the given tags.
const (
	IndexAdd    IndexFlags = 4  // add the given tags
	IndexRemove IndexFlags = 16 // remove the given tags
)

// Flags of INDEXES_FIND: exactly one of the first two. The last one is set by
// IndexFind.Append.
const (
	IndexIntersect IndexFlags = 1 // objects that have all tags
	IndexUnite     IndexFlags = 2 // objects that have any of the tags
	indexMore      IndexFlags = 8 // another block follows
)

// Flags of an entry of INDEXES_INTERNAL: exactly one of the first three.
const (
	EntryInsert  uint64 = 1
	EntryRemove  uint64 = 2
	EntryDropAll uint64 = 4  // the whole shard table
	EntryCapped  uint64 = 32 // with EntryInsert: keep IndexEntry.Limit entries, the oldest go
)

const (
	indexHeadSize  = 136
	indexEntrySize = 124
)

// IndexRequest is the payload of INDEXES_UPDATE and INDEXES_INTERNAL requests,
// and one of the blocks of INDEXES_FIND.
type IndexRequest struct {
	// ID and Group name the object; in INDEXES_FIND the index shard of the
	// first tag.
	ID                ID
	Group             uint32 // 0 in INDEXES_INTERNAL
	Flags             IndexFlags
	Shard, ShardCount uint32 // INDEXES_INTERNAL only, as in the entries
	Entries           []IndexEntry
}

// IndexEntry is a tag of a request.
type IndexEntry struct {
	ID                ID     // INDEXES_UPDATE: of the tag; otherwise of its index shard
	Flags             uint64 // INDEXES_INTERNAL: EntryInsert and so on
	Limit             uint32 // with EntryCapped
	Shard, ShardCount uint32
	Data              []byte // what is stored with the pair of object and tag
}

// Append writes r to dst.
func (r *IndexRequest) Append(dst []byte) []byte { return r.append(dst, r.Flags) }

func (r *IndexRequest) append(dst []byte, flags IndexFlags) []byte {
	dst = append(dst, r.ID[:]...)
	dst = le.AppendUint32(dst, r.Group)
	dst = le.AppendUint64(dst, 0)
	dst = le.AppendUint32(dst, uint32(flags))
	dst = le.AppendUint32(dst, r.Shard)
	dst = le.AppendUint32(dst, r.ShardCount)
	dst = append(dst, make([]byte, 40)...)
	dst = le.AppendUint64(dst, uint64(len(r.Entries)))
	for i := range r.Entries {
		e := &r.Entries[i]
		dst = append(dst, e.ID[:]...)
		dst = le.AppendUint64(dst, e.Flags)
		dst = le.AppendUint32(dst, e.Limit)
		dst = le.AppendUint32(dst, e.Shard)
		dst = le.AppendUint32(dst, e.ShardCount)
		dst = append(dst, make([]byte, 32)...)
		dst = le.AppendUint64(dst, uint64(len(e.Data)))
		dst = append(dst, e.Data...)
	}
	return dst
}

// Decode reads r from the whole of src. The data of the entries stays in src.
func (r *IndexRequest) Decode(src []byte) error {
	rest, err := r.decode(src)
	if err == nil && len(rest) != 0 {
		err = malformed("%d bytes behind an index request", len(rest))
	}
	return err
}

func (r *IndexRequest) decode(src []byte) (rest []byte, err error) {
	if len(src) < indexHeadSize {
		return nil, short("index request", len(src), indexHeadSize)
	}
	*r = IndexRequest{
		Group:      le.Uint32(src[64:]),
		Flags:      IndexFlags(le.Uint32(src[76:])),
		Shard:      le.Uint32(src[80:]),
		ShardCount: le.Uint32(src[84:]),
	}
	copy(r.ID[:], src)
	count := le.Uint64(src[128:])
	src = src[indexHeadSize:]
	if count > uint64(len(src)/indexEntrySize) {
		return nil, malformed("index request announces %d entries in %d bytes", count, len(src))
	}
	r.Entries = make([]IndexEntry, count)
	for i := range r.Entries {
		if len(src) < indexEntrySize {
			return nil, short("index entry", len(src), indexEntrySize)
		}
		e := &r.Entries[i]
		copy(e.ID[:], src)
		e.Flags = le.Uint64(src[64:])
		e.Limit = le.Uint32(src[72:])
		e.Shard = le.Uint32(src[76:])
		e.ShardCount = le.Uint32(src[80:])
		size := le.Uint64(src[116:])
		src = src[indexEntrySize:]
		if size > uint64(len(src)) {
			return nil, malformed("index entry announces %d bytes of data, %d follow", size, len(src))
		}
		e.Data, src = src[:size:size], src[size:]
	}
	return src, nil
}

// IndexFind is the payload of an INDEXES_FIND request: a block for each shard
// that is asked for. Within a packet all of them belong to one backend.
type IndexFind struct {
	Blocks []IndexRequest
}

// Append writes f to dst, with the flag that another block follows in all but
// the last one.
func (f *IndexFind) Append(dst []byte) []byte {
	for i := range f.Blocks {
		b := &f.Blocks[i]
		flags := b.Flags &^ indexMore
		if i < len(f.Blocks)-1 {
			flags |= indexMore
		}
		dst = b.append(dst, flags)
	}
	return dst
}

// Decode reads f from the whole of src. The data of the entries stays in src.
func (f *IndexFind) Decode(src []byte) error {
	f.Blocks = nil
	for more := true; more; {
		var b IndexRequest
		var err error
		if src, err = b.decode(src); err != nil {
			return err
		}
		more = b.Flags&indexMore != 0
		b.Flags &^= indexMore
		f.Blocks = append(f.Blocks, b)
	}
	if len(src) != 0 {
		return malformed("%d bytes behind the last block of a search", len(src))
	}
	return nil
}

// IndexReply is the payload of the answers to INDEXES_UPDATE and
// INDEXES_INTERNAL: the index shards that were looked at.
type IndexReply struct {
	Entries []IndexResult
}

// IndexResult is what became of an index shard, or which object lost its place
// there.
type IndexResult struct {
	ID     ID
	Status int32 // 0, a negative errno number, or IndexPushedOut
}

// IndexPushedOut is the status of an object that was pushed out of a capped
// collection.
const IndexPushedOut = 1

const (
	indexReplySize  = 48
	indexResultSize = 84
)

// Append writes r to dst.
func (r *IndexReply) Append(dst []byte) []byte {
	dst = append(dst, make([]byte, 40)...)
	dst = le.AppendUint64(dst, uint64(len(r.Entries)))
	for i := range r.Entries {
		dst = append(dst, r.Entries[i].ID[:]...)
		dst = le.AppendUint32(dst, uint32(r.Entries[i].Status))
		dst = append(dst, make([]byte, 16)...)
	}
	return dst
}

// Decode reads r from the whole of src.
func (r *IndexReply) Decode(src []byte) error {
	if len(src) < indexReplySize {
		return short("index answer", len(src), indexReplySize)
	}
	count := le.Uint64(src[40:])
	src = src[indexReplySize:]
	if len(src)%indexResultSize != 0 || count != uint64(len(src)/indexResultSize) {
		return malformed("index answer announces %d entries in %d bytes", count, len(src))
	}
	r.Entries = make([]IndexResult, count)
	for i := range r.Entries {
		copy(r.Entries[i].ID[:], src)
		r.Entries[i].Status = int32(le.Uint32(src[64:]))
		src = src[indexResultSize:]
	}
	return nil
}
