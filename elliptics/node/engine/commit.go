package engine

import (
	"context"
	"errors"
	"syscall"
	"time"
)

// append gives a frame its place, writes it, and makes it the newest state of
// its key, whose lock the caller holds.
func (s *Store) append(ctx context.Context, old *record, f *frame, data [][]byte) (*Commit, error) {
	size := frameSize(f.dataLen)
	cost := min(int64(size), s.opt.MaxUnsynced)
	if err := s.unsynced.Acquire(ctx, cost); err != nil {
		return nil, context.Cause(ctx)
	}
	if err := s.failure(); err != nil {
		s.unsynced.Release(cost)
		return nil, err
	}
	// The checksums need no lock; sequence number and place do.
	head := f.appendHeader(make([]byte, 0, headerSize+tableSize(f.dataLen)), data)
	c := &Commit{
		store: s, key: f.key, old: old, cost: cost, done: make(chan struct{}),
		now: s.opt.Sync != SyncAlways, void: f.kind == kindVoid,
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		s.unsynced.Release(cost)
		return nil, ErrClosed
	}
	g, pos, err := s.reserve(size, f.kind != kindPut)
	if err != nil {
		s.mu.Unlock()
		s.unsynced.Release(cost)
		return nil, err
	}
	s.seq++
	f.seq, f.durable, c.seq = s.seq, s.durable, s.seq
	if f.kind != kindCopy {
		f.version = f.seq
	}
	c.segment, c.end = g, pos+size
	s.pending = append(s.pending, c)
	s.mu.Unlock()

	f.seal(head[:headerSize], g.salt)
	err = g.write(pos, head, data)
	if err != nil {
		// Whoever reads the log later must get over this place.
		if verr := g.void(pos, *f); verr != nil {
			err = s.fail(errors.Join(err, verr))
		} else {
			err = diskError(err)
		}
		f.kind = kindVoid
	}
	c.record, _ = old.apply(f, g.id, pos)

	s.mu.Lock()
	c.written, c.err = true, err
	switch {
	case c.void:
	case err == nil:
		s.overlay[f.key] = c
	default:
		c.record = old
	}
	s.mu.Unlock()
	s.poke()
	if err != nil {
		return nil, err
	}
	return c, nil
}

func diskError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return errors.Join(ErrNoSpace, err)
	}
	return err
}

func (s *Store) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// syncer makes pending changes durable, as many at a time as there are.
func (s *Store) syncer() {
	defer s.wg.Done()
	for {
		closing := false
		select {
		case <-s.wake:
		case <-s.closing:
			closing = true
		}
		if s.opt.Sync != SyncAlways && !closing {
			s.rest()
		}
		for s.syncOnce() {
		}
		if closing {
			return
		}
	}
}

// rest waits until a sync is due by time, by what has gathered, or because
// somebody waits for it.
func (s *Store) rest() {
	interval := s.opt.SyncInterval
	if s.opt.Sync == SyncNone {
		interval = 30 * time.Second // the index waits for it, nobody else
	}
	due := time.NewTimer(interval)
	defer due.Stop()
	for {
		if !s.unsynced.TryAcquire(s.opt.MaxUnsynced / 2) {
			return
		}
		s.unsynced.Release(s.opt.MaxUnsynced / 2)
		select {
		case <-due.C:
			return
		case <-s.closing:
			return
		case <-s.hurry:
			return
		case <-s.wake:
		}
	}
}

// syncOnce takes all changes before which nothing is missing. It reports false
// when there are none.
func (s *Store) syncOnce() bool {
	s.mu.Lock()
	n := 0
	for n < len(s.pending) && s.pending[n].written {
		n++
	}
	batch := s.pending[:n:n]
	s.pending = s.pending[n:]
	if len(s.pending) == 0 {
		s.pending = nil
	}
	s.mu.Unlock()
	if n == 0 {
		return false
	}
	err := s.failure()
	var last *segment
	for _, c := range batch {
		if c.segment != last && err == nil {
			if e := c.segment.file.SyncData(); e != nil {
				err = s.fail(e)
			}
		}
		last = c.segment
	}
	if err == nil {
		s.mu.Lock()
		s.durable = batch[n-1].seq
		s.mu.Unlock()
		if e := s.publish(batch); e != nil {
			err = s.fail(e)
		}
	}
	var cost int64
	s.mu.Lock()
	for _, c := range batch {
		if s.overlay[c.key] == c && err == nil {
			delete(s.overlay, c.key)
		}
		cost += c.cost
	}
	s.mu.Unlock()
	for _, c := range batch {
		if c.err == nil {
			c.err = err
		}
		close(c.done)
	}
	s.unsynced.Release(cost)
	return true
}

// publish puts durable changes into the index.
func (s *Store) publish(batch []*Commit) error {
	b := s.index.begin()
	s.mu.Lock()
	for _, c := range batch {
		if c.err != nil || c.void {
			continue
		}
		s.account(c.old, c.record)
		c.old.weigh(b.touched, 0)
		c.record.weigh(b.touched, 0)
	}
	for id := range b.touched {
		b.touched[id] = s.live[id]
	}
	b.records = s.records
	s.mu.Unlock()
	for _, c := range batch {
		if c.err == nil && !c.void {
			b.set(c.key, c.record)
		}
	}
	last := batch[len(batch)-1]
	return b.commit(position{last.segment.id, last.end, last.seq})
}

// account moves the weights of the segments. Called with mu held, or alone.
func (s *Store) account(old, now *record) {
	old.weigh(s.live, -1)
	now.weigh(s.live, 1)
	if old == nil && now != nil {
		s.records++
	} else if old != nil && now == nil {
		s.records--
	}
}
