package driver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/base"
	"github.com/distribution/distribution/v3/registry/storage/driver/factory"

	"github.com/elliptics-registry/elliptics-registry/driver/layout"
	"github.com/elliptics-registry/elliptics-registry/elliptics"
)

// Name is the name of the driver in a configuration: storage.elliptics.
const Name = "elliptics"

func init() { factory.Register(Name, driverFactory{}) }

type driverFactory struct{}

// Create makes a driver from the parameters below storage.elliptics. It never
// waits for a server: a cluster that cannot be reached yet is reached later.
func (driverFactory) Create(ctx context.Context, parameters map[string]any) (storagedriver.StorageDriver, error) {
	p, err := ParseParameters(parameters)
	if err != nil {
		return nil, err
	}
	return New(ctx, p)
}

// Driver is the storage driver. Its methods are those of Distribution's
// StorageDriver; base.Base checks paths, measures and traces.
type Driver struct {
	base.Base
	files   *fileDriver
	cluster *elliptics.Node
}

// New makes a driver. It ends with ctx, or with Close.
func New(ctx context.Context, p Parameters) (*Driver, error) {
	node, own := p.Cluster, false
	if node == nil {
		if p.Embedded != "" {
			return nil, errors.New("storage.elliptics.embedded: this program has no embedded node; give storage.elliptics.nodes")
		}
		config, err := p.ClientConfig()
		if err != nil {
			return nil, err
		}
		if node, err = elliptics.NewNode(config); err != nil {
			return nil, err
		}
		own = true
	}
	store := newClusterStore(node, p)
	options := layout.Options{
		ChunkSize:  p.ChunkSize,
		TrashGrace: p.TrashGrace,
		AllGroups:  p.Collecting,
		Logger:     slog.Default(),
		Now:        p.Now,
	}
	if store.order != nil {
		options.ReadOrder = store.order.order
	}
	fs, err := layout.New(store, options)
	if err != nil {
		return nil, fmt.Errorf("storage.elliptics: %w", err)
	}
	f := &fileDriver{fs: fs, limit: newLimiter(p.MaxThreads), collecting: p.Collecting, inspecting: p.Inspecting, now: p.Now}
	if f.now == nil {
		f.now = time.Now
	}
	if own {
		f.node = node
	}
	f.stop = context.AfterFunc(ctx, func() { f.close() })
	f.startTrash(ctx)
	return &Driver{base.Base{StorageDriver: f}, f, node}, nil
}

// Close ends the driver: what is acknowledged is stored, background work ends.
func (d *Driver) Close() error {
	d.files.stop()
	d.files.close()
	return nil
}

// ReaderRange reads length bytes of a file from offset; a negative length means
// to the end. Unlike Reader it knows how much is wanted, and fetches no more.
func (d *Driver) ReaderRange(ctx context.Context, path string, offset, length int64) (io.ReadCloser, error) {
	if !storagedriver.PathRegexp.MatchString(path) {
		return nil, storagedriver.InvalidPathError{Path: path, DriverName: Name}
	}
	if offset < 0 {
		return nil, storagedriver.InvalidOffsetError{Path: path, Offset: offset, DriverName: Name}
	}
	return d.files.reader(ctx, path, offset, length)
}

// EmptyTrash removes content that was deleted longer ago than the grace
// period, which also happens by itself every now and then.
func (d *Driver) EmptyTrash(ctx context.Context) (layout.Reaped, error) {
	return d.files.fs.EmptyTrash(ctx)
}

// fileDriver is the driver below base.Base.
type fileDriver struct {
	fs    *layout.FS
	node  *elliptics.Node // ours to close, or nil
	limit limiter
	now   func() time.Time
	stop  func() bool
	done  chan struct{} // closed with the driver
	ended chan struct{} // the trash collector has ended
	once  sync.Once

	collecting bool // see Parameters
	inspecting bool
}

var _ storagedriver.StorageDriver = (*fileDriver)(nil)

func (d *fileDriver) Name() string { return Name }

// putPatience bounds a PutContent, whose context does not.
const putPatience = time.Minute

