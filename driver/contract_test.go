package driver_test

import (
	"bytes"
	"context"
	"io"
	"testing"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/driver"
	"github.com/elliptics-registry/elliptics-registry/elliptics/ellipticstest"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// operations are all that take a path.
func operations(d *driver.Driver) map[string]func(ctx context.Context, path string) error {
	return map[string]func(ctx context.Context, path string) error{
		"GetContent": func(ctx context.Context, p string) error { _, err := d.GetContent(ctx, p); return err },
		"PutContent": func(ctx context.Context, p string) error { return d.PutContent(ctx, p, []byte("x")) },
		"Reader":     func(ctx context.Context, p string) error { _, err := d.Reader(ctx, p, 0); return err },
		"ReaderRange": func(ctx context.Context, p string) error {
			_, err := d.ReaderRange(ctx, p, 0, 1)
			return err
		},
		"Writer": func(ctx context.Context, p string) error { _, err := d.Writer(ctx, p, false); return err },
		"Append": func(ctx context.Context, p string) error { _, err := d.Writer(ctx, p, true); return err },
		"Stat":   func(ctx context.Context, p string) error { _, err := d.Stat(ctx, p); return err },
		"List":   func(ctx context.Context, p string) error { _, err := d.List(ctx, p); return err },
		"Delete": func(ctx context.Context, p string) error { return d.Delete(ctx, p) },
		"Move":   func(ctx context.Context, p string) error { return d.Move(ctx, p, "/to") },
		"MoveTo": func(ctx context.Context, p string) error { return d.Move(ctx, "/from", p) },
		"Walk": func(ctx context.Context, p string) error {
			return d.Walk(ctx, p, func(storagedriver.FileInfo) error { return nil })
		},
	}
}

func TestBadPaths(t *testing.T) {
	c := ellipticstest.Start(t)
	d := open(t, c, nil)
	put(t, d, "/from", "/b")
	before := c.Requests(0, wire.CmdWrite)
	for name, op := range operations(d) {
		for _, path := range []string{"", "a", "//", "/a/", "/a//b", "/a b", "/a\x00", "/ü", "/.", "/..", "/a/./b", "/a/../b", "/a/.."} {
			err := op(context.Background(), path)
			require.Equal(t, storagedriver.InvalidPathError{Path: path, DriverName: driver.Name}, err, "%s %q", name, path)
		}
	}
	require.Equal(t, before, c.Requests(0, wire.CmdWrite), "something was written")
	put(t, d, "/...", "/a/..b", "/a/.b") // these are names
	list, err := d.List(context.Background(), "/")
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"/from", "/b", "/...", "/a"}, list)
}

// Distribution switches on the types of errors, and a few of its callers
// compare the whole value.
func TestMissingPaths(t *testing.T) {
	d := open(t, ellipticstest.Start(t), nil)
	put(t, d, "/dir/file")
	ops := operations(d)
	for _, name := range []string{"GetContent", "Reader", "ReaderRange", "Stat", "List", "Delete", "Move", "Walk"} {
		for _, path := range []string{"/nothing", "/dir/nothing", "/dir/file/below", "/dir/fil", "/dir/file."} {
			require.Equal(t, missing(path), ops[name](context.Background(), path), "%s %s", name, path)
		}
	}
	for _, name := range []string{"GetContent", "Reader", "Stat", "List", "Walk"} {
		for _, file := range []string{"", "data", "startedat", "hashstates/sha256/1"} {
			require.Equal(t, missing(upload(1, file)), ops[name](context.Background(), upload(1, file)), "%s %s", name, file)
		}
	}
	for name, file := range map[string]string{"Delete": "", "Move": "data", "Append": "data"} {
		require.Equal(t, missing(upload(1, file)), ops[name](context.Background(), upload(1, file)), "%s %s", name, file)
	}
	// A directory has no content, a file no entries.
	for _, name := range []string{"GetContent", "Reader", "ReaderRange"} {
		require.Equal(t, missing("/dir"), ops[name](context.Background(), "/dir"), name)
	}
	require.Equal(t, missing("/dir/file"), ops["List"](context.Background(), "/dir/file"))
	fi, err := d.Stat(context.Background(), "/nothing")
	require.Equal(t, missing("/nothing"), err)
	require.Nil(t, fi, "a nil interface, not one with a nil in it")
}

