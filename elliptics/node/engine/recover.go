package engine

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// recover opens the files and brings the index up to date with the segments.
func (s *Store) recover() error {
	if err := makeDir(s.opt.FS, s.dir); err != nil {
		return err
	}
	names, err := s.opt.FS.List(s.dir)
	if err != nil {
		return err
	}
	var ids []uint64
	for _, name := range names {
		id, salt, ok := parseSegmentName(name)
		if !ok {
			continue
		}
		g, err := s.openSegment(id, salt)
		if err != nil {
			return err
		}
		if other := s.segments[id]; other != nil {
			return fmt.Errorf("%s and %s have the same number", other.path, g.path)
		}
		s.segments[id] = g
		ids = append(ids, id)
	}
	slices.Sort(ids)
	from, err := s.startIndex(ids)
	if err != nil {
		return err
	}
	s.seq = from.seq
	if err := s.replay(ids, from); err != nil {
		return err
	}
	s.durable = s.seq
	if len(ids) > 0 {
		s.active = s.segments[ids[len(ids)-1]]
	}
	return s.index.flush()
}

// MakeDir makes a directory, and those above it, so that they survive a crash.
func MakeDir(dir string) error { return makeDir(vfs.Default, dir) }

func makeDir(fs vfs.FS, dir string) error {
	missing := []string{}
	at := dir
	for {
		if _, err := fs.Stat(at); err == nil {
			break
		}
		up := fs.PathDir(at)
		if missing = append(missing, up); up == at {
			break
		}
		at = up
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, up := range missing {
		if err := syncDir(fs, up); err != nil {
			return err
		}
	}
	return nil
}

// startIndex opens the index, or begins a new one when it is damaged or has
// nothing to do with the segments, and returns where to replay from.
func (s *Store) startIndex(ids []uint64) (from position, err error) {
	open := func() error {
		if s.index, err = openIndex(s.dir, s.opt.FS, s.opt.Logger); err != nil {
			return err
		}
		if from, err = s.index.position(); err != nil {
			return err
		}
		s.live, s.records, err = s.index.load()
		return err
	}
	_, err = s.opt.FS.Stat(filepath.Join(s.dir, damagedMark))
	marked := err == nil
	if err = open(); marked && err == nil {
		err = errors.New("it was found to be damaged before")
	}
	switch {
	case marked:
	case err == nil && from.segment == 0 && len(ids) > 0:
		s.opt.Logger.Warn("the index is empty; it is made from the segments", "directory", s.dir, "segments", len(ids))
		return from, nil
	case err == nil && from.segment != 0 && (!slices.Contains(ids, from.segment) || s.segments[from.segment].end < from.offset):
		err = fmt.Errorf("it ends at segment %d, offset %d, which is not there", from.segment, from.offset)
	case err == nil:
		return from, nil
	case !pebble.IsCorruptionError(err):
		return from, err
	}
	s.opt.Logger.Warn("the index is damaged; it is made anew from the segments", "directory", s.dir, "segments", len(ids), "error", err)
	if s.index != nil {
		_ = s.index.close()
		s.index = nil
	}
	if err := s.opt.FS.RemoveAll(filepath.Join(s.dir, "index")); err != nil {
		return position{}, err
	}
	if marked {
		if err := s.opt.FS.Remove(filepath.Join(s.dir, damagedMark)); err != nil {
			return position{}, err
		}
	}
	from = position{}
	return from, open()
}

// replay brings the frames behind a position into the index.
func (s *Store) replay(ids []uint64, from position) error {
	start := func(id uint64) uint64 {
		if id == from.segment {
			return from.offset
		}
		return 0
	}
	ids = slices.DeleteFunc(slices.Clone(ids), func(id uint64) bool { return id < from.segment })
	log := replay{store: s, last: from.seq, durable: from.seq}
	for _, id := range ids {
		_, err := s.eachFrame(s.segments[id], start(id), false, func(f *frame, _ uint64) error {
			log.durable = max(log.durable, f.durable)
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, id := range ids {
		if err := log.segment(s.segments[id], start(id)); err != nil {
			return err
		}
	}
	return nil
}

// replay goes through the log behind what the index knows.
type replay struct {
	store   *Store
	last    uint64 // sequence number of the last frame
	durable uint64 // the highest that any frame says was durable
	cut     bool   // a crash has cut the log off: what follows is dropped
}

// replayBatch is how many frames the index takes at once in a replay.
const replayBatch = 1000

// segment brings the frames of a segment from pos on into the index. What is
// not a good frame is passed over, up to the next one, and said.
func (l *replay) segment(g *segment, pos uint64) error {
	s := l.store
	b := s.index.begin()
	states := make(map[Key]*record)
	n, dropped := 0, 0
	commit := func(end uint64) error {
		for key, r := range states {
			b.set(key, r)
		}
		for id := range b.touched {
			b.touched[id] = s.live[id]
		}
		b.records = s.records
		if err := b.commit(position{g.id, end, s.seq}); err != nil {
			return err
		}
		b, n = s.index.begin(), 0
		clear(states)
		return nil
	}
	end, err := s.eachFrame(g, pos, true, func(f *frame, at uint64) error {
		s.seq = max(s.seq, f.seq, f.version)
		if f.seq > l.last+1 && l.durable <= l.last {
			l.cut = true
		}
		l.last = f.seq
		if l.cut && f.kind != kindVoid {
			dropped++
			return g.void(at, *f)
		}
		if f.kind == kindVoid {
			return nil
		}
		old, ok := states[f.key]
		if !ok {
			var err error
			if old, err = s.index.get(f.key); err != nil {
				return err
			}
		}
		now, ok := old.apply(f, g.id, at)
		if !ok {
			return nil
		}
		s.account(old, now)
		old.weigh(b.touched, 0)
		now.weigh(b.touched, 0)
		states[f.key] = now
		if n++; n >= replayBatch {
			return commit(at + frameSize(f.dataLen))
		}
		return nil
	})
	if err != nil {
		return err
	}
	if dropped > 0 {
		s.opt.Logger.Warn("a crash cut off the log; changes behind the cut, which were never acknowledged, were dropped", "file", g.path, "changes", dropped)
		if err := g.file.SyncData(); err != nil {
			return err
		}
	}
	g.end, g.allocated = end, end
	return commit(end)
}

// eachFrame calls f for the good frames of a segment, verified with their data
// if data is set, and returns where the last one ends.
func (s *Store) eachFrame(g *segment, pos uint64, data bool, f func(fr *frame, at uint64) error) (end uint64, err error) {
	info, err := g.file.Stat()
	if err != nil {
		return pos, err
	}
	size := uint64(info.Size())
	head := make([]byte, headerSize)
	end = pos
	for pos+headerSize <= size {
		var fr frame
		err := errNoFrame
		if readFull(g, head, pos) == nil {
			err = fr.decode(head, g.salt)
		}
		if err == nil && (pos+frameSize(fr.dataLen) > size || data && fr.kind != kindVoid && s.checkFrame(g, pos, &fr) != nil) {
			err = errNoFrame
		}
		if err != nil {
			next, ok := s.findFrame(g, pos+1, size)
			if !ok {
				break
			}
			if data {
				s.opt.Logger.Error("damage, or a write that a crash cut off, was passed over", "file", g.path, "from", pos, "to", next)
			}
			pos = next
			continue
		}
		if err := f(&fr, pos); err != nil {
			return end, err
		}
		pos += frameSize(fr.dataLen)
		end = pos
	}
	return end, nil
}

// checkFrame verifies the data of a frame.
func (s *Store) checkFrame(g *segment, pos uint64, f *frame) error {
	table := make([]byte, tableSize(f.dataLen))
	if err := readFull(g, table, pos+headerSize); err != nil {
		return err
	}
	if crc32.Checksum(table, castagnoli) != f.tableSum {
		return ErrCorrupt
	}
	buf := make([]byte, min(f.dataLen, 16*blockSize))
	base := pos + headerSize + uint64(len(table))
	for at := uint64(0); at < f.dataLen; at += uint64(len(buf)) {
		b := buf[:min(uint64(len(buf)), f.dataLen-at)]
		if err := readFull(g, b, base+at); err != nil {
			return err
		}
		if err := checkBlocks(table, at/blockSize, b); err != nil {
			return err
		}
	}
	return nil
}

// findFrame looks for the next header in [pos, size).
func (s *Store) findFrame(g *segment, pos, size uint64) (at uint64, ok bool) {
	buf := make([]byte, 1<<20)
	head := make([]byte, headerSize)
	for pos+headerSize <= size {
		n, err := g.file.ReadAt(buf[:min(uint64(len(buf)), size-pos)], int64(pos))
		if n < len(frameMagic) || err != nil && !errors.Is(err, io.EOF) {
			return 0, false
		}
		for i := 0; ; {
			j := bytes.Index(buf[i:n], []byte(frameMagic))
			if j < 0 {
				break
			}
			at := pos + uint64(i+j)
			var f frame
			if at+headerSize <= size && readFull(g, head, at) == nil && f.decode(head, g.salt) == nil {
				return at, true
			}
			i += j + 1
		}
		if pos+uint64(n) >= size {
			return 0, false
		}
		pos += uint64(n - len(frameMagic) + 1)
	}
	return 0, false
}
