package v1

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// pieceSize is how much of a file one request reads. Servers check a record's
// checksum by the MiB, so a piece is whole ones.
const pieceSize = 2 << 20

// Open reads length bytes of a file from offset; a negative length means to
// the end. What lies behind the end is not there: the reader ends early. At
// most three pieces of 2 MiB are in memory. The newest copy is read; another
// group with the same copy takes over when one fails.
func (s *Store) Open(ctx context.Context, path string, offset, length int64) (*Reader, error) {
	copies, err := s.copies(ctx, path)
	if err != nil {
		return nil, inPath("read", path, err)
	}
	r, err := s.open(ctx, path, copies, offset, length)
	return r, inPath("read", path, err)
}

// Copies are the file in each group that has it, the best first: the newest
// and, among equal ones, the longest.
func (s *Store) Copies(ctx context.Context, path string) ([]Copy, error) {
	copies, err := s.copies(ctx, path)
	return copies, inPath("read", path, err)
}

// OpenCopy reads the file of one group, and of no other.
func (s *Store) OpenCopy(ctx context.Context, path string, c Copy) (*Reader, error) {
	r, err := s.open(ctx, path, []Copy{c}, 0, -1)
	return r, inPath("read", path, err)
}

func (s *Store) open(ctx context.Context, path string, copies []Copy, offset, length int64) (*Reader, error) {
	if offset < 0 {
		return nil, fmt.Errorf("negative offset %d", offset)
	}
	best := copies[0]
	same := copies[:0:0]
	for _, c := range copies {
		if c.time == best.time && c.Size == best.Size {
			same = append(same, c)
		}
	}
	f := &fetcher{store: s, path: path, copies: same}
	r := &Reader{path: path}
	if best.Size <= int64(len(directoryMark)) {
		rec, err := f.fetch(ctx, 0, best.Size)
		if err != nil {
			return nil, err
		}
		content, dir := meaning(rec)
		if dir {
			return nil, ErrIsDir
		}
		r.size = int64(len(content))
		from := min(offset, r.size)
		to := r.size
		if length >= 0 {
			to = min(to, from+length)
		}
		r.now, r.rest = &elliptics.Record{}, content[from:to]
		r.end = io.EOF
		return r, nil
	}
	r.size = best.Size
	to := r.size
	if length >= 0 && length < to-min(offset, to) {
		to = offset + length
	}
	ctx, r.cancel = context.WithCancel(ctx)
	r.pieces = make(chan piece, 1)
	go f.run(ctx, r.pieces, offset, to)
	return r, nil
}

// piece is a part of a file, or why there are no more.
type piece struct {
	rec *elliptics.Record
	err error
}

// Reader reads a file. It must be closed, and is not for concurrent use.
type Reader struct {
	path   string
	size   int64
	pieces chan piece
	cancel context.CancelFunc
	now    *elliptics.Record
	rest   []byte // of now
	end    error  // after rest
}

// Size is the length of the whole file in bytes.
func (r *Reader) Size() int64 { return r.size }

func (r *Reader) Read(b []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.end != nil {
			return 0, r.end
		}
		if r.now != nil {
			r.now.Release()
			r.now = nil
		}
		p, ok := <-r.pieces
		switch {
		case !ok:
			r.end = io.EOF
		case p.err != nil:
			r.end = inPath("read", r.path, p.err)
		default:
			r.now, r.rest = p.rec, p.rec.Data
		}
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// Close ends reading ahead.
func (r *Reader) Close() error {
	if r.cancel != nil {
		r.cancel()
		for p := range r.pieces { // until the fetcher has ended
			if p.rec != nil {
				p.rec.Release()
			}
		}
		r.cancel = nil
	}
	if r.now != nil {
		r.now.Release()
	}
	r.now, r.rest, r.end = nil, nil, errors.New("reader is closed")
	return nil
}

// fetcher reads pieces of equal copies of a file.
type fetcher struct {
	store  *Store
	path   string
	copies []Copy // the one that answered last is first
}

// run fetches what lies between from and to, ahead of who reads it.
func (f *fetcher) run(ctx context.Context, out chan<- piece, from, to int64) {
	defer close(out)
	for from < to {
		rec, err := f.fetch(ctx, from, min(pieceSize, to-from))
		if err == nil {
			from += int64(len(rec.Data))
		}
		select {
		case out <- piece{rec, err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// fetchAttempts bounds how often all copies are tried, with a pause that
// doubles in between, before a piece is given up.
const (
	fetchAttempts = 4
	fetchPause    = 100 * time.Millisecond
)

func (f *fetcher) fetch(ctx context.Context, offset, size int64) (rec *elliptics.Record, err error) {
	pause := fetchPause
	for range fetchAttempts {
		for i, c := range f.copies {
			rec, err = f.fetchCopy(ctx, c, offset, size)
			if err == nil {
				f.copies[0], f.copies[i] = f.copies[i], f.copies[0]
				return rec, nil
			}
			if ctx.Err() != nil {
				return nil, err
			}
		}
		if errors.Is(err, elliptics.ErrChecksum) {
			return nil, &DamageError{f.path, err}
		}
		if elliptics.Retry(err) == wire.RetryNever {
			return nil, err
		}
		select {
		case <-time.After(pause):
			pause *= 2
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return nil, err
}

func (f *fetcher) fetchCopy(ctx context.Context, c Copy, offset, size int64) (*elliptics.Record, error) {
	sess := f.store.read
	rec, err := sess.WithGroups(c.Group).Read(ctx, sess.Key(f.path), uint64(offset), uint64(size))
	if err != nil {
		return nil, err
	}
	if rec.Timestamp != c.time || int64(rec.TotalSize) != c.Size || int64(len(rec.Data)) != size {
		rec.Release()
		return nil, ErrChanged
	}
	return rec, nil
}
