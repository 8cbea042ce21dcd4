// Package gc removes blobs, layer links and, if asked, manifests that nothing
// refers to, while clients go on pushing. What to remove is decided by
// Distribution's own mark and sweep; this package gives it a view of the
// storage in which that is safe:
//
//   - Only what was written, and found by no push, since before the grace
//     period is removed (see driver.RenewAfter). Whoever refers to something
//     during the collection has renewed it, and a renewal and a removal exclude
//     each other.
//   - All groups must answer. Whatever cannot be read, even if Distribution
//     takes no notice, ends the collection before it removes anything more.
//   - Manifests go first; what is still referred to is marked anew afterwards.
//
// docs/reliability.md argues why that is enough. The package never removes
// content itself: it writes tombstones, and the driver's trash does the rest.
package gc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/distribution/distribution/v3/registry/storage"
	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"

	"github.com/elliptics-registry/elliptics-registry/driver"
)

const (
	// DefaultGrace is how long something stays after it was last written, or
	// found by a push.
	DefaultGrace = 24 * time.Hour
	// MinGrace leaves one more hour for the slowest request and for clocks
	// that differ.
	MinGrace = driver.RenewAfter + time.Hour
)

// Options say what to remove.
type Options struct {
	// Grace is 0 for the default; at least MinGrace, unless Offline is set.
	Grace time.Duration
	// Offline says that nobody pushes: there is no grace.
	Offline bool
	// RemoveUntagged removes manifests without a tag as well.
	RemoveUntagged bool
	// DryRun removes nothing, and says what it would.
	DryRun bool
	// Out gets a line for each thing removed; nil: nobody does.
	Out io.Writer
	// Now is the wall clock; default time.Now.
	Now func() time.Time
}

// Result counts what was removed, or would be.
type Result struct {
	Manifests  int
	Blobs      int
	Bytes      int64 // of the blobs
	LayerLinks int
	Kept       int // unused, but too young, or just found by a push
}

// attempts is how often a collection starts anew because something was deleted
// under its eyes.
const attempts = 3

// Run collects garbage once. d must have been made with Parameters.Collecting.
func Run(ctx context.Context, d *driver.Driver, opt Options) (Result, error) {
	if opt.Grace == 0 {
		opt.Grace = DefaultGrace
	}
	if opt.Grace < MinGrace && !opt.Offline {
		return Result{}, fmt.Errorf("a grace period of %s is too short beside pushes, at least %s is needed; if nobody pushes, say --offline", opt.Grace, MinGrace)
	}
	if opt.Offline {
		opt.Grace = 0
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Out == nil {
		opt.Out = io.Discard
	}
	if _, err := d.Stat(ctx, "/"); err != nil {
		return Result{}, fmt.Errorf("nothing is removed unless all groups answer: %w", reason(err))
	}
	v := newView(d, opt)
	// A layer of an untagged manifest is needed as long as that is there. So
	// those go first, and what is then left is looked at again.
	if opt.RemoveUntagged {
		v.phase = removeManifests
		if err := v.collect(ctx, true); err != nil {
			return v.result, err
		}
	}
	v.phase = removeBlobs
	err := v.collect(ctx, false)
	return v.result, err
}

func (v *view) collect(ctx context.Context, untagged bool) error {
	for attempt := 1; ; attempt++ {
		v.begin()
		registry, err := storage.NewRegistry(ctx, v)
		if err != nil {
			return err
		}
		err = storage.MarkAndSweep(ctx, v, registry, storage.GCOpts{RemoveUntagged: untagged, Quiet: true})
		if failed := v.failure(); failed != nil {
			return fmt.Errorf("nothing more is removed, since something could not be read: %w", reason(failed))
		}
		if err == nil || attempt == attempts || ctx.Err() != nil {
			return err
		}
	}
}

// reason is the error inside Distribution's own type, which has no Unwrap.
func reason(err error) error {
	var e storagedriver.Error
	if errors.As(err, &e) {
		return e.Detail
	}
	return err
}
