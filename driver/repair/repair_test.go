package repair

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/elliptics-registry/elliptics-registry/driver"
	"github.com/elliptics-registry/elliptics-registry/driver/layout"
	"github.com/elliptics-registry/elliptics-registry/elliptics/ellipticstest"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	goleak.VerifyTestMain(m)
}

func open(t *testing.T, c *ellipticstest.Cluster, groups string) *driver.Driver {
	t.Helper()
	return openNodes(t, c.Remotes(), groups)
}

func openNodes(t *testing.T, nodes []string, groups string) *driver.Driver {
	t.Helper()
	p, err := driver.ParseParameters(map[string]any{"nodes": nodes, "groups": groups, "waittimeout": "5s", "chunksize": "64KiB"})
	require.NoError(t, err)
	p.Inspecting = true
	d, err := driver.New(context.Background(), p)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	require.Eventually(t, func() bool {
		_, err := d.Stat(context.Background(), "/")
		return err == nil && len(d.Away()) == 0
	}, 20*time.Second, 5*time.Millisecond)
	return d
}

// put stores what a push would have stored: the files are what is checked, not
// the way in which they came.
func put(t *testing.T, d *driver.Driver, p string, content []byte) {
	t.Helper()
	require.NoError(t, d.PutContent(context.Background(), p, content))
}

func link(t *testing.T, d *driver.Driver, p string, to digest.Digest) { put(t, d, p, []byte(to)) }

func ref(d digest.Digest) reference { return reference{string(d.Algorithm()), d.Encoded()} }

// pushImage stores an image of one layer and answers where things are.
func pushImage(t *testing.T, d *driver.Driver, repository, tag string, layer []byte) (manifest, blob digest.Digest) {
	t.Helper()
	repo := path.Join(repositoriesRoot, repository)
	config := []byte("{}")
	for _, b := range [][]byte{config, layer} {
		dgst := digest.FromBytes(b)
		put(t, d, ref(dgst).blob(), b)
		link(t, d, path.Join(repo, "_layers/sha256", dgst.Encoded(), "link"), dgst)
	}
	type desc = map[string]any
	m, err := json.Marshal(desc{
		"schemaVersion": 2,
		"config":        desc{"digest": digest.FromBytes(config), "size": len(config)},
		"layers":        []desc{{"digest": digest.FromBytes(layer), "size": len(layer)}},
	})
	require.NoError(t, err)
	manifest = digest.FromBytes(m)
	put(t, d, ref(manifest).blob(), m)
	link(t, d, path.Join(repo, "_manifests/revisions/sha256", manifest.Encoded(), "link"), manifest)
	link(t, d, path.Join(repo, "_manifests/tags", tag, "index/sha256", manifest.Encoded(), "link"), manifest)
	link(t, d, path.Join(repo, "_manifests/tags", tag, "current/link"), manifest)
	return manifest, digest.FromBytes(layer)
}

func lines(r *Report) (list []string) {
	for _, f := range r.Findings {
		list = append(list, f.Problem+" "+f.Path)
	}
	return list
}

func TestFsckChecksImages(t *testing.T) {
	d := open(t, ellipticstest.Start(t, 1), "1")
	ctx := context.Background()
	layers := make([][]byte, 5)
	manifests, blobs := make([]digest.Digest, 5), make([]digest.Digest, 5)
	for i := range layers {
		layers[i] = bytes.Repeat([]byte{byte(i)}, 100_000)
		manifests[i], blobs[i] = pushImage(t, d, fmt.Sprint("a/repo", i), "1", layers[i])
	}
	opt := Options{Offline: true, Digests: true}
	r, err := Fsck(ctx, d, opt)
	require.NoError(t, err)
	require.Empty(t, r.Findings)
	require.True(t, r.Complete)

	require.NoError(t, d.Delete(ctx, path.Dir(ref(manifests[0]).blob())))
	require.NoError(t, d.Delete(ctx, path.Dir(ref(blobs[1]).blob())))
	require.NoError(t, d.Delete(ctx, path.Join(repositoriesRoot, "a/repo2/_manifests/revisions/sha256", manifests[2].Encoded())))
	require.NoError(t, d.Delete(ctx, path.Join(repositoriesRoot, "a/repo3/_layers/sha256", blobs[3].Encoded())))
	put(t, d, ref(blobs[4]).blob(), bytes.Repeat([]byte("x"), 100_000))
	want := []string{
		"manifest without content a/repo0@" + manifests[0].String(),
		"missing layer a/repo1@" + manifests[1].String(),
		"tag without manifest a/repo2:1",
		"missing layer link a/repo3@" + manifests[3].String(),
		"wrong digest " + ref(blobs[4]).blob(),
	}
	opt.DryRun = true
	r, err = Fsck(ctx, d, opt)
	require.NoError(t, err)
	require.ElementsMatch(t, want, lines(r))
	require.Equal(t, 5, r.Left)

	opt.DryRun = false
	r, err = Fsck(ctx, d, opt)
	require.NoError(t, err)
	require.ElementsMatch(t, want, lines(r))
	require.Equal(t, 1, r.Repaired)
	_, err = d.Stat(ctx, ref(blobs[4]).blob())
	require.True(t, missing(err), "a blob that is not what its name says must read as missing")

	// What can be pushed again is pushed again.
	for i := range layers {
		pushImage(t, d, fmt.Sprint("a/repo", i), "1", layers[i])
	}
	r, err = Fsck(ctx, d, opt)
	require.NoError(t, err)
	require.Empty(t, r.Findings)
}

