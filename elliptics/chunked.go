package elliptics

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// DefaultChunk is the size of the pieces of WriteChunked unless it is told
// otherwise, in bytes.
const DefaultChunk = 4 << 20

// WriteChunked writes one record of size bytes from r in pieces of chunk bytes
// (0: DefaultChunk), so that neither side holds it in memory: a record of one
// piece with an ordinary write, others with prepare, plain writes and a commit.
// Exactly size bytes are read; if r ends before, the error is
// io.ErrUnexpectedEOF.
//
// Groups that fail are left out of what follows, and when too few are left for
// the session's checker it gives up. The record is invisible from the first
// piece to the commit, also one that was there before, and stays so after a
// failure: write it again or Remove it.
func (s *Session) WriteChunked(ctx context.Context, key Key, r io.Reader, size uint64, chunk int) ([]GroupResult, error) {
	if chunk <= 0 {
		chunk = DefaultChunk
	}
	if len(s.groups) == 0 {
		return nil, s.noGroups("write", key)
	}
	w := Write{Timestamp: s.timestamp} // the same in all pieces
	if w.Timestamp.IsZero() {
		w.Timestamp = now()
	}
	buf := make([]byte, min(uint64(chunk), size))
	if _, err := io.ReadFull(r, buf); err != nil {
		return nil, early(key, 0, size, err)
	}
	w.Data = [][]byte{buf}
	if uint64(len(buf)) == size {
		if size == 0 { // the only way to make an empty record
			w.Flags = wire.IOPrepare | wire.IOCommit | wire.IOPlainWrite
		}
		return s.Write(ctx, key, w)
	}
	results := make([]GroupResult, len(s.groups))
	at := make(map[uint32]*GroupResult)
	for i, g := range s.groups {
		results[i].Group = g
		at[g] = &results[i]
	}
	left := s
	w.Flags, w.Num = wire.IOPrepare|wire.IOPlainWrite, size
	for {
		written, _ := left.Write(ctx, key, w)
		var good []uint32
		for _, r := range written {
			*at[r.Group] = r
			if r.Err == nil {
				good = append(good, r.Group)
			}
		}
		if err := s.verdict("write", key, results); err != nil || w.Flags&wire.IOCommit != 0 {
			return results, err
		}
		left = s.WithGroups(good...)
		w.Offset += uint64(len(buf))
		buf = buf[:min(uint64(chunk), size-w.Offset)]
		if _, err := io.ReadFull(r, buf); err != nil {
			return results, early(key, w.Offset, size, err)
		}
		w.Data[0] = buf
		w.Flags, w.Num = wire.IOPlainWrite, w.Offset+uint64(len(buf))
		if w.Num == size {
			w.Flags |= wire.IOCommit
		}
	}
}

// early is the error of a source that could not be read to its end.
func early(key Key, from, size uint64, err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("write %s: reading the source behind byte %d of %d: %w", key.Short(), from, size, err)
}
