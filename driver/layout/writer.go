package layout

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"sync"
	"time"
)

// Writer writes a file. What it was given is durable after Close and becomes
// readable with Commit; between two Closes another Writer, of any process, can
// go on. Its memory is Options.ChunkSize × (1 + Options.ChunksInFlight).
type Writer struct {
	fs   *FS
	path string
	slot chan struct{} // one for each chunk in flight

	mu    sync.Mutex
	begun time.Time
	base  *fileRecord // what this writer continues; nil: no record yet
	data  content     // of base, kept
	own   extent      // what this writer has sent
	buf   *buffer
	tail  int64 // bytes that were in buf when it was given back
	attrs map[string][]byte
	dirty bool // there is something that base's record does not say
	state writerState

	pending sync.WaitGroup // chunks in flight
	errOnce sync.Once
	failed  chan struct{}
	err     error // why failed is closed
}

type writerState uint8

const (
	writerOpen writerState = iota
	writerClosed
	writerCommitted
	writerGone // cancelled or abandoned
)

// maxWriting bounds the life of a writer that has sent content. Until its
// record is written nothing tells what it sent from garbage but its age: see
// MinContentGrace.
const maxWriting = MinContentGrace - time.Hour

var (
	errWriterClosed = errors.New("writer is closed")
	errTooLong      = errors.New("took longer than " + maxWriting.String())
)

func (fs *FS) newWriter(p string, base *fileRecord) *Writer {
	w := &Writer{
		fs: fs, path: p, base: base, begun: fs.opt.Now(),
		slot:   make(chan struct{}, fs.opt.ChunksInFlight),
		failed: make(chan struct{}),
		own:    extent{id: newContentID(), chunk: uint32(fs.opt.ChunkSize)},
	}
	w.data.id = newContentID()
	if base != nil {
		w.data = content{id: base.data.id, extents: slices.Clone(base.data.extents)}
		if w.data.id == (contentID{}) {
			w.data.id = newContentID()
		}
		w.attrs = maps.Clone(base.attrs)
		w.buf = fs.buffers.get(len(base.inline))
		w.buf.n = copy(w.buf.free(), base.inline)
	}
	fs.mu.Lock()
	fs.writers[p] = append(fs.writers[p], w)
	fs.mu.Unlock()
	return w
}

// Create begins a file anew. It is an unfinished, empty file when Create
// returns. An unfinished file that is still empty is taken as it is, with its
// attributes.
func (fs *FS) Create(ctx context.Context, p string) (*Writer, error) {
	ctx, cancel := fs.detach(ctx)
	defer cancel()
	var rec *fileRecord
	err := fs.retry(ctx, "create", p, func(ts Timestamp) error {
		old, err := fs.readRecord(ctx, p)
		if err != nil {
			return err
		}
		if old.alive() && old.state == stateOpen && old.size() == 0 {
			rec = old
			return nil
		}
		rec = &fileRecord{state: stateOpen, ts: ts, mtime: ts, path: p}
		if old.alive() {
			rec.attrs = old.attrs
		}
		return fs.place(ctx, rec)
	})
	if err != nil {
		return nil, err
	}
	return fs.newWriter(p, rec), nil
}

// Resume goes on where the last Close left a file; ErrNotExist for a missing
// one. A finished file is unfinished again from the next Close to the next
// Commit.
func (fs *FS) Resume(ctx context.Context, p string) (*Writer, error) {
	rec, err := fs.readRecord(ctx, p)
	if err == nil && !rec.alive() {
		err = ErrNotExist
	}
	if err != nil {
		return nil, &PathError{"resume", p, err}
	}
	return fs.newWriter(p, rec), nil
}

// StageAttrs gives attributes to the writers of p that are open in this
// process, which store them with what they write next. It reports whether
// there were any.
func (fs *FS) StageAttrs(p string, attrs map[string][]byte) (staged bool) {
	fs.mu.Lock()
	writers := slices.Clone(fs.writers[p])
	fs.mu.Unlock()
	for _, w := range writers {
		w.mu.Lock()
		if w.state == writerOpen { // it may have been closed while we waited
			r := fileRecord{attrs: w.attrs}
			r.setAttrs(attrs)
			w.attrs = r.attrs
			staged = true
		}
		w.mu.Unlock()
	}
	return staged
}

