package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

const (
	headerSize  = 160
	blockSize   = 64 << 10 // of data, under one checksum
	frameMagic  = "ELS\x01"
	maxDataSize = 1 << 32 // of one frame
)

type frameKind uint8

const (
	kindPut    frameKind = 1
	kindDelete frameKind = 2
	kindCopy   frameKind = 3
	kindVoid   frameKind = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errNoFrame: there is no good frame at a place.
var errNoFrame = errors.New("no frame")

// frame is a header without its data.
type frame struct {
	seq      uint64
	key      Key
	kind     frameKind
	dataLen  uint64
	offset   uint64
	info     Info
	keep     uint64 // of a put
	version  uint64 // of a delete or a copy; of a put it is seq
	durable  uint64 // all frames up to this one were on stable storage before
	tableSum uint32
}

func blocks(n uint64) uint64 { return (n + blockSize - 1) / blockSize }

func tableSize(dataLen uint64) uint64 { return 4 * blocks(dataLen) }

func frameSize(dataLen uint64) uint64 { return headerSize + tableSize(dataLen) + dataLen }

// appendTable adds the checksums of data, which comes in pieces.
func appendTable(dst []byte, data [][]byte) []byte {
	sum, fill := uint32(0), 0
	for _, d := range data {
		for len(d) > 0 {
			n := min(len(d), blockSize-fill)
			sum = crc32.Update(sum, castagnoli, d[:n])
			if fill += n; fill == blockSize {
				dst = binary.LittleEndian.AppendUint32(dst, sum)
				sum, fill = 0, 0
			}
			d = d[n:]
		}
	}
	if fill > 0 {
		dst = binary.LittleEndian.AppendUint32(dst, sum)
	}
	return dst
}

// appendHeader adds to dst, which is empty, the room for a header, and the
// table.
func (f *frame) appendHeader(dst []byte, data [][]byte) []byte {
	dst = append(dst, make([]byte, headerSize)...)
	dst = appendTable(dst, data)
	f.tableSum = crc32.Checksum(dst[headerSize:], castagnoli)
	return dst
}

// maxBehind is the largest distance to the durable frames that a header holds.
const maxBehind = 1<<24 - 1

// seal fills in a header, for a segment of the given salt.
func (f *frame) seal(h []byte, salt uint32) {
	le := binary.LittleEndian
	copy(h, frameMagic)
	le.PutUint64(h[8:], f.seq)
	copy(h[16:], f.key[:])
	behind := min(f.seq-f.durable, maxBehind)
	le.PutUint32(h[80:], uint32(f.kind)|uint32(behind)<<8)
	le.PutUint32(h[84:], f.tableSum)
	le.PutUint64(h[88:], f.dataLen)
	le.PutUint64(h[96:], f.offset)
	le.PutUint64(h[104:], f.info.Size)
	le.PutUint64(h[112:], f.info.Reserved)
	le.PutUint64(h[120:], f.info.Timestamp.Sec)
	le.PutUint64(h[128:], f.info.Timestamp.Nsec)
	le.PutUint64(h[136:], f.info.UserFlags)
	le.PutUint64(h[144:], f.info.Flags)
	if f.kind == kindPut {
		le.PutUint64(h[152:], f.keep)
	} else {
		le.PutUint64(h[152:], f.version)
	}
	le.PutUint32(h[4:], crc32.Update(salt, castagnoli, h[8:headerSize]))
}

// decode reads a header. The data is not looked at.
func (f *frame) decode(h []byte, salt uint32) error {
	le := binary.LittleEndian
	if len(h) < headerSize || string(h[:4]) != frameMagic || le.Uint32(h[4:]) != crc32.Update(salt, castagnoli, h[8:headerSize]) {
		return errNoFrame
	}
	f.seq = le.Uint64(h[8:])
	copy(f.key[:], h[16:])
	f.kind = frameKind(h[80])
	f.durable = f.seq - min(uint64(le.Uint32(h[80:])>>8), f.seq)
	f.tableSum = le.Uint32(h[84:])
	f.dataLen = le.Uint64(h[88:])
	f.offset = le.Uint64(h[96:])
	f.info = Info{
		Size: le.Uint64(h[104:]), Reserved: le.Uint64(h[112:]),
		Timestamp: Time{le.Uint64(h[120:]), le.Uint64(h[128:])},
		UserFlags: le.Uint64(h[136:]), Flags: le.Uint64(h[144:]),
	}
	if f.kind == kindPut {
		f.keep, f.version = le.Uint64(h[152:]), f.seq
	} else {
		f.keep, f.version = 0, le.Uint64(h[152:])
	}
	if f.kind < kindPut || f.kind > kindVoid || f.dataLen > maxDataSize {
		return errNoFrame
	}
	return nil
}

// checkBlocks verifies whole blocks of data, of which the first has the number
// first, against a frame's table.
func checkBlocks(table []byte, first uint64, data []byte) error {
	for i := uint64(0); i*blockSize < uint64(len(data)); i++ {
		block := data[i*blockSize : min((i+1)*blockSize, uint64(len(data)))]
		if binary.LittleEndian.Uint32(table[4*(first+i):]) != crc32.Checksum(block, castagnoli) {
			return fmt.Errorf("%w: block %d of a frame", ErrCorrupt, first+i)
		}
	}
	return nil
}
