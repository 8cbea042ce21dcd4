package publish

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"time"

	"github.com/distribution/distribution/v3"
	"github.com/distribution/distribution/v3/registry/storage"
	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Target is where images go: the storage of a registry, which may be serving
// meanwhile.
type Target struct {
	driver   storagedriver.StorageDriver
	registry distribution.Namespace
}

// NewTarget makes a target of a registry's storage.
func NewTarget(ctx context.Context, d storagedriver.StorageDriver) (*Target, error) {
	ns, err := storage.NewRegistry(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("target: %w", err)
	}
	return &Target{d, ns}, nil
}

func (t *Target) repository(ctx context.Context, name string) (distribution.Repository, error) {
	named, err := reference.WithName(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return t.registry.Repository(ctx, named)
}

// hasBlob tells whether a blob is in the target, in whatever repository.
func (t *Target) hasBlob(ctx context.Context, d digest.Digest) (bool, error) {
	_, err := t.registry.BlobStatter().Stat(ctx, d)
	if errors.Is(err, distribution.ErrBlobUnknown) {
		return false, nil
	}
	return err == nil, err
}

// tagged is the manifest that a tag names, "" for a tag that is not there.
func (t *Target) tagged(ctx context.Context, repo, tag string) (digest.Digest, error) {
	r, err := t.repository(ctx, repo)
	if err != nil {
		return "", err
	}
	desc, err := r.Tags(ctx).Get(ctx, tag)
	var unknown distribution.ErrTagUnknown
	if errors.As(err, &unknown) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("target: tag %s:%s: %w", repo, tag, err)
	}
	return desc.Digest, nil
}

// mount links a blob into a repository, without a look at any other one.
type mount struct {
	from reference.Canonical
	desc ocispec.Descriptor
}

// Apply implements distribution.BlobCreateOption.
func (m mount) Apply(v any) error {
	o, ok := v.(*distribution.CreateOptions)
	if !ok {
		return fmt.Errorf("options of type %T", v)
	}
	o.Mount.ShouldMount, o.Mount.From, o.Mount.Stat = true, m.from, &m.desc
	return nil
}

// link makes a blob of the target part of a repository.
func link(ctx context.Context, r distribution.Repository, desc ocispec.Descriptor) error {
	blobs := r.Blobs(ctx)
	if _, err := blobs.Stat(ctx, desc.Digest); !errors.Is(err, distribution.ErrBlobUnknown) {
		return err
	}
	from, err := reference.WithDigest(r.Named(), desc.Digest)
	if err != nil {
		return err
	}
	w, err := blobs.Create(ctx, mount{from, desc})
	var mounted distribution.ErrBlobMounted
	if errors.As(err, &mounted) {
		return nil
	}
	if err == nil { // it could not, and began an upload instead
		err = errors.Join(fmt.Errorf("target: blob %s could not be linked into %s", desc.Digest, r.Named()), cancelUpload(ctx, w))
	}
	return err
}

// undoPatience bounds how long it may take to give an upload up.
const undoPatience = time.Minute

func cancelUpload(ctx context.Context, w distribution.BlobWriter) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoPatience)
	defer cancel()
	if err := w.Cancel(ctx); err != nil {
		return fmt.Errorf("an upload that was given up could not be removed; the registry purges it later: %w", err)
	}
	return nil
}

// smallBlob is how much of a blob is kept in memory before an upload begins.
// Most layers end before.
const smallBlob = 256 << 10

// upload writes a blob whose digest is known at its end.
type upload struct {
	ctx   context.Context
	repo  distribution.Repository
	sum   hash.Hash
	size  int64
	begin bytes.Buffer // until w is there
	w     distribution.BlobWriter
}

func newUpload(ctx context.Context, r distribution.Repository) *upload {
	return &upload{ctx: ctx, repo: r, sum: sha256.New()}
}

func (u *upload) Write(b []byte) (int, error) {
	u.sum.Write(b)
	u.size += int64(len(b))
	if u.w == nil {
		u.begin.Write(b)
		if u.begin.Len() <= smallBlob {
			return len(b), nil
		}
		var err error
		if u.w, err = u.repo.Blobs(u.ctx).Create(u.ctx); err != nil {
			return 0, err
		}
		_, err = u.w.Write(u.begin.Bytes())
		u.begin = bytes.Buffer{}
		if err != nil {
			return 0, err
		}
		return len(b), nil
	}
	return u.w.Write(b)
}

// commit makes the blob part of the repository.
func (u *upload) commit() (ocispec.Descriptor, error) {
	desc := ocispec.Descriptor{Digest: digest.NewDigest(digest.SHA256, u.sum), Size: u.size}
	if u.w == nil {
		_, err := u.repo.Blobs(u.ctx).Put(u.ctx, "", u.begin.Bytes())
		return desc, err
	}
	_, err := u.w.Commit(u.ctx, desc)
	if err != nil {
		return desc, errors.Join(err, u.cancel())
	}
	return desc, nil
}

// cancel gives the blob up.
func (u *upload) cancel() error {
	if u.w == nil {
		return nil
	}
	return cancelUpload(u.ctx, u.w)
}
