package layout

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"time"
)

const remedyScrub = "scrub without --dry-run restores it"

// Sync reads every group's copy of a record, whole, and restores what is
// missing, behind or damaged from a good one. What no group has is a finding
// that it cannot mend; the file it belongs to is quarantined.
func (c *Checker) Sync(ctx context.Context, s *Sighting) ([]Finding, error) {
	n, err := c.name(ctx, s)
	switch {
	case errors.Is(err, errForeign):
		return nil, nil
	case errors.Is(err, errDamaged):
		return []Finding{{Problem: "unreadable " + s.Kind().String(), Key: s.ID.String(), Groups: c.holders(s), Detail: "no group has a copy that tells what it is",
			Remedy: "fsck tells which file lacks something; push that again"}}, nil
	case err != nil:
		return nil, err
	}
	switch s.Kind() {
	case RecordChunk:
		return c.syncChunk(ctx, s, n)
	case RecordFile:
		return c.syncFile(ctx, n.path)
	case RecordDir:
		return c.syncDir(ctx, n.path)
	case RecordTrash:
		return c.syncTrash(ctx, n.key)
	case RecordOwner:
		return c.syncOwners(ctx, n.content)
	}
	return c.syncRecord(ctx, n.key, s)
}

// holders are the groups that have something under an id.
func (c *Checker) holders(s *Sighting) (groups []uint32) {
	for i, g := range c.fs.cluster.groups {
		if s.copies[i].Flags != 0 {
			groups = append(groups, g)
		}
	}
	return groups
}

// restore says that some groups lacked a good copy, and writes it there.
func (c *Checker) restore(what, path, key string, groups []uint32, write func(g uint32) error) []Finding {
	if len(groups) == 0 {
		return nil
	}
	f := Finding{Problem: what, Path: path, Key: key, Groups: groups, Remedy: remedyScrub}
	return []Finding{c.mend(f, func() error {
		var errs []error
		for _, g := range groups {
			if err := write(g); err != nil && !isConflict(err) { // refused: something newer is there
				errs = append(errs, fmt.Errorf("group %d: %w", g, err))
			}
		}
		return errors.Join(errs...)
	})}
}

func (c *Checker) syncChunk(ctx context.Context, s *Sighting, n name) ([]Finding, error) {
	var good Value
	defer func() { good.Release() }()
	have := false
	var missing, damaged []uint32
	for i, g := range c.fs.cluster.groups {
		if s.copies[i].Flags == 0 {
			missing = append(missing, g)
			continue
		}
		if err := c.throttle(ctx, int(s.copies[i].Size)); err != nil {
			return nil, err
		}
		v, err := c.fs.readChunk(ctx, g, n.extent, n.number, n.size)
		switch {
		case err == nil && !have:
			good, have = v, true
		case err == nil:
			v.Release()
		case isNotFound(err):
			missing = append(missing, g) // removed meanwhile, perhaps everywhere
		case isDamage(err) || isBehindEnd(err):
			damaged = append(damaged, g)
		default:
			return nil, fmt.Errorf("group %d: %s: %w", g, n.key, err)
		}
	}
	if len(missing)+len(damaged) == 0 {
		return nil, nil
	}
	// Content on its way to the bin is not worth a copy, and would come back
	// by it.
	if needed, err := c.isNeeded(ctx, n); err != nil || !needed || c.knownTrash(n.extent) {
		return nil, err
	}
	if !have {
		if len(damaged) == 0 {
			return nil, nil // removed meanwhile
		}
		return c.lostChunk(ctx, n)
	}
	write := func(g uint32) error {
		return c.fs.cluster.store.Write(ctx, g, n.key, Write{Data: [][]byte{good.Data}, Timestamp: s.newest(), Flags: flagsChunk})
	}
	return append(c.restore("missing chunk", "", n.key, missing, write), c.restore("damaged chunk", "", n.key, damaged, write)...), nil
}

// lostChunk reports the files that need a chunk that nobody has, and
// quarantines them.
func (c *Checker) lostChunk(ctx context.Context, n name) (findings []Finding, err error) {
	o, err := c.fs.readOwners(ctx, n.content)
	if err != nil {
		return nil, err
	}
	for _, p := range append(o.paths, n.path) {
		rec, err := c.fs.readRecord(ctx, p)
		if err != nil {
			return findings, err
		}
		if !rec.alive() || rec.data.id != n.content || len(findings) > 0 && findings[len(findings)-1].Path == p {
			continue
		}
		f, err := c.lostContent(ctx, rec, n.key)
		if err != nil {
			return findings, err
		}
		findings = append(findings, f)
	}
	return findings, nil
}

func (c *Checker) lostContent(ctx context.Context, rec *fileRecord, key string) (Finding, error) {
	f := Finding{Problem: "lost content", Path: rec.path, Key: key, Detail: "no group has it", Remedy: "push the file again, or delete what refers to it"}
	if rec.state != stateFile || !c.opt.Repair || c.opt.Incomplete {
		return f, nil
	}
	f.Detail += "; the file reads as missing now"
	if err := c.fs.setState(ctx, rec, stateQuarantined); err != nil && !errors.Is(err, errStale) {
		return f, err
	}
	return f, nil
}

