package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	storagemiddleware "github.com/distribution/distribution/v3/registry/storage/driver/middleware"

	"github.com/elliptics-registry/elliptics-registry/driver"
	"github.com/elliptics-registry/elliptics-registry/driver/layout"
	"github.com/elliptics-registry/elliptics-registry/elliptics"
)

// Distribution answers 500 and "unknown error" to whatever a driver cannot do.
// A client should know when to come again: here the driver's errors are noted
// with the request that met them, and a 500 becomes a 503 with the reason when
// it was the storage that could not be reached. So does a 202 for a part of an
// upload that was not stored, of which Distribution takes no notice.

const unavailableMiddleware = "elliptics-unavailable"

func init() {
	if err := storagemiddleware.Register(unavailableMiddleware, newNoting); err != nil {
		panic(err) // two of the same name: a mistake in this package
	}
}

func newNoting(_ context.Context, d storagedriver.StorageDriver, _ map[string]any) (storagedriver.StorageDriver, error) {
	own, ok := d.(*driver.Driver)
	if !ok {
		return nil, fmt.Errorf("storage middleware %s works with the storage driver %s alone", unavailableMiddleware, driver.Name)
	}
	return &notingDriver{own}, nil
}

type noteKey struct{}

// note is what went wrong with the storage during one request.
type note struct {
	mu     sync.Mutex
	reason string
	lost   bool // what the request brought was not stored
}

// get is the reason why an answer is not the one to send, or "".
func (n *note) get(status int) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case status == http.StatusInternalServerError:
		return n.reason
	case status == http.StatusAccepted && n.lost:
		// The handler does not look whether the upload could be closed.
		if n.reason == "" {
			return "the upload could not be stored; ask for its status"
		}
		return n.reason
	}
	return ""
}

// lose notes that the bytes of a request are gone.
func lose(ctx context.Context, path string, err error) {
	slog.Error("the end of an upload could not be stored", "path", path, "error", detail(err))
	if n, ok := ctx.Value(noteKey{}).(*note); ok {
		n.mu.Lock()
		n.lost = true
		n.mu.Unlock()
	}
}

// noted keeps an error of the storage for the request that it belongs to.
func noted(ctx context.Context, op, path string, err error) error {
	reason := unavailableReason(err)
	if reason == "" {
		return err
	}
	slog.Error("storage is unavailable", "operation", op, "path", path, "error", detail(err))
	if n, ok := ctx.Value(noteKey{}).(*note); ok {
		n.mu.Lock()
		n.reason = reason
		n.mu.Unlock()
	}
	return err
}

// detail is the error inside Distribution's own type, which has no Unwrap.
func detail(err error) error {
	var e storagedriver.Error
	if errors.As(err, &e) {
		return e.Detail
	}
	return err
}

// unavailableReason says why the storage cannot serve, in words for those who
// push and pull: without addresses. It is empty for other errors.
func unavailableReason(err error) string {
	err = detail(err)
	var q *layout.QuorumError
	if !errors.As(err, &q) {
		return ""
	}
	counts := fmt.Sprintf("%d of %d groups answered, %d needed", q.OK, len(q.Groups), q.Need)
	switch {
	case errors.Is(err, elliptics.ErrNoSpace):
		return "the storage is full (" + counts + ")"
	case errors.Is(err, elliptics.ErrReadOnly):
		return "the storage is read-only (" + counts + ")"
	case errors.Is(err, elliptics.ErrTimeout):
		return "the storage does not answer in time (" + counts + ")"
	case errors.Is(err, elliptics.ErrNoRoute), errors.Is(err, elliptics.ErrConnectionReset):
		return "the storage cannot be reached (" + counts + ")"
	}
	return "the storage refuses (" + counts + ")"
}

// answerUnavailable turns the answers to requests that met an unavailable
// storage into 503.
func answerUnavailable(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := &note{}
		r = r.WithContext(context.WithValue(r.Context(), noteKey{}, n))
		next.ServeHTTP(&unavailableWriter{ResponseWriter: w, note: n}, r)
	})
}

