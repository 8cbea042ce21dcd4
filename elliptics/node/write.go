package node

import (
	"crypto/sha512"
	"math"

	"github.com/elliptics-registry/elliptics-registry/elliptics/node/engine"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// write changes a record in one of the ways that the io flags name, all or
// nothing. The answer goes out when the change is on stable storage.
func write(r *request) wire.Status {
	n := r.conn.node
	if !r.hasAttr {
		return wire.ErrInvalid
	}
	if r.isReadOnly() {
		return wire.ErrReadOnly
	}
	if err := r.io.Decode(r.attr[:]); err != nil {
		return wire.ErrInvalid
	}
	io := &r.io
	data := r.payload()
	if io.Size > uint64(len(data)) {
		return wire.ErrInvalid
	}
	data = data[:io.Size]
	switch {
	case io.ID != r.hdr.ID:
		// A real server locks and compares one record and changes the other.
		return wire.ErrInvalid
	case io.Flags&wire.IOCacheOnly != 0:
		return wire.ErrNotSupported
	}

	var w writing
	var position func() (string, uint64)
	commit, err := r.store.Update(n.life, engine.Key(io.ID), func(old *engine.Snapshot) (*engine.Change, error) {
		if err := n.permitted(io, old); err != nil {
			return nil, err
		}
		var info *engine.Info
		if old != nil {
			i := old.Info()
			info = &i
		}
		var s wire.Status
		if w, s = planWrite(info, io); s != wire.OK {
			return nil, s
		}
		if w.nothing {
			w.change.Flags = info.Flags
			file, offset := old.Position()
			position = func() (string, uint64) { return file, offset }
			return nil, nil
		}
		if w.take > 0 {
			w.change.Data = [][]byte{data[:w.take]}
		}
		return &w.change, nil
	})
	if err != nil {
		return n.statusOf(r, err)
	}
	if position == nil {
		position = commit.Position
	}
	sum, s := r.writtenChecksum(&w, data)
	if s != wire.OK {
		return s
	}
	if s := r.settle(commit); s != wire.OK {
		return s
	}
	if io.Flags&wire.IOWriteNoFileInfo != 0 {
		return wire.OK
	}
	r.describe(engine.Info{Size: w.answer, Timestamp: engine.Time(io.Timestamp), Flags: w.change.Flags}, position)
	r.info.Checksum = sum
	r.send(packet{hdr: r.answer(), body: &r.info})
	return wire.OK
}

// permitted makes the comparisons of conditional writes. A missing or
// uncommitted record is always accepted.
func (n *Node) permitted(io *wire.IOAttr, old *engine.Snapshot) error {
	if io.Flags&(wire.IOCompareAndSwap|wire.IOCASTimestamp) == 0 || old == nil {
		return nil
	}
	info := old.Info()
	if info.Flags&wire.RecordUncommitted != 0 {
		return nil
	}
	if io.Flags&wire.IOCASTimestamp != 0 && wire.Time(info.Timestamp).Compare(io.Timestamp) > 0 {
		return wire.ErrConflict
	}
	if io.Flags&wire.IOCompareAndSwap != 0 {
		sum, err := n.checksum(old)
		if err != nil {
			return err
		}
		if sum != io.Parent {
			return wire.ErrConflict
		}
	}
	return nil
}

// writtenChecksum answers the SHA-512 of the record after the write, if the
// header asked for it. (The real server hashes the written range, or beyond
// it, depending on the kind of write.) Of an uncommitted record it is zero.
func (r *request) writtenChecksum(w *writing, data []byte) (sum [64]byte, s wire.Status) {
	n := r.conn.node
	switch {
	case r.hdr.Flags&wire.FlagChecksum == 0, w.change.Flags&wire.RecordUncommitted != 0:
		return sum, wire.OK
	case !w.nothing && w.change.Offset == 0 && w.change.Size == w.take && w.take > 0:
		return sha512.Sum512(data[:w.take]), wire.OK
	}
	snap, err := r.store.Get(n.life, engine.Key(r.hdr.ID))
	if err != nil {
		return sum, n.statusOf(r, err)
	}
	defer snap.Close()
	r.unlock()
	sum, err = n.checksum(snap)
	return sum, n.statusOf(r, err)
}

// writing is what becomes of a record by a WRITE.
type writing struct {
	change  engine.Change // without the data
	take    uint64        // bytes of the data that are kept
	nothing bool          // nothing changes
	answer  uint64        // the size that the answer speaks of
}

// planWrite decides what a write does to old, nil for a missing record. It
// holds all rules of the io flags except those of conditional writes.
//
// In a record that is not committed yet Info.Size is how far it was written,
// and Info.Reserved how far it may be. Where it was not written it keeps the
// bytes of the version before, and zeros behind that. A committed record keeps
// its reservation until it outgrows it.
func planWrite(old *engine.Info, io *wire.IOAttr) (w writing, s wire.Status) {
	end := io.Offset + io.Size
	if end < io.Offset || end > math.MaxInt64 || io.Num > math.MaxInt64 {
		return w, wire.ErrInvalid
	}
	uncommitted := old != nil && old.Flags&wire.RecordUncommitted != 0
	committed := old != nil && !uncommitted
	var room uint64 // that the record has
	if old != nil {
		room = max(old.Size, old.Reserved)
	}
	w = writing{
		change: engine.Change{
			Offset:    io.Offset,
			Size:      end,
			Timestamp: engine.Time(io.Timestamp),
			UserFlags: io.UserFlags,
			Flags:     wire.RecordExtHeader | wire.RecordChunkedCsum,
		},
		take:   io.Size,
		answer: end,
	}
	c := &w.change
	if io.Flags&wire.IONoChecksum != 0 {
		c.Flags |= wire.RecordNoChecksum
	}
	plain := io.Flags&wire.IOPlainWrite != 0
	prepare := io.Flags&wire.IOPrepare != 0
	commit := io.Flags&wire.IOCommit != 0

	switch {
	case prepare && (plain || io.Size == 0):
		// A record that has more room than is asked for keeps it.
		c.Reserved = max(io.Num, room)
		if end > c.Reserved {
			return w, wire.ErrTooBig
		}
		if commit {
			return w, wire.OK
		}
		c.Flags |= wire.RecordUncommitted
		w.answer = 0
		if old != nil {
			c.Size = max(end, old.Size)
		}
		if committed {
			w.answer = old.Size
		}
	case plain:
		switch {
		case old == nil:
			return w, wire.ErrNotFound
		case io.Size > 0 && end > room:
			return w, wire.ErrTooBig
		case committed:
			return w, wire.ErrPermission
		case commit && io.Num > old.Reserved:
			// The real server accepts a little more than was reserved, and
			// cannot read the record afterwards.
			return w, wire.ErrRange
		case commit:
			c.Size, c.Reserved = io.Num, old.Reserved
			w.take = min(io.Size, c.Size-min(io.Offset, c.Size))
			w.answer = io.Num
		case io.Size == 0:
			w.nothing, w.answer = true, 0
		default:
			c.Flags = old.Flags
			c.Size = max(end, old.Size)
			c.Reserved = old.Reserved
			w.answer = 0
		}
	case io.Size == 0 && commit:
		switch {
		case old == nil:
			return w, wire.ErrNotFound
		case committed:
			return w, wire.ErrPermission
		}
		w.nothing, w.answer = true, 0
	case io.Size == 0:
		if !committed {
			return w, wire.ErrNotFound
		}
		w.nothing, w.answer = true, old.Size
	case io.Flags&wire.IOAppend != 0:
		if committed {
			c.Offset += old.Size
			c.Size = c.Offset + io.Size
			if c.Offset < old.Size || c.Size > math.MaxInt64 {
				return w, wire.ErrInvalid
			}
			c.Flags |= wire.RecordAppended
			w.answer = io.Size
		}
		c.Reserved = keep(room, c.Size)
	case prepare:
		c.Reserved = max(io.Num, end, room)
	default:
		c.Reserved = keep(room, c.Size)
	}
	return w, wire.OK
}

// keep answers the room of a record that is written in place, none for one that
// is written anew because it has outgrown its own.
func keep(room, size uint64) uint64 {
	if size > room {
		return 0
	}
	return room
}
