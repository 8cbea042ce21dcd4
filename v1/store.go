package v1

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
)

// What the old driver wrote into the records of what has no content.
const (
	emptyMark     = "EMPTY"
	directoryMark = "DIRECTORY"
)

// literal is the user flag of records whose content is one of the marks and
// means itself. The old driver has no such records, reads them rightly, and
// writes 0.
const literal uint64 = 0x4c495445524c0001

// Errors of a Store. They arrive wrapped, with the path.
var (
	ErrNotExist = errors.New("does not exist")
	ErrIsDir    = errors.New("is a directory")
	ErrNotDir   = errors.New("is not a directory")
	ErrPath     = errors.New("bad path")
	// ErrChanged: a file was replaced while it was read.
	ErrChanged = errors.New("was changed while it was read")
	// ErrNoIndexes: the servers keep no secondary indexes, so that nothing can
	// be listed or written. What has a known path can be read.
	ErrNoIndexes = elliptics.ErrNoIndexes
)

// Store is the old driver's files. It is safe for concurrent use. Reads want
// one group that has the newest record; writes want a majority of the groups,
// whatever the session's checker.
type Store struct {
	read  *elliptics.Session
	write *elliptics.Session
}

// New makes a store on a session with the groups and the namespace of the old
// driver.
func New(s *elliptics.Session) *Store {
	return &Store{read: s.WithChecker(elliptics.One), write: s.WithChecker(elliptics.Quorum)}
}

// Info describes a file or directory.
type Info struct {
	Dir      bool
	Size     int64 // bytes; 0 for directories
	Modified time.Time
}

// Stat describes a path. ErrNotExist is an answer of a majority of the groups:
// a group that is away may hold what the others lack.
func (s *Store) Stat(ctx context.Context, path string) (Info, error) {
	info, err := s.stat(ctx, path)
	return info, inPath("stat", path, err)
}

func (s *Store) stat(ctx context.Context, path string) (Info, error) {
	copies, err := s.copies(ctx, path)
	if err != nil {
		return Info{}, err
	}
	c := copies[0]
	info := Info{Size: c.Size, Modified: c.time.Time()}
	if c.Size > int64(len(directoryMark)) {
		return info, nil
	}
	rec, err := s.read.WithGroups(c.Group).Read(ctx, s.read.Key(path), 0, 0)
	if err != nil {
		return Info{}, err
	}
	defer rec.Release()
	content, dir := meaning(rec)
	info.Dir, info.Size = dir, int64(len(content))
	return info, nil
}

// meaning tells what a whole small record says.
func meaning(rec *elliptics.Record) (content []byte, dir bool) {
	switch {
	case rec.UserFlags == literal:
	case string(rec.Data) == emptyMark:
		return nil, false
	case string(rec.Data) == directoryMark:
		return nil, true
	}
	return rec.Data, false
}

// Exists tells whether there is a file or directory. An error is not a no.
func (s *Store) Exists(ctx context.Context, path string) (bool, error) {
	_, err := s.copies(ctx, path)
	if errors.Is(err, ErrNotExist) {
		return false, nil
	}
	return err == nil, inPath("stat", path, err)
}

// Size is the length of a file in bytes.
func (s *Store) Size(ctx context.Context, path string) (int64, error) {
	info, err := s.stat(ctx, path)
	if err == nil && info.Dir {
		err = ErrIsDir
	}
	return info.Size, inPath("size", path, err)
}

// Get reads a whole file into memory.
func (s *Store) Get(ctx context.Context, path string) ([]byte, error) {
	r, err := s.Open(ctx, path, 0, -1)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return b, inPath("read", path, err)
}

// GetJSON reads a file into v.
func (s *Store) GetJSON(ctx context.Context, path string, v any) error {
	b, err := s.Get(ctx, path)
	if err != nil {
		return err
	}
	return inPath("read", path, json.Unmarshal(b, v))
}