// Size is the length of the file so far, in bytes, with what is not durable
// yet.
func (w *Writer) Size() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.size()
}

func (w *Writer) size() int64 {
	n := int64(w.data.size()) + int64(w.own.size) + w.tail
	if w.buf != nil {
		n += int64(w.buf.n)
	}
	return n
}

// Write takes p. It waits while Options.ChunksInFlight chunks are on their
// way; a chunk that could not be stored fails every later call.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state != writerOpen {
		return 0, &PathError{"write", w.path, errWriterClosed}
	}
	n := 0
	for len(p) > 0 {
		for w.buf == nil || len(w.buf.free()) == 0 {
			if err := w.makeRoom(len(p)); err != nil {
				return n, &PathError{"write", w.path, err}
			}
		}
		k := copy(w.buf.free(), p)
		w.buf.n += k
		w.dirty = true
		n, p = n+k, p[k:]
	}
	return n, nil
}

// makeRoom grows the buffer or sends it. Called with w.mu held, as everything
// below.
func (w *Writer) makeRoom(n int) error {
	switch {
	case w.buf == nil:
		w.buf = w.fs.buffers.get(n)
	case w.buf.n < w.fs.opt.ChunkSize:
		bigger := w.fs.buffers.get(w.buf.n + max(n, w.buf.n))
		bigger.n = copy(bigger.free(), w.buf.data())
		w.fs.buffers.put(w.buf)
		w.buf = bigger
	default:
		return w.send()
	}
	return nil
}

// send puts the buffer on its way as the next chunk.
func (w *Writer) send() error {
	select {
	case <-w.failed:
		return w.err
	case w.slot <- struct{}{}: // every chunk in flight ends in bounded time
	}
	buf, n := w.buf, w.own.chunks()
	w.own.size += uint64(buf.n)
	w.buf = nil
	ts := w.fs.clock.Next()
	w.pending.Add(1)
	go func() {
		defer w.pending.Done()
		defer func() { <-w.slot }()
		ctx, cancel := context.WithTimeout(context.Background(), w.fs.opt.Timeout)
		defer cancel()
		sealed := buf.seal(w.own.id, w.data.id, n, w.path)
		if err := w.fs.writeChunk(ctx, w.own.id, n, sealed, w.path, ts, func() { w.fs.buffers.put(buf) }); err != nil {
			w.fail(err)
		}
	}()
	return nil
}

func (w *Writer) fail(err error) {
	w.errOnce.Do(func() {
		w.err = err
		close(w.failed)
	})
}

// flush makes everything durable but the last bytes, which it returns for the
// record.
func (w *Writer) flush() (inline []byte, err error) {
	if w.buf != nil && w.buf.n > inlineLimit {
		if err := w.send(); err != nil {
			return nil, err
		}
	}
	w.pending.Wait()
	select {
	case <-w.failed:
		return nil, w.err
	default:
	}
	if w.buf != nil {
		inline = bytes.Clone(w.buf.data())
	}
	return inline, nil
}

// store writes the record of what is there, provided that nobody else went on
// with the file since this writer was opened.
func (w *Writer) store(ctx context.Context, op string, state fileState) error {
	inline, err := w.flush()
	if err != nil {
		return &PathError{op, w.path, err}
	}
	data := w.data
	if w.own.size > 0 {
		if w.fs.opt.Now().Sub(w.begun) > maxWriting {
			return &PathError{op, w.path, errTooLong}
		}
		data.extents = append(slices.Clone(data.extents), w.own)
	}
	// An upload session, which is a file with attributes, is listed from its
	// beginning to its end: what it has become replaces what it was, in one
	// step, as long as nobody interferes and its tombstone cannot be forgotten.
	inPlace := w.base != nil && len(w.attrs) > 0 && w.fs.opt.Now().Sub(w.begun) < w.fs.opt.TrashGrace/2
	var rec *fileRecord
	err = w.fs.retry(ctx, op, w.path, func(ts Timestamp) error {
		if w.base != nil && !inPlace {
			now, err := w.fs.readRecord(ctx, w.path)
			if err != nil {
				return err
			}
			// An earlier attempt may have got through after all.
			mine := now.alive() && (now.same(w.base) || rec != nil && now.same(rec))
			if !mine && rec != nil {
				err = w.fs.withdraw(ctx, w.path, now)
			}
			if !now.alive() {
				return errors.Join(err, ErrNotExist)
			}
			if !mine {
				return errors.Join(err, ErrConcurrent)
			}
		}
		rec = &fileRecord{
			state: state, ts: ts, mtime: ts, path: w.path,
			data: data, inline: inline, attrs: maps.Clone(w.attrs),
		}
		if inPlace {
			inPlace = false
			return w.fs.update(ctx, rec, w.base.sum())
		}
		return w.fs.place(ctx, rec)
	})
	if err != nil {
		return err
	}
	w.base, w.dirty = rec, false
	return nil
}

