package layout

import (
	"context"
	"path"
)

// appendLog adds entries to a directory's log in a majority of the groups.
func (fs *FS) appendLog(ctx context.Context, dir string, ts Timestamp, entries ...logEntry) error {
	var b []byte
	for i := range entries {
		b = entries[i].append(b)
	}
	return fs.cluster.write(ctx, func(ctx context.Context, g uint32) error {
		return fs.cluster.store.Write(ctx, g, dirKey(dir), Write{
			Data: [][]byte{b}, Timestamp: ts, Flags: flagsDirLog, Append: true,
		})
	}, nil)
}

// link makes a name visible in a directory, and the directory in its parents.
// It answers what the name stood for before.
//
// The order is what keeps listings complete: the entry comes before the
// record, and after the entry the log is read again. A deletion of the
// directory appends its FENCE first and reads afterwards, too; since both
// append to a majority and read from one, at least one of the two sees the
// other.
func (fs *FS) link(ctx context.Context, p string, kind Kind, size int64, ts Timestamp) (prev Entry, err error) {
	name := path.Base(p)
	if err := checkName(name); err != nil {
		return prev, err
	}
	d := fs.dir(path.Dir(p))
	d.mu.Lock()
	loaded := d.loaded
	d.mu.Unlock()
	if !loaded {
		if err := fs.refresh(ctx, d); err != nil {
			return prev, err
		}
	}
	// A name that is taken is refused before anything is appended: a file's
	// LINK over a directory would hide what is below, if only for a moment.
	if d.takenByOther(name, kind) {
		if err := fs.refresh(ctx, d); err != nil {
			return prev, err
		}
		if d.takenByOther(name, kind) {
			return prev, wrongKind(p, kind)
		}
	}
	entry := logEntry{typ: entryLink, ts: ts, kind: kind, size: uint64(size), name: name}
	for {
		entries := []logEntry{entry}
		if !d.proven() {
			if _, err := fs.link(ctx, d.path, KindDir, 0, ts); err != nil {
				return prev, err
			}
			entries = []logEntry{up(d.path, ts), entry}
		}
		if err := fs.appendLog(ctx, d.path, ts, entries...); err != nil {
			return prev, err
		}
		if err := fs.refresh(ctx, d); err != nil {
			return prev, err
		}
		fence, _, _ := d.marks()
		if fence >= ts {
			if !fs.observe(fence, d.path) {
				return prev, ErrClock
			}
			return prev, errStale
		}
		if d.proven() {
			break
		}
		// A deletion that began meanwhile may unlink the directory: once more.
	}
	now, visible, _ := d.lookup(name)
	if now.ts > ts && (kind != KindDir || now.kind != KindDir || !visible) {
		// Somebody whose record is not there yet, or never will be, has the
		// newer entry; the listing must say what the record says.
		if !fs.observe(now.ts, p) {
			return prev, ErrClock
		}
		return prev, errStale
	}
	if now.ts != ts || now.prevKind == 0 {
		return prev, nil
	}
	prev = Entry{Name: name, Kind: now.prevKind, Size: int64(now.prevSize)}
	if (prev.Kind == KindDir) != (kind == KindDir) {
		// Not ours to replace: give the name back.
		back := logEntry{typ: entryLink, ts: fs.clock.Next(), kind: prev.Kind, size: uint64(prev.Size), name: name}
		if err := fs.appendLog(ctx, d.path, back.ts, back); err != nil {
			return prev, err
		}
		return prev, wrongKind(p, kind)
	}
	return prev, nil
}

// takenByOther tells whether a name is known to stand for a directory where a
// file is wanted, or the reverse.
func (d *dirLog) takenByOther(name string, kind Kind) bool {
	e, visible, _ := d.lookup(name)
	return visible && (e.kind == KindDir) != (kind == KindDir)
}

func wrongKind(p string, wanted Kind) error {
	if wanted == KindDir {
		return &PathError{"create", p, ErrNotDir}
	}
	return &PathError{"create", p, ErrIsDir}
}

// unlink takes a name out of its directory, after its record got a tombstone
// with the same timestamp.
func (fs *FS) unlink(ctx context.Context, p string, ts Timestamp) error {
	return fs.appendLog(ctx, path.Dir(p), ts, logEntry{typ: entryUnlink, ts: ts, name: path.Base(p)})
}
