package v1_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/elliptics/ellipticstest"
	"github.com/elliptics-registry/elliptics-registry/v1"
)

// What docker-registry asked of every storage driver.

func TestContent(t *testing.T) {
	s, _ := servers(t, 1)
	ctx := deadline(t)
	mebibyte := make([]byte, 1<<20)
	_, _ = rand.Read(mebibyte)
	for name, content := range map[string][]byte{
		"one byte":            {0x61},
		"two bytes":           []byte("∫"),
		"sixteen":             []byte("0123456789abcdef"),
		"a mebibyte":          mebibyte,
		"empty":               {},
		"literally EMPTY":     []byte("EMPTY"),
		"literally DIRECTORY": []byte("DIRECTORY"),
	} {
		t.Run(name, func(t *testing.T) {
			path := "dir/" + strings.ReplaceAll(name, " ", "-")
			require.NoError(t, s.Put(ctx, path, content))
			for range 2 { // each read twice
				got, err := s.Get(ctx, path)
				require.NoError(t, err)
				require.True(t, bytes.Equal(content, got), "%q came back", got)
			}
			size, err := s.Size(ctx, path)
			require.NoError(t, err)
			require.EqualValues(t, len(content), size)
			exists, err := s.Exists(ctx, path)
			require.NoError(t, err)
			require.True(t, exists)
			info, err := s.Stat(ctx, path)
			require.NoError(t, err)
			require.False(t, info.Dir)
		})
	}
}

func TestOverwrite(t *testing.T) {
	s, _ := servers(t, 1)
	ctx := deadline(t)
	for _, content := range []string{"a long content at first", "short", ""} {
		require.NoError(t, s.Put(ctx, "file", []byte(content)))
		got, err := s.Get(ctx, "file")
		require.NoError(t, err)
		require.Equal(t, content, string(got))
	}
}

func TestUnicode(t *testing.T) {
	s, _ := servers(t, 1)
	ctx := deadline(t)
	const path, content = "каталог/файл ∫ß∂", "содержание ∫ß∂ƒ 中文"
	require.NoError(t, s.Put(ctx, path, []byte(content)))
	got, err := s.Get(ctx, path)
	require.NoError(t, err)
	require.Equal(t, content, string(got))
	list, err := s.List(ctx, "каталог")
	require.NoError(t, err)
	require.Equal(t, []string{path}, list)
}

func TestJSON(t *testing.T) {
	s, _ := servers(t, 1)
	ctx := deadline(t)
	want := map[string]any{"ключ": "значение", "list": []any{"a", "b"}}
	require.NoError(t, s.PutJSON(ctx, "file", want))
	var got map[string]any
	require.NoError(t, s.GetJSON(ctx, "file", &got))
	require.Equal(t, want, got)
	require.NoError(t, s.Put(ctx, "file", []byte("{")))
	require.ErrorContains(t, s.GetJSON(ctx, "file", &got), "read file: unexpected end of JSON")
}

func TestMissing(t *testing.T) {
	s, _ := servers(t, 1, 2, 3)
	ctx := deadline(t)
	require.NoError(t, s.Put(ctx, "there/file", []byte("x")))
	for _, path := range []string{"missing", "missing/nested", "there/missing", "there/file/below"} {
		_, err := s.Get(ctx, path)
		require.ErrorIs(t, err, v1.ErrNotExist)
		require.ErrorContains(t, err, path)
		_, err = s.Size(ctx, path)
		require.ErrorIs(t, err, v1.ErrNotExist)
		_, err = s.Open(ctx, path, 0, -1)
		require.ErrorIs(t, err, v1.ErrNotExist)
		_, err = s.List(ctx, path)
		require.ErrorIs(t, err, v1.ErrNotExist)
		require.ErrorIs(t, s.Remove(ctx, path), v1.ErrNotExist)
		exists, err := s.Exists(ctx, path)
		require.NoError(t, err)
		require.False(t, exists)
	}
}

func TestStream(t *testing.T) {
	s, _ := servers(t, 1, 2)
	ctx := deadline(t)
	for _, size := range []int{0, 1, 5, 9, 201, 128 << 10, 128<<10 + 1, 700_000, 5 << 20} {
		content := make([]byte, size)
		_, _ = rand.Read(content)
		n, err := s.PutStream(ctx, "dir/stream", iotest.HalfReader(bytes.NewReader(content)))
		require.NoError(t, err)
		require.EqualValues(t, size, n)
		got, err := s.Get(ctx, "dir/stream")
		require.NoError(t, err)
		require.True(t, bytes.Equal(content, got), "%d bytes", size)
		length, err := s.Size(ctx, "dir/stream")
		require.NoError(t, err)
		require.EqualValues(t, size, length)
	}
}

func TestRanges(t *testing.T) {
	s, _ := servers(t, 1)
	ctx := deadline(t)
	content := make([]byte, 5<<20+17)
	_, _ = rand.Read(content)
	_, err := s.PutStream(ctx, "stream", bytes.NewReader(content))
	require.NoError(t, err)
	require.NoError(t, s.Put(ctx, "small", []byte("0123456")))
	read := func(path string, offset, length int64) []byte {
		r, err := s.Open(ctx, path, offset, length)
		require.NoError(t, err)
		defer r.Close()
		b, err := io.ReadAll(r)
		require.NoError(t, err)
		return b
	}
	end := int64(len(content))
	for _, r := range [][2]int64{{0, 1}, {0, end}, {1, 1000}, {end - 1, 1}, {2<<20 - 1, 2}, {1 << 20, 4 << 20}, {end, 5}, {end + 100, 5}, {end - 5, 100}, {7, -1}, {3, 0}} {
		want := content[min(r[0], end):]
		if r[1] >= 0 {
			want = want[:min(r[1], int64(len(want)))]
		}
		require.True(t, bytes.Equal(want, read("stream", r[0], r[1])), "%v", r)
	}
	require.Equal(t, "345", string(read("small", 3, 3)))
	require.Equal(t, "56", string(read("small", 5, 1<<62)))
	_, err = s.Open(ctx, "stream", -1, 5)
	require.ErrorContains(t, err, "negative offset")
}

