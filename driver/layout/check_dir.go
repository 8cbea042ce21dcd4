package layout

import (
	"context"
	"crypto/sha512"
	"fmt"
	"path"
)

// logCopy is one group's copy of a log.
type logCopy struct {
	group   uint32
	raw     []byte
	good    int  // bytes in good frames
	damaged bool // cannot be read at all
}

// readLogs reads a log from every group; one that cannot be read for another
// reason than damage is an error.
func (c *Checker) readLogs(ctx context.Context, key string, parse func(group int, b []byte) (good int)) ([]logCopy, error) {
	copies := make([]logCopy, len(c.fs.cluster.groups))
	for i, g := range c.fs.cluster.groups {
		copies[i].group = g
		raw, err := c.fs.readAll(ctx, g, key)
		if isDamage(err) {
			copies[i].damaged = true
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("group %d: %w", g, err)
		}
		if err := c.throttle(ctx, len(raw)); err != nil {
			return nil, err
		}
		copies[i].raw, copies[i].good = raw, parse(i, raw)
	}
	return copies, nil
}

// CheckDir compares a directory's log with the records of what it lists. The
// entries are what it holds, for who goes on below.
func (c *Checker) CheckDir(ctx context.Context, p string) (entries []Entry, findings []Finding, err error) {
	findings, usable, err := c.checkLog(ctx, p)
	if err != nil || !usable {
		return nil, findings, err
	}
	d := c.fs.dir(p)
	if err := c.fs.refresh(ctx, d); err != nil {
		return nil, findings, err
	}
	entries, _ = d.entries()
	for _, e := range entries {
		if e.Kind == KindDir {
			continue
		}
		f, err := c.checkEntry(ctx, d, e)
		if err != nil {
			return entries, findings, err
		}
		if f != nil {
			findings = append(findings, *f)
		}
	}
	return entries, findings, nil
}

// checkLog looks for damage in the copies of a directory's log. A damaged copy
// is written anew from the others. When no group can read it, it begins anew,
// empty: CheckFile links what belongs there.
func (c *Checker) checkLog(ctx context.Context, p string) (findings []Finding, usable bool, err error) {
	states := make([]dirState, len(c.fs.cluster.groups))
	copies, err := c.readLogs(ctx, dirKey(p), func(i int, b []byte) (good int) {
		eachEntry(b, func(e logEntry, frame []byte) {
			states[i].apply(e)
			good += len(frame)
		})
		return good
	})
	if err != nil {
		return nil, false, err
	}
	merged := mergeStates(states)
	unreadable := 0
	for i, l := range copies {
		if l.damaged {
			unreadable++
		}
		if !l.damaged && l.good == len(l.raw) {
			continue
		}
		f := Finding{Problem: "damaged directory log", Path: p, Groups: []uint32{l.group}, Remedy: remedyRepair}
		if !l.damaged {
			f.Detail = fmt.Sprintf("%d of %d bytes", len(l.raw)-l.good, len(l.raw))
		}
		findings = append(findings, c.mend(f, func() error { return c.rewriteLog(ctx, p, l, &states[i], &merged) }))
	}
	usable = len(copies)-unreadable >= len(copies)/2+1 || c.opt.Repair
	return findings, usable, nil
}

// rewriteLog replaces a group's damaged log by what is good of it and what the
// other groups know.
func (c *Checker) rewriteLog(ctx context.Context, p string, l logCopy, have, want *dirState) error {
	var b []byte
	eachEntry(l.raw, func(_ logEntry, frame []byte) { b = append(b, frame...) })
	for _, e := range have.lacks(want, p) {
		b = e.append(b)
	}
	w := Write{Data: [][]byte{b}, Timestamp: c.fs.clock.Next(), Flags: flagsDirLog}
	if !l.damaged {
		sum := sha512.Sum512(l.raw)
		w.IfSum = &sum
	}
	if len(b) == 0 {
		return c.fs.cluster.store.Remove(ctx, l.group, dirKey(p))
	}
	// An unreadable log has no checksum to compare: what was appended while
	// nobody could read it was not acknowledged by this group alone.
	return c.fs.cluster.store.Write(ctx, l.group, dirKey(p), w)
}

func mergeStates(states []dirState) (m dirState) {
	m.names = make(map[string]dirEntry)
	for i := range states {
		s := &states[i]
		m.fence, m.clear, m.up, m.newest = max(m.fence, s.fence), max(m.clear, s.clear), max(m.up, s.up), max(m.newest, s.newest)
		for name, e := range s.names {
			if old, ok := m.names[name]; !ok || e.log(name).wins(old) {
				m.names[name] = e
			}
		}
	}
	return m
}

// checkEntry compares the entry of a file with its record.
func (c *Checker) checkEntry(ctx context.Context, d *dirLog, e Entry) (*Finding, error) {
	p := join(d.path, e.Name)
	if err := c.throttle(ctx, 1<<10); err != nil {
		return nil, err
	}
	rec, err := c.fs.readRecord(ctx, p)
	if err != nil {
		return nil, err
	}
	var f Finding
	switch {
	case rec.unknown():
		f = Finding{Problem: "unreadable record", Path: p, Detail: "damaged in too many groups",
			Remedy: "it reads as missing; push it again, or delete it"}
	case !rec.alive():
		if !c.old(e.Mtime) {
			return nil, nil
		}
		f = Finding{Problem: "dangling entry", Path: p, Detail: "listed, but not there", Remedy: remedyRepair}
		f = c.mend(f, func() error {
			rec, err := c.fs.readRecord(ctx, p)
			if err != nil || rec.alive() {
				return err
			}
			return c.fs.unlink(ctx, p, e.Mtime) // as old as the entry: a newer one stays
		})
	case len(rec.attrs) == 0 && c.old(rec.ts) && c.old(e.Mtime) && (rec.kind() != e.Kind || rec.size() != e.Size):
		f = Finding{Problem: "outdated entry", Path: p, Detail: fmt.Sprintf("listed with %d bytes, has %d", e.Size, rec.size()), Remedy: remedyRepair}
		f = c.mend(f, func() error { return c.relist(ctx, rec, e.Mtime) })
	default:
		return nil, nil
	}
	return &f, nil
}

func (r *fileRecord) kind() Kind {
	if r.state == stateOpen {
		return KindOpen
	}
	return KindFile
}

// relist makes an entry that says what the record says. An entry newer than the
// record is from an overwrite that never came to its end: then the record gets
// the next timestamp, if it is still the same.
func (c *Checker) relist(ctx context.Context, rec *fileRecord, entry Timestamp) error {
	ts := rec.ts
	if entry >= ts {
		ts = entry + 1
	}
	err := c.fs.appendLog(ctx, path.Dir(rec.path), ts, logEntry{typ: entryLink, ts: ts, kind: rec.kind(), size: uint64(rec.size()), name: path.Base(rec.path)})
	if err != nil || ts == rec.ts {
		return err
	}
	return c.fs.replace(ctx, rec, rec.state, ts)
}
