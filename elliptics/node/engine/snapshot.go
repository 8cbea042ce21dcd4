package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"
	"sync"
	"sync/atomic"
)

// Snapshot is a record as it was: later changes do not show in it. It keeps
// the files that it needs until Close.
type Snapshot struct {
	store  *Store
	key    Key
	rec    *record
	closed atomic.Bool
}

func (s *Store) snapshot(key Key, r *record) (*Snapshot, bool) {
	if !s.pin(r) {
		return nil, false
	}
	return &Snapshot{store: s, key: key, rec: r}, true
}

// Info describes the record.
func (p *Snapshot) Info() Info { return p.rec.info }

// Position is where the record is: a file's name within the store's directory,
// and an offset.
func (p *Snapshot) Position() (file string, offset uint64) { return p.store.position(p.rec) }

func (s *Store) position(r *record) (file string, offset uint64) {
	id, offset := r.segment, r.pos+headerSize
	if len(r.extents) > 0 && r.extents[0].segment != 0 {
		e := r.extents[0]
		id, offset = e.segment, e.pos+headerSize+tableSize(e.dataLen)+e.skip
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.segments[id]; g != nil {
		file = filepath.Base(g.path)
	}
	return file, offset
}

// Close lets go of the files. It may be called again.
func (p *Snapshot) Close() {
	if !p.closed.Swap(true) {
		p.store.unpin(p.rec)
	}
}

// ReadAt fills b from an offset within the record. Every byte is verified:
// ErrCorrupt, with nothing promised about b, when one is not what was written.
// Behind the end of the record it fails with io.ErrUnexpectedEOF.
func (p *Snapshot) ReadAt(b []byte, off int64) error {
	if off < 0 || uint64(off)+uint64(len(b)) > p.rec.info.Size {
		return io.ErrUnexpectedEOF
	}
	at, end := uint64(off), uint64(off)+uint64(len(b))
	for _, e := range p.rec.extents {
		if e.at+e.n <= at {
			continue
		}
		if e.at >= end {
			break
		}
		if e.at > at { // a gap
			clear(b[:e.at-at])
			b, at = b[e.at-at:], e.at
		}
		n := min(end, e.at+e.n) - at
		if err := p.readExtent(e, at-e.at, b[:n]); err != nil {
			return fmt.Errorf("record %x: %w", p.key[:6], err)
		}
		b, at = b[n:], at+n
	}
	clear(b)
	return nil
}

// verifyStep is what is read at once, a number of whole blocks: what was just
// read is verified while it is in the processor's cache.
const verifyStep = 4 * blockSize

// blockBuffers hold what is read to be verified but not asked for.
var blockBuffers = sync.Pool{New: func() any { b := make([]byte, blockSize+headerSize+4); return &b }}

// readExtent fills b from an offset within an extent.
func (p *Snapshot) readExtent(e extent, off uint64, b []byte) error {
	if e.segment == 0 {
		return fmt.Errorf("%w: %d bytes are lost", ErrCorrupt, e.n)
	}
	p.store.mu.Lock()
	g := p.store.segments[e.segment]
	p.store.mu.Unlock()
	where := func(err error) error { return fmt.Errorf("%s at %d: %w", filepath.Base(g.path), e.pos, err) }
	from := e.skip + off // within the frame's data
	buf := blockBuffers.Get().(*[]byte)
	defer blockBuffers.Put(buf)
	if e.dataLen <= blockSize { // all of it in one read
		whole := (*buf)[:frameSize(e.dataLen)]
		if err := readFull(g, whole, e.pos); err != nil {
			return where(err)
		}
		table, err := p.checkHeader(g, e, whole)
		if err != nil {
			return where(err)
		}
		data := whole[headerSize+tableSize(e.dataLen):]
		if err := checkBlocks(table, 0, data); err != nil {
			return where(err)
		}
		copy(b, data[from:])
		return nil
	}
	head := make([]byte, headerSize+tableSize(e.dataLen))
	if err := readFull(g, head, e.pos); err != nil {
		return where(err)
	}
	table, err := p.checkHeader(g, e, head)
	if err != nil {
		return where(err)
	}
	base := e.pos + uint64(len(head))
	for len(b) > 0 {
		block := from / blockSize
		start := block * blockSize
		size := min(blockSize, e.dataLen-start)
		if from != start || uint64(len(b)) < size { // a part of a block
			data := (*buf)[:size]
			if err := readFull(g, data, base+start); err != nil {
				return where(err)
			}
			if err := checkBlocks(table, block, data); err != nil {
				return where(err)
			}
			n := copy(b, data[from-start:])
			b, from = b[n:], from+uint64(n)
			continue
		}
		n := uint64(len(b)) / blockSize * blockSize // whole blocks, straight into place
		if start+uint64(len(b)) == e.dataLen {
			n = uint64(len(b))
		}
		n = min(max(n, size), verifyStep)
		if err := readFull(g, b[:n], base+start); err != nil {
			return where(err)
		}
		if err := checkBlocks(table, block, b[:n]); err != nil {
			return where(err)
		}
		b, from = b[n:], from+n
	}
	return nil
}

// checkHeader verifies that head begins with the frame that e speaks of, and
// returns its table.
func (p *Snapshot) checkHeader(g *segment, e extent, head []byte) (table []byte, err error) {
	var f frame
	if err := f.decode(head, g.salt); err != nil {
		return nil, fmt.Errorf("%w: header of a frame", ErrCorrupt)
	}
	table = head[headerSize : headerSize+tableSize(e.dataLen)]
	if f.key != p.key || f.dataLen != e.dataLen || f.tableSum != crc32.Checksum(table, castagnoli) {
		return nil, fmt.Errorf("%w: header of a frame", ErrCorrupt)
	}
	return table, nil
}

func readFull(g *segment, b []byte, pos uint64) error {
	n, err := g.file.ReadAt(b, int64(pos))
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: the file ends early", ErrCorrupt)
	}
	return err
}

// position of the log.
type position struct {
	segment uint64
	offset  uint64
	seq     uint64
}

func (p position) encode() []byte {
	b := binary.AppendUvarint(nil, p.segment)
	b = binary.AppendUvarint(b, p.offset)
	return binary.AppendUvarint(b, p.seq)
}

func decodePosition(b []byte) (p position, ok bool) {
	for _, v := range []*uint64{&p.segment, &p.offset, &p.seq} {
		u, n := binary.Uvarint(b)
		if n <= 0 {
			return p, false
		}
		*v, b = u, b[n:]
	}
	return p, true
}
