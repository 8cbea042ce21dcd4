package layout

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"sync"
)

// A chunk is a header, the CRC-32C of each block of 64 KiB, the data, and the
// path that it was written for:
//
//	 0  4  "ERc", version
//	 4  4  CRC-32C of what follows up to the data
//	 8 16  id of the extent
//	24 16  id of the content
//	40  4  number
//	44  4  length of the data
//	48  4  length of the path
//	52  4  CRC-32C of the path
//	56  -  one CRC-32C for each block
//
// so that a part of it can be read and checked without the rest, and so that
// whoever finds a chunk can ask whether somebody needs it: the record of that
// path, or of those that the content's owner record names.
const (
	chunkMagic  = "ERc"
	chunkHeader = 56
	blockSize   = 64 << 10
)

func blocks(n int) int      { return (n + blockSize - 1) / blockSize }
func chunkDataAt(n int) int { return chunkHeader + 4*blocks(n) }

// buffer holds a chunk while it is filled and sent. Its data begins at a fixed
// place; the header is written right before it when its length is known.
type buffer struct {
	b    []byte
	room int // before the data
	n    int // bytes of data
}

func (b *buffer) free() []byte { return b.b[b.room+b.n:] }
func (b *buffer) data() []byte { return b.b[b.room : b.room+b.n] }

// seal writes the header and returns the whole chunk, up to the path.
func (b *buffer) seal(id, content contentID, number int, path string) []byte {
	start := b.room - chunkDataAt(b.n)
	h := b.b[start:b.room]
	copy(h, chunkMagic)
	h[3] = formatVersion
	copy(h[8:], id[:])
	copy(h[24:], content[:])
	binary.LittleEndian.PutUint32(h[40:], uint32(number))
	binary.LittleEndian.PutUint32(h[44:], uint32(b.n))
	binary.LittleEndian.PutUint32(h[48:], uint32(len(path)))
	binary.LittleEndian.PutUint32(h[52:], crc32.Checksum([]byte(path), castagnoli))
	data := b.data()
	for i := 0; i*blockSize < len(data); i++ {
		block := data[i*blockSize : min((i+1)*blockSize, len(data))]
		binary.LittleEndian.PutUint32(h[chunkHeader+4*i:], crc32.Checksum(block, castagnoli))
	}
	binary.LittleEndian.PutUint32(h[4:], crc32.Checksum(h[8:], castagnoli))
	return b.b[start : b.room+b.n]
}

// bufferPool reuses buffers: memory that the machine took back costs several
// times the usual when it is touched again. Small uploads use small ones.
type bufferPool struct {
	room  int
	sizes []int // of the data, ascending; the last is the chunk size

	mu   sync.Mutex
	free [][]*buffer
	keep int
}

func newBufferPool(chunkSize int) *bufferPool {
	p := &bufferPool{room: chunkDataAt(chunkSize), keep: 16}
	for s := inlineLimit; s < chunkSize; s *= 4 {
		p.sizes = append(p.sizes, s)
	}
	p.sizes = append(p.sizes, chunkSize)
	p.free = make([][]*buffer, len(p.sizes))
	return p
}

