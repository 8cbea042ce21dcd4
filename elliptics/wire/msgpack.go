package wire

import (
	"encoding/binary"
	"fmt"
	"math"
)

// The index tables use msgpack of 2012: its only string type is raw (today's
// str), without the short form of 8 bit lengths. Servers cannot read the types
// that were added later, so no library is used that might write them.

const (
	packFixArray = 0x90
	packFixRaw   = 0xa0
	packUint8    = 0xcc
	packUint16   = 0xcd
	packUint32   = 0xce
	packUint64   = 0xcf
	packRaw16    = 0xda
	packRaw32    = 0xdb
	packArray16  = 0xdc
	packArray32  = 0xdd

	// maxArray is more than the elements of any array that is accepted.
	maxArray = math.MaxInt32
)

var be = binary.BigEndian

func packArray(dst []byte, n int) []byte {
	switch {
	case n < 16:
		return append(dst, packFixArray|byte(n))
	case n <= math.MaxUint16:
		return be.AppendUint16(append(dst, packArray16), uint16(n))
	}
	return be.AppendUint32(append(dst, packArray32), uint32(n))
}

func packRaw(dst, b []byte) []byte {
	switch n := len(b); {
	case n < 32:
		dst = append(dst, packFixRaw|byte(n))
	case n <= math.MaxUint16:
		dst = be.AppendUint16(append(dst, packRaw16), uint16(n))
	default:
		dst = be.AppendUint32(append(dst, packRaw32), uint32(n))
	}
	return append(dst, b...)
}

func packUint(dst []byte, v uint64) []byte {
	switch {
	case v < 128:
		return append(dst, byte(v))
	case v <= math.MaxUint8:
		return append(dst, packUint8, byte(v))
	case v <= math.MaxUint16:
		return be.AppendUint16(append(dst, packUint16), uint16(v))
	case v <= math.MaxUint32:
		return be.AppendUint32(append(dst, packUint32), uint32(v))
	}
	return be.AppendUint64(append(dst, packUint64), v)
}

// unpacker reads msgpack. After the first error everything is zero.
type unpacker struct {
	rest []byte
	what string
	err  error
}

func (u *unpacker) fail(format string, args ...any) {
	if u.err == nil {
		u.err = malformed("%s: %s", u.what, fmt.Sprintf(format, args...))
	}
	u.rest = nil
}

// end is the error, if any; bytes that are left over are one.
func (u *unpacker) end() error {
	if len(u.rest) != 0 {
		u.fail("%d bytes too many", len(u.rest))
	}
	return u.err
}

// take is the next n bytes.
func (u *unpacker) take(n uint64) []byte {
	if n > uint64(len(u.rest)) {
		u.fail("ends early")
		return nil
	}
	b := u.rest[:n:n]
	u.rest = u.rest[n:]
	return b
}

// big is a big-endian number of n bytes, 0 when they are not there.
func (u *unpacker) big(n uint64) (v uint64) {
	for _, c := range u.take(n) {
		v = v<<8 | uint64(c)
	}
	return v
}

func (u *unpacker) first() byte {
	if b := u.take(1); b != nil {
		return b[0]
	}
	return 0
}

// array is the length of an array, which must lie in a range.
func (u *unpacker) array(least, most int) int {
	var n uint64
	switch c := u.first(); {
	case u.err != nil:
		return 0
	case c&0xf0 == packFixArray:
		n = uint64(c & 0x0f)
	case c == packArray16:
		n = u.big(2)
	case c == packArray32:
		n = u.big(4)
	default:
		u.fail("type %#x where an array is expected", c)
	}
	if u.err == nil && (n < uint64(least) || n > uint64(most)) {
		u.fail("array of %d elements", n)
	}
	if u.err != nil {
		return 0
	}
	return int(n)
}

func (u *unpacker) raw() []byte {
	var n uint64
	switch c := u.first(); {
	case u.err != nil:
		return nil
	case c&0xe0 == packFixRaw:
		n = uint64(c & 0x1f)
	case c == packRaw16:
		n = u.big(2)
	case c == packRaw32:
		n = u.big(4)
	default:
		u.fail("type %#x where raw bytes are expected", c)
	}
	return u.take(n)
}

func (u *unpacker) id(id *ID) {
	b := u.raw()
	if u.err == nil && len(b) != IDSize {
		u.fail("id of %d bytes", len(b))
	}
	copy(id[:], b)
}

func (u *unpacker) uint() uint64 {
	switch c := u.first(); {
	case c < 128:
		return uint64(c)
	case c >= packUint8 && c <= packUint64:
		return u.big(1 << (c - packUint8))
	default:
		u.fail("type %#x where a number is expected", c)
		return 0
	}
}

func (u *unpacker) uint32() uint32 {
	v := u.uint()
	if v > math.MaxUint32 {
		u.fail("number %d does not fit into 32 bits", v)
		return 0
	}
	return uint32(v)
}
