package layout

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
)

// CheckRecord checks a record that Slice has found, whatever it is, but for
// chunks and what CheckDir checks.
func (c *Checker) CheckRecord(ctx context.Context, s *Sighting) ([]Finding, error) {
	switch s.Kind() {
	case RecordFile, RecordOwner:
	default:
		return nil, nil
	}
	if err := c.throttle(ctx, int(s.Size())); err != nil {
		return nil, err
	}
	n, err := c.name(ctx, s)
	switch {
	case errors.Is(err, errForeign), errors.Is(err, errDamaged): // CheckDir knows its path, or nobody does
		return nil, nil
	case err != nil:
		return nil, err
	case s.Kind() == RecordOwner:
		return c.checkOwner(ctx, n)
	}
	return c.checkFile(ctx, n.path)
}

func (c *Checker) checkFile(ctx context.Context, p string) (findings []Finding, err error) {
	rec, err := c.fs.readRecord(ctx, p)
	if err != nil || rec == nil || rec.unknown() {
		return nil, err
	}
	unique := c.opt.Unique != nil && c.opt.Unique(p)
	if !rec.alive() {
		if unique && c.old(rec.ts) && !c.forgotten(p) {
			f := Finding{Problem: "leftover tombstone", Path: p, Detail: "of a name that never comes back", Remedy: remedyRepair}
			findings = append(findings, c.mend(f, func() error {
				return c.fs.trash(ctx, trashEntry{ts: c.fs.clock.Next(), paths: []string{p}, tombstone: p})
			}))
		}
		return findings, nil
	}
	if rec.state == stateQuarantined {
		findings = append(findings, Finding{Problem: "quarantined file", Path: p, Detail: "no group has all of it",
			Remedy: "push it again, or delete what refers to it; if a lost disk has come back, run scrub"})
	}
	if f, err := c.checkListed(ctx, rec); err != nil {
		return findings, err
	} else if f != nil {
		return append(findings, *f), nil
	}
	if c.opt.Abandoned != nil && c.old(rec.ts) && c.opt.Abandoned(p, rec.attrs) {
		f := Finding{Problem: "abandoned upload", Path: p, Detail: fmt.Sprintf("%d bytes, last written %s", rec.size(), rec.ts.Time().Format("2006-01-02 15:04")), Remedy: remedyRepair}
		return append(findings, c.mend(f, func() error {
			_, err := c.fs.DeleteOlder(ctx, p, rec.ts.after())
			return err
		})), nil
	}
	if rec.data.empty() || !c.old(rec.ts) {
		return findings, nil
	}
	more, err := c.checkOwned(ctx, rec)
	return append(findings, more...), err
}

// checkListed finds files that no listing shows, and deletions that did not
// come to their end.
func (c *Checker) checkListed(ctx context.Context, rec *fileRecord) (*Finding, error) {
	d := c.fs.dir(path.Dir(rec.path))
	if err := c.fs.refresh(ctx, d); err != nil {
		return nil, err
	}
	e, visible, found := d.lookup(path.Base(rec.path))
	if visible {
		return c.checkLinked(ctx, d.path)
	}
	if !c.old(rec.ts) {
		return nil, nil
	}
	_, clear, _ := d.marks()
	deleted := clear
	if found && e.unlinked {
		deleted = max(deleted, e.ts)
	}
	if deleted > rec.ts {
		f := Finding{Problem: "half-deleted file", Path: rec.path, Detail: "its directory says that it is gone", Remedy: remedyRepair}
		f = c.mend(f, func() error { return c.fs.bury(ctx, rec, deleted, rec.data) })
		return &f, nil
	}
	f := Finding{Problem: "unlisted file", Path: rec.path, Remedy: remedyRepair}
	f = c.mend(f, func() error {
		now, err := c.fs.readRecord(ctx, rec.path)
		if err != nil || !now.alive() {
			return err
		}
		// As old as the record: a deletion that comes meanwhile is newer.
		ts := now.ts
		if found && e.ts >= ts { // a tie, which UNLINK would win
			ts = e.ts + 1
			if err := c.fs.replace(ctx, now, now.state, ts); err != nil {
				return err
			}
		}
		err = c.fs.appendLog(ctx, d.path, ts, logEntry{typ: entryLink, ts: ts, kind: now.kind(), size: uint64(now.size()), name: path.Base(now.path)})
		if err != nil {
			return err
		}
		_, err = c.checkLinked(ctx, d.path)
		return err
	})
	return &f, nil
}

