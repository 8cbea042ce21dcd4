package repair

import (
	"context"
	"path"
	"strings"

	"github.com/elliptics-registry/elliptics-registry/driver"
	"github.com/elliptics-registry/elliptics-registry/driver/layout"
)

// Fsck looks for what crashes have left behind and for references to what is
// not there, and mends what can be mended without losing anything. An error
// means that it did not come to its end; what was found until then is in the
// report all the same.
//
// The order matters: listings are made whole before records are compared with
// them, and records tell which content is needed before any is called garbage.
func Fsck(ctx context.Context, d *driver.Driver, opt Options) (*Report, error) {
	r, err := begin(d, "fsck", opt)
	if err != nil {
		return nil, err
	}
	records := func(r *run) int64 { return int64(r.census.Records) }
	steps := []step{
		{name: "directories", unit: "directories", walk: r.directories},
		{name: "records", unit: "records", before: r.checker.LoadTrash, record: r.checker.CheckRecord, weight: one, total: records},
		{name: "content", unit: "records", before: r.checker.LoadTrash, record: r.checkChunk, weight: one, total: records},
		{name: "images", unit: "manifests", walk: r.images},
	}
	if opt.Digests {
		steps = append(steps, step{name: "digests", unit: "bytes", walk: r.digests})
	}
	return r.do(ctx, steps)
}

func (r *run) checkChunk(ctx context.Context, s *layout.Sighting) ([]layout.Finding, error) {
	f, err := r.checker.CheckChunk(ctx, s)
	if f == nil {
		return nil, err
	}
	return []layout.Finding{*f}, err
}

// directories checks all directories, in the order of their paths.
func (r *run) directories(ctx context.Context) error { return r.directory(ctx, "/") }

func (r *run) directory(ctx context.Context, p string) error {
	entries, findings, err := r.checker.CheckDir(ctx, p)
	if err != nil {
		return err
	}
	if !r.passed(p) {
		r.found(findings...)
		r.state.Path = p
		r.advance(1)
		if err := r.save(); err != nil {
			return err
		}
	}
	for _, e := range entries {
		child := path.Join(p, e.Name)
		if e.Kind == layout.KindDir && (!r.passed(child) || below(r.state.Path, child)) {
			if err := r.directory(ctx, child); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// passed tells whether an earlier run has been at a directory.
func (r *run) passed(p string) bool {
	return r.state.Path != "" && order(p, r.state.Path) <= 0
}

func below(p, dir string) bool { return strings.HasPrefix(p, dir+"/") }

// order compares paths by their components.
func order(a, b string) int {
	return strings.Compare(strings.ReplaceAll(a, "/", "\x00"), strings.ReplaceAll(b, "/", "\x00"))
}