func TestTheRoot(t *testing.T) {
	d := open(t, ellipticstest.Start(t), nil)
	ctx := context.Background()
	list, err := d.List(ctx, "/")
	require.NoError(t, err)
	require.Empty(t, list)
	put(t, d, "/a/b/c")
	list, err = d.List(ctx, "/")
	require.NoError(t, err)
	require.Equal(t, []string{"/a"}, list)
	fi, err := d.Stat(ctx, "/")
	require.NoError(t, err)
	require.True(t, fi.IsDir())
	require.Equal(t, "/", fi.Path())
	require.NoError(t, d.Delete(ctx, "/a"))
	list, err = d.List(ctx, "/")
	require.NoError(t, err)
	require.Empty(t, list, "nothing of the driver's own stands in the root")
}

func TestStatOfDirectories(t *testing.T) {
	d := open(t, ellipticstest.Start(t), nil)
	put(t, d, "/a/b/c")
	for _, path := range []string{"/a", "/a/b"} {
		fi, err := d.Stat(context.Background(), path)
		require.NoError(t, err)
		require.True(t, fi.IsDir())
		require.Zero(t, fi.Size())
		require.Equal(t, path, fi.Path())
	}
}

func TestListIsDirectChildren(t *testing.T) {
	d := open(t, ellipticstest.Start(t), nil)
	put(t, d, "/a/1", "/a/b/2", "/a/b/c/3", "/ab/4")
	w := writer(t, d, "/a/unfinished", false)
	require.NoError(t, w.Close())
	list, err := d.List(context.Background(), "/a")
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"/a/1", "/a/b"}, list)
}

func TestDeleteIsExact(t *testing.T) {
	d := open(t, ellipticstest.Start(t), nil)
	ctx := context.Background()
	put(t, d, "/a/1", "/a/b/2", "/a/b/c/3", "/ab", "/a-b/4", "/a.b")
	w := writer(t, d, "/a/b/unfinished", false)
	write(t, w, random(1, 100_000))
	require.NoError(t, w.Close())
	require.NoError(t, d.Delete(ctx, "/a"))
	for _, path := range []string{"/a", "/a/1", "/a/b", "/a/b/2", "/a/b/c/3", "/a/b/unfinished"} {
		_, err := d.Stat(ctx, path)
		require.Equal(t, missing(path), err)
	}
	list, err := d.List(ctx, "/")
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"/ab", "/a-b", "/a.b"}, list)
	require.NoError(t, d.Delete(ctx, "/a-b/4"))
	require.Equal(t, missing("/a"), d.Delete(ctx, "/a"))
	require.Equal(t, "/ab", string(get(t, d, "/ab")))

	put(t, d, "/a/b/again")
	list, err = d.List(ctx, "/a/b")
	require.NoError(t, err)
	require.Equal(t, []string{"/a/b/again"}, list)
	w = writer(t, d, "/a/b/unfinished", true)
	require.Zero(t, w.Size(), "what was written before is gone")
	require.NoError(t, w.Cancel(ctx))
}

func TestMoveOfWhatIsMissing(t *testing.T) {
	d := open(t, ellipticstest.Start(t), nil)
	ctx := context.Background()
	put(t, d, "/dest", "/dir/file")
	require.Equal(t, missing("/nothing"), d.Move(ctx, "/nothing", "/dest"))
	require.Equal(t, "/dest", string(get(t, d, "/dest")))
	require.Equal(t, missing("/nothing"), d.Move(ctx, "/nothing", "/new"))
	_, err := d.Stat(ctx, "/new")
	require.Equal(t, missing("/new"), err)

	w := writer(t, d, "/unfinished", false)
	require.NoError(t, w.Close())
	require.Equal(t, missing("/unfinished"), d.Move(ctx, "/unfinished", "/dest"))
	require.Error(t, d.Move(ctx, "/dir", "/dest"), "directories are not moved")
	require.Equal(t, "/dest", string(get(t, d, "/dest")))
	require.Equal(t, "/dir/file", string(get(t, d, "/dir/file")))
}

