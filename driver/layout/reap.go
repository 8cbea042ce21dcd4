package layout

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
)

// reap removes what one entry of the trash names, as far as no record needs
// it.
func (fs *FS) reap(ctx context.Context, e trashEntry, r *Reaped) error {
	if !e.content.empty() {
		if err := fs.reapContent(ctx, e, r); err != nil {
			return err
		}
	}
	if e.tombstone == "" {
		return nil
	}
	removed, err := fs.removeTombstone(ctx, e.tombstone)
	if removed {
		r.Tombstones++
	}
	return err
}

// reapContent removes content that nobody needs. What somebody may have needed
// until a moment ago is kept for another grace period: a reader may be in the
// middle of it, or a Move on its way with it.
func (fs *FS) reapContent(ctx context.Context, e trashEntry, r *Reaped) error {
	needed, o, err := fs.needed(ctx, e.content.id, e.paths)
	if isDamage(err) {
		// Who else may need it cannot be read. It stays; fsck finds it when
		// that has changed.
		fs.warn("owners", "who needs a deleted content cannot be read any more; it is kept", "content", e.content.id, "error", err)
		r.Kept++
		return nil
	}
	if err != nil {
		return err
	}
	var lost []extent
	for _, x := range e.content.extents {
		if !needed[x.id] {
			lost = append(lost, x)
		}
	}
	if len(lost) < len(e.content.extents) {
		r.Kept++
	}
	if len(lost) == 0 {
		return nil
	}
	if !e.unneeded && o.ts > Timestamp(fs.opt.Now().Add(-fs.opt.TrashGrace).UnixNano()) {
		return fs.trash(ctx, trashEntry{content: content{id: e.content.id, extents: lost}, paths: e.paths, unneeded: true})
	}
	for _, x := range lost {
		if err := fs.removeChunks(ctx, x); err != nil {
			return err
		}
		r.Chunks += x.chunks()
	}
	if len(lost) == len(e.content.extents) && len(o.paths) > 0 {
		return fs.removeEverywhere(ctx, ownerKey(e.content.id))
	}
	return nil
}

// needed are the extents that the records of paths and of the owners of a
// content refer to. The timestamp of the owners is that of the latest change
// of all these.
//
// A Move names both its paths in the owner log before it makes the new one,
// and makes it before it buries the old one. So the records are read in the
// order of the log, and the log once more at the end: no Move slips through.
// All groups are asked: a version that only one of them has, because its
// writer failed, would be found by a later read, and must find its content.
func (fs *FS) needed(ctx context.Context, id contentID, paths []string) (needed map[contentID]bool, o owners, err error) {
	if o, err = fs.readOwners(ctx, id); err != nil {
		return nil, o, err
	}
	for range maxAttempts {
		needed = make(map[contentID]bool)
		var changed Timestamp
		order := slices.Clone(paths)
		for _, p := range o.paths {
			if !slices.Contains(order, p) {
				order = append(order, p)
			}
		}
		for _, p := range order {
			rec, err := fs.readRecordEverywhere(ctx, p)
			if err != nil {
				return nil, o, fmt.Errorf("%s: %w", p, err)
			}
			if rec == nil {
				continue
			}
			if rec.unknown() {
				return nil, o, fmt.Errorf("%w: record of %s", errDamaged, p)
			}
			changed = max(changed, rec.ts)
			if rec.alive() {
				for _, x := range rec.data.extents {
					needed[x.id] = true
				}
			}
		}
		again, err := fs.readOwners(ctx, id)
		if err != nil {
			return nil, o, err
		}
		if again.ts == o.ts && len(again.paths) == len(o.paths) {
			o.ts = max(o.ts, changed)
			return needed, o, nil
		}
		o = again
	}
	return nil, o, ErrConcurrent
}

// removeTombstone forgets a deleted path. Every group must hold the tombstone
// before the first one loses it: one that still has the file would bring it
// back.
func (fs *FS) removeTombstone(ctx context.Context, p string) (removed bool, err error) {
	rec, err := fs.readRecordEverywhere(ctx, p)
	if err != nil || rec == nil || rec.alive() {
		return false, err
	}
	raw := rec.encode()
	for _, g := range fs.cluster.groups {
		have, err := fs.readCopy(ctx, g, p)
		if errors.Is(err, ErrCorrupt) || err == nil && have.rec != nil && have.rec.ts < rec.ts {
			err = fs.cluster.store.Write(ctx, g, fileKey(p), Write{
				Data: [][]byte{raw}, Timestamp: rec.ts, Flags: flagsFile, IfNotNewer: true,
			})
		}
		if isConflict(err) || err == nil && have.rec != nil && have.rec.ts > rec.ts {
			return false, nil // the path is in use again
		}
		if err != nil {
			return false, fmt.Errorf("group %d: %w", g, err)
		}
	}
	return true, fs.removeEverywhere(ctx, fileKey(p))
}

func (fs *FS) removeChunks(ctx context.Context, x extent) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(deletesAtOnce)
	for n := range x.chunks() {
		g.Go(func() error { return fs.removeEverywhere(ctx, chunkKey(x.id, n)) })
	}
	return g.Wait()
}

// removeEverywhere removes a key from every group, or says from which it
// could not be removed.
func (fs *FS) removeEverywhere(ctx context.Context, key string) error {
	for _, g := range fs.cluster.groups {
		if err := fs.cluster.store.Remove(ctx, g, key); err != nil && !isNotFound(err) {
			return fmt.Errorf("group %d: remove %s: %w", g, key, err)
		}
	}
	return nil
}