func (c *Checker) syncFile(ctx context.Context, p string) (findings []Finding, err error) {
	groups := c.fs.cluster.groups
	newest := recordCopy{}
	copies := make([]recordCopy, len(groups))
	damaged := make([]bool, len(groups))
	for i, g := range groups {
		cp, err := c.fs.readCopy(ctx, g, p)
		if isDamage(err) {
			damaged[i] = true
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("group %d: %s: %w", g, p, err)
		}
		if err := c.throttle(ctx, inlineLimit/8); err != nil {
			return nil, err
		}
		if cp.rec != nil {
			cp.raw = cp.rec.encode()
		}
		if copies[i] = cp; cp.newer(newest) {
			newest = cp
		}
	}
	if newest.rec == nil {
		return nil, nil
	}
	var missing, behind, bad []uint32
	for i, g := range groups {
		switch {
		case damaged[i]:
			bad = append(bad, g)
		case copies[i].rec == nil:
			missing = append(missing, g)
		case newest.newer(copies[i]):
			behind = append(behind, g)
		}
	}
	if len(bad) > 0 && len(groups)-len(bad) < len(groups)-len(groups)/2 {
		// A damaged copy may have been newer than the one that is left.
		d := c.fs.dir(path.Dir(p))
		if err := c.fs.refresh(ctx, d); err != nil {
			return nil, err
		}
		if e, visible, _ := d.lookup(path.Base(p)); !visible || e.ts > newest.rec.ts {
			return []Finding{{Problem: "damaged record", Path: p, Groups: bad, Detail: "what is left is older than the listing",
				Remedy: "it reads as missing; push it again, or delete it"}}, nil
		}
	}
	if !newest.rec.alive() && len(missing) > 0 && c.opt.Unique != nil && c.opt.Unique(p) {
		missing = nil // being forgotten
	}
	write := func(g uint32) error {
		w := Write{Data: [][]byte{newest.raw}, Timestamp: newest.rec.ts, Flags: flagsFile, IfNotNewer: true}
		err := c.fs.cluster.store.Write(ctx, g, fileKey(p), w)
		if isConflict(err) {
			// Newer and damaged: a write that was never acknowledged.
			if _, again := c.fs.readCopy(ctx, g, p); isDamage(again) {
				w.IfNotNewer = false
				err = c.fs.cluster.store.Write(ctx, g, fileKey(p), w)
			}
		}
		return err
	}
	for what, list := range map[string][]uint32{"missing record": missing, "outdated record": behind, "damaged record": bad} {
		findings = append(findings, c.restore(what, p, "", list, write)...)
	}
	if !newest.rec.alive() || newest.rec.data.empty() {
		return findings, nil
	}
	more, err := c.syncContent(ctx, newest.rec)
	return append(findings, more...), err
}

// syncContent looks whether every chunk of a file is there in some group: those
// that no group has, Slice does not find. A quarantined file of which all is
// there is one no longer.
func (c *Checker) syncContent(ctx context.Context, rec *fileRecord) ([]Finding, error) {
	for i := range rec.data.extents {
		x := &rec.data.extents[i]
		for n := range x.chunks() {
			size := int(min(uint64(x.chunk), x.size-uint64(n)*uint64(x.chunk)))
			there, err := c.hasChunk(ctx, x.id, n, size, rec.state == stateQuarantined)
			if err != nil {
				return nil, err
			}
			if there {
				continue
			}
			now, err := c.fs.readRecord(ctx, rec.path)
			if err != nil || !now.alive() || now.ts != rec.ts {
				return nil, err // changed meanwhile
			}
			f, err := c.lostContent(ctx, rec, chunkKey(x.id, n))
			return []Finding{f}, err
		}
	}
	if rec.state != stateQuarantined {
		return nil, nil
	}
	f := Finding{Problem: "quarantined file", Path: rec.path, Detail: "all of it can be read again", Remedy: remedyScrub}
	return []Finding{c.mend(f, func() error { return c.fs.setState(ctx, rec, stateFile) })}, nil
}

// hasChunk tells whether a group has a chunk: its header, or all of it.
func (c *Checker) hasChunk(ctx context.Context, id contentID, n, size int, whole bool) (bool, error) {
	for _, g := range c.fs.cluster.groups {
		length := 0
		if !whole {
			length = chunkDataAt(size)
		}
		if err := c.throttle(ctx, max(length, chunkHeader)); err != nil {
			return false, err
		}
		v, err := c.fs.cluster.store.Read(ctx, g, chunkKey(id, n), 0, uint64(length))
		if err == nil && whole {
			err = checkChunk(id, n, size, v.Data)
		} else if err == nil {
			_, err = parseChunk(id, n, size, v.Data)
		}
		v.Release()
		if err == nil {
			return true, nil
		}
		if !isLost(err) {
			return false, fmt.Errorf("group %d: %s: %w", g, chunkKey(id, n), err)
		}
	}
	return false, nil
}

