package gc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"sync"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"

	"github.com/elliptics-registry/elliptics-registry/driver"
)

// view is the storage as mark and sweep shall see it.
type view struct {
	*driver.Driver
	opt    Options
	cutoff time.Time // what was written later stays
	phase  phase
	result Result

	mu     sync.Mutex
	err    error             // the first read that failed
	links  map[string][]byte // links that a walk stands at
	hidden map[string]bool   // what a dry run would have removed
}

// phase says what may be removed.
type phase int

const (
	removeManifests phase = iota
	removeBlobs
)

func newView(d *driver.Driver, opt Options) *view {
	return &view{Driver: d, opt: opt, cutoff: opt.Now().Add(-opt.Grace), hidden: make(map[string]bool)}
}

func (v *view) begin() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.err, v.links = nil, make(map[string][]byte)
}

func (v *view) failure() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.err
}

// read notes an error that mark and sweep might take for "is not there".
func (v *view) read(op, p string, err error) error {
	var missing storagedriver.PathNotFoundError
	if err == nil || errors.As(err, &missing) {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.err == nil {
		v.err = fmt.Errorf("%s %s: %w", op, p, reason(err))
	}
	return err
}

func (v *view) isHidden(p string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	for ; len(v.hidden) > 0 && p != "/" && p != "."; p = path.Dir(p) {
		if v.hidden[p] {
			return true
		}
	}
	return false
}

func notFound(p string) error {
	return storagedriver.PathNotFoundError{Path: p, DriverName: driver.Name}
}

// Walk leaves out links that are deleted while the walk goes on: mark and sweep
// would end the walk there, without a word, and take everything behind for
// garbage.
func (v *view) Walk(ctx context.Context, from string, f storagedriver.WalkFn, options ...func(*storagedriver.WalkOptions)) error {
	err := v.Driver.Walk(ctx, from, func(fi storagedriver.FileInfo) error {
		p := fi.Path()
		if v.isHidden(p) {
			return storagedriver.ErrSkipDir
		}
		if fi.IsDir() || path.Base(p) != "link" {
			return f(fi)
		}
		content, err := v.GetContent(ctx, p)
		var missing storagedriver.PathNotFoundError
		if errors.As(err, &missing) {
			return nil
		}
		if err != nil {
			return err
		}
		v.mu.Lock()
		v.links[p] = content
		v.mu.Unlock()
		defer func() {
			v.mu.Lock()
			delete(v.links, p)
			v.mu.Unlock()
		}()
		return f(fi)
	}, options...)
	return v.read("walk", from, err)
}

func (v *view) GetContent(ctx context.Context, p string) ([]byte, error) {
	if v.isHidden(p) {
		return nil, notFound(p)
	}
	v.mu.Lock()
	content, ok := v.links[p]
	v.mu.Unlock()
	if ok {
		return content, nil
	}
	content, err := v.Driver.GetContent(ctx, p)
	return content, v.read("read", p, err)
}

func (v *view) Stat(ctx context.Context, p string) (storagedriver.FileInfo, error) {
	if v.isHidden(p) {
		return nil, notFound(p)
	}
	fi, err := v.Driver.Stat(ctx, p)
	return fi, v.read("stat", p, err)
}

func (v *view) List(ctx context.Context, p string) ([]string, error) {
	list, err := v.Driver.List(ctx, p)
	return list, v.read("list", p, err)
}

func (v *view) Reader(ctx context.Context, p string, offset int64) (io.ReadCloser, error) {
	r, err := v.Driver.Reader(ctx, p, offset)
	if v.read("read", p, err) != nil {
		return nil, err
	}
	return &reader{r, v, p}, nil
}

type reader struct {
	io.ReadCloser
	view *view
	path string
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		_ = r.view.read("read", r.path, err)
	}
	return n, err
}

// Delete removes what mark and sweep found unused, if it is old enough and
// belongs to the present phase.
func (v *view) Delete(ctx context.Context, p string) error {
	if err := v.failure(); err != nil {
		return err
	}
	manifest := strings.Contains(p, "/_manifests/")
	if manifest != (v.phase == removeManifests) {
		return nil
	}
	size := int64(0)
	data := p
	switch {
	case manifest && !strings.Contains(p, "/_manifests/revisions/"):
		data = "" // history of a tag: not worth a line
	case manifest:
		data = path.Join(p, "link")
	case strings.HasSuffix(p, "/link"):
		p = path.Dir(p) // the directory holds nothing else
	default:
		data = path.Join(p, "data")
	}
	if data != "" {
		fi, err := v.Driver.Stat(ctx, data)
		var missing storagedriver.PathNotFoundError
		if err != nil && !errors.As(err, &missing) {
			return v.read("stat", data, err)
		}
		if err == nil {
			size = fi.Size()
		}
	}
	gone, err := v.remove(ctx, p, data)
	var missing storagedriver.PathNotFoundError
	if errors.As(err, &missing) {
		return nil // somebody else was faster
	}
	if err != nil {
		return fmt.Errorf("delete %s: %w", p, reason(err))
	}
	if data == "" {
		return nil
	}
	v.count(p, gone, manifest, size)
	return nil
}

// remove deletes a directory as of the cutoff; data is the file in it that
// counts.
func (v *view) remove(ctx context.Context, p, data string) (gone bool, err error) {
	if !v.opt.DryRun {
		return v.DeleteOlder(ctx, p, v.cutoff)
	}
	if data == "" {
		return true, nil
	}
	written, err := v.Written(ctx, data)
	if err != nil || !written.Before(v.cutoff) {
		return false, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.hidden[p] = true
	return true, nil
}

func (v *view) count(p string, gone, manifest bool, size int64) {
	if !gone {
		v.result.Kept++
		return
	}
	verb := "removed"
	if v.opt.DryRun {
		verb = "would remove"
	}
	what := "blob"
	switch {
	case manifest:
		what = "manifest"
		v.result.Manifests++
	case strings.Contains(p, "/_layers/"):
		what = "layer link"
		v.result.LayerLinks++
	default:
		v.result.Blobs++
		v.result.Bytes += size
	}
	fmt.Fprintf(v.opt.Out, "%s %s %s\n", verb, what, subject(p))
}

// subject names a blob by its digest, and what is in a repository with that.
func subject(p string) string {
	algorithm, hex := path.Base(path.Dir(p)), path.Base(p)
	_, repository, found := strings.Cut(p, "/repositories/")
	if !found {
		return path.Base(path.Dir(path.Dir(p))) + ":" + hex
	}
	for _, dir := range []string{"/_layers/", "/_manifests/"} {
		if name, _, ok := strings.Cut(repository, dir); ok {
			repository = name
		}
	}
	return repository + "@" + algorithm + ":" + hex
}