// PutJSON writes v as a file.
func (s *Store) PutJSON(ctx context.Context, path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return inPath("write", path, err)
	}
	return s.Put(ctx, path, b)
}

// Put writes a whole file as one record, with the directories above it. A file
// is listed before it is there, never there without being listed.
func (s *Store) Put(ctx context.Context, path string, content []byte) error {
	if err := s.announce(ctx, path); err != nil {
		return inPath("write", path, err)
	}
	_, err := s.put(ctx, path, content)
	return inPath("write", path, err)
}

// put replaces a record and returns the groups that have the new one.
func (s *Store) put(ctx context.Context, path string, content []byte) ([]uint32, error) {
	w := elliptics.Write{Data: [][]byte{content}}
	switch string(content) {
	case "":
		w.Data[0] = []byte(emptyMark)
	case emptyMark, directoryMark:
		w.UserFlags = literal
	}
	results, err := s.write.Write(ctx, s.write.Key(path), w)
	return succeeded(results), err
}

func succeeded(results []elliptics.GroupResult) []uint32 {
	groups := make([]uint32, 0, len(results))
	for _, r := range results {
		if r.Err == nil {
			groups = append(groups, r.Group)
		}
	}
	return groups
}

// announce makes a path listed, and the directories above it.
func (s *Store) announce(ctx context.Context, path string) error {
	if err := checkPath(path); err != nil {
		return err
	}
	if info, err := s.stat(ctx, path); err == nil && info.Dir {
		return ErrIsDir
	} else if err != nil && !errors.Is(err, ErrNotExist) {
		return err
	}
	for dir := parent(path); dir != ""; dir = parent(dir) {
		// Also what exists is tagged again: the old driver may have been
		// interrupted between the record and its tags. The servers write
		// nothing when the tag is there.
		if err := s.tag(ctx, dir); err != nil {
			return err
		}
		switch info, err := s.stat(ctx, dir); {
		case errors.Is(err, ErrNotExist):
			if _, err := s.write.WriteData(ctx, s.write.Key(dir), []byte(directoryMark)); err != nil {
				return err
			}
		case err != nil:
			return err
		case !info.Dir:
			return fmt.Errorf("%s %w", dir, ErrNotDir)
		}
	}
	return s.tag(ctx, path)
}

// Copy is a file as one group has it.
type Copy struct {
	Group uint32
	Size  int64 // of the record, bytes
	time  elliptics.Time
}

// copies finds the groups that have a record, the best first: the newest and,
// among equal ones, the longest. A group that missed one of several appends
// has the time of the last one.
func (s *Store) copies(ctx context.Context, path string) ([]Copy, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	results, err := s.read.LookupAll(ctx, s.read.Key(path))
	var found []Copy
	missing := 0
	for _, r := range results {
		switch {
		case r.Err == nil:
			found = append(found, Copy{Group: r.Group, Size: int64(r.Info.Size), time: r.Info.Timestamp})
		case errors.Is(r.Err, elliptics.ErrNotFound):
			missing++
		}
	}
	if len(found) == 0 {
		if missing > 0 && missing >= elliptics.Quorum.Need(len(results)) {
			return nil, ErrNotExist
		}
		return nil, err
	}
	slices.SortStableFunc(found, func(a, b Copy) int {
		if c := b.time.Compare(a.time); c != 0 {
			return c
		}
		return int(min(max(b.Size-a.Size, -1), 1))
	})
	return found, nil
}

// PathError says which operation on which path failed.
type PathError struct {
	Op   string
	Path string
	Err  error
}

func (e *PathError) Error() string { return e.Op + " " + e.Path + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *PathError) Unwrap() error { return e.Err }

func inPath(op, path string, err error) error {
	if err == nil {
		return nil
	}
	if p := (*PathError)(nil); errors.As(err, &p) && p.Path == path {
		return err
	}
	return &PathError{op, path, err}
}
