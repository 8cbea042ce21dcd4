package repair

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"

	"github.com/elliptics-registry/elliptics-registry/driver/layout"
)

// Where Distribution keeps things, see the comment on pathFor in its package
// storage.
const (
	repositoriesRoot = "/docker/registry/v2/repositories"
	blobsRoot        = "/docker/registry/v2/blobs"
)

// reference is a digest as it stands in paths.
type reference struct{ algorithm, hex string }

func parseDigest(s string) (r reference, ok bool) {
	r.algorithm, r.hex, ok = strings.Cut(strings.TrimSpace(s), ":")
	return r, ok && r.algorithm != "" && len(r.hex) > 2 && !strings.ContainsAny(s, "/.")
}

func (r reference) String() string { return r.algorithm + ":" + r.hex }

func (r reference) blob() string {
	return path.Join(blobsRoot, r.algorithm, r.hex[:2], r.hex, "data")
}

func missing(err error) bool {
	var e storagedriver.PathNotFoundError
	return errors.As(err, &e)
}

// images looks at each tag, each manifest, and what that refers to.
func (r *run) images(ctx context.Context) error {
	var hint []func(*storagedriver.WalkOptions)
	if r.state.Path != "" {
		hint = append(hint, storagedriver.WithStartAfterHint(r.state.Path))
	}
	return r.driver.Walk(ctx, repositoriesRoot, func(fi storagedriver.FileInfo) error {
		p := fi.Path()
		repository, inside, found := strings.Cut(strings.TrimPrefix(p, repositoriesRoot+"/"), "/_manifests/")
		switch base := path.Base(p); {
		case fi.IsDir() && (base == "_layers" || base == "_uploads"):
			return storagedriver.ErrSkipDir
		case !found:
			return nil
		case fi.IsDir() && path.Dir(inside) == "tags":
			if err := r.tag(ctx, repository, base, p); err != nil {
				return err
			}
			r.state.Path = p
			return storagedriver.ErrSkipDir
		case fi.IsDir() || base != "link" || !strings.HasPrefix(inside, "revisions/"):
			return nil
		}
		dir := path.Dir(p)
		if err := r.manifest(ctx, repository, reference{path.Base(path.Dir(dir)), path.Base(dir)}, p); err != nil {
			return err
		}
		r.state.Path = p
		r.advance(1)
		return r.save()
	}, hint...)
}

// exists tells whether a file can be read. Files that are quarantined do not
// exist.
func (r *run) exists(ctx context.Context, p string) (size int64, there bool, err error) {
	if err := r.throttle(ctx, 1<<10); err != nil {
		return 0, false, err
	}
	fi, err := r.driver.Stat(ctx, p)
	if missing(err) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	return fi.Size(), true, nil
}

func (r *run) tag(ctx context.Context, repository, tag, dir string) error {
	name := repository + ":" + tag
	b, err := r.driver.GetContent(ctx, path.Join(dir, "current/link"))
	if missing(err) {
		if young, err := r.young(ctx, dir); err != nil || young {
			return err
		}
		r.found(layout.Finding{Problem: "tag without manifest", Path: name, Detail: "listed, but it points to nothing",
			Remedy: "push the tag again, or delete it"})
		return nil
	}
	if err != nil {
		return err
	}
	dgst, ok := parseDigest(string(b))
	if !ok {
		r.found(layout.Finding{Problem: "tag without manifest", Path: name, Detail: fmt.Sprintf("it points to %q", b), Remedy: "push the tag again"})
		return nil
	}
	link := path.Join(repositoriesRoot, repository, "_manifests/revisions", dgst.algorithm, dgst.hex, "link")
	_, there, err := r.exists(ctx, link)
	if err != nil || there {
		return err
	}
	if again, err := r.driver.GetContent(ctx, path.Join(dir, "current/link")); err != nil || string(again) != string(b) {
		if missing(err) {
			err = nil
		}
		return err // changed meanwhile
	}
	r.found(layout.Finding{Problem: "tag without manifest", Path: name, Detail: "manifest " + dgst.String() + " is not in the repository", Remedy: "push the tag again, or delete it"})
	return nil
}

