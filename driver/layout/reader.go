package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// File is a finished file as it was when it was opened. Its content stays
// readable for Options.TrashGrace after it was replaced or deleted.
type File struct {
	fs  *FS
	rec *fileRecord
}

// Open looks a file up; ErrUnfinished for one that is still being written.
func (fs *FS) Open(ctx context.Context, p string) (*File, error) {
	rec, err := fs.readRecord(ctx, p)
	if err == nil && !rec.alive() {
		err = ErrNotExist
	}
	if err == nil {
		err = rec.readable()
	}
	if err != nil {
		return nil, &PathError{"open", p, err}
	}
	return &File{fs, rec}, nil
}

// readable says why a record that is there cannot be read.
func (r *fileRecord) readable() error {
	switch r.state {
	case stateOpen:
		return ErrUnfinished
	case stateQuarantined:
		return ErrQuarantined
	}
	return nil
}

// Info describes the file.
func (f *File) Info() Info { return f.rec.info() }

// A reader fetches windows of whole blocks, a few of them ahead. The first
// ones are small, so that a short read costs little and the first byte comes
// early.
const (
	firstWindow = 256 << 10
	window      = 1 << 20
	windowAhead = 3
)

// span is a part of one chunk, or of the inline content.
type span struct {
	extent   *extent // nil: inline
	chunk    int
	size     int // of the chunk
	from, to int // within the chunk
	skip     int // bytes at the start that were not asked for
}

// fetched is a span on its way.
type fetched struct {
	done  chan struct{}
	value Value
	data  []byte
	table *chunkTable
	err   error
}

// Reader streams a file. It must be closed; at its end it holds nothing.
type Reader struct {
	file   *File
	ctx    context.Context
	cancel context.CancelFunc

	next   int64 // where the next span begins
	end    int64
	left   int64 // bytes that Read still has to hand out
	window int
	queue  []*fetched
	prev   *fetched // the span planned last: its table serves the rest of its chunk
	prevAt span
	cur    *fetched
	rest   []byte
	err    error
}

// Reader reads length bytes from offset; a negative length means to the end.
// An offset at or behind the end gives an empty reader.
func (f *File) Reader(ctx context.Context, offset, length int64) *Reader {
	r := &Reader{file: f, next: offset, end: f.rec.size(), window: firstWindow}
	if length >= 0 && length < r.end-offset {
		r.end = offset + length
	}
	if length >= 0 {
		r.window = window // its end is known: nothing is fetched in vain
	}
	r.left = max(0, r.end-offset)
	r.ctx, r.cancel = context.WithCancel(ctx)
	return r
}

// plan cuts the next span.
func (r *Reader) plan() (s span, ok bool) {
	if r.next >= r.end {
		return s, false
	}
	rec := r.file.rec
	at := r.next
	for i := range rec.data.extents {
		e := &rec.data.extents[i]
		if at >= int64(e.size) {
			at -= int64(e.size)
			continue
		}
		s.extent = e
		s.chunk = int(at / int64(e.chunk))
		s.size = int(min(int64(e.chunk), int64(e.size)-int64(s.chunk)*int64(e.chunk)))
		in := int(at % int64(e.chunk))
		s.from = in / blockSize * blockSize
		s.skip = in - s.from
		s.to = min(s.size, s.from+r.window)
		if left := r.end - r.next; int64(s.to-in) > left { // no more blocks than asked for
			s.to = min(s.size, blocks(in+int(left))*blockSize)
		}
		r.next += int64(s.to - in)
		r.window = window
		return s, true
	}
	s.from, s.to = int(at), len(rec.inline)
	r.next = rec.size()
	return s, true
}

// fill keeps the queue full.
func (r *Reader) fill() {
	for len(r.queue) < windowAhead {
		s, ok := r.plan()
		if !ok {
			return
		}
		f := &fetched{done: make(chan struct{})}
		before, beforeAt := r.prev, r.prevAt
		r.queue = append(r.queue, f)
		r.prev, r.prevAt = f, s
		if s.extent == nil {
			f.data = r.file.rec.inline[s.from:s.to]
			close(f.done)
			continue
		}
		sameChunk := before != nil && beforeAt.extent == s.extent && beforeAt.chunk == s.chunk
		go func() {
			defer close(f.done)
			if sameChunk {
				<-before.done
				f.table = before.table
			}
			v, data, t, err := r.file.fs.readBlocks(r.ctx, s.extent.id, s.chunk, s.size, s.from, s.to, f.table)
			f.table = &t
			if err != nil {
				f.table = nil
				f.err = fmt.Errorf("chunk %d of content %s: %w", s.chunk, s.extent.id, err)
				return
			}
			f.value, f.data = v, data[s.skip:]
		}()
	}
}

// Read implements io.Reader. A file whose content cannot be had whole ends in
// an error, never early; in io.ErrUnexpectedEOF if the rest is gone.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(r.rest) == 0 {
		if err := r.advance(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// WriteTo implements io.WriterTo: windows go to w as they are.
func (r *Reader) WriteTo(w io.Writer) (n int64, err error) {
	for {
		if len(r.rest) > 0 {
			k, err := w.Write(r.rest)
			n += int64(k)
			r.rest = r.rest[k:]
			if err != nil {
				return n, err
			}
			continue
		}
		if err := r.advance(); errors.Is(err, io.EOF) {
			return n, nil
		} else if err != nil {
			return n, err
		}
	}
}

// advance waits for the next span.
func (r *Reader) advance() error {
	if r.err != nil {
		return r.err
	}
	if r.cur != nil {
		r.cur.value.Release()
		r.cur = nil
	}
	r.fill()
	if len(r.queue) == 0 {
		_ = r.Close()
		if r.err = io.EOF; r.left > 0 {
			r.err = &PathError{"read", r.file.rec.path, io.ErrUnexpectedEOF}
		}
		return r.err
	}
	f := r.queue[0]
	r.queue = r.queue[1:]
	<-f.done // bounded: every request has its deadline and obeys r.ctx
	if err := f.err; err != nil {
		if isNotFound(err) { // content that is gone ends before its size
			err = fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, err)
		}
		_ = r.Close()
		r.err = &PathError{"read", r.file.rec.path, err}
		if lostEverywhere(err) && r.file.rec.state == stateFile {
			r.file.fs.quarantine(r.file.rec, err)
		}
		return r.err
	}
	r.cur, r.rest = f, f.data
	if int64(len(r.rest)) > r.left { // whole blocks came
		r.rest = r.rest[:r.left]
	}
	r.left -= int64(len(r.rest))
	r.fill()
	return nil
}

// Close ends the reader. Read answers io.ErrClosedPipe afterwards.
func (r *Reader) Close() error {
	if r.err != nil {
		return nil
	}
	r.err = io.ErrClosedPipe
	r.cancel()
	for _, f := range r.queue {
		<-f.done
		f.value.Release()
	}
	r.queue = nil
	if r.cur != nil {
		r.cur.value.Release()
		r.cur = nil
	}
	r.rest = nil
	return nil
}
