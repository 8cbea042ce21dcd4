package driver

import (
	"context"
	"errors"
	"path"
	"slices"
	"strings"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"

	"github.com/elliptics-registry/elliptics-registry/driver/layout"
)

// maxAhead bounds the directories that a walk reads ahead.
const maxAhead = 8

// Walk visits everything below from: parents before their children, siblings in
// the order of compareNames. It reads each directory once and stats nothing.
//
// With a hint it begins at once behind the hint, in the same order, passing
// over what comes before without reading it.
func (d *fileDriver) Walk(ctx context.Context, from string, f storagedriver.WalkFn, options ...func(*storagedriver.WalkOptions)) error {
	var opt storagedriver.WalkOptions
	for _, o := range options {
		o(&opt)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := &walk{driver: d, ctx: ctx, f: f}
	if opt.StartAfterHint != "" {
		w.hint = components(opt.StartAfterHint)
		if path.Base(opt.StartAfterHint) == "_manifests" {
			// The catalog asks for what follows a repository; nothing in its
			// own manifests can be another one. \xff sorts behind every name.
			w.hint = append(w.hint, "\xff")
		}
	}
	entries, err := d.list(ctx, from)
	if errors.Is(err, layout.ErrNotExist) && emptyIfMissing(from) {
		return nil
	}
	if err != nil {
		return distributionError(from, err)
	}
	_, err = w.dir(from, entries)
	return err
}

// emptyIfMissing names the directories of which garbage collection must not
// say that they do not exist: those of an empty registry, and of a repository
// that holds nothing but indexes. Elsewhere the difference matters: the tags of
// a repository that does not exist are a 404.
func emptyIfMissing(from string) bool {
	return path.Base(from) == "_layers" ||
		strings.HasSuffix(from, "/v2/repositories") || strings.HasSuffix(from, "/v2/blobs")
}

type walk struct {
	driver *fileDriver
	ctx    context.Context
	f      storagedriver.WalkFn
	hint   []string
}

func components(p string) []string {
	return strings.Split(strings.Trim(p, "/"), "/")
}

// compareNames orders the entries of a directory bytewise. In the directory of
// a repository its own parts, which begin with "_", come before the
// repositories below it. For the catalog ends a page one entry late, and panics
// when the manifests of a repository are met right after those of one below it.
func compareNames(repository bool, a, b string) int {
	if repository {
		own := strings.HasPrefix(a, "_")
		if own != strings.HasPrefix(b, "_") {
			if own {
				return -1
			}
			return 1
		}
	}
	return strings.Compare(a, b)
}

// isRepository says whether a directory can be that of a repository, given
// whether its parent can.
func isRepository(parent bool, name string) bool {
	return (parent || name == "repositories") && !strings.HasPrefix(name, "_")
}

// hinted says where a path stands to the hint: before it, on the way to it, or
// behind it.
func (w *walk) hinted(p string) (visit, descend bool) {
	if w.hint == nil {
		return true, true
	}
	c := components(p)
	repository := false
	for i := range min(len(c), len(w.hint)) {
		if order := compareNames(repository, c[i], w.hint[i]); order != 0 {
			return order > 0, order > 0
		}
		repository = isRepository(repository, c[i])
	}
	// Equal so far: an ancestor or the hint itself, or below the hint.
	return len(c) > len(w.hint), true
}

// dir walks the entries of one directory. more is false when the walk ends.
func (w *walk) dir(p string, entries []layout.Entry) (more bool, err error) {
	repository := false
	for _, name := range components(p) {
		repository = isRepository(repository, name)
	}
	slices.SortFunc(entries, func(a, b layout.Entry) int { return compareNames(repository, a.Name, b.Name) })
	ahead := listAhead{walk: w, dir: p, entries: entries}
	for i, e := range entries {
		child := path.Join(p, e.Name)
		visit, descend := w.hinted(child)
		isDir := e.Kind == layout.KindDir
		if visit {
			err := w.f(fileInfo{path: child, dir: isDir, size: e.Size, mtime: e.Mtime.Time()})
			switch {
			case errors.Is(err, storagedriver.ErrSkipDir):
				ahead.skip(i)
				continue
			case errors.Is(err, storagedriver.ErrFilledBuffer):
				return false, nil
			case err != nil:
				return false, err
			}
		}
		if !isDir || !descend {
			continue
		}
		below, err := ahead.take(i)
		if errors.Is(err, layout.ErrNotExist) {
			continue // deleted meanwhile
		}
		if err != nil {
			return false, distributionError(child, err)
		}
		if more, err := w.dir(child, below); !more || err != nil {
			return false, err
		}
	}
	return true, w.ctx.Err()
}

// listAhead reads the directories among some entries before the walk is there:
// more and more of them while the walk enters each, none while it skips.
type listAhead struct {
	*walk
	dir     string
	entries []layout.Entry
	depth   int
	started int // entries before this one are read or passed over
	pending map[int]chan listing
}

type listing struct {
	entries []layout.Entry
	err     error
}

// skip says that the walk does not enter entry i, and perhaps none like it.
func (a *listAhead) skip(i int) {
	delete(a.pending, i)
	a.depth = 0
}

func (a *listAhead) take(i int) ([]layout.Entry, error) {
	a.started = max(a.started, i+1)
	ch, ok := a.pending[i]
	delete(a.pending, i)
	a.depth = min(2*a.depth+1, maxAhead)
	for a.started < len(a.entries) && len(a.pending) < a.depth {
		e := a.entries[a.started]
		child := path.Join(a.dir, e.Name)
		if _, descend := a.hinted(child); e.Kind == layout.KindDir && descend {
			next := make(chan listing, 1)
			if a.pending == nil {
				a.pending = make(map[int]chan listing)
			}
			a.pending[a.started] = next
			go func() {
				entries, err := a.driver.list(a.ctx, child)
				next <- listing{entries, err}
			}()
		}
		a.started++
	}
	if !ok {
		return a.driver.list(a.ctx, path.Join(a.dir, a.entries[i].Name))
	}
	select {
	case l := <-ch:
		return l.entries, l.err
	case <-a.ctx.Done():
		return nil, context.Cause(a.ctx)
	}
}