// syncDir gives every group the entries that it lacks.
func (c *Checker) syncDir(ctx context.Context, p string) ([]Finding, error) {
	findings, _, err := c.checkLog(ctx, p)
	if err != nil {
		return findings, err
	}
	for attempt := 0; ; attempt++ {
		states := make([]dirState, len(c.fs.cluster.groups))
		copies, err := c.readLogs(ctx, dirKey(p), func(i int, b []byte) int {
			return eachEntry(b, func(e logEntry, _ []byte) { states[i].apply(e) })
		})
		if err != nil {
			return findings, err
		}
		merged := mergeStates(states)
		var lacking []uint32
		missing := make(map[uint32][]byte)
		for i, l := range copies {
			if l.damaged {
				continue
			}
			var b []byte
			for _, e := range states[i].lacks(&merged, p) {
				b = e.append(b)
			}
			if len(b) > 0 {
				lacking = append(lacking, l.group)
				missing[l.group] = b
			}
		}
		// What differs for a moment is on its way.
		if len(lacking) > 0 && attempt == 0 && !c.old(merged.newest) {
			select {
			case <-time.After(2 * straggleGrace):
				continue
			case <-ctx.Done():
				return findings, context.Cause(ctx)
			}
		}
		return append(findings, c.restore("incomplete directory log", p, "", lacking, func(g uint32) error {
			return c.fs.cluster.store.Write(ctx, g, dirKey(p), Write{
				Data: [][]byte{missing[g]}, Timestamp: merged.newest, Flags: flagsDirLog, Append: true,
			})
		})...), nil
	}
}

// syncTrash gives every group the notes that it lacks.
func (c *Checker) syncTrash(ctx context.Context, key string) ([]Finding, error) {
	notes := make([]map[string]bool, len(c.fs.cluster.groups))
	all := make(map[string]Timestamp)
	copies, err := c.readLogs(ctx, key, func(i int, b []byte) int {
		notes[i] = make(map[string]bool)
		eachTrash(b, func(e trashEntry) {
			frame := string(e.encode())
			notes[i][frame] = true
			all[frame] = e.ts
		})
		return len(b)
	})
	if err != nil {
		return nil, err
	}
	limit := Timestamp(c.fs.opt.Now().Add(-c.fs.opt.TrashGrace).UnixNano())
	var lacking []uint32
	missing := make(map[uint32][]byte)
	for i, l := range copies {
		for frame, ts := range all {
			if notes[i][frame] || ts < limit { // about to be emptied
				continue
			}
			missing[l.group] = binary.LittleEndian.AppendUint32(missing[l.group], uint32(len(frame)))
			missing[l.group] = append(missing[l.group], frame...)
		}
		if len(missing[l.group]) > 0 {
			lacking = append(lacking, l.group)
		}
	}
	return c.restore("incomplete trash log", "", key, lacking, func(g uint32) error {
		return c.fs.cluster.store.Write(ctx, g, key, Write{Data: [][]byte{missing[g]}, Timestamp: c.fs.clock.Next(), Flags: flagsTrash, Append: true})
	}), nil
}

// syncRecord copies the newest of some small records that are replaced whole.
func (c *Checker) syncRecord(ctx context.Context, key string, s *Sighting) ([]Finding, error) {
	var newest []byte
	var ts Timestamp
	raws := make([][]byte, len(c.fs.cluster.groups))
	for i, g := range c.fs.cluster.groups {
		v, err := c.fs.cluster.store.Read(ctx, g, key, 0, maxRecord)
		if isLost(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("group %d: %s: %w", g, key, err)
		}
		if soundFrame(v.Data) {
			raws[i] = bytes.Clone(v.Data)
			if at := s.copies[i].Timestamp; newest == nil || at > ts {
				newest, ts = raws[i], at
			}
		}
		v.Release()
	}
	if newest == nil {
		return nil, nil
	}
	var lacking []uint32
	for i, g := range c.fs.cluster.groups {
		if !bytes.Equal(raws[i], newest) {
			lacking = append(lacking, g)
		}
	}
	return c.restore("incomplete "+s.Kind().String(), "", key, lacking, func(g uint32) error {
		return c.fs.cluster.store.Write(ctx, g, key, Write{Data: [][]byte{newest}, Timestamp: ts, Flags: s.flags(), IfNotNewer: true})
	}), nil
}

func (s *Sighting) flags() uint64 {
	for _, f := range s.copies {
		if f.Flags != 0 {
			return f.Flags
		}
	}
	return 0
}

// soundFrame checks a framed record of any kind.
func soundFrame(b []byte) bool {
	if len(b) < frameHeader {
		return false
	}
	_, err := openFrame(string(b[:3]), b)
	return err == nil
}
