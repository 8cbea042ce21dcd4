package node

import (
	"crypto/sha512"
	"hash"

	"github.com/elliptics-registry/elliptics-registry/elliptics/node/engine"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// maxBuffered is up to how many bytes a record is read into memory before it
// is sent. More is verified first and read again while it is sent.
const maxBuffered = 16 << 20

// read answers the bytes of a record. The record is the one that the io
// attribute names; the header's id has decided who reads it and when.
//
// Damage is found before anything is sent, also where the client asked not
// to verify (NOCSUM): what does not match its checksum is never given out.
func read(r *request) wire.Status {
	if !r.hasAttr {
		return wire.ErrInvalid
	}
	if err := r.io.Decode(r.attr[:]); err != nil {
		return wire.ErrInvalid
	}
	p, s := r.readRecord(&r.io)
	if s != wire.OK {
		return s
	}
	p.hdr = r.answer()
	p.hdr.ID = r.io.ID
	r.send(p)
	return wire.OK
}

// readRecord reads what io asks for, makes io the attribute of the answer, and
// prepares its packet. The key is given back as soon as the record's contents
// are settled.
func (r *request) readRecord(io *wire.IOAttr) (packet, wire.Status) {
	n := r.conn.node
	if io.Flags&wire.IOCacheOnly != 0 {
		return packet{}, wire.ErrNotSupported
	}
	snap, err := r.store.Get(n.life, engine.Key(io.ID))
	if err != nil {
		return packet{}, n.statusOf(r, err)
	}
	r.unlock()
	info := snap.Info()
	total := info.Size
	switch {
	case info.Flags&wire.RecordUncommitted != 0:
		snap.Close()
		return packet{}, wire.ErrNotFound
	case io.Offset >= max(total, 1): // from the start an empty record can be read
		snap.Close()
		return packet{}, wire.ErrTooBig
	}
	size := total - min(io.Offset, total)
	if io.Size != 0 {
		size = min(size, io.Size)
	}
	offset := io.Offset
	io.Timestamp = wire.Time(info.Timestamp)
	io.UserFlags = info.UserFlags
	io.TotalSize = total
	io.RecordFlags = info.Flags
	io.Size = size
	if size > maxBuffered {
		return r.streamRecord(io, snap, offset)
	}
	p := packet{body: io}
	if size > 0 {
		p.data, err = r.lend(int64(size))
		if err == nil {
			err = n.readAt(snap, p.data.b, offset)
		}
	}
	snap.Close()
	if err != nil {
		p.data.free()
		return packet{}, n.statusOf(r, err)
	}
	if io.Flags&wire.IOChecksum != 0 {
		// Of an empty record the real server answers the checksum of what
		// happens to follow it on disk. 64 zero bytes is what the same server
		// expects in a compare-and-swap.
		io.Parent = [64]byte{}
		if size > 0 {
			io.Parent = sha512.Sum512(p.data.b)
		}
	}
	return p, wire.OK
}

// streamRecord prepares an answer that is too large for memory.
func (r *request) streamRecord(io *wire.IOAttr, snap *engine.Snapshot, offset uint64) (packet, wire.Status) {
	var h hash.Hash
	if io.Flags&wire.IOChecksum != 0 {
		h = sha512.New()
	}
	s, err := r.verified(snap, offset, io.Size, h)
	if err != nil {
		snap.Close()
		return packet{}, r.conn.node.statusOf(r, err)
	}
	if h != nil {
		h.Sum(io.Parent[:0])
	}
	return packet{body: io, streamed: io.Size, stream: s}, wire.OK
}

// verified reads a range of a record, into h unless that is nil, and prepares
// to send it. It takes over snap unless it fails.
func (r *request) verified(snap *engine.Snapshot, offset, size uint64, h hash.Hash) (*recordStream, error) {
	n := r.conn.node
	buf, err := r.lend(pieceSize)
	if err != nil {
		return nil, err
	}
	err = n.readPieces(snap, offset, size, buf.b, func(piece []byte) error {
		if h != nil {
			h.Write(piece)
		}
		return nil
	})
	if err != nil {
		buf.free()
		return nil, err
	}
	r.backend.hold()
	return &recordStream{node: n, backend: r.backend, snap: snap, buf: buf, offset: offset, size: size}, nil
}

// recordStream is a range of a record that is read while it is sent. It holds
// the backend and memory for one piece until then.
type recordStream struct {
	node         *Node
	backend      *backend
	snap         *engine.Snapshot
	buf          *buffer
	offset, size uint64
}

func (s *recordStream) writeTo(write func(...[]byte) error) error {
	return s.node.readPieces(s.snap, s.offset, s.size, s.buf.b, func(piece []byte) error { return write(piece) })
}

func (s *recordStream) free() {
	s.buf.free()
	s.snap.Close()
	s.backend.release()
}
