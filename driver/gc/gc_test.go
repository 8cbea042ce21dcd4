package gc

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/driver"
	"github.com/elliptics-registry/elliptics-registry/elliptics/ellipticstest"
	"github.com/elliptics-registry/elliptics-registry/elliptics/node"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

func randomImage(r *rand.Rand, layers [][]byte) image {
	i := image{config: fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","number":%d}`, r.IntN(4))}
	for range 1 + r.IntN(3) {
		i.layers = append(i.layers, layers[r.IntN(len(layers))])
	}
	return i
}

func someLayers(n int) (layers [][]byte) {
	for i := range n {
		layers = append(layers, bytes.Repeat([]byte{byte('a' + i)}, 100+i%2*90_000))
	}
	return layers
}

func blobs(t *testing.T, d *driver.Driver) (found []digest.Digest) {
	t.Helper()
	require.NoError(t, d.Walk(context.Background(), "/docker/registry/v2/blobs", func(fi storagedriver.FileInfo) error {
		if path.Base(fi.Path()) == "data" {
			found = append(found, digest.NewDigestFromEncoded("sha256", path.Base(path.Dir(fi.Path()))))
		}
		return nil
	}))
	return found
}

// What a collection removes, keeps and says, step by step.
func TestCollect(t *testing.T) {
	c := ellipticstest.Start(t, 1)
	clock := newClock()
	r := newRegistry(t, newDriver(t, c, "1", clock.Now, false), clock)
	d := newDriver(t, c, "1", clock.Now, true)
	ctx := context.Background()
	var out strings.Builder
	run := func(opt Options) Result {
		opt.Now, opt.Out = clock.Now, &out
		out.Reset()
		got, err := Run(ctx, d, opt)
		require.NoError(t, err)
		return got
	}
	require.Equal(t, Result{}, run(Options{RemoveUntagged: true}), "an empty registry")

	layers := someLayers(4)
	tagged := image{[]byte("{}"), layers[:2]}
	untagged := image{[]byte("{ }"), layers[1:3]}
	for _, i := range []image{tagged, untagged} {
		for _, b := range slices.Concat(i.layers, [][]byte{i.config}) {
			require.NoError(t, r.pushBlob("repo", b))
		}
	}
	require.NoError(t, r.pushBlob("repo", layers[3])) // belongs to nothing
	require.NoError(t, r.pushManifest("repo", "1", manifestType, tagged.manifest()))
	require.NoError(t, r.pushManifest("repo", digest.FromBytes(untagged.manifest()).String(), manifestType, untagged.manifest()))
	require.NoError(t, r.pushManifest("indexes", "none", indexType, index()), "a repository without layers")

	require.Equal(t, Result{Kept: 2}, run(Options{}), "the blob and its link are young")
	clock.advance(25 * time.Hour)
	want := Result{Blobs: 1, Bytes: 90_100, LayerLinks: 1}
	require.Equal(t, want, run(Options{DryRun: true}))
	require.Contains(t, out.String(), "would remove blob "+digest.FromBytes(layers[3]).String())
	require.Equal(t, want, run(Options{}))
	require.Contains(t, out.String(), "removed layer link repo@"+digest.FromBytes(layers[3]).String())
	require.Equal(t, Result{}, run(Options{}))

	want = Result{Manifests: 1, Blobs: 3, LayerLinks: 2, Bytes: int64(100 + 3 + len(untagged.manifest()))}
	require.Equal(t, want, run(Options{DryRun: true, RemoveUntagged: true}), "as if the manifest were removed already")
	require.Equal(t, want, run(Options{RemoveUntagged: true}))
	require.NoError(t, r.pullImage("repo", "1", tagged))
	require.Error(t, r.pullImage("repo", digest.FromBytes(untagged.manifest()).String(), untagged))
	_, err := r.get("/v2/indexes/manifests/none")
	require.NoError(t, err)
}

func TestGraceIsNotTooShort(t *testing.T) {
	_, err := Run(context.Background(), nil, Options{Grace: time.Hour})
	require.ErrorContains(t, err, "at least 2h0m0s is needed")
}

// A group that cannot be read may be the only one that knows of a manifest.
func TestNothingIsRemovedWithoutAllGroups(t *testing.T) {
	c := ellipticstest.Start(t, 1, 2, 3)
	clock := newClock()
	r := newRegistry(t, newDriver(t, c, "1 2 3", clock.Now, false), clock)
	d := newDriver(t, c, "1 2 3", clock.Now, true)
	layer := someLayers(1)[0]
	require.NoError(t, r.pushBlob("repo", layer))
	clock.advance(25 * time.Hour)
	ctx := context.Background()
	opt := Options{Now: clock.Now}

	// The group goes away in the middle: at some read, at whichever.
	before := c.Requests(2, wire.CmdRead)
	_, err := Run(ctx, d, Options{Now: clock.Now, DryRun: true})
	require.NoError(t, err)
	reads := c.Requests(2, wire.CmdRead) - before
	require.Greater(t, reads, 3)
	for n := range reads {
		skip := n
		f := c.FailIf(2, -1, node.Fault{Status: wire.ErrIO}, func(h wire.Header) bool {
			if h.Command != wire.CmdRead {
				return false
			}
			skip--
			return skip < 0
		})
		_, err := Run(ctx, d, opt)
		f.Stop()
		require.Error(t, err, "read %d failed", n)
		require.Len(t, blobs(t, d), 1)
	}
	c.Stop(2)
	_, err = Run(ctx, d, opt)
	require.ErrorContains(t, err, "nothing is removed unless all groups answer")
	require.Len(t, blobs(t, newDriver(t, c, "1 2 3", clock.Now, false)), 1)
}

// A push finds old blobs that nothing refers to, and refers to them: before a
// collection, and in its middle, when what to remove is decided already.
func TestPushInTheMiddle(t *testing.T) {
	c := ellipticstest.Start(t, 1)
	clock := newClock()
	r := newRegistry(t, newDriver(t, c, "1", clock.Now, false), clock)
	d := newDriver(t, c, "1", clock.Now, true)
	layers := someLayers(3)
	config := []byte("{}")
	for _, b := range append(layers, config) {
		require.NoError(t, r.pushBlob("repo", b))
	}
	ctx := context.Background()
	clock.advance(25 * time.Hour)
	require.Equal(t, 200, r.do("HEAD", "/v2/repo/blobs/"+digest.FromBytes(layers[0]).String(), "", nil).StatusCode)
	require.Equal(t, 200, r.do("HEAD", "/v2/repo/blobs/"+digest.FromBytes(config).String(), "", nil).StatusCode)
	got, err := Run(ctx, d, Options{Now: clock.Now, DryRun: true})
	require.NoError(t, err)
	require.Equal(t, 2, got.Blobs, "a client has just been told of the others")

	clock.advance(25 * time.Hour)
	require.NoError(t, r.pushBlob("repo", config))
	var images []image
	got, err = Run(ctx, d, Options{Now: clock.Now, Out: writerFunc(func(line string) {
		if len(images) > 0 {
			return
		}
		for n, l := range layers { // those that are still there
			i := image{config, [][]byte{l}}
			if r.pushManifest("repo", fmt.Sprint(n), manifestType, i.manifest()) == nil {
				images = append(images, i)
				require.NoError(t, r.pullImage("repo", fmt.Sprint(n), i))
			}
		}
	})})
	require.NoError(t, err)
	require.Equal(t, 1, got.Blobs)
	for n, l := range layers {
		i := image{config, [][]byte{l}}
		if slices.ContainsFunc(images, func(o image) bool { return bytes.Equal(o.manifest(), i.manifest()) }) {
			require.NoError(t, r.pullImage("repo", fmt.Sprint(n), i))
		}
	}
}

type writerFunc func(string)

func (f writerFunc) Write(b []byte) (int, error) {
	f(string(b))
	return len(b), nil
}

// Clients push, mount, tag and delete while collections run one after the
// other. Every push that finds a blob can rely on it, every push that is
// acknowledged pulls afterwards, and nothing stays that nobody needs.
func TestPushesBesideCollections(t *testing.T) {
	for _, groups := range []string{"1", "1 2 3"} {
		t.Run("groups "+groups, func(t *testing.T) {
			seed := rand.Uint64()
			t.Log("seed", seed)
			pushBeside(t, groups, seed)
		})
	}
}

func pushBeside(t *testing.T, groups string, seed uint64) {
	list := []uint32{1}
	if groups != "1" {
		list = []uint32{1, 2, 3}
	}
	c := ellipticstest.Start(t, list...)
	clock := newClock()
	var registries []*registry
	for range 2 {
		registries = append(registries, newRegistry(t, newDriver(t, c, groups, clock.Now, false), clock))
	}
	layers := someLayers(16)
	const workers, steps = 3, 25
	tags := make([]map[string]image, workers) // what each worker's repository must hold
	indexes := make([]map[string][]image, workers)
	var pushing sync.WaitGroup
	for w := range workers {
		tags[w], indexes[w] = make(map[string]image), make(map[string][]image)
		pushing.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(w)))
			repo, other := fmt.Sprintf("repo%d", w), fmt.Sprintf("repo%d", (w+1)%workers)
			for step := range steps {
				clock.advance(time.Duration(r.IntN(90)) * time.Minute)
				reg := registries[r.IntN(2)]
				i := randomImage(r, layers)
				var err error
				for _, b := range append([][]byte{i.config}, i.layers...) {
					if err == nil && r.IntN(3) == 0 {
						err = reg.mount(repo, other, b)
					} else if err == nil {
						err = reg.pushBlob(repo, b)
					}
					clock.advance(time.Duration(r.IntN(20)) * time.Minute)
				}
				tag := fmt.Sprint("t", r.IntN(3))
				dgst := digest.FromBytes(i.manifest()).String()
				switch {
				case err != nil:
				case r.IntN(4) > 0:
					if err = reg.pushManifest(repo, tag, manifestType, i.manifest()); err == nil {
						tags[w][tag] = i
					}
				default:
					if err = reg.pushManifest(repo, dgst, manifestType, i.manifest()); err != nil {
						break
					}
					// An index refers to it, at once or some time later.
					clock.advance(time.Duration(r.IntN(60)) * time.Minute)
					name := fmt.Sprint("i", r.IntN(2))
					if err = reg.pushManifest(repo, name, indexType, index(i)); err == nil {
						indexes[w][name] = []image{i}
					}
				}
				if err != nil {
					t.Errorf("step %d of %s: %v", step, repo, err)
					return
				}
				if r.IntN(5) == 0 { // delete a tag with its manifest
					if old, ok := tags[w][tag]; ok {
						m := digest.FromBytes(old.manifest())
						reg.do("DELETE", "/v2/"+repo+"/manifests/"+m.String(), "", nil)
						for name, o := range tags[w] {
							if digest.FromBytes(o.manifest()) == m {
								delete(tags[w], name)
							}
						}
						for name, children := range indexes[w] {
							if digest.FromBytes(children[0].manifest()) == m {
								reg.do("DELETE", "/v2/"+repo+"/manifests/"+digest.FromBytes(index(children...)).String(), "", nil)
								delete(indexes[w], name)
							}
						}
					}
				}
			}
		})
	}
	stop := make(chan struct{})
	var collecting sync.WaitGroup
	var total Result
	d := newDriver(t, c, groups, clock.Now, true)
	ctx := context.Background()
	collecting.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			r, err := Run(ctx, d, Options{Grace: MinGrace, RemoveUntagged: n%2 == 0, Now: clock.Now})
			if err != nil {
				t.Log("collection: ", err) // something was deleted under its eyes
			}
			_, err = d.EmptyTrash(ctx)
			if err != nil {
				t.Log("trash: ", err)
			}
			total.Blobs += r.Blobs
			total.Manifests += r.Manifests
		}
	})
	pushing.Wait()
	close(stop)
	collecting.Wait()
	t.Logf("removed meanwhile: %d blobs, %d manifests", total.Blobs, total.Manifests)
	require.NotZero(t, total.Blobs, "nothing was ever collected")

	check := func() {
		for w := range workers {
			repo := fmt.Sprintf("repo%d", w)
			for tag, i := range tags[w] {
				require.NoError(t, registries[0].pullImage(repo, tag, i))
			}
			for tag, children := range indexes[w] {
				m, err := registries[1].get("/v2/" + repo + "/manifests/" + tag)
				require.NoError(t, err)
				require.Equal(t, string(index(children...)), string(m))
				for _, i := range children {
					require.NoError(t, registries[1].pullImage(repo, digest.FromBytes(i.manifest()).String(), i))
				}
			}
		}
	}
	check()
	clock.advance(72 * time.Hour)
	_, err := Run(ctx, d, Options{RemoveUntagged: true, Now: clock.Now})
	require.NoError(t, err)
	clock.advance(72 * time.Hour)
	_, err = d.EmptyTrash(ctx)
	require.NoError(t, err)
	check()
	needed := make(map[digest.Digest]bool)
	need := func(i image) {
		for _, b := range append([][]byte{i.config, i.manifest()}, i.layers...) {
			needed[digest.FromBytes(b)] = true
		}
	}
	for w := range workers {
		for _, i := range tags[w] {
			need(i)
		}
		for _, children := range indexes[w] {
			needed[digest.FromBytes(index(children...))] = true
			for _, i := range children {
				need(i)
			}
		}
	}
	for _, b := range blobs(t, d) {
		if !needed[b] {
			t.Errorf("blob %s is still there", b)
		}
	}
}