func TestNothingGoesUnderAFile(t *testing.T) {
	d := open(t, ellipticstest.Start(t), nil)
	ctx := context.Background()
	put(t, d, "/file", "/from", "/dir/file")
	for _, path := range []string{"/file/x", "/file/x/y"} {
		require.Error(t, d.Move(ctx, "/from", path))
		require.Equal(t, "/from", string(get(t, d, "/from")), "the source stays")
		require.Error(t, d.PutContent(ctx, path, []byte("x")))
		_, err := d.Writer(ctx, path, false)
		require.Error(t, err)
		_, err = d.Stat(ctx, path)
		require.Equal(t, missing(path), err)
	}
	require.Error(t, d.PutContent(ctx, "/dir", []byte("x")), "nor does a file replace a directory")
	require.Error(t, d.Move(ctx, "/from", "/dir"))
	require.Equal(t, "/from", string(get(t, d, "/from")))
	require.Equal(t, "/file", string(get(t, d, "/file")))
	require.Equal(t, "/dir/file", string(get(t, d, "/dir/file")))
	list, err := d.List(ctx, "/")
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"/file", "/from", "/dir"}, list)
}

// Two clients push the same layer while a third one pulls it: whoever reads
// gets what it began to read, to the end.
func TestMoveOntoWhatIsBeingRead(t *testing.T) {
	d := open(t, ellipticstest.Start(t), map[string]any{"chunksize": "64KiB", "trashgrace": "1h"})
	ctx := context.Background()
	old, replacement := random(1, 8<<20), random(2, 3<<20)
	require.NoError(t, d.PutContent(ctx, "/blob", old))
	require.NoError(t, d.PutContent(ctx, "/upload", replacement))
	r, err := d.Reader(ctx, "/blob", 0)
	require.NoError(t, err)
	defer r.Close()
	head := make([]byte, 1<<20)
	_, err = io.ReadFull(r, head)
	require.NoError(t, err)

	require.NoError(t, d.Move(ctx, "/upload", "/blob"))
	_, err = d.EmptyTrash(ctx)
	require.NoError(t, err)
	require.True(t, bytes.Equal(replacement, get(t, d, "/blob")))
	_, err = d.Stat(ctx, "/upload")
	require.Equal(t, missing("/upload"), err)

	rest, err := io.ReadAll(r)
	require.NoError(t, err)
	require.True(t, bytes.Equal(old, append(head, rest...)))
}

// A move copies nothing, however large the file is.
func TestMoveCopiesNothing(t *testing.T) {
	c := ellipticstest.Start(t)
	d := open(t, c, smallChunks)
	ctx := context.Background()
	requests := func(size int) int {
		require.NoError(t, d.PutContent(ctx, "/from", random(1, size)))
		before := c.Requests(0, ellipticstest.AnyCommand)
		require.NoError(t, d.Move(ctx, "/from", "/to"))
		n := c.Requests(0, ellipticstest.AnyCommand) - before
		require.NoError(t, d.Delete(ctx, "/to"))
		return n
	}
	requests(100_000) // the directory is known from now on
	require.Equal(t, requests(100_000), requests(5_000_000))
}

// The registry's health check is Stat of the root: it must tell whether the
// storage can serve, and do so in time.
func TestHealthIsAQuorum(t *testing.T) {
	c := ellipticstest.Start(t, 1, 2, 3)
	d := open(t, c, map[string]any{"groups": "1 2 3"})
	ctx := context.Background()
	healthy := func() error { _, err := d.Stat(ctx, "/"); return err }
	c.Stop(1)
	require.NoError(t, healthy(), "two of three groups")
	put(t, d, "/f")
	c.Stop(2)
	require.Error(t, healthy(), "one of three groups")
	require.ErrorContains(t, d.PutContent(ctx, "/f", nil), "2 needed")
	c.Restart(2)
	require.Eventually(t, func() bool { return healthy() == nil }, 20*time.Second, 5*time.Millisecond)
	require.Equal(t, "/f", string(get(t, d, "/f")))
}

func TestHealthObeysItsContext(t *testing.T) {
	c := ellipticstest.Start(t)
	d := open(t, c, map[string]any{"waittimeout": "1h"})
	_, stop := silence(c)
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err := d.Stat(ctx, "/")
	require.ErrorContains(t, err, context.DeadlineExceeded.Error())
}
