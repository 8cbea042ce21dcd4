package driver_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/elliptics-registry/elliptics-registry/elliptics/ellipticstest"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// walk returns what is visited. visit, if not nil, is called for each path.
func walk(d storagedriver.StorageDriver, from, hint string, visit func(storagedriver.FileInfo) error) (paths []string, err error) {
	err = d.Walk(context.Background(), from, func(fi storagedriver.FileInfo) error {
		paths = append(paths, fi.Path())
		if visit == nil {
			return nil
		}
		return visit(fi)
	}, storagedriver.WithStartAfterHint(hint))
	return paths, err
}

func TestWalkGoesByComponents(t *testing.T) {
	d := open(t, ellipticstest.Start(t), nil)
	put(t, d, "/r/a-b", "/r/a/x/y", "/r/a/w", "/r/a.b/z", "/r/B", "/other")
	var dirs []string
	got, err := walk(d, "/r", "", func(fi storagedriver.FileInfo) error {
		if fi.IsDir() {
			dirs = append(dirs, fi.Path())
			require.Zero(t, fi.Size())
		} else {
			require.EqualValues(t, len(fi.Path()), fi.Size())
			require.False(t, fi.ModTime().IsZero())
		}
		return nil
	})
	require.NoError(t, err)
	// "/" sorts before "-" and ".": what is below a comes before a-b.
	require.Equal(t, []string{"/r/B", "/r/a", "/r/a/w", "/r/a/x", "/r/a/x/y", "/r/a-b", "/r/a.b", "/r/a.b/z"}, got)
	require.Equal(t, []string{"/r/a", "/r/a/x", "/r/a.b"}, dirs)
	all, err := walk(d, "/", "", nil)
	require.NoError(t, err)
	require.Equal(t, append([]string{"/other", "/r"}, got...), all)
}

// What follows a hint is what a walk without one visits behind it, whether the
// hint exists or not: nothing twice, nothing left out.
func TestWalkAfterHint(t *testing.T) {
	d := open(t, ellipticstest.Start(t), nil)
	name := rapid.SampledFrom([]string{"a", "a-b", "a0", "B", "b", "_x"})
	path := rapid.Map(rapid.SliceOfN(name, 1, 4), func(names []string) string { return "/" + strings.Join(names, "/") })
	trees := 0
	rapid.Check(t, func(t *rapid.T) {
		trees++
		root := fmt.Sprint("/tree", trees)
		for _, p := range rapid.SliceOfN(path, 1, 12).Draw(t, "files") {
			err := d.PutContent(context.Background(), root+p, nil)
			if err != nil && !strings.Contains(err.Error(), "directory") {
				t.Fatal(err) // not just a file where a directory is
			}
		}
		all, err := walk(d, root, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.IsSortedFunc(all, byComponents) || len(slices.Compact(slices.Clone(all))) != len(all) {
			t.Fatalf("not in order, or twice: %v", all)
		}
		hint := root + path.Draw(t, "hint")
		got, err := walk(d, root, hint, nil)
		if err != nil {
			t.Fatal(err)
		}
		want := slices.DeleteFunc(all, func(p string) bool { return byComponents(p, hint) <= 0 })
		if !slices.Equal(want, got) {
			t.Fatalf("behind %s: %v, expected %v", hint, got, want)
		}
	})
}

// Below repositories the order is another one, and the same holds.
func TestWalkOfRepositoriesAfterHint(t *testing.T) {
	d := open(t, ellipticstest.Start(t), nil)
	const root = "/docker/registry/v2/repositories"
	for _, r := range []string{"0", "a", "a/0", "a/b", "b/c", "b-c"} {
		put(t, d, root+"/"+r+"/_manifests/tags/_/current/link", root+"/"+r+"/_manifests/tags/1/current/link",
			root+"/"+r+"/_layers/sha256/"+r+"/link")
	}
	all, err := walk(d, root, "", nil)
	require.NoError(t, err)
	require.Less(t, slices.Index(all, root+"/a/_manifests"), slices.Index(all, root+"/a/0"), "a repository comes before those below it")
	require.Less(t, slices.Index(all, root+"/a/_manifests/tags/1"), slices.Index(all, root+"/a/_manifests/tags/_"), "tags are in bytewise order")
	for i, hint := range all {
		want := all[i+1:]
		if strings.HasSuffix(hint, "/_manifests") { // asks for the next repository
			for len(want) > 0 && strings.HasPrefix(want[0], hint+"/") {
				want = want[1:]
			}
		}
		got, err := walk(d, root, hint, nil)
		require.NoError(t, err)
		require.Equal(t, want, append([]string{}, got...), "behind %s", hint)
	}
}

func byComponents(a, b string) int {
	return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
}

func TestWalkStops(t *testing.T) {
	d := open(t, ellipticstest.Start(t), nil)
	put(t, d, "/r/a/1", "/r/a/2", "/r/b", "/r/c/d/1", "/r/e")
	at := func(path string, err error) func(storagedriver.FileInfo) error {
		return func(fi storagedriver.FileInfo) error {
			if fi.Path() == path {
				return err
			}
			return nil
		}
	}
	wrapped := func(err error) error { return fmt.Errorf("wrapped: %w", err) }
	broken := errors.New("broken")
	all := []string{"/r/a", "/r/a/1", "/r/a/2", "/r/b", "/r/c", "/r/c/d", "/r/c/d/1", "/r/e"}
	for name, c := range map[string]struct {
		at   string
		err  error
		want []string
		fail bool
	}{
		"skip a directory":            {"/r/a", storagedriver.ErrSkipDir, []string{"/r/a", "/r/b", "/r/c", "/r/c/d", "/r/c/d/1", "/r/e"}, false},
		"skip, wrapped":               {"/r/c", wrapped(storagedriver.ErrSkipDir), []string{"/r/a", "/r/a/1", "/r/a/2", "/r/b", "/r/c", "/r/e"}, false},
		"skip at a file does nothing": {"/r/a/1", storagedriver.ErrSkipDir, all, false},
		"enough, deep down":           {"/r/c/d", storagedriver.ErrFilledBuffer, all[:6], false},
		"enough, wrapped":             {"/r/a/1", wrapped(storagedriver.ErrFilledBuffer), all[:2], false},
		"another error":               {"/r/c/d/1", broken, all[:7], true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := walk(d, "/r", "", at(c.at, c.err))
			require.Equal(t, c.want, got)
			if !c.fail {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, broken.Error())
		})
	}
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		var got []string
		err := d.Walk(ctx, "/r", func(fi storagedriver.FileInfo) error {
			got = append(got, fi.Path())
			cancel()
			return nil
		})
		require.ErrorContains(t, err, context.Canceled.Error())
		require.Equal(t, all[:1], got)
	})
}

