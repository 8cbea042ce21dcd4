package v1_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/v1"
)

// python is what the old driver does, request by request.
type python struct {
	t *testing.T
	*elliptics.Session
}

func (p python) write(key, content, dir string) {
	p.t.Helper()
	_, err := p.WriteData(p.t.Context(), p.Key(key), []byte(content))
	require.NoError(p.t, err)
	_, err = p.UpdateIndexes(p.t.Context(), p.Key(key), []elliptics.Index{
		{Tag: p.Key("docker"), Data: []byte(key)}, {Tag: p.Key(dir), Data: []byte(key)},
	})
	require.NoError(p.t, err)
}

func (p python) raw(key string) string {
	p.t.Helper()
	rec, err := p.ReadLatest(p.t.Context(), p.Key(key), 0, 0)
	require.NoError(p.t, err)
	return string(rec.Data)
}

func (p python) list(dir string) (keys []string) {
	p.t.Helper()
	found, err := p.FindAllIndexes(p.t.Context(), []elliptics.Key{p.Key("docker"), p.Key(dir)})
	require.NoError(p.t, err)
	for _, o := range found {
		keys = append(keys, string(o.Indexes[0].Data))
	}
	slices.Sort(keys)
	return keys
}

// What the old driver wrote is read.
func TestReadWhatTheOldDriverWrote(t *testing.T) {
	s, session := servers(t, 1, 2, 3)
	ctx, p := deadline(t), python{t, session}
	p.write("images/abc/json", `{"id": "abc"}`, "images/abc")
	p.write("images/abc/_private", "EMPTY", "images/abc")
	p.write("images/abc", "DIRECTORY", "images")
	p.write("images", "DIRECTORY", "")
	// A file without a directory made the root an entry of itself.
	p.write("top", "x", "")
	p.write("", "DIRECTORY", "")
	layer := make([]byte, 300_000)
	_, _ = rand.Read(layer)
	p.write("images/abc/layer", string(layer[:128<<10]), "images/abc")
	for rest := layer[128<<10:]; len(rest) > 0; {
		n := min(128<<10, len(rest))
		_, err := p.Append(ctx, p.Key("images/abc/layer"), rest[:n])
		require.NoError(t, err)
		rest = rest[n:]
	}

	for dir, want := range map[string][]string{
		"":           {"images", "top"},
		"images":     {"images/abc"},
		"images/abc": {"images/abc/_private", "images/abc/json", "images/abc/layer"},
	} {
		list, err := s.List(ctx, dir)
		require.NoError(t, err)
		require.Equal(t, want, list)
	}
	got, err := s.Get(ctx, "images/abc/json")
	require.NoError(t, err)
	require.Equal(t, `{"id": "abc"}`, string(got))
	got, err = s.Get(ctx, "images/abc/_private")
	require.NoError(t, err)
	require.Empty(t, got)
	got, err = s.Get(ctx, "images/abc/layer")
	require.NoError(t, err)
	require.True(t, bytes.Equal(layer, got))
	_, err = s.Get(ctx, "images/abc")
	require.ErrorIs(t, err, v1.ErrIsDir)

	require.NoError(t, s.Remove(ctx, "images"))
	require.Equal(t, []string{"", "top"}, p.list(""))
}

// What is written, the old driver reads: records, marks and listings.
func TestWriteWhatTheOldDriverReads(t *testing.T) {
	s, session := servers(t, 1, 2, 3)
	ctx, p := deadline(t), python{t, session}
	require.NoError(t, s.Put(ctx, "images/abc/json", []byte("{}")))
	require.NoError(t, s.Put(ctx, "images/abc/_private", nil))
	layer := make([]byte, 300_000)
	_, _ = rand.Read(layer)
	_, err := s.PutStream(ctx, "images/abc/layer", bytes.NewReader(layer))
	require.NoError(t, err)

	require.Equal(t, "{}", p.raw("images/abc/json"))
	require.Equal(t, "EMPTY", p.raw("images/abc/_private"))
	require.Equal(t, string(layer), p.raw("images/abc/layer"))
	require.Equal(t, "DIRECTORY", p.raw("images/abc"))
	require.Equal(t, "DIRECTORY", p.raw("images"))
	require.Equal(t, []string{"images"}, p.list(""))
	require.Equal(t, []string{"images/abc"}, p.list("images"))
	require.Equal(t, []string{"images/abc/_private", "images/abc/json", "images/abc/layer"}, p.list("images/abc"))

	require.NoError(t, s.Remove(ctx, "images/abc/json"))
	require.Equal(t, []string{"images/abc/_private", "images/abc/layer"}, p.list("images/abc"))
	_, err = p.ReadLatest(ctx, p.Key("images/abc/json"), 0, 0)
	require.ErrorIs(t, err, elliptics.ErrNotFound)
}

// The index of all files has the name that a directory may have, too.
func TestDirectoryNamedAsTheIndex(t *testing.T) {
	s, _ := servers(t, 1)
	ctx := deadline(t)
	require.NoError(t, s.Put(ctx, "docker/file", []byte("x")))
	require.NoError(t, s.Put(ctx, "other/file", []byte("x")))
	list, err := s.List(ctx, "docker")
	require.NoError(t, err)
	require.Equal(t, []string{"docker/file"}, list)
	require.NoError(t, s.Remove(ctx, "docker"))
	list, err = s.List(ctx, "other")
	require.NoError(t, err)
	require.Equal(t, []string{"other/file"}, list)
}

// Many files in one directory, written by both at once, are all listed.
func TestBothWriteAtOnce(t *testing.T) {
	s, session := servers(t, 1)
	ctx, p := deadline(t), python{t, session}
	const each = 30
	done := make(chan error, 1)
	go func() {
		for i := range each {
			if err := s.Put(ctx, fmt.Sprintf("dir/ours-%02d", i), []byte("x")); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for i := range each {
		p.write(fmt.Sprintf("dir/theirs-%02d", i), "x", "dir")
		p.write("dir", "DIRECTORY", "")
	}
	require.NoError(t, <-done)
	list, err := s.List(ctx, "dir")
	require.NoError(t, err)
	require.Len(t, list, 2*each)
}

// An entry whose record is gone is not listed, and removing what is half gone
// ends it.
func TestHalfRemoved(t *testing.T) {
	s, session := servers(t, 1)
	ctx, p := deadline(t), python{t, session}
	for _, name := range []string{"dir/a", "dir/b", "dir/sub/c"} {
		require.NoError(t, s.Put(ctx, name, []byte("x")))
	}
	for _, key := range []string{"dir/a", "dir/sub", "dir"} {
		_, err := p.Remove(ctx, p.Key(key))
		require.NoError(t, err)
	}
	require.NoError(t, s.Remove(ctx, "dir"))
	for _, path := range []string{"dir/b", "dir/sub/c", "dir"} {
		exists, err := s.Exists(ctx, path)
		require.NoError(t, err)
		require.False(t, exists, path)
	}
	require.Empty(t, p.list("dir"))
	require.Empty(t, p.list("dir/sub"))
	require.Empty(t, p.list(""))
}