// begin checks paths, and waits for the turn of an operation on them; leave
// must be called if err is nil.
func (d *fileDriver) begin(ctx context.Context, paths ...string) (leave func(), err error) {
	for _, p := range paths {
		if err := checkPath(p); err != nil {
			return nil, err
		}
	}
	return d.limit.enter(ctx)
}

// checkPath refuses what Distribution's expression for paths lets through, but
// is no name of a file.
func checkPath(p string) error {
	for name := range strings.SplitSeq(p, "/") {
		if name == "." || name == ".." {
			return storagedriver.InvalidPathError{Path: p, DriverName: Name}
		}
	}
	return nil
}

func (d *fileDriver) GetContent(ctx context.Context, p string) ([]byte, error) {
	leave, err := d.begin(ctx, p)
	if err != nil {
		return nil, err
	}
	defer leave()
	if u, ok := parseUpload(p); ok && u.rest != dataName {
		b, _, err := d.uploadFile(ctx, p, u)
		return b, distributionError(p, err)
	} else if ok {
		b, err := d.fs.Get(ctx, u.session)
		return b, distributionError(p, err)
	}
	f, err := d.open(ctx, p)
	if err != nil {
		return nil, distributionError(p, err)
	}
	if err := d.keep(ctx, p, f.Info()); err != nil {
		return nil, distributionError(p, err)
	}
	b, err := f.Content(ctx)
	return b, distributionError(p, err)
}

func (d *fileDriver) PutContent(ctx context.Context, p string, content []byte) error {
	// When a client hangs up, the registry still stores where the upload
	// stands, with the context of the request that has ended, and gives up the
	// upload itself if that fails.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), putPatience)
	defer cancel()
	leave, err := d.begin(ctx, p)
	if err != nil {
		return err
	}
	defer leave()
	if u, ok := parseUpload(p); ok {
		return distributionError(p, d.putUploadFile(ctx, p, u, content))
	}
	return distributionError(p, d.fs.Put(ctx, p, content))
}

func (d *fileDriver) Reader(ctx context.Context, p string, offset int64) (io.ReadCloser, error) {
	return d.reader(ctx, p, offset, -1)
}

func (d *fileDriver) reader(ctx context.Context, p string, offset, length int64) (io.ReadCloser, error) {
	leave, err := d.begin(ctx, p)
	if err != nil {
		return nil, err
	}
	defer leave()
	if u, ok := parseUpload(p); ok {
		r, err := d.openUpload(ctx, p, u, offset, length)
		return r, distributionError(p, err)
	}
	r, err := d.openFile(ctx, p, offset, length)
	return r, distributionError(p, err)
}

func (d *fileDriver) openFile(ctx context.Context, p string, offset, length int64) (io.ReadCloser, error) {
	f, err := d.open(ctx, p)
	if err != nil {
		return nil, err
	}
	return f.Reader(ctx, offset, length), nil
}

func (d *fileDriver) open(ctx context.Context, p string) (*layout.File, error) {
	f, err := d.fs.Open(ctx, p)
	return f, d.insist(err)
}

func (d *fileDriver) Writer(ctx context.Context, p string, appending bool) (storagedriver.FileWriter, error) {
	leave, err := d.begin(ctx, p)
	if err != nil {
		return nil, err
	}
	defer leave()
	file := p
	u, isUpload := parseUpload(p)
	if isUpload {
		if u.rest != dataName {
			return nil, errUploadPath(p)
		}
		file = u.session
	}
	open := d.fs.Create
	if appending {
		open = d.fs.Resume
	}
	w, err := open(ctx, file)
	if appending && !isUpload && errors.Is(err, layout.ErrNotExist) {
		// An upload that is gone stays so: without startedat, nothing would
		// ever purge it.
		w, err = d.fs.Create(ctx, file)
	}
	if err != nil {
		return nil, distributionError(p, err)
	}
	// When a client hangs up, the registry may never close the writer.
	stop := context.AfterFunc(ctx, func() {
		if err := w.Close(); err != nil {
			slog.Warn("could not keep the end of an interrupted upload", "path", p, "error", err)
		}
	})
	return &fileWriter{w, stop}, nil
}