func TestWalkWhileThingsVanish(t *testing.T) {
	d := open(t, ellipticstest.Start(t), nil)
	put(t, d, "/r/a/1", "/r/b/1", "/r/b/2", "/r/c/1", "/r/d")
	got, err := walk(d, "/r", "", func(fi storagedriver.FileInfo) error {
		if fi.Path() == "/r/a" || fi.Path() == "/r/b" { // one is read ahead, perhaps
			return d.Delete(context.Background(), fi.Path())
		}
		return nil
	})
	require.NoError(t, err)
	require.Subset(t, []string{"/r/a", "/r/b", "/r/b/1", "/r/b/2", "/r/c", "/r/c/1", "/r/d"}, got)
	require.Subset(t, got, []string{"/r/a", "/r/b", "/r/c", "/r/c/1", "/r/d"})
}

func TestWalkOfWhatIsMissing(t *testing.T) {
	d := open(t, ellipticstest.Start(t), nil)
	put(t, d, "/file")
	const repositories = "/docker/registry/v2/repositories"
	for _, path := range []string{"/nothing", "/file", "/file/below", repositories + "/hello/_manifests/tags"} {
		got, err := walk(d, path, "", nil)
		require.Equal(t, missing(path), err)
		require.Empty(t, got)
	}
	// Garbage collection must not fail on an empty registry, nor on a
	// repository without layers.
	for _, path := range []string{repositories, "/docker/registry/v2/blobs", repositories + "/hello/_layers"} {
		got, err := walk(d, path, "", nil)
		require.NoError(t, err)
		require.Empty(t, got)
	}
}

// A walk reads each directory once and asks for no entry by itself; with a hint
// or an early end it does not read what it does not need.
func TestWalkReadsWhatItNeeds(t *testing.T) {
	c := ellipticstest.Start(t)
	d := open(t, c, nil)
	const dirs, files = 20, 10
	for i := range dirs {
		for j := range files {
			put(t, d, fmt.Sprintf("/r/d%02d/f%d", i, j))
		}
	}
	reads := func(f func()) int {
		before := c.Requests(0, wire.CmdRead)
		f()
		return c.Requests(0, wire.CmdRead) - before
	}
	require.LessOrEqual(t, reads(func() {
		got, err := walk(d, "/r", "", nil)
		require.NoError(t, err)
		require.Len(t, got, dirs+dirs*files)
	}), dirs+1)
	require.LessOrEqual(t, reads(func() {
		got, err := walk(d, "/r", "/r/d18/f9", nil)
		require.NoError(t, err)
		require.Len(t, got, files+1)
	}), 3)
	require.LessOrEqual(t, reads(func() {
		_, err := walk(d, "/r", "", func(fi storagedriver.FileInfo) error { return storagedriver.ErrFilledBuffer })
		require.NoError(t, err)
	}), 1)
}
