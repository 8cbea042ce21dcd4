package layout

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Kind is what a name in a directory stands for.
type Kind uint8

// The kinds of names.
const (
	KindFile Kind = 1
	KindOpen Kind = 2 // a file that is being written
	KindDir  Kind = 3
)

type entryType uint8

// The entries of a directory's log. A name's state is its newest LINK or
// UNLINK (a tie: UNLINK); a CLEAR hides every file whose LINK is not newer.
const (
	entryLink   entryType = 1 // the name exists; comes before its record
	entryUnlink entryType = 2 // the name is gone; comes after its tombstone
	// entryFence begins the deletion of the directory: who creates something
	// with a timestamp at or below it starts over, who creates something
	// newer links the directory in its parent again. It hides nothing.
	entryFence entryType = 3
	// entryClear ends the deletion: all files at or below it have tombstones.
	entryClear entryType = 4
	// entryUp says that the directory was linked in its parent at this time.
	// Its name is the directory's path: it tells whose log this is.
	entryUp entryType = 5
)

// maxName bounds a path's component, in bytes.
const maxName = 1024

// An entry is framed as one byte 0xE1, the length of the body (u16), the
// CRC-32C of the body (u32), and the body: type, timestamp, and for LINK the
// kind, size and name, for UNLINK the name, for UP the path if it is short
// enough. A reader that meets something else
// goes on at the next good frame.
const (
	entryMagic  = 0xE1
	entryHeader = 7
	maxEntry    = maxName + 64
)

type logEntry struct {
	typ  entryType
	ts   Timestamp
	kind Kind
	size uint64
	name string
}

func (e *logEntry) append(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, entryMagic, 0, 0, 0, 0, 0, 0)
	dst = append(dst, byte(e.typ))
	dst = binary.AppendUvarint(dst, uint64(e.ts))
	switch e.typ {
	case entryLink:
		dst = append(dst, byte(e.kind))
		dst = binary.AppendUvarint(dst, e.size)
		dst = append(dst, e.name...)
	case entryUnlink, entryUp:
		dst = append(dst, e.name...)
	}
	body := dst[start+entryHeader:]
	binary.LittleEndian.PutUint16(dst[start+1:], uint16(len(body)))
	binary.LittleEndian.PutUint32(dst[start+3:], crc32.Checksum(body, castagnoli))
	return dst
}

// nextEntry reads the frame at the start of b. n is its length, 0 when there
// is no good frame here.
func nextEntry(b []byte) (e logEntry, n int) {
	if len(b) < entryHeader || b[0] != entryMagic {
		return e, 0
	}
	size := int(binary.LittleEndian.Uint16(b[1:]))
	if size < 2 || size > maxEntry || len(b) < entryHeader+size {
		return e, 0
	}
	body := b[entryHeader : entryHeader+size]
	if binary.LittleEndian.Uint32(b[3:]) != crc32.Checksum(body, castagnoli) {
		return e, 0
	}
	e.typ = entryType(body[0])
	ts, k := binary.Uvarint(body[1:])
	if k <= 0 {
		return e, 0
	}
	e.ts = Timestamp(ts)
	body = body[1+k:]
	if e.typ == entryLink {
		if len(body) < 2 {
			return e, 0
		}
		e.kind = Kind(body[0])
		v, k := binary.Uvarint(body[1:])
		if k <= 0 {
			return e, 0
		}
		e.size = v
		body = body[1+k:]
	}
	e.name = string(body)
	return e, entryHeader + size
}

// eachEntry calls f for every good entry in b with its frame, passing over
// whatever is between them. It returns how much of b was used up: not the end
// of b when that may be the beginning of an entry, but always the end of one.
func eachEntry(b []byte, f func(e logEntry, frame []byte)) (used int) {
	pos := 0
	for pos < len(b) {
		e, n := nextEntry(b[pos:])
		if n == 0 {
			pos++
			continue
		}
		f(e, b[pos:pos+n])
		pos += n
		used = pos
	}
	return used
}

// dirEntry is the state of a name.
type dirEntry struct {
	ts       Timestamp
	kind     Kind
	unlinked bool
	size     uint64
	// What this entry's LINK replaced, if it replaced something visible.
	prevKind Kind
	prevSize uint64
}

// dirState is what the log of a directory says in one group.
type dirState struct {
	names            map[string]dirEntry
	fence, clear, up Timestamp
	newest           Timestamp
}

func (s *dirState) visible(e dirEntry) bool {
	return !e.unlinked && (e.kind == KindDir || e.ts > s.clear)
}

// wins tells whether an entry replaces the present state of its name.
func (e logEntry) wins(old dirEntry) bool {
	switch {
	case e.ts != old.ts:
		return e.ts > old.ts
	case old.unlinked:
		return false
	case e.typ == entryUnlink:
		return true
	}
	return e.kind < old.kind || e.kind == old.kind && e.size > old.size
}

// up is the entry that the directory at path was linked at ts.
func up(path string, ts Timestamp) logEntry {
	e := logEntry{typ: entryUp, ts: ts}
	if len(path) <= maxName {
		e.name = path
	}
	return e
}

func (s *dirState) apply(e logEntry) {
	s.newest = max(s.newest, e.ts)
	switch e.typ {
	case entryFence:
		s.fence = max(s.fence, e.ts)
	case entryClear:
		s.clear = max(s.clear, e.ts)
	case entryUp:
		s.up = max(s.up, e.ts)
	case entryLink, entryUnlink:
		old, known := s.names[e.name]
		if known && !e.wins(old) {
			return
		}
		n := dirEntry{ts: e.ts, kind: e.kind, size: e.size, unlinked: e.typ == entryUnlink}
		if known && old.ts != e.ts && s.visible(old) {
			n.prevKind, n.prevSize = old.kind, old.size
		} else if known && old.ts == e.ts {
			n.prevKind, n.prevSize = old.prevKind, old.prevSize
		}
		if s.names == nil {
			s.names = make(map[string]dirEntry)
		}
		s.names[e.name] = n
	}
}

func (e dirEntry) log(name string) logEntry {
	l := logEntry{typ: entryLink, ts: e.ts, kind: e.kind, size: e.size, name: name}
	if e.unlinked {
		l.typ = entryUnlink
	}
	return l
}

func checkName(name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("name of %d bytes, 1 to %d expected", len(name), maxName)
	}
	return nil
}
