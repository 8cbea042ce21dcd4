package layout

import (
	"bytes"
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

func (r *fileRecord) alive() bool { return r != nil && r.state != stateTombstone }

// recordCopy is one group's copy of a file record.
type recordCopy struct {
	rec *fileRecord // nil: the group has none
	raw []byte
}

// newer orders copies: by timestamp and, should two processes ever have made
// the same one, by content, so that everybody prefers the same copy.
func (c recordCopy) newer(than recordCopy) bool {
	switch {
	case c.rec == nil:
		return false
	case than.rec == nil:
		return true
	case c.rec.ts != than.rec.ts:
		return c.rec.ts > than.rec.ts
	}
	return bytes.Compare(c.raw, than.raw) > 0
}

var errNotEverywhere = errors.New("not every group can be read")

// sameCopies tells whether there is a record, and everybody has the same.
func sameCopies(copies []answer[recordCopy]) bool {
	for _, c := range copies {
		if c.value.rec == nil || c.value.newer(copies[0].value) || copies[0].value.newer(c.value) {
			return false
		}
	}
	return true
}

// tornReads is how often a damaged copy is read again: real servers overwrite
// small records in place, and a reader can meet the middle of that.
const tornReads = 3

func (fs *FS) readCopy(ctx context.Context, group uint32, p string) (c recordCopy, err error) {
	for attempt := range tornReads {
		if attempt > 0 {
			select {
			case <-time.After(time.Millisecond << attempt):
			case <-ctx.Done():
				return c, context.Cause(ctx)
			}
		}
		v, err := fs.cluster.store.Read(ctx, group, fileKey(p), 0, maxRecord)
		if isNotFound(err) {
			return recordCopy{}, nil
		}
		if err != nil {
			return c, err
		}
		c.rec, err = decodeFile(p, v.Data)
		if err == nil && len(fs.cluster.groups) > 1 {
			c.raw = bytes.Clone(v.Data)
		}
		v.Release()
		if err == nil {
			return c, nil
		}
		if !errors.Is(err, errDamaged) {
			return recordCopy{}, err
		}
	}
	return recordCopy{}, ErrCorrupt
}

// maxRecord bounds what is read of a record, in bytes.
const maxRecord = 16 << 20

// readRecord returns the newest record of a path: nil when there never was
// one; it may be a tombstone. What a majority did not have yet it has when
// this returns, so that no later read answers something older.
func (fs *FS) readRecord(ctx context.Context, p string) (*fileRecord, error) {
	return fs.readRecordFrom(ctx, p, fs.cluster.need, sameCopies)
}

// readRecordEverywhere does it with the answers of all groups, or not at all:
// a version that only a minority has, since its writer failed, would be found
// by some later read.
func (fs *FS) readRecordEverywhere(ctx context.Context, p string) (*fileRecord, error) {
	return fs.readRecordFrom(ctx, p, len(fs.cluster.groups), nil)
}

func (fs *FS) readRecordFrom(ctx context.Context, p string, want int, enough func([]answer[recordCopy]) bool) (*fileRecord, error) {
	groups := fs.cluster.groups
	for range maxAttempts {
		damaged := &groupSet{}
		copies, err := askN(ctx, fs.cluster, want, func(ctx context.Context, g uint32) (recordCopy, error) {
			c, err := fs.readCopy(ctx, g, p)
			if errors.Is(err, ErrCorrupt) {
				damaged.add(g)
			}
			return c, err
		}, enough)
		if err != nil {
			return fs.readDamaged(ctx, p, err)
		}
		bad := damaged.list()
		if len(copies)+len(bad) < want {
			return nil, errNotEverywhere
		}
		newest := recordCopy{}
		for _, c := range copies {
			if c.value.newer(newest) {
				newest = c.value
			}
		}
		if newest.rec == nil {
			return nil, nil
		}
		fs.observe(newest.rec.ts, p)
		have := make(map[uint32]bool)
		for _, c := range copies {
			if !newest.newer(c.value) {
				have[groups[c.group]] = true
			}
		}
		if len(have) == len(copies) && len(bad) == 0 {
			return newest.rec, nil
		}
		// Groups that did not answer get it as well: they may need it, and a
		// majority may need them.
		err = fs.cluster.write(ctx, func(ctx context.Context, g uint32) error {
			if have[g] {
				return nil
			}
			return fs.cluster.store.Write(ctx, g, fileKey(p), Write{
				Data: [][]byte{newest.raw}, Timestamp: newest.rec.ts, Flags: flagsFile, IfNotNewer: true,
			})
		}, nil)
		if err == nil {
			return newest.rec, nil
		}
		if !isConflict(err) {
			return nil, err
		}
	}
	return nil, ErrConcurrent
}

// groupSet collects groups from the goroutines that ask them.
type groupSet struct {
	mu     sync.Mutex
	groups []uint32
}

func (s *groupSet) add(g uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.groups = append(s.groups, g)
}

func (s *groupSet) list() []uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.groups)
}

// writeRecord stores a record in a majority; errStale when something newer is
// there.
func (fs *FS) writeRecord(ctx context.Context, rec *fileRecord) error {
	return fs.sendRecord(ctx, rec, nil)
}

// update replaces a record in a majority by one that was made from it, if it
// is still there; errStale if not.
//
// It does not link the name again. So it must not write over a tombstone: the
// deletion's UNLINK would then hide a file. After errStale some
// group may have taken the record all the same: the caller must either place
// it or withdraw it.
func (fs *FS) update(ctx context.Context, rec *fileRecord, base [sha512.Size]byte) error {
	return fs.sendRecord(ctx, rec, &base)
}

// withdraw makes sure that a version that was refused, but that a minority of
// the groups may hold, is never found: what is there in its stead is written
// once more, with a newer timestamp.
func (fs *FS) withdraw(ctx context.Context, p string, found *fileRecord) error {
	again := fileRecord{state: stateTombstone, path: p}
	if found != nil {
		again = *found
	}
	again.ts = fs.clock.Next()
	var err error
	if found != nil {
		err = fs.update(ctx, &again, found.sum())
	} else {
		err = fs.writeRecord(ctx, &again)
	}
	if errors.Is(err, errStale) {
		return nil // something newer is there already
	}
	return err
}

// same tells whether two records say the same, but for their timestamps.
func (r *fileRecord) same(o *fileRecord) bool {
	a, b := *r, *o
	a.ts, b.ts = 0, 0
	return a.sum() == b.sum()
}

// sum is what the groups compare; the same record always has the same bytes.
func (r *fileRecord) sum() [sha512.Size]byte { return sha512.Sum512(r.encode()) }

func (fs *FS) sendRecord(ctx context.Context, rec *fileRecord, base *[sha512.Size]byte) error {
	raw := rec.encode()
	if len(raw) > maxRecord {
		return fmt.Errorf("record of %d bytes, at most %d are possible: the upload came in too many pieces", len(raw), maxRecord)
	}
	err := fs.cluster.write(ctx, func(ctx context.Context, g uint32) error {
		return fs.cluster.store.Write(ctx, g, fileKey(rec.path), Write{
			Data: [][]byte{raw}, Timestamp: rec.ts, Flags: flagsFile, IfNotNewer: base == nil, IfSum: base,
		})
	}, nil)
	if !isConflict(err) {
		return err
	}
	now, rerr := fs.readRecord(ctx, rec.path)
	if rerr != nil {
		return rerr
	}
	if now != nil && now.ts > rec.ts && !fs.observe(now.ts, rec.path) {
		return ErrClock
	}
	return errStale
}
