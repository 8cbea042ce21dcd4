package wire

import "time"

// IOAttrSize is the length of the attribute structure in bytes.
const IOAttrSize = 208

// IOFlags are the flags of a storage request inside its IOAttr.
type IOFlags uint32

// Io flags.
const (
	IOAppend              IOFlags = 1 << 1  // WRITE: append at the end of the record
	IOPrepare             IOFlags = 1 << 4  // WRITE: reserve Num bytes
	IOCommit              IOFlags = 1 << 5  // WRITE: make a prepared record visible
	IOOverwrite           IOFlags = 1 << 7  // no effect since 2.26
	IONoChecksum          IOFlags = 1 << 8  // WRITE: store without checksum; READ: do not verify
	IOPlainWrite          IOFlags = 1 << 9  // WRITE: part of a prepare/plain/commit sequence
	IOCache               IOFlags = 1 << 10 // use and fill the server's memory cache
	IOCacheOnly           IOFlags = 1 << 11 // cache only, never disk
	IOCacheRemoveFromDisk IOFlags = 1 << 12 // WRITE: an expiring cache entry goes from disk too
	IOCompareAndSwap      IOFlags = 1 << 13 // WRITE: refuse unless the record's SHA-512 is Parent
	IOChecksum            IOFlags = 1 << 14 // READ: SHA-512 of the returned bytes into Parent
	IOWriteNoFileInfo     IOFlags = 1 << 14 // WRITE: answer with a bare acknowledge
	IOCASTimestamp        IOFlags = 1 << 15 // WRITE: refuse a timestamp older than the record's
	IONoCache             IOFlags = 1 << 28 // skip the cache
)

// Record flags as a server reports them.
const (
	RecordRemoved     uint64 = 1 << 0
	RecordNoChecksum  uint64 = 1 << 1
	RecordAppended    uint64 = 1 << 4
	RecordExtHeader   uint64 = 1 << 6
	RecordUncommitted uint64 = 1 << 7
	RecordChunkedCsum uint64 = 1 << 8
)

// Time is a timestamp as the protocol carries it. A server stores what the
// client sends and never fills one in.
type Time struct {
	Sec  uint64
	Nsec uint64
}

// TimeOf converts t; a time before 1970 becomes zero.
func TimeOf(t time.Time) Time {
	if t.Unix() < 0 {
		return Time{}
	}
	return Time{Sec: uint64(t.Unix()), Nsec: uint64(t.Nanosecond())}
}

// Time converts back to Go's form, in UTC.
func (t Time) Time() time.Time { return time.Unix(int64(t.Sec), int64(t.Nsec)).UTC() }

// IsZero tells the zero timestamp.
func (t Time) IsZero() bool { return t == Time{} }

// Compare orders timestamps by seconds, then nanoseconds.
func (t Time) Compare(u Time) int {
	switch {
	case t.Sec < u.Sec, t.Sec == u.Sec && t.Nsec < u.Nsec:
		return -1
	case t == u:
		return 0
	}
	return 1
}

// IOAttr heads the payload of READ, WRITE, DEL and BULK_READ requests and of
// READ replies.
type IOAttr struct {
	Parent      [64]byte // WRITE with IOCompareAndSwap: expected SHA-512; READ reply with IOChecksum: SHA-512 of the data
	ID          ID       // key; always the same as Header.ID
	Start       uint64   // cache life time in seconds, with IOCache
	Num         uint64   // PREPARE: bytes to reserve; COMMIT with PLAIN_WRITE: final size
	Timestamp   Time
	UserFlags   uint64
	TotalSize   uint64 // READ reply: size of the whole record
	RecordFlags uint64 // READ reply
	Flags       IOFlags
	Offset      uint64
	Size        uint64 // bytes to read (0: to the end), or bytes that follow; untrusted
}

// Append writes the 208 bytes of a to dst.
func (a *IOAttr) Append(dst []byte) []byte {
	dst = append(dst, a.Parent[:]...)
	dst = append(dst, a.ID[:]...)
	dst = le.AppendUint64(dst, a.Start)
	dst = le.AppendUint64(dst, a.Num)
	dst = le.AppendUint64(dst, a.Timestamp.Sec)
	dst = le.AppendUint64(dst, a.Timestamp.Nsec)
	dst = le.AppendUint64(dst, a.UserFlags)
	dst = le.AppendUint64(dst, a.TotalSize)
	dst = le.AppendUint64(dst, a.RecordFlags)
	dst = le.AppendUint32(dst, 0)
	dst = le.AppendUint32(dst, uint32(a.Flags))
	dst = le.AppendUint64(dst, a.Offset)
	return le.AppendUint64(dst, a.Size)
}

// Decode reads a from the first 208 bytes of src. Size is not compared with
// what follows: whoever takes the data does that.
func (a *IOAttr) Decode(src []byte) error {
	if len(src) < IOAttrSize {
		return short("io attribute", len(src), IOAttrSize)
	}
	copy(a.Parent[:], src)
	copy(a.ID[:], src[64:])
	a.Start = le.Uint64(src[128:])
	a.Num = le.Uint64(src[136:])
	a.Timestamp = Time{le.Uint64(src[144:]), le.Uint64(src[152:])}
	a.UserFlags = le.Uint64(src[160:])
	a.TotalSize = le.Uint64(src[168:])
	a.RecordFlags = le.Uint64(src[176:])
	a.Flags = IOFlags(le.Uint32(src[188:]))
	a.Offset = le.Uint64(src[192:])
	a.Size = le.Uint64(src[200:])
	return nil
}
