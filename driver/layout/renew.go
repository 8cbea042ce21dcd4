package layout

import (
	"context"
	"errors"
	"path"
	"time"
)

// Renew gives a finished file a new timestamp, so that DeleteOlder spares it.
// Its content and its modification time stay.
//
// A renewal and a deletion exclude each other: the renewal is refused by every
// group whose record is no longer the one that was read.
func (fs *FS) Renew(ctx context.Context, p string) error {
	ctx, cancel := fs.detach(ctx)
	defer cancel()
	var linked Timestamp // by an attempt that failed
	return fs.retry(ctx, "renew", p, func(ts Timestamp) error {
		rec, err := fs.readRecord(ctx, p)
		if err != nil {
			return err
		}
		if !rec.alive() {
			if linked != 0 {
				if err := errors.Join(fs.withdraw(ctx, p, rec), fs.unlink(ctx, p, linked)); err != nil {
					return err
				}
			}
			return ErrNotExist
		}
		if err := rec.readable(); err != nil {
			return err
		}
		if rec.ts >= ts {
			return errStale
		}
		renewed := *rec
		renewed.ts = ts
		linked = ts
		if _, err := fs.link(ctx, p, KindFile, rec.size(), ts); err != nil {
			return err
		}
		return fs.update(ctx, &renewed, rec.sum())
	})
}

// DeleteOlder deletes a file or, with everything below it, a directory, as far
// as it was written before ts: whoever has written or renewed something since,
// or does so in this moment, wins. gone is false when something stays.
func (fs *FS) DeleteOlder(ctx context.Context, p string, ts Timestamp) (gone bool, err error) {
	ctx, cancel := fs.detach(ctx)
	defer cancel()
	for attempt := range maxAttempts {
		gone, err = fs.deleteOlder(ctx, p, ts)
		if !errors.Is(err, errStale) {
			break
		}
		// Somebody writes there. A listing that shows it comes first, but
		// need not have come to us.
		gone, err = false, nil
		select {
		case <-time.After(fs.clock.Next().spread(time.Millisecond << min(attempt, 6))):
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	if err != nil {
		return false, &PathError{"delete", p, err}
	}
	return gone, nil
}

func (fs *FS) deleteOlder(ctx context.Context, p string, ts Timestamp) (gone bool, err error) {
	rec, err := fs.readRecord(ctx, p)
	if err != nil {
		return false, err
	}
	if rec.alive() {
		if rec.ts >= ts {
			return false, nil
		}
		err := fs.bury(ctx, rec, ts, rec.data)
		return err == nil, err
	}
	dir, err := fs.isDir(ctx, p)
	if err != nil {
		return false, err
	}
	if !dir {
		return false, ErrNotExist
	}
	alive, _, err := fs.deleteDir(ctx, p, ts)
	if err != nil || alive {
		return false, err
	}
	if err := fs.unlink(ctx, p, ts); err != nil {
		return false, err
	}
	// The directory itself may have been linked anew, by somebody who is about
	// to create something in it.
	d := fs.dir(path.Dir(p))
	if err := fs.refresh(ctx, d); err != nil {
		return false, err
	}
	_, visible, _ := d.lookup(path.Base(p))
	return !visible, nil
}
