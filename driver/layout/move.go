package layout

import (
	"context"
	"errors"
	"path"

	"golang.org/x/sync/errgroup"
)

// Move gives a finished file another path, replacing what is there. No content
// is read or written; attributes stay behind.
//
// A crash can leave both paths with the same content. The owner log, which
// comes first, tells whoever deletes one of them where the other may be.
func (fs *FS) Move(ctx context.Context, from, to string) error {
	ctx, cancel := fs.detach(ctx)
	defer cancel()
	return fs.retry(ctx, "move", from, func(ts Timestamp) error {
		src, err := fs.readRecord(ctx, from)
		if err != nil {
			return err
		}
		if !src.alive() {
			if dir, err := fs.isDir(ctx, from); err != nil || !dir {
				return errors.Join(err, ErrNotExist)
			}
			return ErrIsDir
		}
		if err := src.readable(); err != nil {
			return err
		}
		if from == to {
			return nil
		}
		if src.ts >= ts {
			return errStale // its writer's clock is ahead; readRecord has moved ours
		}
		if !src.data.empty() {
			if err := fs.own(ctx, src.data.id, ts, from, to); err != nil {
				return err
			}
		}
		dst := &fileRecord{state: stateFile, ts: ts, mtime: ts, path: to, data: src.data, inline: src.inline}
		if err := fs.place(ctx, dst); err != nil {
			return err
		}
		// The old path loses what was moved, not what somebody has put there
		// since: the tombstone is newer than that version and nothing else.
		for range maxAttempts {
			err = fs.bury(ctx, src, src.ts.after(), content{})
			if !errors.Is(err, errStale) {
				return err
			}
			now, err := fs.readRecord(ctx, from)
			if err != nil {
				return err
			}
			if !now.alive() || !now.same(src) {
				return nil // somebody already made something newer of the old path
			}
			src = now // only its timestamp is newer
		}
		return err
	})
}

// bury replaces a record by a tombstone of the time ts and unlinks its name.
// Content, if any, goes to the trash first.
func (fs *FS) bury(ctx context.Context, rec *fileRecord, ts Timestamp, lost content) error {
	e := trashEntry{content: lost, paths: []string{rec.path}}
	if len(rec.attrs) > 0 {
		// The name of an upload never comes back, so that its tombstone need
		// not stay for ever.
		e.tombstone = rec.path
	}
	if !lost.empty() {
		if err := fs.trash(ctx, e); err != nil {
			return err
		}
	}
	err := fs.writeRecord(ctx, &fileRecord{state: stateTombstone, ts: ts, mtime: ts, path: rec.path})
	if err != nil {
		return err
	}
	if lost.empty() && e.tombstone != "" {
		// Nothing depends on it, so nobody waits for it.
		fs.life.start(fs.opt.Timeout, func(ctx context.Context) {
			ctx, cancel := fs.detach(ctx) // Close waits for it
			defer cancel()
			if err := fs.trash(ctx, e); err != nil {
				fs.warn("trash", "could not note a tombstone for removal; it stays", "path", rec.path, "error", err)
			}
		})
	}
	return fs.unlink(ctx, rec.path, ts)
}

// Delete removes a file or, with everything below it, a directory.
func (fs *FS) Delete(ctx context.Context, p string) error {
	ctx, cancel := fs.detach(ctx)
	defer cancel()
	return fs.retry(ctx, "delete", p, func(ts Timestamp) error {
		rec, err := fs.readRecord(ctx, p)
		if err != nil {
			return err
		}
		if rec.alive() {
			if rec.ts >= ts {
				return errStale
			}
			return fs.bury(ctx, rec, ts, rec.data)
		}
		if p == "/" {
			return fs.deleteTree(ctx, p, ts)
		}
		parent := fs.dir(path.Dir(p))
		if err := fs.refresh(ctx, parent); err != nil {
			return err
		}
		e, visible, _ := parent.lookup(path.Base(p))
		switch {
		case !visible:
			return ErrNotExist
		case e.ts >= ts:
			if !fs.observe(e.ts, p) {
				return ErrClock
			}
			return errStale
		case e.kind != KindDir: // somebody died before its record was written, or after it was deleted
			return fs.bury(ctx, &fileRecord{path: p}, ts, content{})
		}
		return fs.deleteTree(ctx, p, ts)
	})
}