func (d *fileDriver) Stat(ctx context.Context, p string) (storagedriver.FileInfo, error) {
	leave, err := d.begin(ctx, p)
	if err != nil {
		return nil, err
	}
	defer leave()
	if p == "/" { // the health check: a majority of the groups answers
		if err := d.fs.Check(ctx); err != nil {
			return nil, err
		}
		return fileInfo{path: p, dir: true}, nil
	}
	var fi fileInfo
	if u, ok := parseUpload(p); ok {
		fi, err = d.statUpload(ctx, p, u)
	} else {
		var info layout.Info
		info, err = d.fs.Stat(ctx, p)
		switch {
		case err == nil && info.Open:
			err = layout.ErrUnfinished
		case err == nil && info.Quarantined:
			err = d.insist(layout.ErrQuarantined)
		}
		if err == nil && !info.Dir {
			err = d.keep(ctx, p, info)
		}
		fi = fileInfo{path: p, dir: info.Dir, size: info.Size, mtime: info.Mtime.Time()}
	}
	if err != nil {
		return nil, distributionError(p, err)
	}
	return fi, nil
}

func (d *fileDriver) List(ctx context.Context, p string) ([]string, error) {
	entries, err := d.list(ctx, p)
	if err != nil {
		return nil, distributionError(p, err)
	}
	paths := make([]string, len(entries))
	for i, e := range entries {
		paths[i] = path.Join(p, e.Name)
	}
	return paths, nil
}

// list is the directory as the registry shall see it: without unfinished
// files, and with uploads as directories.
func (d *fileDriver) list(ctx context.Context, p string) ([]layout.Entry, error) {
	leave, err := d.begin(ctx, p)
	if err != nil {
		return nil, err
	}
	defer leave()
	if u, ok := parseUpload(p); ok {
		entries, _, err := d.uploadChildren(ctx, u)
		if err == nil && len(entries) == 0 && u.rest != "" {
			err = layout.ErrNotExist
		}
		return entries, err
	}
	entries, err := d.fs.List(ctx, p)
	if err != nil {
		return nil, err
	}
	shown := entries[:0]
	for _, e := range entries {
		switch {
		case path.Base(p) == uploadsDir:
			e.Kind, e.Size = layout.KindDir, 0
		case e.Kind == layout.KindOpen:
			continue
		}
		shown = append(shown, e)
	}
	return shown, nil
}

func (d *fileDriver) Move(ctx context.Context, from, to string) error {
	leave, err := d.begin(ctx, from, to)
	if err != nil {
		return err
	}
	defer leave()
	source := from
	if u, ok := parseUpload(from); ok {
		if u.rest != dataName {
			return errUploadPath(from)
		}
		if err := d.checkDigest(ctx, u, to); err != nil {
			return distributionError(from, err)
		}
		source = u.session
	}
	if _, ok := parseUpload(to); ok {
		return errUploadPath(to)
	}
	return distributionError(from, d.fs.Move(ctx, source, to))
}

func (d *fileDriver) Delete(ctx context.Context, p string) error {
	leave, err := d.begin(ctx, p)
	if err != nil {
		return err
	}
	defer leave()
	if u, ok := parseUpload(p); ok {
		if u.rest != "" { // only whole uploads are ever deleted
			return errUploadPath(p)
		}
		p = u.session
	}
	return distributionError(p, d.fs.Delete(ctx, p))
}

func (d *fileDriver) RedirectURL(*http.Request, string) (string, error) { return "", nil }

// fileInfo implements storagedriver.FileInfo.
type fileInfo struct {
	path  string
	dir   bool
	size  int64
	mtime time.Time
}

func (f fileInfo) Path() string       { return f.path }
func (f fileInfo) Size() int64        { return f.size }
func (f fileInfo) ModTime() time.Time { return f.mtime }
func (f fileInfo) IsDir() bool        { return f.dir }

// fileWriter is a layout.Writer that stops watching its context when it ends.
type fileWriter struct {
	*layout.Writer
	stop func() bool
}

func (w *fileWriter) Close() error {
	w.stop()
	return w.Writer.Close()
}
