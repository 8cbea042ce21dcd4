package engine

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// extent is a part of a record that lies in one frame.
type extent struct {
	at      uint64 // in the record
	n       uint64
	segment uint64 // 0: these bytes are lost
	pos     uint64 // of the frame
	dataLen uint64 // of the frame
	skip    uint64 // in the frame's data
}

// record is what the index knows of a key. It is never changed: a change makes
// a new one.
type record struct {
	info    Info
	version uint64 // sequence number of the last change
	segment uint64 // where the frame of the last change or copy is
	pos     uint64
	extents []extent // in order, without overlaps; zeros between them
}

// truncate cuts the extents at size.
func truncate(extents []extent, size uint64) []extent {
	out := make([]extent, 0, len(extents)+1)
	for _, e := range extents {
		if e.at >= size {
			break
		}
		e.n = min(e.n, size-e.at)
		out = append(out, e)
	}
	return out
}

// overlay lays e over the extents.
func overlay(extents []extent, e extent) []extent {
	if e.n == 0 {
		return extents
	}
	end := e.at + e.n
	out := make([]extent, 0, len(extents)+2)
	placed := false
	for _, o := range extents {
		oEnd := o.at + o.n
		if oEnd <= e.at {
			out = append(out, o)
			continue
		}
		if o.at < e.at {
			left := o
			left.n = e.at - o.at
			out = append(out, left)
		}
		if !placed {
			out, placed = append(out, e), true
		}
		if oEnd > end {
			right := o
			if o.at < end {
				right.skip += end - o.at
				right.at, right.n = end, oEnd-end
			}
			out = append(out, right)
		}
	}
	if !placed {
		out = append(out, e)
	}
	return out
}

// apply makes the record that a frame leaves behind; nil for a deletion. It
// reports false for a frame that is older than what is there.
func (r *record) apply(f *frame, segment, pos uint64) (*record, bool) {
	var have record
	if r != nil {
		have = *r
	}
	next := &record{info: f.info, version: f.version, segment: segment, pos: pos}
	data := extent{at: f.offset, n: f.dataLen, segment: segment, pos: pos, dataLen: f.dataLen}
	switch f.kind {
	case kindDelete:
		return nil, f.version >= have.version
	case kindPut:
		if f.version < have.version {
			return r, false
		}
		next.extents = truncate(have.extents, f.keep)
		if have.info.Size < f.keep { // its base is missing
			next.extents = append(next.extents, extent{at: have.info.Size, n: f.keep - have.info.Size})
		}
		next.extents = truncate(overlay(next.extents, data), f.info.Size)
	case kindCopy:
		if f.version < have.version {
			return r, false
		}
		next.extents = have.extents
		if f.version > have.version { // what it copies a part of is missing
			next.extents = []extent{{n: f.info.Size}}
		}
		next.extents = truncate(overlay(next.extents, data), f.info.Size)
	default:
		return r, false
	}
	return next, true
}

// encode is the record as the index holds it.
func (r *record) encode() []byte {
	b := make([]byte, 0, 64+16*len(r.extents))
	for _, v := range []uint64{
		r.info.Size, r.info.Reserved, r.info.Timestamp.Sec, r.info.Timestamp.Nsec, r.info.UserFlags, r.info.Flags,
		r.version, r.segment, r.pos, uint64(len(r.extents)),
	} {
		b = binary.AppendUvarint(b, v)
	}
	for _, e := range r.extents {
		for _, v := range []uint64{e.at, e.n, e.segment, e.pos, e.dataLen, e.skip} {
			b = binary.AppendUvarint(b, v)
		}
	}
	return b
}

func decodeRecord(b []byte) (*record, error) {
	bad := false
	next := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			bad, b = true, nil
			return 0
		}
		b = b[n:]
		return v
	}
	r := &record{}
	r.info = Info{Size: next(), Reserved: next(), Timestamp: Time{next(), next()}, UserFlags: next(), Flags: next()}
	r.version, r.segment, r.pos = next(), next(), next()
	count := next()
	if bad || count > uint64(len(b)) {
		return nil, fmt.Errorf("%w: index entry", ErrCorrupt)
	}
	r.extents = make([]extent, 0, count)
	for range count {
		r.extents = append(r.extents, extent{next(), next(), next(), next(), next(), next()})
	}
	if bad || len(b) != 0 {
		return nil, fmt.Errorf("%w: index entry", ErrCorrupt)
	}
	return r, nil
}

// weigh adds what the record needs of each segment to live, sign times.
func (r *record) weigh(live map[uint64]int64, sign int64) {
	if r == nil {
		return
	}
	live[r.segment] += sign * headerSize
	for _, e := range r.extents {
		if e.segment != 0 {
			live[e.segment] += sign * int64(e.n)
		}
	}
}

// needs tells whether the record has anything in a segment.
func (r *record) needs(segment uint64) bool {
	return r != nil && (r.segment == segment || slices.ContainsFunc(r.extents, func(e extent) bool { return e.segment == segment }))
}

const (
	// maxExtents is how many extents a record may have before an append
	// merges the last of them, which keeps their number logarithmic.
	maxExtents = 32
	// mergeSize bounds what one append rewrites, in bytes.
	mergeSize = 4 << 20
)

// mergeFrom chooses the extents that an append of n bytes rewrites along with
// it: the number of the first one, or len(extents).
func mergeFrom(extents []extent, size, n uint64) int {
	count := len(extents)
	if count < maxExtents {
		return count
	}
	sum, end, i := n, size, count
	for i > 0 {
		e := extents[i-1]
		if e.at+e.n != end || e.segment == 0 || sum+e.n > mergeSize || (count-i >= maxExtents/2 && e.n > sum) {
			break
		}
		sum, end = sum+e.n, e.at
		i--
	}
	return i
}