// checkLinked finds a directory with something in it that its parents do not
// show.
func (c *Checker) checkLinked(ctx context.Context, p string) (*Finding, error) {
	for dir := p; dir != "/"; dir = path.Dir(dir) {
		c.mu.Lock()
		known := c.linked[dir]
		c.mu.Unlock()
		if known {
			return nil, nil
		}
		there, err := c.fs.isDir(ctx, dir)
		if err != nil {
			return nil, err
		}
		if there {
			continue
		}
		d := c.fs.dir(dir)
		if err := c.fs.refresh(ctx, d); err != nil {
			return nil, err
		}
		if !c.old(d.merged().newest) {
			return nil, nil
		}
		f := Finding{Problem: "unlisted directory", Path: dir, Remedy: remedyRepair}
		f = c.mend(f, func() error { return c.linkDir(ctx, dir) })
		return &f, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for dir := p; dir != "/"; dir = path.Dir(dir) {
		remember(&c.linked, dir, true)
	}
	return nil, nil
}

// linkDir links a directory in its parent, as creating something in it would.
func (c *Checker) linkDir(ctx context.Context, p string) error {
	return c.fs.retry(ctx, "link", p, func(ts Timestamp) error {
		if _, err := c.fs.link(ctx, p, KindDir, 0, ts); err != nil {
			return err
		}
		return c.fs.appendLog(ctx, p, ts, up(p, ts))
	})
}

// checkOwned finds content of which the path is not on record, and content at
// two paths.
func (c *Checker) checkOwned(ctx context.Context, rec *fileRecord) (findings []Finding, err error) {
	o, err := c.fs.readOwners(ctx, rec.data.id)
	if err != nil && !isDamage(err) {
		return nil, err
	}
	at := slices.Index(o.paths, rec.path)
	if at < 0 {
		origin, err := c.origin(ctx, rec)
		if err != nil || origin == rec.path {
			return nil, err
		}
		f := Finding{Problem: "content without owner", Path: rec.path, Key: ownerKey(rec.data.id), Remedy: remedyRepair}
		return append(findings, c.mend(f, func() error {
			return c.fs.retry(ctx, "own", rec.path, func(ts Timestamp) error {
				return c.fs.own(ctx, rec.data.id, ts, origin, rec.path)
			})
		})), nil
	}
	for _, q := range o.paths[:at] { // where it was moved from
		src, err := c.fs.readRecord(ctx, q)
		if err != nil {
			return findings, err
		}
		if !src.alive() || src.data.id != rec.data.id || !c.old(src.ts) {
			continue
		}
		f := Finding{Problem: "half-done move", Path: q, Detail: "to " + rec.path, Remedy: remedyRepair}
		findings = append(findings, c.mend(f, func() error {
			now, err := c.fs.readRecord(ctx, rec.path)
			if err != nil || !now.alive() || now.data.id != rec.data.id {
				return err
			}
			err = c.fs.bury(ctx, src, src.ts.after(), content{})
			if errors.Is(err, errStale) {
				return nil // somebody has already made something newer of it
			}
			return err
		}))
	}
	return findings, nil
}

// origin is the path that the first chunk of a file was written for.
func (c *Checker) origin(ctx context.Context, rec *fileRecord) (string, error) {
	var last error
	x := rec.data.extents[0]
	key := chunkKey(x.id, 0)
	for _, g := range c.fs.cluster.groups {
		n, err := c.fs.identify(ctx, c.store, g, Found{ID: c.store.ID(key), Flags: flagsChunk})
		if err == nil {
			return n.path, nil
		}
		if !isLost(err) {
			return "", err
		}
		last = err
	}
	if isLost(last) {
		return rec.path, nil // scrub tells of that
	}
	return "", last
}

// checkOwner finds owner records of content that nobody has any more.
func (c *Checker) checkOwner(ctx context.Context, n name) ([]Finding, error) {
	o, err := c.fs.readOwners(ctx, n.content)
	if isDamage(err) {
		return []Finding{{Problem: "damaged owner record", Key: n.key, Remedy: "scrub restores it from another group, or its file's path is noted anew"}}, nil
	}
	if err != nil || !c.old(o.ts) {
		return nil, err
	}
	for _, p := range o.paths {
		rec, err := c.fs.readRecord(ctx, p)
		if err != nil {
			return nil, err
		}
		if rec.unknown() || rec.alive() && rec.data.id == n.content {
			return nil, nil
		}
	}
	if c.knownTrash(n.content) {
		return nil, nil
	}
	f := Finding{Problem: "leftover owner record", Key: n.key, Detail: "of content that no file has", Remedy: remedyRepair}
	return []Finding{c.mend(f, func() error { return c.fs.removeEverywhere(ctx, n.key) })}, nil
}
