package driver

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strconv"
	"strings"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"

	"github.com/elliptics-registry/elliptics-registry/driver/layout"
)

// Distribution keeps an upload in progress as a directory:
//
//	…/_uploads/<id>/startedat
//	…/_uploads/<id>/data
//	…/_uploads/<id>/hashstates/<algorithm>/<offset>
//
// and writes the small files many times for each blob. Here the upload is one
// file, …/_uploads/<id>, whose content is data and whose attributes are the
// rest. A hash state is stored along with the data that it belongs to, of
// which only the newest is of use; a state of a finished or vanished upload is
// of none and is dropped, as the state of nothing (offset 0) is.
type uploadPath struct {
	session string // the file
	rest    string // below it, without slash; "" is the directory itself
}

const (
	uploadsDir    = "_uploads"
	startedAtName = "startedat"
	dataName      = "data"
	hashStates    = "hashstates"
)

// parseUpload tells whether a path is an upload or in one.
func parseUpload(path string) (u uploadPath, ok bool) {
	const sep = "/" + uploadsDir + "/"
	i := strings.Index(path, sep)
	if i < 0 {
		return u, false
	}
	id, rest, _ := strings.Cut(path[i+len(sep):], "/")
	return uploadPath{session: path[:i+len(sep)] + id, rest: rest}, true
}

// hashState splits hashstates/<algorithm>/<offset>.
func (u uploadPath) hashState() (algorithm string, offset int64, ok bool) {
	rest, found := strings.CutPrefix(u.rest, hashStates+"/")
	if !found {
		return "", 0, false
	}
	algorithm, off, found := strings.Cut(rest, "/")
	if !found {
		return "", 0, false
	}
	offset, err := strconv.ParseInt(off, 10, 64)
	return algorithm, offset, err == nil && offset >= 0
}

func hashStateAttr(algorithm string) string { return hashStates + "/" + algorithm }

// encodeHashState is the attribute's value: the offset in decimal, a line
// feed, the state.
func encodeHashState(offset int64, state []byte) []byte {
	b := strconv.AppendInt(nil, offset, 10)
	b = append(b, '\n')
	return append(b, state...)
}

func decodeHashState(b []byte) (offset string, state []byte, ok bool) {
	off, state, ok := bytes.Cut(b, []byte{'\n'})
	return string(off), state, ok
}

func errUploadPath(path string) error {
	return storagedriver.InvalidPathError{Path: path, DriverName: Name}
}

// uploadFile is a small file of an upload.
func (d *fileDriver) uploadFile(ctx context.Context, path string, u uploadPath) ([]byte, layout.Info, error) {
	attrs, info, err := d.fs.Attrs(ctx, u.session)
	if err != nil {
		return nil, info, err
	}
	if u.rest == startedAtName {
		if v, ok := attrs[startedAtName]; ok {
			return v, info, nil
		}
	} else if alg, offset, ok := u.hashState(); ok {
		if off, state, ok := decodeHashState(attrs[hashStateAttr(alg)]); ok && off == strconv.FormatInt(offset, 10) {
			return state, info, nil
		}
	}
	return nil, info, notFound(path)
}

func (d *fileDriver) putUploadFile(ctx context.Context, path string, u uploadPath, content []byte) error {
	switch alg, offset, ok := u.hashState(); {
	case u.rest == startedAtName:
		return d.fs.SetAttrs(ctx, u.session, map[string][]byte{startedAtName: nonNil(content)}, true)
	case u.rest == dataName:
		return d.putUploadData(ctx, u, content)
	case !ok:
		return errUploadPath(path)
	case offset == 0:
		return nil
	default:
		attrs := map[string][]byte{hashStateAttr(alg): encodeHashState(offset, content)}
		if d.fs.StageAttrs(u.session, attrs) {
			return nil
		}
		// The registry stores a state once more after it has closed the data.
		_, info, err := d.fs.Attrs(ctx, u.session)
		if errors.Is(err, layout.ErrNotExist) || err == nil && !info.Open {
			return nil
		}
		if err != nil {
			return err
		}
		err = d.fs.SetAttrs(ctx, u.session, attrs, false)
		if errors.Is(err, layout.ErrNotExist) {
			return nil
		}
		return err
	}
}

func (d *fileDriver) putUploadData(ctx context.Context, u uploadPath, content []byte) error {
	w, err := d.fs.Create(ctx, u.session)
	if err != nil {
		return err
	}
	_, err = w.Write(content)
	if err == nil {
		err = w.Commit(ctx)
	}
	return errors.Join(err, w.Close())
}

// openUpload reads a file of an upload.
func (d *fileDriver) openUpload(ctx context.Context, path string, u uploadPath, offset, length int64) (io.ReadCloser, error) {
	if u.rest == dataName {
		return d.openFile(ctx, u.session, offset, length)
	}
	b, _, err := d.uploadFile(ctx, path, u)
	if err != nil {
		return nil, err
	}
	b = b[min(offset, int64(len(b))):]
	if length >= 0 {
		b = b[:min(length, int64(len(b)))]
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func (d *fileDriver) statUpload(ctx context.Context, path string, u uploadPath) (fileInfo, error) {
	children, info, err := d.uploadChildren(ctx, u)
	if err != nil {
		return fileInfo{}, err
	}
	if u.rest == "" || len(children) > 0 {
		return fileInfo{path: path, dir: true, mtime: info.Mtime.Time()}, nil
	}
	if u.rest == dataName {
		if info.Open || info.Quarantined {
			return fileInfo{}, notFound(path)
		}
		return fileInfo{path: path, size: info.Size, mtime: info.Mtime.Time()}, nil
	}
	b, info, err := d.uploadFile(ctx, path, u)
	if err != nil {
		return fileInfo{}, err
	}
	return fileInfo{path: path, size: int64(len(b)), mtime: info.Mtime.Time()}, nil
}

// uploadChildren lists the directories of an upload; none for a file.
func (d *fileDriver) uploadChildren(ctx context.Context, u uploadPath) (children []layout.Entry, info layout.Info, err error) {
	attrs, info, err := d.fs.Attrs(ctx, u.session)
	if err != nil {
		return nil, info, err
	}
	add := func(name string, kind layout.Kind, size int64) {
		children = append(children, layout.Entry{Name: name, Kind: kind, Size: size, Mtime: info.Mtime})
	}
	if u.rest == "" && !info.Open && !info.Quarantined {
		add(dataName, layout.KindFile, info.Size)
	}
	for name, value := range attrs {
		alg, isState := strings.CutPrefix(name, hashStates+"/")
		off, state, _ := decodeHashState(value)
		switch {
		case !isState:
		case u.rest == "":
			add(hashStates, layout.KindDir, 0)
		case u.rest == hashStates:
			add(alg, layout.KindDir, 0)
		case u.rest == name:
			add(off, layout.KindFile, int64(len(state)))
		}
	}
	if v, ok := attrs[startedAtName]; ok && u.rest == "" {
		add(startedAtName, layout.KindFile, int64(len(v)))
	}
	return children, info, nil
}

func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
