package layout

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// Every record of ours is framed alike: four bytes that tell kind and version,
// the CRC-32C of the rest, the rest.
const frameHeader = 8

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errDamaged: the bytes are not what was written. Another read or another
// group may have them.
var errDamaged = errors.New("damaged record")

// formatVersion is the last byte of each magic.
const formatVersion = 1

func beginFrame(magic string) []byte {
	b := make([]byte, frameHeader, 256)
	copy(b, magic)
	b[3] = formatVersion
	return b
}

func endFrame(b []byte) []byte {
	binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(b[frameHeader:], castagnoli))
	return b
}

func openFrame(magic string, b []byte) (*fields, error) {
	if len(b) < frameHeader {
		return nil, fmt.Errorf("%w: %d bytes", errDamaged, len(b))
	}
	if binary.LittleEndian.Uint32(b[4:]) != crc32.Checksum(b[frameHeader:], castagnoli) {
		return nil, fmt.Errorf("%w: checksum", errDamaged)
	}
	if string(b[:3]) != magic {
		return nil, fmt.Errorf("%w: not a record of this kind", errDamaged)
	}
	if b[3] != formatVersion {
		return nil, fmt.Errorf("record has format version %d, this program knows %d: use a newer one", b[3], formatVersion)
	}
	return &fields{b: b[frameHeader:]}, nil
}

// fields reads what append* wrote. Its error is sticky.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) uint() uint64 {
	v, n := binary.Uvarint(f.b)
	if n <= 0 {
		f.bad, f.b = true, nil
		return 0
	}
	f.b = f.b[n:]
	return v
}

// bytes returns a part of the input, not a copy.
func (f *fields) bytes() []byte {
	n := f.uint()
	if n > uint64(len(f.b)) {
		f.bad, f.b = true, nil
		return nil
	}
	v := f.b[:n]
	f.b = f.b[n:]
	return v
}

func (f *fields) id() (id contentID) {
	if len(f.b) < len(id) {
		f.bad, f.b = true, nil
		return id
	}
	copy(id[:], f.b)
	f.b = f.b[len(id):]
	return id
}

// count reads a number of items of which each takes at least one byte.
func (f *fields) count() int {
	n := f.uint()
	if n > uint64(len(f.b)) {
		f.bad, f.b = true, nil
		return 0
	}
	return int(n)
}

func (f *fields) err() error {
	if f.bad || len(f.b) != 0 {
		return fmt.Errorf("%w: fields", errDamaged)
	}
	return nil
}

// appendLength puts the length of a record before it, for a log of records.
func appendLength(record []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(make([]byte, 0, 4+len(record)), uint32(len(record))), record...)
}

// cutLength takes the first record off a log.
func cutLength(log []byte) (record, rest []byte, err error) {
	if len(log) < 4 {
		return nil, nil, fmt.Errorf("%w: %d bytes", errDamaged, len(log))
	}
	n := binary.LittleEndian.Uint32(log)
	if uint64(n) > uint64(len(log)-4) {
		return nil, nil, fmt.Errorf("%w: %d of %d bytes", errDamaged, len(log)-4, n)
	}
	return log[4 : 4+n], log[4+n:], nil
}

func appendBytes[T ~string | ~[]byte](dst []byte, v T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(v)))
	return append(dst, v...)
}
