package layout

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// Scanner is a Store whose servers can be asked what they hold, by those who
// look for what no listing names.
type Scanner interface {
	Store
	// ID is what the servers know a key as.
	ID(key string) wire.ID
	// Scan calls f for every record of a group whose id is from first to last,
	// in any order; it ends with f's error. What is written, moved or removed
	// meanwhile may be missing, or come twice. Records of others are among
	// them: of another namespace, or of another program.
	Scan(ctx context.Context, group uint32, first, last wire.ID, f func(Found) error) error
	// ReadID is Read for a record whose key is not known.
	ReadID(ctx context.Context, group uint32, id wire.ID, offset, size uint64) (Value, error)
}

// Found is a record as Scan meets it.
type Found struct {
	ID        wire.ID
	Timestamp Timestamp
	Flags     uint64
	Size      uint64 // bytes
}

// RecordKind is what the user flags say of a record.
type RecordKind uint8

// The kinds of records.
const (
	RecordForeign RecordKind = iota // none of ours
	RecordFile
	RecordChunk
	RecordDir
	RecordTrash
	RecordOwner
	RecordCursor
)

func (k RecordKind) String() string {
	return [...]string{"foreign record", "file record", "chunk", "directory log", "trash log", "owner record", "trash cursor"}[k]
}

// Kind tells from the flags alone what the record claims to be.
func (f Found) Kind() RecordKind {
	if f.Flags&^0xff != flagsMagic || f.Flags&0xff > uint64(RecordCursor) {
		return RecordForeign
	}
	return RecordKind(f.Flags & 0xff)
}

// errForeign: the record is not of this filesystem, but, as it says itself, of
// another namespace on the same servers. Nobody here may touch it.
var errForeign = errors.New("belongs to another namespace")

// name is what a record says of itself.
type name struct {
	key  string
	path string // of files and directories; of chunks the one they were written for
	// Of chunks and owner records.
	content contentID
	extent  contentID
	number  int
	size    int
}

// identify reads as much of a record as tells its key, which proves itself: it
// must lead to the record's id. A record that is too damaged to tell is
// errDamaged.
func (fs *FS) identify(ctx context.Context, s Scanner, group uint32, f Found) (n name, err error) {
	switch f.Kind() {
	case RecordFile:
		err = fs.readID(ctx, s, group, f.ID, maxRecord, func(b []byte) error {
			r, err := decodeFile("", b)
			if err == nil {
				n.key, n.path = fileKey(r.path), r.path
			}
			return err
		})
	case RecordChunk:
		n, err = fs.identifyChunk(ctx, s, group, f)
	case RecordDir:
		if f.ID == s.ID(dirKey("/")) {
			return name{key: dirKey("/"), path: "/"}, nil
		}
		err = fs.readID(ctx, s, group, f.ID, 0, func(b []byte) error {
			n.path = logOwner(b)
			n.key = dirKey(n.path)
			return nil
		})
		if err == nil && n.path == "" {
			err = fmt.Errorf("%w: no entry tells its directory", errDamaged)
		}
	case RecordTrash:
		err = fs.readID(ctx, s, group, f.ID, 0, func(b []byte) error {
			eachTrash(b, func(e trashEntry) { n.key = trashKey(int64(e.ts / hour)) })
			return nil
		})
		if err == nil && n.key == "" {
			err = fmt.Errorf("%w: no good entry", errDamaged)
		}
	case RecordOwner:
		err = fs.readID(ctx, s, group, f.ID, maxRecord, func(b []byte) error {
			o, err := decodeOwners(b)
			if err == nil {
				n.key, n.content = ownerKey(o.id), o.id
			}
			return err
		})
	case RecordCursor:
		n.key = reapingKey
	default:
		return n, errForeign
	}
	if err != nil {
		return n, err
	}
	if s.ID(n.key) != f.ID {
		return n, errForeign
	}
	return n, nil
}

// readID reads up to size bytes of a record and hands them to f; 0 means all.
func (fs *FS) readID(ctx context.Context, s Scanner, group uint32, id wire.ID, size uint64, f func([]byte) error) error {
	v, err := s.ReadID(ctx, group, id, 0, size)
	if err != nil {
		return err
	}
	defer v.Release()
	return f(v.Data)
}

func (fs *FS) identifyChunk(ctx context.Context, s Scanner, group uint32, f Found) (n name, err error) {
	pathLen := 0
	err = fs.readID(ctx, s, group, f.ID, chunkHeader, func(h []byte) error {
		if len(h) < chunkHeader || string(h[:3]) != chunkMagic {
			return fmt.Errorf("%w: not a chunk", errDamaged)
		}
		n.extent, n.content = contentID(h[8:24]), contentID(h[24:40])
		n.number = int(binary.LittleEndian.Uint32(h[40:]))
		n.size = int(binary.LittleEndian.Uint32(h[44:]))
		pathLen = int(binary.LittleEndian.Uint32(h[48:]))
		return nil
	})
	if err != nil {
		return n, err
	}
	n.key = chunkKey(n.extent, n.number)
	if n.size > maxChunkSize || pathLen > maxPath || s.ID(n.key) != f.ID {
		// A chunk of another namespace would have a sound header.
		return n, fs.foreignOrDamaged(ctx, s, group, f.ID, n)
	}
	at := chunkDataAt(n.size) + n.size
	v, err := s.ReadID(ctx, group, f.ID, uint64(at), uint64(pathLen))
	if err != nil {
		return n, err
	}
	defer v.Release()
	if n.path = string(v.Data); len(n.path) != pathLen {
		return n, fmt.Errorf("%w: chunk cut off", errDamaged)
	}
	return n, nil
}

func (fs *FS) foreignOrDamaged(ctx context.Context, s Scanner, group uint32, id wire.ID, n name) error {
	if n.size > maxChunkSize {
		return fmt.Errorf("%w: header of a chunk", errDamaged)
	}
	return fs.readID(ctx, s, group, id, uint64(chunkDataAt(n.size)), func(h []byte) error {
		if _, err := parseChunk(n.extent, n.number, n.size, h); err != nil {
			return err
		}
		return errForeign
	})
}

// maxPath bounds the path that a chunk carries, in bytes; what is longer is
// damage.
const maxPath = 64 << 10

// logOwner is the path of the directory whose log b is; empty if no entry of b
// tells.
func logOwner(b []byte) (path string) {
	eachEntry(b, func(e logEntry, _ []byte) {
		if e.typ == entryUp && e.name != "" {
			path = e.name
		}
	})
	return path
}
