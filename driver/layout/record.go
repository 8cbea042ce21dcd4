package layout

import (
	"encoding/binary"
	"fmt"
	"sort"
)

// inlineLimit is how much content sits in the file record itself: links, tags,
// most manifests and configurations then cost one read. It is part of the
// format: a directory entry of at most this size promises a record without
// chunks.
const inlineLimit = 64 << 10

const fileMagic = "ERf"

type fileState uint8

const (
	stateFile      fileState = 1 // committed, readable
	stateOpen      fileState = 2 // being written; resumable, not readable
	stateTombstone fileState = 3 // deleted
	// stateQuarantined: committed, but a part of the content is lost in every
	// group; see quarantine.go.
	stateQuarantined fileState = 4
)

// fileRecord is the record of a path.
//
//	uvarint state, timestamp, modification time (ns since 1970)
//	bytes   path
//	content id, extents {id, chunk size, size}
//	bytes   inline: the content behind the extents
//	count   attributes {bytes name, bytes value}
type fileRecord struct {
	state  fileState
	ts     Timestamp
	mtime  Timestamp
	path   string // guards against an answer for another key
	data   content
	inline []byte
	attrs  map[string][]byte
}

func (r *fileRecord) size() int64 { return int64(r.data.size()) + int64(len(r.inline)) }

func (r *fileRecord) encode() []byte {
	b := beginFrame(fileMagic)
	b = binary.AppendUvarint(b, uint64(r.state))
	b = binary.AppendUvarint(b, uint64(r.ts))
	b = binary.AppendUvarint(b, uint64(r.mtime))
	b = appendBytes(b, r.path)
	b = r.data.append(b)
	b = appendBytes(b, r.inline)
	b = binary.AppendUvarint(b, uint64(len(r.attrs)))
	names := make([]string, 0, len(r.attrs))
	for name := range r.attrs {
		names = append(names, name)
	}
	sort.Strings(names) // the same record always has the same bytes
	for _, name := range names {
		b = appendBytes(b, name)
		b = appendBytes(b, r.attrs[name])
	}
	return endFrame(b)
}

// decodeFile reads the record of path, or, if that is empty, of whichever path
// the record names. The result keeps no reference to b.
func decodeFile(path string, b []byte) (*fileRecord, error) {
	f, err := openFrame(fileMagic, b)
	if err != nil {
		return nil, err
	}
	r := &fileRecord{
		state: fileState(f.uint()),
		ts:    Timestamp(f.uint()),
		mtime: Timestamp(f.uint()),
		path:  string(f.bytes()),
	}
	r.data = f.content()
	r.inline = append([]byte(nil), f.bytes()...)
	for range f.count() {
		name := string(f.bytes())
		value := append([]byte(nil), f.bytes()...)
		if f.bad {
			break
		}
		if r.attrs == nil {
			r.attrs = make(map[string][]byte)
		}
		r.attrs[name] = value
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	if path != "" && r.path != path {
		return nil, fmt.Errorf("%w: it belongs to %q", errDamaged, r.path)
	}
	if r.state < stateFile || r.state > stateQuarantined {
		return nil, fmt.Errorf("%w: state %d", errDamaged, r.state)
	}
	return r, nil
}