// Close makes what was written durable, unless Commit has, and gives the
// writer up. It may be called again.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state != writerOpen {
		return nil
	}
	defer w.release(writerClosed)
	if !w.dirty {
		return nil
	}
	ctx, cancel := w.fs.detach(context.Background())
	defer cancel()
	err := w.store(ctx, "close", stateOpen)
	if err != nil && w.own.size > 0 {
		w.giveUpOwn(ctx)
	}
	return err
}

// Commit makes the file readable.
func (w *Writer) Commit(ctx context.Context) error {
	ctx, cancel := w.fs.detach(ctx)
	defer cancel()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state != writerOpen {
		return &PathError{"commit", w.path, errWriterClosed}
	}
	if err := w.store(ctx, "commit", stateFile); err != nil {
		return err
	}
	w.release(writerCommitted)
	return nil
}

// Cancel removes the file, if it still is what this writer left, and its
// content. It may be called at any time, after Close and Commit as well, and
// again.
func (w *Writer) Cancel(ctx context.Context) error {
	ctx, cancel := w.fs.detach(ctx)
	defer cancel()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state == writerGone {
		return nil
	}
	if w.state == writerOpen {
		w.release(writerClosed)
		if w.own.size > 0 {
			if err := w.trashOwn(ctx); err != nil {
				return &PathError{"cancel", w.path, err}
			}
		}
	}
	w.state = writerGone
	rec, err := w.fs.readRecord(ctx, w.path)
	if err != nil {
		return &PathError{"cancel", w.path, err}
	}
	if !rec.alive() || w.base == nil || rec.ts != w.base.ts {
		return nil
	}
	err = w.fs.Delete(ctx, w.path)
	if errors.Is(err, ErrNotExist) {
		return nil
	}
	return err
}

// abandon gives up a writer whose file nobody knows.
func (w *Writer) abandon() {
	ctx, cancel := w.fs.detach(context.Background())
	defer cancel()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.release(writerGone)
	w.giveUpOwn(ctx)
}

// giveUpOwn notes what this writer sent for removal. The record may refer to
// it after all, when a write that was not acknowledged got through: whoever
// empties the trash looks.
func (w *Writer) giveUpOwn(ctx context.Context) {
	if err := w.trashOwn(ctx); err != nil {
		w.fs.warn("trash", "could not note content for removal; it stays as garbage", "path", w.path, "error", err)
	}
}

func (w *Writer) trashOwn(ctx context.Context) error {
	w.pending.Wait()
	return w.fs.trash(ctx, trashEntry{
		ts:      w.fs.clock.Next(),
		content: content{id: w.data.id, extents: []extent{w.own}},
		paths:   []string{w.path},
	})
}

// release gives memory back and takes w off the list of open writers.
func (w *Writer) release(state writerState) {
	if w.state == writerOpen {
		w.pending.Wait()
		w.fs.mu.Lock()
		list := slices.DeleteFunc(w.fs.writers[w.path], func(o *Writer) bool { return o == w })
		if w.fs.writers[w.path] = list; len(list) == 0 {
			delete(w.fs.writers, w.path)
		}
		w.fs.mu.Unlock()
	}
	if w.buf != nil {
		w.tail = int64(w.buf.n)
		w.fs.buffers.put(w.buf)
		w.buf = nil
	}
	w.state = state
}

var _ io.WriteCloser = (*Writer)(nil)
