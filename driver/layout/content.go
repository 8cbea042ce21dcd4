package layout

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"
)

// contentID is random: who makes one owns it.
type contentID [16]byte

func newContentID() (id contentID) {
	_, _ = rand.Read(id[:]) // never fails, says its documentation
	return id
}

func (id contentID) String() string { return hex.EncodeToString(id[:]) }

// extent is a run of chunks that one writer wrote: all of the same length but
// the last. Each writer that adds to a file begins an extent with an id of its
// own, so that a late request of a dead writer can never overwrite a chunk of
// a living one.
type extent struct {
	id    contentID
	chunk uint32 // bytes in each chunk
	size  uint64 // bytes in all
}

func (e extent) chunks() int {
	if e.chunk == 0 {
		return 0
	}
	return int((e.size + uint64(e.chunk) - 1) / uint64(e.chunk))
}

// content is where the bytes of a file are that do not sit in its record. Its
// id stays when the content moves to another path.
type content struct {
	id      contentID
	extents []extent
}

func (c *content) size() (n uint64) {
	for _, e := range c.extents {
		n += e.size
	}
	return n
}

func (c *content) empty() bool { return len(c.extents) == 0 }

func (c *content) append(dst []byte) []byte {
	dst = append(dst, c.id[:]...)
	dst = binary.AppendUvarint(dst, uint64(len(c.extents)))
	for _, e := range c.extents {
		dst = append(dst, e.id[:]...)
		dst = binary.AppendUvarint(dst, uint64(e.chunk))
		dst = binary.AppendUvarint(dst, e.size)
	}
	return dst
}

func (f *fields) content() (c content) {
	c.id = f.id()
	n := f.count()
	if n > 0 {
		c.extents = make([]extent, 0, min(n, 1024))
	}
	for range n {
		e := extent{id: f.id()}
		chunk := f.uint()
		e.size = f.uint()
		if chunk == 0 || chunk > maxChunkSize || e.size == 0 || e.size > 1<<60 {
			f.bad = true
		}
		if f.bad {
			return c
		}
		e.chunk = uint32(chunk)
		c.extents = append(c.extents, e)
	}
	return c
}

// Keys. Paths begin with a slash and chunk ids are hexadecimal, so the key
// spaces cannot meet, nor can they meet the keys of the Python driver, which
// begin with "images/" or "repositories/".
func fileKey(path string) string   { return "file:" + path }
func dirKey(path string) string    { return "dir:" + path }
func trashKey(hour int64) string   { return "trash:" + strconv.FormatInt(hour, 10) }
func ownerKey(id contentID) string { return "owner:" + id.String() }

const chunkPrefix = "chunk:"

func chunkKey(id contentID, n int) string {
	return chunkPrefix + id.String() + ":" + strconv.Itoa(n)
}

// IsChunk tells the keys of content from those of the small records about it,
// for a Store that treats them differently.
func IsChunk(key string) bool { return strings.HasPrefix(key, chunkPrefix) }

const reapingKey = "reaping:"
