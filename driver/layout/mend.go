package layout

import (
	"context"
	"crypto/sha512"
	"time"
)

const (
	// compactMin is the length below which a log is never compacted, bytes.
	compactMin = 32 << 10
	// compactRatio is how many times longer than its living entries a log
	// must be.
	compactRatio = 4
	// Tombstones of names stay at least this long in a log: with one group a
	// late request can only bring back a name without a record; with several
	// a group may come back that has not heard of the deletion.
	forgetAlone    = 10 * time.Minute
	forgetTogether = 24 * time.Hour
	// mendDelay is how long groups may differ before that is more than a
	// request on its way.
	mendDelay = 2 * time.Second
	// tidyAtOnce bounds such jobs, waiting ones among them. What finds no room
	// is found again by the next reader.
	tidyAtOnce = 64
)

// mendLater brings groups whose logs differ to the same state, in the
// background.
func (fs *FS) mendLater(d *dirLog) {
	fs.tend(d, mendDelay, func(ctx context.Context) error { return fs.mend(ctx, d) })
}

// compactLater rewrites a log that is mostly dead, in the background.
func (fs *FS) compactLater(d *dirLog) {
	d.mu.Lock()
	worth := d.groups[0].used >= d.checked*2 || d.groups[0].used < d.checked
	if worth {
		d.checked = d.groups[0].used
	}
	d.mu.Unlock()
	if worth {
		fs.tend(d, 0, func(ctx context.Context) error {
			return fs.compact(ctx, d, func(before, after int) bool {
				return before >= compactMin && before >= after*compactRatio
			})
		})
	}
}

// tend runs one such job at a time for each directory.
func (fs *FS) tend(d *dirLog, delay time.Duration, job func(context.Context) error) {
	d.mu.Lock()
	busy := d.mending
	d.mending = true
	d.mu.Unlock()
	if busy {
		return
	}
	done := func() {
		fs.tidying.Add(-1)
		d.mu.Lock()
		d.mending = false
		d.mu.Unlock()
	}
	if fs.tidying.Add(1) > tidyAtOnce {
		done()
		return
	}
	fs.life.start(delay+fs.opt.Timeout, func(ctx context.Context) {
		defer done()
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return
		}
		if err := job(ctx); err != nil && ctx.Err() == nil {
			fs.warn("mend "+d.path, "could not tidy the log of a directory; it is tried again", "directory", d.path, "error", err)
		}
	})
}

// mend appends to each group that answers what it lacks.
func (fs *FS) mend(ctx context.Context, d *dirLog) error {
	if err := fs.refresh(ctx, d); err != nil {
		return err
	}
	m := d.merged()
	for i, g := range fs.cluster.groups {
		d.mu.Lock()
		var b []byte
		if l := &d.groups[i]; l.fresh {
			for _, e := range l.state.lacks(&m, d.path) {
				b = e.append(b)
			}
		}
		d.mu.Unlock()
		if len(b) == 0 {
			continue
		}
		err := fs.cluster.store.Write(ctx, g, dirKey(d.path), Write{
			Data: [][]byte{b}, Timestamp: m.newest, Flags: flagsDirLog, Append: true,
		})
		if err != nil {
			fs.groupFailed(g, err)
		}
	}
	if err := fs.refresh(ctx, d); err != nil {
		return err
	}
	d.mu.Lock()
	d.mended = d.length() // what differs now is only what one group forgot earlier
	d.mu.Unlock()
	return nil
}

// lacks lists the entries that would make s say what m says of a directory.
func (s *dirState) lacks(m *dirState, path string) (entries []logEntry) {
	if s.up < m.up {
		entries = append(entries, up(path, m.up))
	}
	for _, mark := range []struct {
		typ        entryType
		have, want Timestamp
	}{{entryFence, s.fence, m.fence}, {entryClear, s.clear, m.clear}} {
		if mark.have < mark.want {
			entries = append(entries, logEntry{typ: mark.typ, ts: mark.want})
		}
	}
	for name, want := range m.names {
		have, ok := s.names[name]
		if l := want.log(name); (!ok && !want.unlinked) || (ok && l.wins(have)) {
			entries = append(entries, l)
		}
	}
	return entries
}

// compact rewrites each group's log, where that is worth it by the number of
// bytes before and after, without what no longer counts. The server
// swaps it only if it is what was read: an append that came in between wins.
//
// What stays keeps its order and its bytes, so that a reader that remembers
// the old log either finds its last entry where it was, and has missed
// nothing, or finds something else there and reads anew.
func (fs *FS) compact(ctx context.Context, d *dirLog, worth func(before, after int) bool) error {
	groups := fs.cluster.groups
	logs, err := askN(ctx, fs.cluster, len(groups), func(ctx context.Context, g uint32) ([]byte, error) {
		return fs.readAll(ctx, g, dirKey(d.path))
	}, nil)
	if err != nil {
		return err
	}
	states := make([]dirState, len(groups))
	for _, l := range logs {
		eachEntry(l.value, func(e logEntry, _ []byte) { states[l.group].apply(e) })
	}
	age := forgetAlone
	if len(groups) > 1 {
		age = forgetTogether
	}
	forget := Timestamp(fs.opt.Now().Add(-age).UnixNano())
	dead := func(e logEntry) bool {
		if e.typ != entryUnlink || e.ts > forget || len(logs) < len(groups) {
			return false
		}
		for i := range states { // every group must know that the name is gone
			if s, ok := states[i].names[e.name]; ok && !s.unlinked {
				return false
			}
		}
		return true
	}
	for _, l := range logs {
		kept := compacted(l.value, &states[l.group], dead)
		if len(kept) == len(l.value) || !worth(len(l.value), len(kept)) {
			continue
		}
		sum := sha512.Sum512(l.value)
		err := fs.cluster.store.Write(ctx, groups[l.group], dirKey(d.path), Write{
			Data: [][]byte{kept}, Timestamp: fs.clock.Next(), Flags: flagsDirLog, IfSum: &sum,
		})
		if err != nil && !isConflict(err) {
			return err
		}
	}
	return nil
}

// compacted is log without the entries that state does not rest on, those that
// stand twice, and those that are dead.
func compacted(log []byte, state *dirState, dead func(logEntry) bool) (kept []byte) {
	seen := make(map[string]bool)
	eachEntry(log, func(e logEntry, frame []byte) {
		counts := false
		switch e.typ {
		case entryFence:
			counts = e.ts == state.fence
		case entryClear:
			counts = e.ts == state.clear
		case entryUp:
			counts = e.ts == state.up
		case entryLink, entryUnlink:
			s := state.names[e.name]
			l := s.log(e.name)
			counts = e.typ == l.typ && e.ts == l.ts && e.kind == l.kind && e.size == l.size &&
				(e.typ == entryUnlink || state.visible(s)) && !dead(e)
		}
		if counts && !seen[string(frame)] {
			seen[string(frame)] = true
			kept = append(kept, frame...)
		}
	})
	return kept
}
