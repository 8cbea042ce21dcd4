package registry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/distribution/distribution/v3"
	registrymiddleware "github.com/distribution/distribution/v3/registry/middleware/registry"
	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// Distribution's own way to serve a blob looks it up three times, allocates
// and clears 4 MiB, and reads up to 4 MiB for a range of a few bytes. This
// middleware replaces that part: the driver is told what is wanted, and writes
// into the response from the buffers that it received into.

const blobsMiddleware = "elliptics-blobs"

func init() {
	if err := registrymiddleware.Register(blobsMiddleware, newNamespace); err != nil {
		panic(err) // two of the same name: a mistake in this package
	}
}

// rangeReader is what the driver can do beyond Distribution's contract.
type rangeReader interface {
	ReaderRange(ctx context.Context, path string, offset, length int64) (io.ReadCloser, error)
}

func newNamespace(_ context.Context, ns distribution.Namespace, d storagedriver.StorageDriver, _ map[string]any) (distribution.Namespace, error) {
	files, ok := d.(rangeReader)
	remover, ok2 := ns.(distribution.RepositoryRemover)
	if !ok || !ok2 {
		return nil, fmt.Errorf("registry middleware %s works with the storage driver elliptics alone", blobsMiddleware)
	}
	return namespace{ns, remover, files}, nil
}

type namespace struct {
	distribution.Namespace
	distribution.RepositoryRemover
	files rangeReader
}

func (n namespace) Repository(ctx context.Context, name reference.Named) (distribution.Repository, error) {
	r, err := n.Namespace.Repository(ctx, name)
	if err != nil {
		return nil, err
	}
	return repository{r, n.files}, nil
}

type repository struct {
	distribution.Repository
	files rangeReader
}

func (r repository) Blobs(ctx context.Context) distribution.BlobStore {
	return &blobStore{BlobStore: r.Repository.Blobs(ctx), files: r.files}
}

// blobStore lives for one request. It remembers the last blob that it has
// seen: the handlers ask once before ServeBlob, and notifications once after.
type blobStore struct {
	distribution.BlobStore
	files rangeReader
	asked digest.Digest
	last  distribution.Descriptor
}

func (b *blobStore) Stat(ctx context.Context, dgst digest.Digest) (distribution.Descriptor, error) {
	if dgst == b.asked && dgst != "" {
		return b.last, nil
	}
	desc, err := b.BlobStore.Stat(ctx, dgst)
	if err == nil {
		b.asked, b.last = dgst, desc
	}
	return desc, err
}

func (b *blobStore) Delete(ctx context.Context, dgst digest.Digest) error {
	b.asked = ""
	return b.BlobStore.Delete(ctx, dgst)
}

// blobCacheControl is a year: the content of a digest never changes.
const blobCacheControl = "max-age=31536000"

func (b *blobStore) ServeBlob(ctx context.Context, w http.ResponseWriter, r *http.Request, dgst digest.Digest) error {
	desc, err := b.Stat(ctx, dgst)
	if err != nil {
		return err
	}
	h := w.Header()
	set := func(key, value string) {
		if h.Get(key) == "" {
			h.Set(key, value)
		}
	}
	h.Set("ETag", fmt.Sprintf("%q", desc.Digest))
	h.Set("Cache-Control", blobCacheControl)
	set("Docker-Content-Digest", desc.Digest.String())
	set("Content-Type", desc.MediaType)
	content := &blobContent{ctx: ctx, files: b.files, path: blobPath(desc.Digest), size: desc.Size}
	http.ServeContent(&blobResponse{w, content}, r, "", time.Time{}, content)
	if failed := content.failed.Load(); failed != nil && ctx.Err() == nil {
		// The status is sent. Cutting the connection is the only way left to
		// say that this is not the blob.
		slog.Error("a blob could not be served to its end", "digest", desc.Digest, "error", *failed)
		panic(http.ErrAbortHandler)
	}
	return nil
}

// blobPath is where Distribution keeps a blob, see the comment on pathFor in
// its package storage.
func blobPath(dgst digest.Digest) string {
	hex := dgst.Encoded()
	return "/docker/registry/v2/blobs/" + dgst.Algorithm().String() + "/" + hex[:2] + "/" + hex + "/data"
}

// blobContent is what http.ServeContent wants: something to seek in. Nothing
// is opened before the part that is wanted is known.
type blobContent struct {
	ctx    context.Context
	files  rangeReader
	path   string
	size   int64
	offset int64
	// failed is an error of reading, not of writing. Several ranges are read by
	// a goroutine of http.ServeContent, which may outlast it for a moment.
	failed atomic.Pointer[error]
}

func (c *blobContent) fail(err error) { c.failed.Store(&err) }

func (c *blobContent) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += c.offset
	case io.SeekEnd:
		offset += c.size
	}
	c.offset = offset
	return offset, nil
}

// Read is for a response of several ranges; a whole blob and a single range go
// through WriteTo.
func (c *blobContent) Read(p []byte) (int, error) {
	length := min(int64(len(p)), c.size-c.offset)
	if length <= 0 {
		return 0, io.EOF
	}
	r, err := c.files.ReaderRange(c.ctx, c.path, c.offset, length)
	if err != nil {
		c.fail(err)
		return 0, err
	}
	defer r.Close()
	n, err := io.ReadFull(r, p[:length])
	c.offset += int64(n)
	if err != nil {
		c.fail(err)
	}
	return n, err
}

// copyTo writes length bytes from the current offset.
func (c *blobContent) copyTo(w io.Writer, length int64) (int64, error) {
	r, err := c.files.ReaderRange(c.ctx, c.path, c.offset, length)
	if err != nil {
		c.fail(err)
		return 0, err
	}
	defer r.Close()
	out := &failing{Writer: w}
	n, err := io.Copy(out, r)
	c.offset += n
	switch {
	case out.err != nil: // the client has gone
	case err != nil:
		c.fail(err)
	case n < length:
		c.fail(io.ErrUnexpectedEOF)
	}
	return n, err
}

// failing remembers that it was the writing that failed.
type failing struct {
	io.Writer
	err error
}

func (f *failing) Write(p []byte) (int, error) {
	n, err := f.Writer.Write(p)
	if err != nil {
		f.err = err
	}
	return n, err
}

// blobResponse catches the copy that http.ServeContent begins, which tells
// where and how much.
type blobResponse struct {
	http.ResponseWriter
	content *blobContent
}

func (w *blobResponse) ReadFrom(r io.Reader) (int64, error) {
	if part, ok := r.(*io.LimitedReader); ok && part.R == io.Reader(w.content) {
		return w.content.copyTo(w.ResponseWriter, part.N)
	}
	return io.Copy(w.ResponseWriter, r)
}

func (w *blobResponse) Unwrap() http.ResponseWriter { return w.ResponseWriter }
