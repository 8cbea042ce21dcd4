package layout

import (
	"context"
	"errors"
	"io"
)

// Put replaces a file by data, atomically. The file's directories come into
// being with it. It goes on when ctx is cancelled, for Options.Timeout at the
// most.
func (fs *FS) Put(ctx context.Context, p string, data []byte) error {
	ctx, cancel := fs.detach(ctx)
	defer cancel()
	if len(data) > inlineLimit {
		return fs.putLarge(ctx, p, data)
	}
	return fs.retry(ctx, "put", p, func(ts Timestamp) error {
		return fs.place(ctx, &fileRecord{state: stateFile, ts: ts, mtime: ts, path: p, inline: data})
	})
}

func (fs *FS) putLarge(ctx context.Context, p string, data []byte) error {
	w := fs.newWriter(p, nil)
	if _, err := w.Write(data); err != nil {
		w.abandon()
		return err
	}
	if err := w.Commit(ctx); err != nil {
		w.abandon()
		return err
	}
	return w.Close()
}

// place links a path and then writes its record, and sees to the content that
// this replaces.
func (fs *FS) place(ctx context.Context, rec *fileRecord) error {
	kind := KindFile
	if rec.state == stateOpen {
		kind = KindOpen
	}
	prev, err := fs.link(ctx, rec.path, kind, rec.size(), rec.ts)
	if err != nil {
		return err
	}
	var old *fileRecord
	if prev.Kind == KindOpen || prev.Size > inlineLimit {
		if old, err = fs.readRecord(ctx, rec.path); err != nil {
			return err
		}
	}
	// Into the trash first: a crash in between then leaves no garbage, and
	// whoever empties the trash looks whether a record still needs it.
	if lost := old.without(&rec.data); !lost.empty() {
		if err := fs.trash(ctx, trashEntry{ts: rec.ts, content: lost, paths: []string{rec.path}}); err != nil {
			return err
		}
	}
	return fs.writeRecord(ctx, rec)
}

// without is the content of r that is not in keep.
func (r *fileRecord) without(keep *content) (c content) {
	if r == nil {
		return c
	}
	c.id = r.data.id
	kept := make(map[contentID]bool, len(keep.extents))
	for _, e := range keep.extents {
		kept[e.id] = true
	}
	for _, e := range r.data.extents {
		if !kept[e.id] {
			c.extents = append(c.extents, e)
		}
	}
	return c
}

// Get returns a whole file.
func (fs *FS) Get(ctx context.Context, p string) ([]byte, error) {
	f, err := fs.Open(ctx, p)
	if err != nil {
		return nil, err
	}
	return f.Content(ctx)
}

// Content returns the whole file. It must not be changed.
func (f *File) Content(ctx context.Context) ([]byte, error) {
	if f.rec.data.empty() {
		return f.rec.inline, nil
	}
	b := make([]byte, f.rec.size())
	r := f.Reader(ctx, 0, -1)
	defer r.Close()
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	return b, nil
}

// SetAttrs stores small named values with a file, or takes them away (nil). A
// file that does not exist is created, unfinished and empty, if create is set;
// else the error is ErrNotExist.
func (fs *FS) SetAttrs(ctx context.Context, p string, attrs map[string][]byte, create bool) error {
	ctx, cancel := fs.detach(ctx)
	defer cancel()
	contested := false
	return fs.retry(ctx, "set attributes of", p, func(ts Timestamp) error {
		rec, err := fs.readRecord(ctx, p)
		if err != nil {
			return err
		}
		isNew := !rec.alive()
		if isNew {
			if !create && contested {
				err = fs.withdraw(ctx, p, rec)
			}
			if !create {
				return errors.Join(err, ErrNotExist)
			}
			rec = &fileRecord{state: stateOpen, path: p, mtime: ts}
		}
		base := rec.sum()
		if !rec.setAttrs(attrs) && !isNew && !contested {
			return nil
		}
		rec.ts = ts
		if isNew || contested {
			return fs.place(ctx, rec)
		}
		err = fs.update(ctx, rec, base)
		contested = errors.Is(err, errStale)
		return err
	})
}

// setAttrs reports whether anything changed.
func (r *fileRecord) setAttrs(attrs map[string][]byte) (changed bool) {
	for name, value := range attrs {
		old, ok := r.attrs[name]
		switch {
		case value == nil && ok:
			delete(r.attrs, name)
		case value != nil && (!ok || string(old) != string(value)):
			if r.attrs == nil {
				r.attrs = make(map[string][]byte)
			}
			r.attrs[name] = value
		default:
			continue
		}
		changed = true
	}
	return changed
}

// Attrs returns the attributes of a file, unfinished or not, and its Info.
func (fs *FS) Attrs(ctx context.Context, p string) (map[string][]byte, Info, error) {
	rec, err := fs.readRecord(ctx, p)
	if err == nil && !rec.alive() {
		err = ErrNotExist
	}
	if err != nil {
		return nil, Info{}, &PathError{"read attributes of", p, err}
	}
	return rec.attrs, rec.info(), nil
}