// get returns an empty buffer with room for at least n bytes of data, or for a
// whole chunk.
func (p *bufferPool) get(n int) *buffer {
	class := 0
	for class < len(p.sizes)-1 && p.sizes[class] < n {
		class++
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if l := len(p.free[class]); l > 0 {
		b := p.free[class][l-1]
		p.free[class] = p.free[class][:l-1]
		return b
	}
	return &buffer{b: make([]byte, p.room+p.sizes[class]), room: p.room}
}

// put takes a buffer back. Nobody may use it any more.
func (p *bufferPool) put(b *buffer) {
	b.n = 0
	p.mu.Lock()
	defer p.mu.Unlock()
	for class, s := range p.sizes {
		if len(b.b) == p.room+s && len(p.free[class]) < p.keep {
			p.free[class] = append(p.free[class], b)
			return
		}
	}
}

// writeChunk sends a sealed chunk to all groups. done is called when no
// request uses it any more.
func (fs *FS) writeChunk(ctx context.Context, id contentID, n int, sealed []byte, path string, ts Timestamp, done func()) error {
	return fs.cluster.write(ctx, func(ctx context.Context, g uint32) error {
		return fs.cluster.store.Write(ctx, g, chunkKey(id, n), Write{
			Data: [][]byte{sealed, []byte(path)}, Timestamp: ts, Flags: flagsChunk,
		})
	}, done)
}

// chunkTable is the header of a chunk as read.
type chunkTable struct {
	size int
	sums []byte
}

// parseChunk reads the header at the start of b, which holds at least that of
// a chunk of want bytes.
func parseChunk(id contentID, n, want int, b []byte) (chunkTable, error) {
	if len(b) < chunkDataAt(want) {
		return chunkTable{}, fmt.Errorf("%w: chunk of %d bytes", errDamaged, len(b))
	}
	h := b[:chunkDataAt(want)]
	if string(h[:3]) == chunkMagic && h[3] != formatVersion {
		return chunkTable{}, fmt.Errorf("chunk has format version %d, this program knows %d: use a newer one", h[3], formatVersion)
	}
	if string(h[:3]) != chunkMagic || binary.LittleEndian.Uint32(h[4:]) != crc32.Checksum(h[8:], castagnoli) ||
		contentID(h[8:24]) != id || binary.LittleEndian.Uint32(h[40:]) != uint32(n) ||
		binary.LittleEndian.Uint32(h[44:]) != uint32(want) {
		return chunkTable{}, fmt.Errorf("%w: header of chunk %d", errDamaged, n)
	}
	return chunkTable{size: want, sums: h[chunkHeader:]}, nil
}

// check verifies whole blocks of data, the first of which is number first.
func (t chunkTable) check(first int, data []byte) error {
	for i := 0; i*blockSize < len(data); i++ {
		block := data[i*blockSize : min((i+1)*blockSize, len(data))]
		if binary.LittleEndian.Uint32(t.sums[4*(first+i):]) != crc32.Checksum(block, castagnoli) {
			return fmt.Errorf("%w: block %d of a chunk", errDamaged, first+i)
		}
	}
	return nil
}

func (fs *FS) readBlocksOf(ctx context.Context, group uint32, id contentID, n, size, from, to int, table *chunkTable) (v Value, data []byte, t chunkTable, err error) {
	key, base := chunkKey(id, n), chunkDataAt(size)
	read := func(from, to int) (Value, error) {
		v, err := fs.cluster.store.Read(ctx, group, key, uint64(from), uint64(to-from))
		if err == nil && len(v.Data) != to-from {
			v.Release()
			return Value{}, fmt.Errorf("%w: %d of %d bytes", errDamaged, len(v.Data), to-from)
		}
		return v, err
	}
	switch {
	case table != nil:
		t = *table
	case from > 0: // the header is far away: two reads
		h, err := read(0, base)
		if err != nil {
			return v, nil, t, err
		}
		t, err = parseChunk(id, n, size, append([]byte(nil), h.Data...))
		h.Release()
		if err != nil {
			return v, nil, t, err
		}
	default: // one read for both
		v, err = read(0, base+to)
		if err != nil {
			return v, nil, t, err
		}
		t, err = parseChunk(id, n, size, v.Data)
		if err == nil {
			data = v.Data[base:]
			t.sums = append([]byte(nil), t.sums...) // outlives the data
			err = t.check(0, data)
		}
		if err != nil {
			v.Release()
			return Value{}, nil, t, err
		}
		return v, data, t, nil
	}
	v, err = read(base+from, base+to)
	if err != nil {
		return v, nil, t, err
	}
	if err := t.check(from/blockSize, v.Data); err != nil {
		v.Release()
		return Value{}, nil, t, err
	}
	return v, v.Data, t, nil
}