func TestGraceIsNotTooShort(t *testing.T) {
	d := open(t, ellipticstest.Start(t, 1), "1")
	_, err := Fsck(context.Background(), d, Options{Grace: time.Hour})
	require.ErrorContains(t, err, "at least 24h0m0s is needed")
}

// A new group gets a copy of everything, and is as good as the others then.
func TestScrubFillsANewGroup(t *testing.T) {
	c := ellipticstest.Start(t, 1, 2, 3)
	d := open(t, c, "1 2")
	layer := bytes.Repeat([]byte("layer"), 100_000)
	for i := range 5 {
		pushImage(t, d, fmt.Sprint("repo", i), "1", append(layer, byte(i)))
	}
	three := open(t, c, "1 2 3")
	ctx := context.Background()
	r, err := Scrub(ctx, three, Options{DryRun: true})
	require.NoError(t, err)
	require.NotZero(t, r.Left)
	r, err = Scrub(ctx, three, Options{Parallel: 8})
	require.NoError(t, err)
	require.Zero(t, r.Left)
	require.NotZero(t, r.Repaired)
	r, err = Scrub(ctx, three, Options{})
	require.NoError(t, err)
	require.Empty(t, r.Findings)

	c.Stop(0)
	c.Stop(1)
	alone := openNodes(t, c.Remotes()[2:], "3")
	r, err = Fsck(ctx, alone, Options{Offline: true, Digests: true})
	require.NoError(t, err)
	require.Empty(t, r.Findings)
	got, err := alone.GetContent(ctx, ref(digest.FromBytes(append(layer, 4))).blob())
	require.NoError(t, err)
	require.Equal(t, append(layer, 4), got)
}

func TestEveryGroupMustAnswer(t *testing.T) {
	c := ellipticstest.Start(t, 1, 2)
	d := open(t, c, "1 2")
	pushImage(t, d, "repo", "1", []byte("layer"))
	c.Stop(1)
	require.Eventually(t, func() bool { return len(d.Away()) > 0 }, 10*time.Second, 5*time.Millisecond)
	_, err := Scrub(context.Background(), d, Options{})
	require.ErrorContains(t, err, "group 2")
}

// An interrupted run goes on where it ended, and keeps what it has found.
func TestInterruptedRunGoesOn(t *testing.T) {
	for _, command := range []func(context.Context, *driver.Driver, Options) (*Report, error){Fsck, Scrub} {
		c := ellipticstest.Start(t, 1, 2)
		d := open(t, c, "1")
		for i := range 8 {
			pushImage(t, d, fmt.Sprint("repo", i), "1", fmt.Appendf(bytes.Repeat([]byte("x"), 70_000), "%d", i))
		}
		m, _ := pushImage(t, d, "a", "1", []byte("layer"))
		require.NoError(t, d.Delete(context.Background(), path.Dir(ref(m).blob())))
		_, err := d.EmptyTrash(context.Background()) // notes how far back trash has to be looked for
		require.NoError(t, err)
		both := open(t, c, "1 2")
		opt := Options{Offline: true, State: filepath.Join(t.TempDir(), "state"), Parallel: 1, slices: 16, tellAll: true}
		runs, repaired := 0, 0
		for {
			ctx, cancel := context.WithCancel(context.Background())
			steps := 0
			opt.Progress = func(Progress) {
				if steps++; steps > 30+20*runs {
					cancel()
				}
			}
			r, err := command(ctx, both, opt)
			cancel()
			runs++
			require.NotNil(t, r)
			require.GreaterOrEqual(t, r.Repaired, repaired, "an earlier run's findings got lost")
			repaired = r.Repaired
			if err == nil {
				require.True(t, r.Complete)
				break
			}
			require.ErrorContains(t, err, "goes on where this ended")
			require.FileExists(t, opt.State)
			require.Less(t, runs, 200)
		}
		require.Greater(t, runs, 1, "it was never interrupted")
		require.NoFileExists(t, opt.State)
		opt.Progress = nil
		r, err := Scrub(context.Background(), both, opt)
		require.NoError(t, err)
		if r.Command == "scrub" && len(r.Findings) > 0 {
			r, err = Scrub(context.Background(), both, opt)
			require.NoError(t, err)
			require.Empty(t, r.Findings)
		}
	}
}

func TestStateOfAnotherCommand(t *testing.T) {
	d := open(t, ellipticstest.Start(t, 1), "1")
	file := filepath.Join(t.TempDir(), "state")
	require.NoError(t, os.WriteFile(file, []byte(`{"version":1,"command":"scrub"}`), 0o600))
	_, err := Fsck(context.Background(), d, Options{State: file})
	require.ErrorContains(t, err, "is of another command (scrub)")
	require.NoError(t, os.WriteFile(file, []byte(`{`), 0o600))
	_, err = Scrub(context.Background(), d, Options{State: file})
	require.ErrorContains(t, err, "remove the file to begin anew")
}

func TestFindingsAreOneLine(t *testing.T) {
	f := layout.Finding{Problem: "missing chunk", Path: "/a", Key: "chunk:1:2", Groups: []uint32{3}, Remedy: "scrub restores it"}
	require.Equal(t, "missing chunk /a chunk:1:2 in group [3]: scrub restores it", f.String())
	f.Repaired = true
	require.Equal(t, "missing chunk /a chunk:1:2 in group [3]: repaired", f.String())
}
