// Package v1test makes the images of an old registry for tests and pushes them
// as docker-registry 0.9 did, file by file. It uses nothing of what reads them.
package v1test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/ulikunitz/xz"

	"github.com/elliptics-registry/elliptics-registry/v1"
)

// File is a file of a layer. A name with the prefix `.wh.` removes the file of
// that name in the layers below.
type File struct {
	Name    string
	Body    string
	Mode    int64  // default 0644
	Symlink string // its target: the file is a symbolic link
	Link    string // another file: this is a hard link to it
}

// Compression of a layer, as it is stored.
type Compression string

// The compressions.
const (
	Plain Compression = ""
	Gzip  Compression = "gzip"
	XZ    Compression = "xz"
)

// Image is an image of the old registry: a layer on top of a parent.
type Image struct {
	Parent      *Image
	Files       []File // none: an empty layer
	Compression Compression
	JSON        map[string]any // beside what every image has

	id string
}

// ID is made of all that the image is when it is first asked for.
func (i *Image) ID() string {
	if i.id == "" {
		h := sha256.New()
		if i.Parent != nil {
			h.Write([]byte(i.Parent.ID()))
		}
		for _, f := range i.Files {
			fmt.Fprintln(h, f.Name, f.Body, f.Mode, f.Symlink, f.Link)
		}
		fmt.Fprintln(h, i.Compression, i.JSON)
		i.id = hex.EncodeToString(h.Sum(nil))
	}
	return i.id
}

// Ancestry is the ids from the image to its root.
func (i *Image) Ancestry() (ids []string) {
	for ; i != nil; i = i.Parent {
		ids = append(ids, i.ID())
	}
	return ids
}

// Description is the image's json file.
func (i *Image) Description(t testing.TB) []byte {
	m := map[string]any{
		"id":             i.ID(),
		"created":        "2014-10-21T12:34:56.123456789Z",
		"docker_version": "1.3.0",
		"architecture":   "amd64",
		"os":             "linux",
		"container_config": map[string]any{
			"Cmd": []string{"/bin/sh", "-c", "#(nop) ADD <files> in / && true"},
		},
		"config": map[string]any{"Env": []string{"PATH=/bin"}, "Cmd": []string{"/hello"}},
		"Size":   size(i.Files),
	}
	if i.Parent != nil {
		m["parent"] = i.Parent.ID()
	}
	maps.Copy(m, i.JSON)
	b, err := json.Marshal(m)
	require.NoError(t, err)
	return b
}

func size(files []File) (n int64) {
	for _, f := range files {
		n += int64(len(f.Body))
	}
	return n
}

// Tar is the layer, unpacked.
func (i *Image) Tar(t testing.TB) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range i.Files {
		h := &tar.Header{Name: f.Name, Mode: f.Mode, Size: int64(len(f.Body)), ModTime: time.Unix(1413894896, 0)}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		switch {
		case f.Symlink != "":
			h.Typeflag, h.Linkname = tar.TypeSymlink, f.Symlink
		case f.Link != "":
			h.Typeflag, h.Linkname = tar.TypeLink, f.Link
		}
		require.NoError(t, w.WriteHeader(h))
		_, err := io.WriteString(w, f.Body)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

// Layer is the layer as it is stored.
func (i *Image) Layer(t testing.TB) []byte {
	plain := i.Tar(t)
	var b bytes.Buffer
	var w io.WriteCloser
	switch i.Compression {
	case Gzip:
		w = gzip.NewWriter(&b)
	case XZ:
		var err error
		w, err = xz.NewWriter(&b)
		require.NoError(t, err)
	default:
		return plain
	}
	_, err := w.Write(plain)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.Bytes()
}

// Merged is what a container of the image sees: names and contents, with an
// arrow before the target of a symbolic link.
func (i *Image) Merged() map[string]string {
	if i == nil {
		return make(map[string]string)
	}
	all := i.Parent.Merged()
	for _, f := range i.Files {
		dir, base := path.Split(f.Name)
		if removed, ok := strings.CutPrefix(base, ".wh."); ok {
			delete(all, dir+removed)
			continue
		}
		switch {
		case f.Symlink != "":
			all[f.Name] = "-> " + f.Symlink
		case f.Link != "":
			all[f.Name] = all[f.Link]
		default:
			all[f.Name] = f.Body
		}
	}
	return all
}

// Unpack does to files what a layer, or the archive of a container, says; it
// speaks of files as Merged does.
func Unpack(t testing.TB, r io.Reader, files map[string]string) {
	t.Helper()
	archive := tar.NewReader(r)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		require.NoError(t, err)
		dir, base := path.Split(h.Name)
		if removed, ok := strings.CutPrefix(base, ".wh."); ok {
			delete(files, dir+removed)
			continue
		}
		switch h.Typeflag {
		case tar.TypeSymlink:
			files[h.Name] = "-> " + h.Linkname
		case tar.TypeLink:
			files[h.Name] = files[h.Linkname]
		case tar.TypeReg:
			body, err := io.ReadAll(archive)
			require.NoError(t, err)
			files[h.Name] = string(body)
		}
	}
}

// Checksum is what the registry computed over an image.
func Checksum(description, layer []byte) string {
	h := sha256.New()
	h.Write(description)
	h.Write([]byte("\n"))
	h.Write(layer)
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

// Push stores an image with its ancestors and tags it in a repository of the
// form namespace/name.
func Push(ctx context.Context, t testing.TB, s *v1.Store, repo, tag string, i *Image) {
	t.Helper()
	PushImage(ctx, t, s, i)
	dir := "repositories/" + repo
	require.NoError(t, s.PutJSON(ctx, dir+"/_index_images", []map[string]string{{"id": i.ID()}}))
	Tag(ctx, t, s, repo, tag, i.ID())
	meta := map[string]any{"last_update": 1413894896, "docker_version": "1.3.0", "arch": "amd64", "os": "linux"}
	require.NoError(t, s.PutJSON(ctx, dir+"/tag"+tag+"_json", meta))
	if tag == "latest" {
		require.NoError(t, s.PutJSON(ctx, dir+"/json", meta))
	}
}

// Tag makes a tag name an image, whether that is there or not.
func Tag(ctx context.Context, t testing.TB, s *v1.Store, repo, tag, id string) {
	t.Helper()
	require.NoError(t, s.Put(ctx, "repositories/"+repo+"/tag_"+tag, []byte(id)))
}

// PushImage stores an image and those of its ancestors that are not there.
func PushImage(ctx context.Context, t testing.TB, s *v1.Store, i *Image) {
	t.Helper()
	if i.Parent != nil {
		PushImage(ctx, t, s, i.Parent)
	}
	dir := "images/" + i.ID()
	there, err := s.Exists(ctx, dir+"/json")
	require.NoError(t, err)
	if there {
		return
	}
	description, layer := i.Description(t), i.Layer(t)
	require.NoError(t, s.Put(ctx, dir+"/_inprogress", []byte("true")))
	require.NoError(t, s.Put(ctx, dir+"/json", description))
	require.NoError(t, s.PutJSON(ctx, dir+"/ancestry", i.Ancestry()))
	_, err = s.PutStream(ctx, dir+"/layer", bytes.NewReader(layer))
	require.NoError(t, err)
	require.NoError(t, s.PutJSON(ctx, dir+"/_checksum", []string{Checksum(description, layer)}))
	require.NoError(t, s.Remove(ctx, dir+"/_inprogress"))
}
