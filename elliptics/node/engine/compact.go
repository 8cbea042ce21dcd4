package engine

import (
	"context"
	"errors"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

const (
	// compactEvery is how often the engine looks for segments to give back.
	compactEvery = 10 * time.Second
	// compactBelow is the share of living bytes below which a segment is
	// rewritten, percent.
	compactBelow = 50
	// compactRate bounds what compaction writes by itself, bytes a second.
	compactRate = 64 << 20
	copyPiece   = 4 << 20
)

// compactor gives space back while the store is in use.
func (s *Store) compactor() {
	defer s.wg.Done()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-s.closing:
			cancel()
		case <-ctx.Done():
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(compactEvery):
		}
		if err := s.compactSome(ctx, compactBelow, compactRate); err != nil && ctx.Err() == nil {
			s.opt.Logger.Warn("compaction failed; it is tried again", "directory", s.dir, "error", err)
		}
	}
}

// Compact rewrites every segment in which anything is dead, without waiting
// for its turn.
func (s *Store) Compact(ctx context.Context) error { return s.compactSome(ctx, 100, 0) }

// compactSome frees the segments with less than percent living bytes.
func (s *Store) compactSome(ctx context.Context, percent int64, rate int64) error {
	s.mu.Lock()
	var todo []*segment
	for id, g := range s.segments {
		_, bad := s.lost[id]
		if g != s.active && !g.doomed && !bad && s.live[id]*100 < int64(g.end)*percent {
			todo = append(todo, g)
		}
	}
	s.mu.Unlock()
	for _, g := range todo {
		if err := s.compactSegment(ctx, g, rate); err != nil {
			return err
		}
	}
	return nil
}

// compactSegment moves what lives in a segment to the end of the log and
// removes the file. Changes that are made meanwhile win. A crash leaves the
// bytes in two places, of which the index knows one.
func (s *Store) compactSegment(ctx context.Context, g *segment, rate int64) error {
	if err := s.settle(ctx); err != nil { // the counters speak of durable changes only
		return err
	}
	s.mu.Lock()
	oldest := true
	for id := range s.segments {
		oldest = oldest && id >= g.id
	}
	g.refs++
	s.mu.Unlock()
	begin, moved := time.Now(), int64(0)
	_, err := s.eachFrame(g, 0, false, func(f *frame, at uint64) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := s.move(ctx, g, f, oldest)
		if moved += n; rate > 0 && err == nil {
			ahead := time.Duration(float64(moved)/float64(rate)*float64(time.Second)) - time.Since(begin)
			if ahead > 0 {
				select {
				case <-time.After(ahead):
				case <-ctx.Done():
				}
			}
		}
		return err
	})
	if err == nil {
		// A frame that says that all before it is durable: should the index be
		// lost, the hole that the segment leaves is not taken for the work of a
		// crash.
		_, err = s.append(ctx, nil, &frame{kind: kindVoid}, nil)
	}
	s.copied.Add(moved)
	s.mu.Lock()
	if g.refs--; errors.Is(err, ErrCorrupt) {
		s.lost[g.id] = struct{}{} // it stays: what can be read in it is read from it
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	// The index on the disk must not speak of the file any more.
	if err := s.index.flush(); err != nil {
		return err
	}
	s.mu.Lock()
	dead := s.live[g.id] <= 0
	s.mu.Unlock()
	if dead {
		s.doom(g)
	}
	return nil
}

// settle waits until everything sequenced so far is durable and in the index.
func (s *Store) settle(ctx context.Context) error {
	s.mu.Lock()
	var last *Commit
	if n := len(s.pending); n > 0 {
		last = s.pending[n-1]
	}
	s.mu.Unlock()
	if last == nil {
		return s.failure()
	}
	s.poke()
	select {
	case s.hurry <- struct{}{}:
	default:
	}
	select {
	case <-last.done:
		return s.failure()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// move copies what a key still needs of a segment, and answers how many bytes.
func (s *Store) move(ctx context.Context, g *segment, f *frame, oldest bool) (moved int64, err error) {
	if f.kind == kindVoid {
		return 0, nil
	}
	lock := s.lockOf(&f.key)
	lock.Lock()
	defer lock.Unlock()
	cur, _, err := s.current(f.key)
	if err != nil {
		return 0, err
	}
	if cur == nil {
		if f.kind != kindDelete || oldest {
			return 0, nil
		}
		// Segments before this one may hold what it deleted: should the index
		// be lost, the deletion must still be known.
		d := frame{key: f.key, kind: kindDelete, version: f.version}
		_, err := s.append(ctx, nil, &d, nil)
		return headerSize, err
	}
	if !cur.needs(g.id) {
		return 0, nil
	}
	snap, ok := s.snapshot(f.key, cur)
	if !ok {
		return 0, nil
	}
	defer snap.Close()
	copied := false
	for _, e := range cur.extents {
		if e.segment != g.id {
			continue
		}
		for off := uint64(0); off < e.n; off += copyPiece {
			piece := make([]byte, min(copyPiece, e.n-off))
			if err := snap.readExtent(e, off, piece); err != nil {
				return moved, err
			}
			c := frame{key: f.key, kind: kindCopy, version: cur.version, offset: e.at + off, dataLen: uint64(len(piece)), info: cur.info}
			commit, err := s.append(ctx, cur, &c, [][]byte{piece})
			if err != nil {
				return moved, err
			}
			cur, copied = commit.record, true
			moved += int64(len(piece))
		}
	}
	if !copied { // only its last change is here, without data
		c := frame{key: f.key, kind: kindCopy, version: cur.version, info: cur.info}
		_, err = s.append(ctx, cur, &c, nil)
	}
	return moved, err
}

// Iterate calls f for each record with from <= key <= to, in the order of the
// keys. It is not a snapshot: what changes meanwhile may or may not show. The
// Snapshot is only valid within f.
func (s *Store) Iterate(ctx context.Context, from, to Key, f func(Key, *Snapshot) error) error {
	if err := s.settle(ctx); err != nil && s.failure() == nil {
		return err
	}
	upper := append(recordKey(to), 0)
	it, err := s.index.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: recordKey(from), UpperBound: upper})
	if err != nil {
		return err
	}
	defer it.Close()
	for it.First(); it.Valid(); it.Next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		var key Key
		copy(key[:], it.Key()[1:])
		snap, err := s.Get(ctx, key)
		if errors.Is(err, ErrNotFound) {
			continue // deleted meanwhile
		}
		if err != nil {
			return err
		}
		err = f(key, snap)
		snap.Close()
		if err != nil {
			return err
		}
	}
	return indexError(it.Error())
}

// Stats describes a store.
type Stats struct {
	Records   int64
	Segments  int
	LiveBytes int64 // that records need
	FileBytes int64 // of all segments
	FreeBytes int64 // in the file system
	DiskBytes int64 // size of the file system
	Copied    int64 // bytes that compaction has written since Open
	ReadOnly  error // why the store takes no changes; nil when it does
}

// Stats counts.
func (s *Store) Stats() Stats {
	st := Stats{Copied: s.copied.Load(), ReadOnly: s.failure()}
	s.mu.Lock()
	st.Records, st.Segments = s.records, len(s.segments)
	for _, n := range s.live {
		st.LiveBytes += n
	}
	for _, g := range s.segments {
		st.FileBytes += int64(g.end)
	}
	s.mu.Unlock()
	if du, err := s.opt.FS.GetDiskUsage(s.dir); err == nil {
		st.FreeBytes, st.DiskBytes = int64(du.AvailBytes), int64(du.TotalBytes)
	}
	return st
}
