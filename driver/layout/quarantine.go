package layout

import (
	"context"
	"errors"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// A file is quarantined when every group answers and none has an undamaged copy
// of a part of it. It then reads as missing, so that whoever has its content
// writes it again; it stays in its listing, keeps the content that is left, and
// is as before when scrub finds that all of it can be read after all.
//
// Whoever reads finds the damage and writes the mark, a state of the record. A
// record that is itself damaged everywhere needs no mark.

// isDamage tells whether an error says that what a group has is not what was
// written.
func isDamage(err error) bool {
	return errors.Is(err, errDamaged) || errors.Is(err, ErrCorrupt) || errors.Is(err, wire.ErrChecksum)
}

// isLost tells whether a group will not have it however often it is asked:
// what it has is damaged, cut off, or not there.
func isLost(err error) bool { return isDamage(err) || isNotFound(err) || isBehindEnd(err) }

// lostEverywhere tells whether every group answered, and none had it. At least
// one must have it damaged: while a node is away, another one of its group
// answers for it that nothing is there.
func lostEverywhere(err error) bool {
	var q *QuorumError
	if !errors.As(err, &q) {
		return false
	}
	damaged := false
	for _, err := range q.Errs {
		if err == nil || !isLost(err) {
			return false
		}
		damaged = damaged || !isNotFound(err)
	}
	return damaged
}

// unknown tells that no group has a readable copy of the record.
func (r *fileRecord) unknown() bool { return r != nil && r.state == stateQuarantined && r.ts == 0 }

// readDamaged finds a record of which too few copies could be read. What was
// acknowledged is in a majority; so with few enough copies damaged, one of the
// others has it, and the damaged ones are written again. Otherwise the record
// counts as quarantined, with no known content. failed is why the usual way
// did not work; it stands when some group did not answer.
func (fs *FS) readDamaged(ctx context.Context, p string, failed error) (*fileRecord, error) {
	groups := fs.cluster.groups
	var q *QuorumError
	if !errors.As(failed, &q) {
		return nil, failed
	}
	damage := false
	for _, err := range q.Errs {
		if err != nil && !isDamage(err) && !errors.Is(err, errPending) {
			return nil, failed
		}
		damage = damage || isDamage(err)
	}
	if !damage {
		return nil, failed
	}
	newest, good := recordCopy{}, 0
	var bad []uint32
	for _, g := range groups {
		c, err := fs.readCopy(ctx, g, p)
		switch {
		case err == nil:
			good++
			if c.newer(newest) {
				newest = c
			}
		case isDamage(err):
			bad = append(bad, g)
		default:
			return nil, failed
		}
	}
	if majority := len(groups)/2 + 1; good < len(groups)-majority+1 {
		fs.warn("damaged "+p, "a record is damaged in too many groups; it reads as missing until it is written again", "path", p, "groups", bad)
		return &fileRecord{state: stateQuarantined, path: p}, nil
	}
	if newest.rec == nil {
		return nil, nil
	}
	for _, g := range bad {
		err := fs.cluster.store.Write(ctx, g, fileKey(p), Write{
			Data: [][]byte{newest.rec.encode()}, Timestamp: newest.rec.ts, Flags: flagsFile, IfNotNewer: true,
		})
		if err != nil {
			fs.groupFailed(g, err)
		}
	}
	return newest.rec, nil
}

// quarantine marks a file of which a part is lost everywhere.
func (fs *FS) quarantine(rec *fileRecord, why error) {
	ctx, cancel := context.WithTimeout(context.Background(), fs.opt.Timeout)
	defer cancel()
	switch err := fs.setState(ctx, rec, stateQuarantined); {
	case err == nil:
		fs.opt.Logger.Error("a file is quarantined, no group has all of it: it reads as missing until it is pushed again, or scrub finds a good copy",
			"path", rec.path, "error", why)
	case !errors.Is(err, errStale):
		fs.opt.Logger.Error("a file is damaged in every group, and could not be quarantined", "path", rec.path, "error", why, "reason", err)
	}
}

// setState gives a record another state, if it is still what was read. The new
// timestamp is older than any other that somebody may be about to write.
func (fs *FS) setState(ctx context.Context, rec *fileRecord, state fileState) error {
	ts := rec.ts + 1
	if ts >= rec.ts.after() {
		ts = fs.clock.Next()
	}
	return fs.replace(ctx, rec, state, ts)
}

// replace gives a record another state and timestamp, if it is still what was
// read; errStale if not.
func (fs *FS) replace(ctx context.Context, rec *fileRecord, state fileState, ts Timestamp) error {
	changed := *rec
	changed.state, changed.ts = state, ts
	return fs.update(ctx, &changed, rec.sum())
}

// Quarantine marks a file of which somebody else has found that it is not what
// it should be. It reports false if the file was changed meanwhile.
func (c *Checker) Quarantine(ctx context.Context, p string) (bool, error) {
	rec, err := c.fs.readRecord(ctx, p)
	if err != nil || !rec.alive() || rec.state != stateFile {
		return false, err
	}
	err = c.fs.setState(ctx, rec, stateQuarantined)
	if errors.Is(err, errStale) {
		return false, nil
	}
	return err == nil, err
}
