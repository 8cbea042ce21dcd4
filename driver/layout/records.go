package layout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
	for range maxAttempts {
		copies, err := ask(ctx, fs.cluster, func(ctx context.Context, g uint32) (recordCopy, error) {
			return fs.readCopy(ctx, g, p)
		})
		if err != nil {
			return fs.readDamaged(ctx, p, err)
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
		behind := make(map[uint32]bool)
		for _, c := range copies {
			if newest.newer(c.value) {
				behind[fs.cluster.groups[c.group]] = true
			}
		}
		if len(behind) == 0 {
			return newest.rec, nil
		}
		// Groups that did not answer get it as well: they may need it, and a
		// majority may need them.
		have := make(map[uint32]bool)
		for _, c := range copies {
			if g := fs.cluster.groups[c.group]; !behind[g] {
				have[g] = true
			}
		}
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

// writeRecord stores a record in a majority; errStale when something newer is
// there.
func (fs *FS) writeRecord(ctx context.Context, rec *fileRecord) error {
	raw := rec.encode()
	if len(raw) > maxRecord {
		return fmt.Errorf("record of %d bytes, at most %d are possible: the upload came in too many pieces", len(raw), maxRecord)
	}
	err := fs.cluster.write(ctx, func(ctx context.Context, g uint32) error {
		return fs.cluster.store.Write(ctx, g, fileKey(rec.path), Write{
			Data: [][]byte{raw}, Timestamp: rec.ts, Flags: flagsFile, IfNotNewer: true,
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
