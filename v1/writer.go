package v1

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
)

// appendSize is the piece by which the old driver grew a file, in bytes.
const appendSize = 128 << 10

// undoPatience bounds how long a failed write may take to remove what it left.
const undoPatience = time.Minute

// PutStream writes a file from a stream of any length and returns the number
// of bytes: the first 128 KiB replace the record, the rest is appended in
// pieces of that size. A file is shorter while it grows; when r or a write
// fails it is removed.
func (s *Store) PutStream(ctx context.Context, path string, r io.Reader) (int64, error) {
	n, err := s.putStream(ctx, path, r)
	return n, inPath("write", path, err)
}

func (s *Store) putStream(ctx context.Context, path string, r io.Reader) (written int64, err error) {
	if err := s.announce(ctx, path); err != nil {
		return 0, err
	}
	var whole []uint32 // the groups that have every piece
	buf := make([]byte, appendSize)
	defer func() {
		if err != nil {
			err = errors.Join(err, s.undo(ctx, path))
		}
	}()
	for first := true; ; first = false {
		n, rerr := io.ReadFull(r, buf)
		if rerr != nil && !errors.Is(rerr, io.EOF) && !errors.Is(rerr, io.ErrUnexpectedEOF) {
			return written, rerr
		}
		if n == 0 && !first {
			return written, nil
		}
		if first {
			whole, err = s.put(ctx, path, buf[:n])
		} else if whole, err = s.grow(ctx, path, whole, buf[:n]); err != nil {
			err = fmt.Errorf("at %d bytes: %w", written, err)
		}
		if err != nil {
			return written, err
		}
		written += int64(n)
		if rerr != nil {
			return written, nil
		}
	}
}

// grow appends to the groups that have all so far and returns those that still
// do. A group that missed a piece gets no more of them: its record stays older
// than the others', so that nobody reads it.
func (s *Store) grow(ctx context.Context, path string, groups []uint32, data []byte) ([]uint32, error) {
	results, err := s.write.WithGroups(groups...).WithChecker(elliptics.All).Append(ctx, s.write.Key(path), data)
	whole, all := succeeded(results), s.write.Groups()
	if need := elliptics.Quorum.Need(len(all)); len(whole) < need {
		return nil, fmt.Errorf("%d of %d groups took the piece, %d needed: %w", len(whole), len(all), need, err)
	}
	return whole, nil
}

// undo removes what a failed write left, if it can.
func (s *Store) undo(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoPatience)
	defer cancel()
	if err := s.removeFile(ctx, path); err != nil && !errors.Is(err, ErrNotExist) {
		return fmt.Errorf("the part that was written is still there: %w", err)
	}
	return nil
}
