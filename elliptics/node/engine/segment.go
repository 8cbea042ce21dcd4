package engine

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// segment is one file of frames.
type segment struct {
	id   uint64
	salt uint32 // see frame.seal
	file vfs.File
	path string

	// guarded by Store.mu
	end       uint64 // where the next frame goes
	allocated uint64 // space that the file system has set aside
	refs      int    // snapshots and replays that read it
	doomed    bool   // nothing needs it: removed with the last ref
}

// allocateStep is how much space is set aside at once, so that a full disk
// shows before a frame has its place, not in the middle of writing it.
const allocateStep = 8 << 20

const segmentSuffix = ".seg"

func segmentName(id uint64, salt uint32) string {
	return fmt.Sprintf("%08d-%08x%s", id, salt, segmentSuffix)
}

func parseSegmentName(name string) (id uint64, salt uint32, ok bool) {
	digits, ok := strings.CutSuffix(name, segmentSuffix)
	number, hex, ok2 := strings.Cut(digits, "-")
	if !ok || !ok2 {
		return 0, 0, false
	}
	id, err := strconv.ParseUint(number, 10, 64)
	s, err2 := strconv.ParseUint(hex, 16, 32)
	return id, uint32(s), err == nil && err2 == nil && id > 0
}

const diskCategory = vfs.DiskWriteCategory("elliptics-segment")

func (s *Store) openSegment(id uint64, salt uint32) (*segment, error) {
	path := filepath.Join(s.dir, segmentName(id, salt))
	file, err := s.opt.FS.OpenReadWrite(path, diskCategory)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, err
	}
	return &segment{id: id, salt: salt, file: file, path: path, end: uint64(info.Size())}, nil
}

// newSegment begins a file. It is in its directory for good when it returns.
func (s *Store) newSegment(id uint64) (*segment, error) {
	salt := rand.Uint32()
	path := filepath.Join(s.dir, segmentName(id, salt))
	file, err := s.opt.FS.Create(path, diskCategory)
	if err != nil {
		return nil, diskError(err)
	}
	if err := syncDir(s.opt.FS, s.dir); err != nil {
		file.Close()
		return nil, diskError(err)
	}
	return &segment{id: id, salt: salt, file: file, path: path}, nil
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	if err := d.Sync(); err != nil {
		d.Close()
		return err
	}
	return d.Close()
}

// reserve finds room for a frame. Called with mu held. Deletions and
// compaction may use the last of the disk, for they give it back.
func (s *Store) reserve(size uint64, urgent bool) (*segment, uint64, error) {
	g := s.active
	if g == nil || g.end > 0 && g.end+size > uint64(s.opt.SegmentSize) {
		next := uint64(1)
		for id := range s.segments {
			next = max(next, id+1)
		}
		n, err := s.newSegment(next)
		if err != nil {
			return nil, 0, err
		}
		s.segments[n.id], s.active = n, n
		g = n
		s.poke() // the index should follow before long
	}
	if g.end+size > g.allocated {
		if !urgent {
			if du, err := s.opt.FS.GetDiskUsage(s.dir); err == nil && du.AvailBytes < uint64(s.opt.MinFree)+size {
				return nil, 0, fmt.Errorf("%w: %d MiB left, %d are kept for deletions", ErrNoSpace, du.AvailBytes>>20, s.opt.MinFree>>20)
			}
		}
		step := max(size, min(allocateStep, uint64(s.opt.SegmentSize)))
		if err := g.file.Preallocate(int64(g.end), int64(step)); err != nil {
			if err = diskError(err); !urgent {
				return nil, 0, err
			}
			step = size // perhaps there is room for just this one
		}
		g.allocated = g.end + step
	}
	pos := g.end
	g.end += size
	return g, pos, nil
}

// scratch holds small frames, so that each is one write.
var scratch = sync.Pool{New: func() any { b := make([]byte, 0, 128<<10); return &b }}

// writePiece is how much is written at once. For more, Linux takes page cache in
// large pages, which on a virtual machine are those that the host took back:
// writing 4 MiB at once was half as fast, and kept others that write to the
// same file from it.
const writePiece = 128 << 10

// write puts a frame in its place.
func (g *segment) write(pos uint64, head []byte, data [][]byte) error {
	size := len(head)
	for _, d := range data {
		size += len(d)
	}
	if size <= 128<<10 && len(data) > 0 {
		b := scratch.Get().(*[]byte)
		defer scratch.Put(b)
		whole := append((*b)[:0], head...)
		for _, d := range data {
			whole = append(whole, d...)
		}
		_, err := g.file.WriteAt(whole, int64(pos))
		return err
	}
	at := int64(pos)
	if _, err := g.file.WriteAt(head, at); err != nil {
		return err
	}
	at += int64(len(head))
	for _, d := range data {
		for piece := range slices.Chunk(d, writePiece) {
			if _, err := g.file.WriteAt(piece, at); err != nil {
				return err
			}
			at += int64(len(piece))
		}
	}
	return nil
}

// void makes a frame one that is passed over.
func (g *segment) void(pos uint64, f frame) error {
	f.kind = kindVoid
	head := make([]byte, headerSize)
	f.seal(head, g.salt)
	return g.write(pos, head, nil)
}

// pin keeps the segments of a record from being removed. It reports false if
// one is gone already.
func (s *Store) pin(r *record) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.segments[r.segment] == nil {
		return false
	}
	for _, e := range r.extents {
		if e.segment != 0 && s.segments[e.segment] == nil {
			return false
		}
	}
	for _, e := range r.extents {
		if e.segment != 0 {
			s.segments[e.segment].refs++
		}
	}
	return true
}

func (s *Store) unpin(r *record) {
	var remove []*segment
	s.mu.Lock()
	for _, e := range r.extents {
		if e.segment == 0 {
			continue
		}
		g := s.segments[e.segment]
		if g.refs--; g.refs == 0 && g.doomed {
			delete(s.segments, g.id)
			remove = append(remove, g)
		}
	}
	s.mu.Unlock()
	for _, g := range remove {
		s.removeFile(g)
	}
}

// doom removes a segment as soon as nobody reads it.
func (s *Store) doom(g *segment) {
	s.mu.Lock()
	g.doomed = true
	now := g.refs == 0
	if now {
		delete(s.segments, g.id)
	}
	delete(s.live, g.id)
	s.mu.Unlock()
	if now {
		s.removeFile(g)
	}
}

// removeFile: a file that stays after all is found again by Open.
func (s *Store) removeFile(g *segment) {
	g.file.Close()
	if err := s.opt.FS.Remove(g.path); err != nil {
		s.opt.Logger.Warn("could not remove a segment that nothing needs", "file", g.path, "error", err)
	}
}
