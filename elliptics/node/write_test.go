package node

import (
	"crypto/sha512"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

const (
	prepare = wire.IOPrepare | wire.IOPlainWrite
	plain   = wire.IOPlainWrite
	commit  = wire.IOCommit | wire.IOPlainWrite
	oneShot = wire.IOPrepare | wire.IOCommit | wire.IOPlainWrite
)

// step is one request of a conversation about the key "k" and what it does.
type step struct {
	flags  wire.IOFlags
	offset uint64
	num    uint64
	data   string

	status wire.Status
	size   uint64 // in the answer to the write
	record uint64 // record flags there

	reads wire.Status // status of a read afterwards
	sees  string      // what it finds
}

const (
	normal   = wire.RecordExtHeader | wire.RecordChunkedCsum
	appended = normal | wire.RecordAppended
	prepared = normal | wire.RecordUncommitted
	noCsum   = normal | wire.RecordNoChecksum
)

var writes = []struct {
	name  string
	steps []step
}{
	{"ordinary", []step{
		{data: "0123456789", size: 10, record: normal, sees: "0123456789"},
		{data: "short", size: 5, record: normal, sees: "short"},
		{offset: 3, data: "XY", size: 5, record: normal, sees: "shoXY"},
		{offset: 1, data: "Z", size: 2, record: normal, sees: "sZ"},
	}},
	{"a gap is zeros", []step{
		{data: "0123456789", size: 10, record: normal, sees: "0123456789"},
		{data: "ab", size: 2, record: normal, sees: "ab"},
		{offset: 5, data: "c", size: 6, record: normal, sees: "ab\x00\x00\x00c"},
	}},
	{"a gap in a new record is zeros", []step{
		{offset: 3, data: "c", size: 4, record: normal, sees: "\x00\x00\x00c"},
	}},
	{"without checksum", []step{
		{flags: wire.IONoChecksum, data: "x", size: 1, record: noCsum, sees: "x"},
		{flags: wire.IONoChecksum | wire.IOAppend, data: "y", size: 1, record: noCsum | wire.RecordAppended, sees: "xy"},
		{data: "z", size: 1, record: normal, sees: "z"},
		{flags: prepare | wire.IONoChecksum, num: 3, size: 1, record: prepared | wire.RecordNoChecksum, reads: wire.ErrNotFound},
		{flags: plain, data: "ab", record: prepared | wire.RecordNoChecksum, reads: wire.ErrNotFound},
		{flags: commit, num: 2, size: 2, record: normal, sees: "ab"},
	}},
	{"empty", []step{
		{status: wire.ErrNotFound, reads: wire.ErrNotFound},
		{flags: wire.IOAppend, status: wire.ErrNotFound, reads: wire.ErrNotFound},
		{flags: wire.IOCommit, status: wire.ErrNotFound, reads: wire.ErrNotFound},
		{data: "ab", size: 2, record: normal, sees: "ab"},
		{size: 2, record: normal, sees: "ab"},
		{flags: wire.IOAppend, size: 2, record: normal, sees: "ab"},
		{flags: wire.IOCommit, status: wire.ErrPermission, sees: "ab"},
	}},
	{"an empty record", []step{
		{flags: oneShot, record: normal, sees: ""},
		{flags: wire.IOAppend, data: "abc", size: 3, record: appended, sees: "abc"},
	}},
	{"append", []step{
		{flags: wire.IOAppend, data: "first", size: 5, record: normal, sees: "first"},
		{flags: wire.IOAppend, data: "+2", size: 2, record: appended, sees: "first+2"},
		{flags: wire.IOAppend, offset: 2, data: "x", size: 1, record: appended, sees: "first+2\x00\x00x"},
		{data: "new", size: 3, record: normal, sees: "new"},
	}},
	{"prepare, plain, commit", []step{
		{flags: prepare, num: 12, data: "aaaa", record: prepared, reads: wire.ErrNotFound},
		{flags: plain, offset: 4, data: "bbbb", record: prepared, reads: wire.ErrNotFound},
		{flags: commit, offset: 8, num: 12, data: "cccc", size: 12, record: normal, sees: "aaaabbbbcccc"},
		{flags: commit, num: 12, status: wire.ErrPermission, sees: "aaaabbbbcccc"},
		{flags: plain, data: "x", status: wire.ErrPermission, sees: "aaaabbbbcccc"},
		{flags: plain, status: wire.ErrPermission, sees: "aaaabbbbcccc"},
	}},
	{"a commit truncates, and fills with zeros", []step{
		{flags: prepare, num: 10, data: "abcdef", record: prepared, reads: wire.ErrNotFound},
		{flags: commit, num: 3, size: 3, record: normal, sees: "abc"},
		{flags: prepare, num: 10, record: prepared, size: 3, reads: wire.ErrNotFound},
		{flags: commit, offset: 4, num: 6, data: "XYZ", size: 6, record: normal, sees: "abc\x00XY"},
		{flags: prepare, num: 10, size: 6, record: prepared, reads: wire.ErrNotFound},
		{flags: commit, offset: 8, num: 1, data: "XY", size: 1, record: normal, sees: "a"},
	}},
	{"limits of a reservation", []step{
		{flags: prepare, num: 10, record: prepared, reads: wire.ErrNotFound},
		{flags: plain, offset: 5, data: "01234567890123456789", status: wire.ErrTooBig, reads: wire.ErrNotFound},
		{flags: commit, num: 4096, status: wire.ErrRange, reads: wire.ErrNotFound},
		{flags: commit, num: 11, status: wire.ErrRange, reads: wire.ErrNotFound},
		{flags: commit, offset: 9, num: 10, data: "ab", status: wire.ErrTooBig, reads: wire.ErrNotFound},
		{flags: commit, num: 10, size: 10, record: normal, sees: "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"},
		{flags: plain, data: "01234567890123456789", status: wire.ErrTooBig, sees: "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"},
	}},
	{"limits of a new reservation", []step{
		{flags: prepare, num: 1, data: "ab", status: wire.ErrTooBig, reads: wire.ErrNotFound},
		{flags: oneShot, num: 1, data: "ab", status: wire.ErrTooBig, reads: wire.ErrNotFound},
	}},
	{"a record keeps the room that it has", []step{
		{data: "0123456789", size: 10, record: normal, sees: "0123456789"},
		{data: "abc", size: 3, record: normal, sees: "abc"},
		{flags: prepare, num: 1, size: 3, data: "ABCD", record: prepared, reads: wire.ErrNotFound},
		{flags: commit, num: 9, offset: 4, data: "EFGHI", size: 9, record: normal, sees: "ABCDEFGHI"},
		{flags: oneShot, num: 1, offset: 2, data: "xy", size: 4, record: normal, sees: "ABxy"},
		{flags: wire.IOAppend, data: "z", size: 1, record: appended, sees: "ABxyz"},
		{flags: prepare, num: 1, data: "0123456789", size: 5, record: prepared, reads: wire.ErrNotFound},
		{flags: commit, num: 10, size: 10, record: normal, sees: "0123456789"},
		{data: "0123456789+", size: 11, record: normal, sees: "0123456789+"},
		{flags: oneShot, num: 11, data: "0123456789+-", status: wire.ErrTooBig, sees: "0123456789+"},
	}},
	{"prepare hides a record, whose bytes stay", []step{
		{data: "0123456789", size: 10, record: normal, sees: "0123456789"},
		{flags: prepare, num: 10, size: 10, record: prepared, reads: wire.ErrNotFound},
		{flags: commit, num: 10, size: 10, record: normal, sees: "0123456789"},
		{flags: prepare, num: 4, size: 10, record: prepared, reads: wire.ErrNotFound},
		{flags: prepare, num: 10, data: "ab", record: prepared, reads: wire.ErrNotFound},
		{flags: commit, num: 6, size: 6, record: normal, sees: "ab2345"},
	}},
	{"without prepare", []step{
		{flags: plain, data: "x", status: wire.ErrNotFound, reads: wire.ErrNotFound},
		{flags: plain, status: wire.ErrNotFound, reads: wire.ErrNotFound},
		{flags: commit, num: 1, data: "x", status: wire.ErrNotFound, reads: wire.ErrNotFound},
	}},
	{"in one request", []step{
		{flags: oneShot, num: 1000, data: "once", size: 4, record: normal, sees: "once"},
		{flags: plain, offset: 4, data: "x", status: wire.ErrPermission, sees: "once"},
		{flags: wire.IOPrepare, num: 1000, data: "twice", size: 5, record: normal, sees: "twice"},
		{flags: wire.IOCommit, data: "thrice", size: 6, record: normal, sees: "thrice"},
	}},
	{"an empty commit leaves an uncommitted record alone", []step{
		{flags: prepare, num: 10, data: "ab", record: prepared, reads: wire.ErrNotFound},
		{flags: wire.IOCommit, record: prepared, reads: wire.ErrNotFound},
		{flags: plain, record: prepared, reads: wire.ErrNotFound},
		{status: wire.ErrNotFound, reads: wire.ErrNotFound},
		{flags: commit, num: 2, size: 2, record: normal, sees: "ab"},
	}},
	{"an ordinary write commits", []step{
		{flags: prepare, num: 10, data: "abcd", record: prepared, reads: wire.ErrNotFound},
		{data: "X", size: 1, record: normal, sees: "X"},
	}},
	{"an append to an uncommitted record begins anew", []step{
		{flags: prepare, num: 10, data: "abcd", record: prepared, reads: wire.ErrNotFound},
		{flags: wire.IOAppend, data: "X", size: 1, record: normal, sees: "X"},
	}},
	{"absurd numbers", []step{
		{offset: math.MaxUint64, data: "x", status: wire.ErrInvalid, reads: wire.ErrNotFound},
		{offset: math.MaxUint64 - 1, data: "xyz", status: wire.ErrInvalid, reads: wire.ErrNotFound},
		{flags: prepare, num: math.MaxUint64, data: "x", status: wire.ErrInvalid, reads: wire.ErrNotFound},
		{data: "ab", size: 2, record: normal, sees: "ab"},
		{flags: wire.IOAppend, offset: math.MaxInt64 - 2, data: "xy", status: wire.ErrInvalid, sees: "ab"},
	}},
}

func TestWrites(t *testing.T) {
	for _, tt := range writes {
		t.Run(tt.name, func(t *testing.T) {
			c := dial(t, startNode(t))
			for i, s := range tt.steps {
				stamp := wire.Time{Sec: uint64(i) + 1, Nsec: 5}
				r := c.write("k", wire.IOAttr{Flags: s.flags, Offset: s.offset, Num: s.num, Timestamp: stamp, UserFlags: uint64(i)}, s.data)
				require.Equal(t, s.status, r.Status, "step %d", i)
				require.Equal(t, wire.FlagReply, r.Flags)
				if s.status == wire.OK {
					var info wire.FileInfo
					require.NoError(t, info.Decode(r.payload))
					require.Equal(t, s.size, info.Size, "step %d: size", i)
					require.Equal(t, s.record, info.RecordFlags, "step %d: record flags", i)
					require.Equal(t, stamp, info.Timestamp, "step %d", i)
					require.NotEmpty(t, info.Path)
				} else {
					require.Empty(t, r.payload)
				}
				status, io, data := c.read("k", 0, 0, 0)
				require.Equal(t, s.reads, status, "step %d: read", i)
				require.Equal(t, s.sees, data, "step %d: read", i)
				if s.status == wire.OK && s.reads == wire.OK && len(s.data) > 0 {
					require.Equal(t, stamp, io.Timestamp)
					require.EqualValues(t, i, io.UserFlags)
					require.EqualValues(t, len(s.sees), io.TotalSize)
					require.Equal(t, s.record, io.RecordFlags)
				}
			}
		})
	}
}

func TestDelUncommitted(t *testing.T) {
	c := dial(t, startNode(t))
	require.Equal(t, wire.OK, c.write("k", wire.IOAttr{Flags: prepare, Num: 4}, "ab").Status)
	require.Equal(t, wire.OK, c.del("k"))
	require.Equal(t, wire.ErrNotFound, c.del("k"))
	require.Equal(t, wire.ErrNotFound, c.write("k", wire.IOAttr{Flags: plain}, "ab").Status)
}

func TestCompareAndSwap(t *testing.T) {
	c := dial(t, startNode(t))
	sum := func(s string) [64]byte { return sha512.Sum512([]byte(s)) }
	cas := func(expected [64]byte, data string) wire.Status {
		t.Helper()
		return c.write("k", wire.IOAttr{Flags: wire.IOCompareAndSwap, Parent: expected}, data).Status
	}
	require.Equal(t, wire.OK, cas(sum("whatever"), "one"), "a missing record is accepted")
	require.Equal(t, wire.ErrConflict, cas([64]byte{}, "two"), "create only")
	require.Equal(t, wire.ErrConflict, cas(sum("two"), "two"))
	require.Equal(t, wire.OK, cas(sum("one"), "two"))
	_, _, data := c.read("k", 0, 0, 0)
	require.Equal(t, "two", data)

	require.Equal(t, wire.OK, c.write("k", wire.IOAttr{Flags: prepare, Num: 4}, "").Status)
	require.Equal(t, wire.OK, cas(sum("x"), "three"), "an uncommitted record counts as missing")

	require.Equal(t, wire.OK, c.write("k", wire.IOAttr{Flags: oneShot}, "").Status)
	require.Equal(t, wire.ErrConflict, cas(sum(""), "four"))
	require.Equal(t, wire.OK, cas([64]byte{}, "four"), "an empty record has the sum of zeros")
}

func TestCompareTimestamp(t *testing.T) {
	c := dial(t, startNode(t))
	at := func(flags wire.IOFlags, sec, nsec uint64) wire.Status {
		t.Helper()
		return c.write("k", wire.IOAttr{Flags: flags | wire.IOCASTimestamp, Timestamp: wire.Time{Sec: sec, Nsec: nsec}}, "x").Status
	}
	require.Equal(t, wire.OK, at(0, 10, 5))
	require.Equal(t, wire.OK, at(0, 10, 5), "the same is accepted")
	require.Equal(t, wire.ErrConflict, at(0, 10, 4))
	require.Equal(t, wire.ErrConflict, at(0, 9, 9))
	require.Equal(t, wire.ErrConflict, at(wire.IOCompareAndSwap, 9, 9), "compared before the checksum")
	require.Equal(t, wire.OK, at(0, 10, 6))
	require.Equal(t, wire.OK, c.write("k", wire.IOAttr{Timestamp: wire.Time{Sec: 1}}, "x").Status, "not compared unless asked")
}

// TestChecksumOfWrite asks for the checksum in the answer of every kind of
// write: it is that of the whole record.
func TestChecksumOfWrite(t *testing.T) {
	c := dial(t, startNode(t))
	write := func(io wire.IOAttr, data string) [64]byte {
		t.Helper()
		h, payload := c.writeRequest("k", &io, data)
		h.Flags |= wire.FlagChecksum
		r := c.call(h, payload)
		require.Equal(t, wire.OK, r.Status)
		var info wire.FileInfo
		require.NoError(t, info.Decode(r.payload))
		return info.Checksum
	}
	sum := func(s string) [64]byte { return sha512.Sum512([]byte(s)) }
	require.Equal(t, sum("0123456789"), write(wire.IOAttr{}, "0123456789"))
	require.Equal(t, sum("0123456789"), write(wire.IOAttr{}, ""))
	require.Equal(t, sum("01ab"), write(wire.IOAttr{Offset: 2}, "ab"))
	require.Equal(t, sum("01abc"), write(wire.IOAttr{Flags: wire.IOAppend}, "c"))
	require.Zero(t, write(wire.IOAttr{Flags: prepare, Num: 5}, "A"))
	require.Equal(t, sum("A1abZ"), write(wire.IOAttr{Flags: commit, Offset: 4, Num: 5}, "Z"))
	require.Zero(t, write(wire.IOAttr{Flags: oneShot, Num: 5}, ""))
}

func TestInvalidWrites(t *testing.T) {
	c := dial(t, startNode(t))
	id := key("k")
	h := wire.Header{ID: id, Group: 1, Command: wire.CmdWrite, Flags: wire.FlagNeedAck}

	require.Equal(t, wire.ErrInvalid, c.call(h).Status, "no io attribute")
	require.Equal(t, wire.ErrInvalid, c.call(h, make([]byte, 207)).Status)

	io := wire.IOAttr{ID: id, Size: 4}
	require.Equal(t, wire.ErrInvalid, c.call(h, io.Append(nil), []byte("abc")).Status, "less data than announced")
	io.Size = math.MaxUint64
	require.Equal(t, wire.ErrInvalid, c.call(h, io.Append(nil), []byte("abc")).Status)
	io.Size = 3
	io.ID = key("other")
	require.Equal(t, wire.ErrInvalid, c.call(h, io.Append(nil), []byte("abc")).Status, "one id in the header, another behind it")
	io.ID = id
	io.Size = 2
	require.Equal(t, wire.OK, c.call(h, io.Append(nil), []byte("abc")).Status, "what is too much is ignored")
	_, _, data := c.read("k", 0, 0, 0)
	require.Equal(t, "ab", data)

	require.Equal(t, wire.ErrNotSupported, c.write("k", wire.IOAttr{Flags: wire.IOCacheOnly | wire.IOCache}, "x").Status)
	require.Equal(t, wire.OK, c.write("k", wire.IOAttr{Flags: wire.IOCache, Start: 5}, "x").Status, "without a cache, to the disk")
	bare := c.write("k", wire.IOAttr{Flags: wire.IOWriteNoFileInfo}, "y")
	require.Equal(t, wire.OK, bare.Status)
	require.Empty(t, bare.payload)
}
