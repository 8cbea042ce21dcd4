package wire

// IteratorAction is what an ITERATOR request wants.
type IteratorAction uint32

// Actions. All but the first name a running iterator by its number.
const (
	IteratorStart    IteratorAction = 1
	IteratorPause    IteratorAction = 2
	IteratorContinue IteratorAction = 3
	IteratorCancel   IteratorAction = 4
)

// IteratorType is where an iterator's records go.
type IteratorType uint32

// Types. Servers answer -95 to the first.
const (
	IteratorDisk       IteratorType = 1
	IteratorNetwork    IteratorType = 2 // to the client
	IteratorServerSend IteratorType = 3 // to other groups
)

// IteratorFlags narrow what an iterator finds and say what it sends.
type IteratorFlags uint64

// Iterator flags. Move and Overwrite belong to IteratorServerSend.
const (
	IteratorData      IteratorFlags = 1 << 0 // the records' data too
	IteratorKeyRange  IteratorFlags = 1 << 1 // only keys within Ranges
	IteratorTimeRange IteratorFlags = 1 << 2 // only timestamps from Begin to End
	IteratorNoMeta    IteratorFlags = 1 << 3 // timestamps and user flags are not needed; servers send them all the same
	IteratorMove      IteratorFlags = 1 << 4
	IteratorOverwrite IteratorFlags = 1 << 5
)

// IDRange is a range of ids, both ends included.
type IDRange struct{ First, Last ID }

// Contains tells whether id lies in the range.
func (r IDRange) Contains(id ID) bool { return r.First.Compare(id) <= 0 && id.Compare(r.Last) <= 0 }

// EndOfTime is later than every timestamp. As both ends of an iterator's
// times it means that timestamps do not matter.
var EndOfTime = Time{Sec: 1<<64 - 1, Nsec: 1<<64 - 1}

// IteratorRequest is the payload of an ITERATOR request.
type IteratorRequest struct {
	Number      uint64 // of the iterator to pause, continue or cancel; 0 to start one
	Action      IteratorAction
	Begin, End  Time // with IteratorTimeRange; both included
	Type        IteratorType
	Flags       IteratorFlags
	SendTimeout uint32    // of a single copy, in seconds, with IteratorServerSend
	Ranges      []IDRange // with IteratorKeyRange
	Groups      []uint32  // with IteratorServerSend
}

const (
	iteratorRequestSize = 104
	idRangeSize         = 2 * IDSize
	// IteratorReplySize is the length of an iterator's answer before the data,
	// in bytes.
	IteratorReplySize = 140
)

// Append writes r to dst.
func (r *IteratorRequest) Append(dst []byte) []byte {
	dst = le.AppendUint64(dst, r.Number)
	dst = le.AppendUint32(dst, uint32(r.Action))
	dst = le.AppendUint64(dst, uint64(len(r.Ranges)))
	dst = appendTime(dst, r.Begin)
	dst = appendTime(dst, r.End)
	dst = le.AppendUint32(dst, uint32(r.Type))
	dst = le.AppendUint64(dst, uint64(r.Flags))
	dst = le.AppendUint32(dst, uint32(len(r.Groups)))
	dst = le.AppendUint32(dst, r.SendTimeout)
	dst = append(dst, make([]byte, 32)...)
	for i := range r.Ranges {
		dst = append(dst, r.Ranges[i].First[:]...)
		dst = append(dst, r.Ranges[i].Last[:]...)
	}
	for _, g := range r.Groups {
		dst = le.AppendUint32(dst, g)
	}
	return dst
}

// Decode reads r from the whole of src.
func (r *IteratorRequest) Decode(src []byte) error {
	if len(src) < iteratorRequestSize {
		return short("iterator request", len(src), iteratorRequestSize)
	}
	*r = IteratorRequest{
		Number:      le.Uint64(src),
		Action:      IteratorAction(le.Uint32(src[8:])),
		Begin:       timeAt(src[20:]),
		End:         timeAt(src[36:]),
		Type:        IteratorType(le.Uint32(src[52:])),
		Flags:       IteratorFlags(le.Uint64(src[56:])),
		SendTimeout: le.Uint32(src[68:]),
	}
	ranges, groups := le.Uint64(src[12:]), uint64(le.Uint32(src[64:]))
	src = src[iteratorRequestSize:]
	if ranges > uint64(len(src)/idRangeSize) || ranges*idRangeSize+groups*4 != uint64(len(src)) {
		return malformed("iterator request announces %d ranges and %d groups in %d bytes", ranges, groups, len(src))
	}
	if ranges > 0 {
		r.Ranges = make([]IDRange, ranges)
		for i := range r.Ranges {
			copy(r.Ranges[i].First[:], src)
			copy(r.Ranges[i].Last[:], src[IDSize:])
			src = src[idRangeSize:]
		}
	}
	for ; len(src) > 0; src = src[4:] {
		r.Groups = append(r.Groups, le.Uint32(src))
	}
	return nil
}

// IteratorReply is one record that an iterator has found. With IteratorData
// its data is what follows in the packet.
type IteratorReply struct {
	Number      uint64 // of the iterator
	Key         ID
	Status      int32 // 0; IteratorKeepAlive: there is no record in this packet
	Timestamp   Time
	UserFlags   uint64
	Size        uint64 // of the record, sent or not
	Iterated    uint64 // records that the iterator has come by
	Total       uint64 // records that there are
	RecordFlags uint64
}

// IteratorKeepAlive is the status of a packet that only says that the iterator
// is still at work: it has skipped many records.
const IteratorKeepAlive = 1

// Append writes the 140 bytes of r to dst.
func (r *IteratorReply) Append(dst []byte) []byte {
	dst = le.AppendUint64(dst, r.Number)
	dst = append(dst, r.Key[:]...)
	dst = le.AppendUint32(dst, uint32(r.Status))
	dst = appendTime(dst, r.Timestamp)
	dst = le.AppendUint64(dst, r.UserFlags)
	dst = le.AppendUint64(dst, r.Size)
	dst = le.AppendUint64(dst, r.Iterated)
	dst = le.AppendUint64(dst, r.Total)
	dst = le.AppendUint64(dst, r.RecordFlags)
	return le.AppendUint64(dst, 0)
}

// Decode reads r from the first 140 bytes of src. Size is not compared with
// what follows.
func (r *IteratorReply) Decode(src []byte) error {
	if len(src) < IteratorReplySize {
		return short("iterator answer", len(src), IteratorReplySize)
	}
	r.Number = le.Uint64(src)
	copy(r.Key[:], src[8:])
	r.Status = int32(le.Uint32(src[72:]))
	r.Timestamp = timeAt(src[76:])
	r.UserFlags = le.Uint64(src[92:])
	r.Size = le.Uint64(src[100:])
	r.Iterated = le.Uint64(src[108:])
	r.Total = le.Uint64(src[116:])
	r.RecordFlags = le.Uint64(src[124:])
	return nil
}

func appendTime(dst []byte, t Time) []byte {
	return le.AppendUint64(le.AppendUint64(dst, t.Sec), t.Nsec)
}

func timeAt(src []byte) Time { return Time{le.Uint64(src), le.Uint64(src[8:])} }