// young tells whether a tag's directory is somebody's work in progress, or gone.
func (r *run) young(ctx context.Context, dir string) (bool, error) {
	empty, young := true, false
	err := r.driver.Walk(ctx, dir, func(fi storagedriver.FileInfo) error {
		if !fi.IsDir() {
			empty = false
			young = young || r.opt.Now().Sub(fi.ModTime()) < r.opt.Grace
		}
		return nil
	})
	if missing(err) {
		return true, nil
	}
	if err != nil || !empty {
		return young, err
	}
	// Nothing tells how old an empty directory is; nobody leaves one for long.
	select {
	case <-time.After(emptyPatience):
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	list, err := r.driver.List(ctx, dir)
	if missing(err) {
		return true, nil
	}
	return len(list) > 0, err
}

// emptyPatience is how long a directory may be empty while something is put
// into it.
const emptyPatience = time.Second

// maxManifest bounds what is read of a manifest, as Distribution does.
const maxManifest = 4 << 20

type descriptor struct {
	Digest string   `json:"digest"`
	Size   int64    `json:"size"`
	URLs   []string `json:"urls"`
}

func (r *run) manifest(ctx context.Context, repository string, dgst reference, link string) error {
	name := repository + "@" + dgst.String()
	report := func(f layout.Finding) error {
		_, there, err := r.exists(ctx, link)
		if err == nil && there { // and was not deleted meanwhile
			r.found(f)
		}
		return err
	}
	size, there, err := r.exists(ctx, dgst.blob())
	if err != nil {
		return err
	}
	if !there {
		return report(layout.Finding{Problem: "manifest without content", Path: name, Key: dgst.blob(), Remedy: "push the image again, or delete the manifest"})
	}
	if size > maxManifest {
		return report(layout.Finding{Problem: "unreadable manifest", Path: name, Detail: fmt.Sprintf("%d bytes", size), Remedy: "delete the manifest"})
	}
	b, err := r.driver.GetContent(ctx, dgst.blob())
	if err != nil && !missing(err) {
		return err
	}
	var m struct {
		Config    *descriptor  `json:"config"`
		Layers    []descriptor `json:"layers"`
		Blobs     []descriptor `json:"blobs"`
		Manifests []descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return report(layout.Finding{Problem: "unreadable manifest", Path: name, Detail: err.Error(), Remedy: "push the image again, or delete the manifest"})
	}
	if m.Config != nil {
		m.Layers = append(m.Layers, *m.Config)
	}
	for _, d := range append(m.Layers, m.Blobs...) {
		f, err := r.layer(ctx, repository, name, d)
		if err != nil {
			return err
		}
		if f != nil {
			if err := report(*f); err != nil {
				return err
			}
		}
	}
	for _, d := range m.Manifests {
		child, ok := parseDigest(d.Digest)
		if !ok {
			continue
		}
		_, there, err := r.exists(ctx, path.Join(repositoriesRoot, repository, "_manifests/revisions", child.algorithm, child.hex, "link"))
		if err != nil {
			return err
		}
		if !there {
			err = report(layout.Finding{Problem: "missing manifest", Path: name, Detail: "it refers to " + d.Digest, Remedy: "push the image again, for all platforms"})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// layer checks what a manifest refers to.
func (r *run) layer(ctx context.Context, repository, name string, d descriptor) (*layout.Finding, error) {
	dgst, ok := parseDigest(d.Digest)
	if !ok || len(d.URLs) > 0 { // kept elsewhere
		return nil, nil
	}
	size, there, err := r.exists(ctx, dgst.blob())
	if err != nil {
		return nil, err
	}
	if !there {
		return &layout.Finding{Problem: "missing layer", Path: name, Detail: "it refers to " + d.Digest, Remedy: "push the image again"}, nil
	}
	if size != d.Size {
		return &layout.Finding{Problem: "layer of another size", Path: name, Detail: fmt.Sprintf("%s has %d bytes instead of %d", d.Digest, size, d.Size), Remedy: "run fsck --digests, then push the image again"}, nil
	}
	link := path.Join(repositoriesRoot, repository, "_layers", dgst.algorithm, dgst.hex, "link")
	if _, there, err = r.exists(ctx, link); err != nil || there {
		return nil, err
	}
	f := layout.Finding{Problem: "missing layer link", Path: name, Detail: "the layer " + d.Digest + " is there", Remedy: "fsck --repair mends it"}
	if !r.opt.DryRun {
		if err := r.driver.PutContent(ctx, link, []byte(d.Digest)); err != nil {
			f.Error = err.Error()
		} else {
			f.Repaired = true
		}
	}
	return &f, nil
}

// digests reads every blob.
func (r *run) digests(ctx context.Context) error {
	var hint []func(*storagedriver.WalkOptions)
	if r.state.Path != "" {
		hint = append(hint, storagedriver.WithStartAfterHint(r.state.Path))
	}
	return r.driver.Walk(ctx, blobsRoot, func(fi storagedriver.FileInfo) error {
		if fi.IsDir() || path.Base(fi.Path()) != "data" {
			return nil
		}
		if err := r.digest(ctx, fi.Path()); err != nil {
			return err
		}
		r.state.Path = fi.Path()
		r.advance(fi.Size())
		return r.save()
	}, hint...)
}

func (r *run) digest(ctx context.Context, p string) error {
	want := path.Base(path.Dir(p))
	if path.Base(path.Dir(path.Dir(path.Dir(p)))) != "sha256" {
		return nil
	}
	rc, err := r.driver.Reader(ctx, p, 0)
	if missing(err) {
		return nil // quarantined, or deleted meanwhile: the other steps tell
	}
	if err != nil {
		return err
	}
	defer rc.Close()
	sum := sha256.New()
	buf := make([]byte, 1<<20)
	for {
		n, err := rc.Read(buf)
		sum.Write(buf[:n])
		if err := r.throttle(ctx, n); err != nil {
			return err
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			r.found(layout.Finding{Problem: "unreadable blob", Path: p, Detail: err.Error(), Remedy: "run scrub, then push the layer again"})
			return ctx.Err()
		}
	}
	got := hex.EncodeToString(sum.Sum(nil))
	if got == want {
		return nil
	}
	f := layout.Finding{Problem: "wrong digest", Path: p, Detail: "its content is sha256:" + got, Remedy: "fsck --repair makes it read as missing; push the layer again"}
	if !r.opt.DryRun {
		marked, err := r.checker.Quarantine(ctx, p)
		switch {
		case err != nil:
			f.Error = err.Error()
		case marked:
			f.Detail += "; it reads as missing now"
			f.Remedy = "push the layer again"
		default:
			return nil // changed meanwhile
		}
	}
	r.found(f)
	return nil
}