// deleteTree deletes a directory and everything that was in it when it began.
func (fs *FS) deleteTree(ctx context.Context, p string, ts Timestamp) error {
	alive, newest, err := fs.deleteDir(ctx, p, ts)
	if err == nil && newest > ts {
		// What is newer may all the same have been there before, if its
		// writer's clock is ahead of ours. What is newer than the second
		// timestamp, too, has come in the meantime, and stays.
		if !fs.observe(newest, p) {
			return ErrClock
		}
		ts = fs.clock.Next()
		alive, _, err = fs.deleteDir(ctx, p, ts)
	}
	if err != nil || alive || p == "/" {
		return err
	}
	return fs.unlink(ctx, p, ts)
}

// deletesAtOnce bounds the files of one directory that are deleted at a time.
const deletesAtOnce = 16

// deleteDir deletes what is in a directory and older than ts. alive tells that
// something newer is in it, so that it must stay linked; newest is the newest
// timestamp in its log and those below.
//
// Nothing disappears from a listing before its record is gone: a crash in the
// middle leaves a smaller directory, not files that nobody sees.
func (fs *FS) deleteDir(ctx context.Context, p string, ts Timestamp) (alive bool, newest Timestamp, err error) {
	if err := fs.appendLog(ctx, p, ts, logEntry{typ: entryFence, ts: ts}); err != nil {
		return false, 0, err
	}
	d := fs.dir(p)
	if err := fs.refresh(ctx, d); err != nil {
		return false, 0, err
	}
	done := []logEntry{{typ: entryClear, ts: ts}}
	entries, newest := d.entries()
	dead := make([]bool, len(entries))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(deletesAtOnce)
	for i, e := range entries {
		if e.Kind == KindDir {
			continue // below, one after the other: depth must not multiply the limit
		}
		g.Go(func() (err error) {
			dead[i], err = fs.deleteChild(gctx, join(p, e.Name), e, ts)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return false, 0, err
	}
	for i, e := range entries {
		if e.Kind == KindDir {
			stays, below, err := fs.deleteDir(ctx, join(p, e.Name), ts)
			newest = max(newest, below)
			if err != nil {
				return false, 0, err
			}
			// Linked again after ts: the newer LINK outlives our UNLINK.
			if dead[i] = !stays && e.Mtime <= ts; dead[i] {
				done = append(done, logEntry{typ: entryUnlink, ts: ts, name: e.Name})
			}
		}
		alive = alive || !dead[i]
	}
	return alive, newest, fs.appendLog(ctx, p, ts, done...)
}

// deleteChild gives a file of a directory under deletion its tombstone. It
// reports false for a file that was linked after the deletion began: only what
// it was before goes, and its name stays. A file whose record alone is newer
// makes the deletion start over.
func (fs *FS) deleteChild(ctx context.Context, p string, e Entry, ts Timestamp) (dead bool, err error) {
	stays := e.Mtime > ts
	tooNew := func(err error) (bool, error) {
		if stays && errors.Is(err, errStale) {
			err = nil
		}
		return false, err
	}
	if stays || e.Kind == KindOpen || e.Size > inlineLimit {
		rec, err := fs.readRecord(ctx, p)
		if err != nil {
			return false, err
		}
		if rec != nil && rec.ts >= ts {
			if rec.alive() {
				return tooNew(errStale)
			}
			return !stays, nil
		}
		if rec.alive() && !rec.data.empty() {
			if err := fs.trash(ctx, trashEntry{content: rec.data, paths: []string{p}}); err != nil {
				return false, err
			}
		}
	}
	// Where no record is yet, too: its writer may be about to write it, and
	// must find that it is too late.
	if err := fs.writeRecord(ctx, &fileRecord{state: stateTombstone, ts: ts, mtime: ts, path: p}); err != nil {
		return tooNew(err)
	}
	return !stays, nil
}

func join(dir, name string) string {
	if dir == "/" {
		return "/" + name
	}
	return dir + "/" + name
}
