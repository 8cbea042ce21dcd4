package node

import (
	"crypto/sha512"

	"github.com/elliptics-registry/elliptics-registry/elliptics/node/engine"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// lookup answers where a record is and what it looks like. Records that are
// uncommitted or empty count as missing, as on a real server.
func lookup(r *request) wire.Status {
	n := r.conn.node
	snap, err := r.store.Get(n.life, engine.Key(r.hdr.ID))
	if err != nil {
		return n.statusOf(r, err)
	}
	r.unlock()
	info := snap.Info()
	if info.Flags&wire.RecordUncommitted != 0 || info.Size == 0 {
		snap.Close()
		return wire.ErrNotFound
	}
	r.describe(info, snap.Position)
	if r.hdr.Flags&wire.FlagChecksum != 0 {
		if r.info.Checksum, err = n.checksum(snap); err != nil {
			snap.Close()
			return n.statusOf(r, err)
		}
	}
	snap.Close()
	r.send(packet{hdr: r.answer(), body: &r.info})
	return wire.OK
}

// describe fills in the answer of LOOKUP and WRITE.
func (r *request) describe(info engine.Info, position func() (file string, offset uint64)) {
	file, offset := position()
	r.info = wire.FileInfo{
		Addr:        r.conn.addr,
		RecordFlags: info.Flags,
		Size:        info.Size,
		Offset:      offset,
		Timestamp:   wire.Time(info.Timestamp),
		Path:        file,
	}
}

// pieceSize is what a long record is read by.
const pieceSize = 1 << 20

// checksum is the SHA-512 of a whole record; of an empty one 64 zero bytes.
func (n *Node) checksum(snap *engine.Snapshot) (sum [64]byte, err error) {
	size := snap.Info().Size
	if size == 0 {
		return sum, nil
	}
	buf, err := n.answers.get(n.life, int64(min(size, pieceSize)))
	if err != nil {
		return sum, err
	}
	defer buf.free()
	h := sha512.New()
	err = n.readPieces(snap, 0, size, buf.b, func(piece []byte) error {
		h.Write(piece)
		return nil
	})
	h.Sum(sum[:0])
	return sum, err
}

// readPieces reads a range into buf again and again.
func (n *Node) readPieces(snap *engine.Snapshot, offset, size uint64, buf []byte, use func([]byte) error) error {
	for size > 0 {
		piece := buf[:min(size, uint64(len(buf)))]
		if err := n.readAt(snap, piece, offset); err != nil {
			return err
		}
		if err := use(piece); err != nil {
			return err
		}
		offset += uint64(len(piece))
		size -= uint64(len(piece))
	}
	return nil
}

// readAt reads from the disk when it is its turn.
func (n *Node) readAt(snap *engine.Snapshot, p []byte, offset uint64) error {
	n.disk <- struct{}{}
	defer func() { <-n.disk }()
	return snap.ReadAt(p, int64(offset))
}
