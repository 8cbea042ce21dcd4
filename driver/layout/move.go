package layout

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
)

// Move gives a finished file another path, replacing what is there. No content
// is read or written; attributes stay behind.
//
// A crash can leave both paths with the same content. The owner record, which
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
			if err := fs.own(ctx, src.data.id, ts, to, from); err != nil {
				return err
			}
		}
		dst := &fileRecord{state: stateFile, ts: ts, mtime: ts, path: to, data: src.data, inline: src.inline}
		if err := fs.place(ctx, dst); err != nil {
			return err
		}
		err = fs.bury(ctx, src, ts, content{})
		if errors.Is(err, errStale) {
			return nil // somebody already made something newer of the old path
		}
		return err
	})
}

// bury replaces a record by a tombstone and unlinks its name. Content, if any,
// goes to the trash first.
func (fs *FS) bury(ctx context.Context, rec *fileRecord, ts Timestamp, lost content) error {
	e := trashEntry{ts: ts, content: lost, paths: []string{rec.path}}
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
			if err := fs.trash(ctx, e); err != nil {
				fs.warn("trash", "could not note a tombstone for removal; it stays", "path", rec.path, "error", err)
			}
		})
	}
	return fs.unlink(ctx, rec.path, ts)
}

const ownerMagic = "ERo"

// maxOwners bounds the paths that an owner record remembers.
const maxOwners = 16

// owners is the record of a content: the paths that may refer to it, newest
// first, beside the one where it was written.
type owners struct {
	id    contentID
	ts    Timestamp
	paths []string
}

func (o *owners) encode() []byte {
	b := beginFrame(ownerMagic)
	b = append(b, o.id[:]...)
	b = binary.AppendUvarint(b, uint64(o.ts))
	b = binary.AppendUvarint(b, uint64(len(o.paths)))
	for _, p := range o.paths {
		b = appendBytes(b, p)
	}
	return endFrame(b)
}

func decodeOwners(b []byte) (o owners, err error) {
	f, err := openFrame(ownerMagic, b)
	if err != nil {
		return o, err
	}
	o.id = f.id()
	o.ts = Timestamp(f.uint())
	for range f.count() {
		if o.paths = append(o.paths, string(f.bytes())); f.bad {
			break
		}
	}
	return o, f.err()
}

func (fs *FS) readOwners(ctx context.Context, id contentID) (o owners, err error) {
	answers, err := ask(ctx, fs.cluster, func(ctx context.Context, g uint32) (owners, error) {
		v, err := fs.cluster.store.Read(ctx, g, ownerKey(id), 0, maxRecord)
		if isNotFound(err) {
			return owners{}, nil
		}
		if err != nil {
			return owners{}, err
		}
		defer v.Release()
		o, err := decodeOwners(v.Data)
		if err == nil && o.id != id {
			err = fmt.Errorf("%w: it belongs to content %s", errDamaged, o.id)
		}
		return o, err
	})
	for _, a := range answers { // a path too many is only looked at in vain
		o.ts = max(o.ts, a.value.ts)
		for _, p := range a.value.paths {
			if !slices.Contains(o.paths, p) {
				o.paths = append(o.paths, p)
			}
		}
	}
	return o, err
}

// own notes, before it happens, that content goes to another path.
func (fs *FS) own(ctx context.Context, id contentID, ts Timestamp, to, from string) error {
	o, err := fs.readOwners(ctx, id)
	if err != nil {
		return err
	}
	paths := []string{to, from}
	for _, p := range o.paths {
		if !slices.Contains(paths, p) {
			paths = append(paths, p)
		}
	}
	if len(paths) > maxOwners {
		return errors.New("was moved too often at the same time")
	}
	o = owners{id: id, ts: ts, paths: paths}
	raw := o.encode()
	err = fs.cluster.write(ctx, func(ctx context.Context, g uint32) error {
		return fs.cluster.store.Write(ctx, g, ownerKey(id), Write{
			Data: [][]byte{raw}, Timestamp: ts, Flags: flagsOwner, IfNotNewer: true,
		})
	}, nil)
	if isConflict(err) {
		fs.observe(o.ts, ownerKey(id))
		return errStale
	}
	return err
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
		dir, err := fs.isDir(ctx, p)
		if err != nil {
			return err
		}
		if !dir {
			return ErrNotExist
		}
		alive, err := fs.deleteDir(ctx, p, ts)
		if err != nil || alive {
			return err
		}
		return fs.unlink(ctx, p, ts)
	})
}

// deletesAtOnce bounds the files of one directory that are deleted at a time.
const deletesAtOnce = 16

// deleteDir deletes what is in a directory and older than ts. alive tells that
// something newer is in it, so that it must stay linked.
//
// Nothing disappears from a listing before its record is gone: a crash in the
// middle leaves a smaller directory, not files that nobody sees.
func (fs *FS) deleteDir(ctx context.Context, p string, ts Timestamp) (alive bool, err error) {
	if err := fs.appendLog(ctx, p, ts, logEntry{typ: entryFence, ts: ts}); err != nil {
		return false, err
	}
	d := fs.dir(p)
	if err := fs.refresh(ctx, d); err != nil {
		return false, err
	}
	done := []logEntry{{typ: entryClear, ts: ts}}
	entries := d.entries()
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
		return false, err
	}
	for i, e := range entries {
		if e.Kind == KindDir {
			stays, err := fs.deleteDir(ctx, join(p, e.Name), ts)
			if err != nil {
				return false, err
			}
			// Linked again after ts: the newer LINK outlives our UNLINK.
			if dead[i] = !stays && e.Mtime <= ts; dead[i] {
				done = append(done, logEntry{typ: entryUnlink, ts: ts, name: e.Name})
			}
		}
		alive = alive || !dead[i]
	}
	return alive, fs.appendLog(ctx, p, ts, done...)
}

// deleteChild gives a file of a directory under deletion its tombstone. It
// reports false for a file that was linked after the deletion began; one whose
// record is newer than its link makes the deletion start over.
func (fs *FS) deleteChild(ctx context.Context, p string, e Entry, ts Timestamp) (dead bool, err error) {
	if e.Mtime > ts {
		return false, nil
	}
	rec := &fileRecord{path: p}
	if e.Kind == KindOpen || e.Size > inlineLimit {
		if rec, err = fs.readRecord(ctx, p); err != nil {
			return false, err
		}
		if !rec.alive() {
			return true, nil
		}
		if rec.ts >= ts {
			return false, errStale
		}
	}
	if !rec.data.empty() {
		if err := fs.trash(ctx, trashEntry{ts: ts, content: rec.data, paths: []string{p}}); err != nil {
			return false, err
		}
	}
	err = fs.writeRecord(ctx, &fileRecord{state: stateTombstone, ts: ts, mtime: ts, path: p})
	return err == nil, err
}

func join(dir, name string) string {
	if dir == "/" {
		return "/" + name
	}
	return dir + "/" + name
}