func TestList(t *testing.T) {
	s, _ := servers(t, 1)
	ctx := deadline(t)
	for _, path := range []string{"a/one", "a/two", "a/sub/three", "a/sub/deep/four", "ab/other"} {
		require.NoError(t, s.Put(ctx, path, []byte(path)))
	}
	for dir, want := range map[string][]string{
		"":           {"a", "ab"},
		"a":          {"a/one", "a/sub", "a/two"},
		"a/sub":      {"a/sub/deep", "a/sub/three"},
		"a/sub/deep": {"a/sub/deep/four"},
	} {
		got, err := s.List(ctx, dir)
		require.NoError(t, err)
		require.Equal(t, want, got, dir)
	}
	_, err := s.List(ctx, "a/one")
	require.ErrorIs(t, err, v1.ErrNotDir)
	_, err = s.Get(ctx, "a")
	require.ErrorIs(t, err, v1.ErrIsDir)
	info, err := s.Stat(ctx, "a/sub")
	require.NoError(t, err)
	require.True(t, info.Dir)

	// A directory may lose its last entry; then it is empty.
	require.NoError(t, s.Remove(ctx, "ab/other"))
	got, err := s.List(ctx, "ab")
	require.NoError(t, err)
	require.Empty(t, got)
}

// A path is a file or a directory, not both: the old driver overwrote one with
// the other and lost what was below.
func TestFilesAreNoDirectories(t *testing.T) {
	s, _ := servers(t, 1)
	ctx := deadline(t)
	require.NoError(t, s.Put(ctx, "a/file", []byte("x")))
	require.ErrorIs(t, s.Put(ctx, "a", []byte("y")), v1.ErrIsDir)
	require.ErrorIs(t, s.Put(ctx, "a/file/below", []byte("y")), v1.ErrNotDir)
	for _, path := range []string{"", "/a", "a/", "a//b"} {
		require.ErrorIs(t, s.Put(ctx, path, []byte("y")), v1.ErrPath, "%q", path)
		_, err := s.Get(ctx, path)
		require.ErrorIs(t, err, v1.ErrPath, "%q", path)
	}
	got, err := s.Get(ctx, "a/file")
	require.NoError(t, err)
	require.Equal(t, "x", string(got))
}

func TestRemove(t *testing.T) {
	s, _ := servers(t, 1, 2, 3)
	ctx := deadline(t)
	for _, path := range []string{"a/one", "a/two", "a/sub/three", "a/sub/deep/four", "ab/other"} {
		require.NoError(t, s.Put(ctx, path, []byte(path)))
	}
	require.NoError(t, s.Remove(ctx, "a/one"))
	require.ErrorIs(t, s.Remove(ctx, "a/one"), v1.ErrNotExist)
	list, err := s.List(ctx, "a")
	require.NoError(t, err)
	require.Equal(t, []string{"a/sub", "a/two"}, list)

	require.NoError(t, s.Remove(ctx, "a"))
	for _, path := range []string{"a", "a/two", "a/sub", "a/sub/three", "a/sub/deep", "a/sub/deep/four"} {
		exists, err := s.Exists(ctx, path)
		require.NoError(t, err)
		require.False(t, exists, "%s", path)
	}
	list, err = s.List(ctx, "")
	require.NoError(t, err)
	require.Equal(t, []string{"ab"}, list, "a path that begins with the same letters stays")
	got, err := s.Get(ctx, "ab/other")
	require.NoError(t, err)
	require.Equal(t, "ab/other", string(got))
}

// A stream that breaks leaves nothing behind.
func TestBrokenStream(t *testing.T) {
	s, _ := servers(t, 1, 2)
	ctx := deadline(t)
	broken := errors.New("the client hung up")
	for _, size := range []int64{0, 100, 300_000} {
		_, err := s.PutStream(ctx, "dir/stream", io.MultiReader(io.LimitReader(rand.Reader, size), iotest.ErrReader(broken)))
		require.ErrorIs(t, err, broken)
		exists, err := s.Exists(ctx, "dir/stream")
		require.NoError(t, err)
		require.False(t, exists)
		list, err := s.List(ctx, "dir")
		require.NoError(t, err)
		require.Empty(t, list)
	}
}

// Groups that nobody has are an error, not a missing file.
func TestUnknownGroups(t *testing.T) {
	c := ellipticstest.Start(t, 1)
	s := v1.New(connect(t, c.Remotes(), nil).NewSession(999, 1000).WithNamespace("DOCKER"))
	ctx := deadline(t)
	_, err := s.Get(ctx, "file")
	require.ErrorIs(t, err, elliptics.ErrNoRoute)
	require.NotErrorIs(t, err, v1.ErrNotExist)
	_, err = s.Exists(ctx, "file")
	require.ErrorIs(t, err, elliptics.ErrNoRoute)
	for _, err := range []error{s.Put(ctx, "file", []byte("x")), s.Remove(ctx, "file")} {
		require.ErrorIs(t, err, elliptics.ErrNoRoute)
		require.NotErrorIs(t, err, v1.ErrNotExist)
	}
	_, err = s.List(ctx, "")
	require.ErrorIs(t, err, elliptics.ErrNoRoute)
}