// retryAfter is what the clients are told to wait, in seconds.
const retryAfter = "5"

type unavailableWriter struct {
	http.ResponseWriter
	note     *note
	began    bool
	replaced bool // the body that follows is not the one to send
}

func (w *unavailableWriter) WriteHeader(status int) {
	if w.began {
		return
	}
	w.began = status >= 200
	reason := w.note.get(status)
	if reason == "" {
		w.ResponseWriter.WriteHeader(status)
		return
	}
	w.replaced = true
	body, _ := json.Marshal(errcode.Errors{errcode.ErrorCodeUnavailable.WithMessage(reason)})
	h := w.Header()
	h.Set("Retry-After", retryAfter)
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", fmt.Sprint(len(body)))
	w.ResponseWriter.WriteHeader(http.StatusServiceUnavailable)
	_, _ = w.ResponseWriter.Write(body)
}

func (w *unavailableWriter) Write(p []byte) (int, error) {
	if !w.began {
		w.WriteHeader(http.StatusOK)
	}
	if w.replaced {
		return len(p), nil
	}
	return w.ResponseWriter.Write(p)
}

func (w *unavailableWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Flush is for handlers that know nothing of http.ResponseController.
func (w *unavailableWriter) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// notingDriver is the driver as the registry sees it.
type notingDriver struct{ *driver.Driver }

func (d *notingDriver) GetContent(ctx context.Context, path string) ([]byte, error) {
	b, err := d.Driver.GetContent(ctx, path)
	return b, noted(ctx, "read", path, err)
}

func (d *notingDriver) PutContent(ctx context.Context, path string, content []byte) error {
	return noted(ctx, "write", path, d.Driver.PutContent(ctx, path, content))
}

func (d *notingDriver) Reader(ctx context.Context, path string, offset int64) (io.ReadCloser, error) {
	r, err := d.Driver.Reader(ctx, path, offset)
	return r, noted(ctx, "read", path, err)
}

func (d *notingDriver) ReaderRange(ctx context.Context, path string, offset, length int64) (io.ReadCloser, error) {
	r, err := d.Driver.ReaderRange(ctx, path, offset, length)
	return r, noted(ctx, "read", path, err)
}

func (d *notingDriver) Stat(ctx context.Context, path string) (storagedriver.FileInfo, error) {
	fi, err := d.Driver.Stat(ctx, path)
	return fi, noted(ctx, "stat", path, err)
}

func (d *notingDriver) List(ctx context.Context, path string) ([]string, error) {
	list, err := d.Driver.List(ctx, path)
	return list, noted(ctx, "list", path, err)
}

func (d *notingDriver) Walk(ctx context.Context, path string, f storagedriver.WalkFn, options ...func(*storagedriver.WalkOptions)) error {
	return noted(ctx, "walk", path, d.Driver.Walk(ctx, path, f, options...))
}

func (d *notingDriver) Move(ctx context.Context, from, to string) error {
	return noted(ctx, "move", from, d.Driver.Move(ctx, from, to))
}

func (d *notingDriver) Delete(ctx context.Context, path string) error {
	return noted(ctx, "delete", path, d.Driver.Delete(ctx, path))
}

func (d *notingDriver) Writer(ctx context.Context, path string, appending bool) (storagedriver.FileWriter, error) {
	w, err := d.Driver.Writer(ctx, path, appending)
	if err != nil {
		return nil, noted(ctx, "write", path, err)
	}
	return &notingWriter{w, ctx, path}, nil
}

type notingWriter struct {
	storagedriver.FileWriter
	ctx  context.Context
	path string
}

func (w *notingWriter) Write(p []byte) (int, error) {
	n, err := w.FileWriter.Write(p)
	return n, noted(w.ctx, "write", w.path, err)
}

func (w *notingWriter) Commit(ctx context.Context) error {
	return noted(w.ctx, "write", w.path, w.FileWriter.Commit(ctx))
}

func (w *notingWriter) Close() error {
	err := w.FileWriter.Close()
	if err != nil {
		lose(w.ctx, w.path, err)
	}
	return noted(w.ctx, "write", w.path, err)
}
