package publish

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/manifest/schema2"
	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/elliptics-registry/elliptics-registry/driver"
	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/elliptics/ellipticstest"
	"github.com/elliptics-registry/elliptics-registry/v1"
	"github.com/elliptics-registry/elliptics-registry/v1/v1test"
)

func TestMain(m *testing.M) {
	logrus.SetOutput(io.Discard) // Distribution logs what it returns as well
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		_, _ = os.Stderr.WriteString(err.Error() + "\n")
		code = 1
	}
	os.Exit(code)
}

// fixture is an old registry and the target of its images.
type fixture struct {
	testing.TB
	ctx     context.Context
	nodes   *ellipticstest.Cluster // both are there
	session *elliptics.Session     // of the old registry
	store   *v1.Store
	client  *elliptics.Node // of the target
	groups  []uint32
	driver  *driver.Driver
	target  *Target
}

// start runs both on one cluster, in one namespace, as during a move.
func start(t testing.TB, groups ...uint32) *fixture {
	t.Helper()
	nodes := ellipticstest.Start(t, groups...)
	f := startOn(t, nodes, nodes, groups...)
	f.nodes = nodes
	return f
}

// cluster is where nodes are.
type cluster interface{ Remotes() []string }

// startOn runs both on clusters that are there.
func startOn(t testing.TB, source, target cluster, groups ...uint32) *fixture {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	connect := func(c cluster) *elliptics.Node {
		n, err := elliptics.NewNode(elliptics.Config{
			Remotes: c.Remotes(), WaitTimeout: 5 * time.Second, CheckTimeout: time.Second,
			Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		})
		require.NoError(t, err)
		t.Cleanup(func() { n.Close() })
		for {
			up := 0
			for _, r := range n.Remotes() {
				if r.Connections > 0 {
					up++
				}
			}
			if up == len(c.Remotes()) {
				return n
			}
			require.NoError(t, ctx.Err(), "the nodes cannot be reached")
			time.Sleep(5 * time.Millisecond)
		}
	}
	f := &fixture{TB: t, ctx: ctx, client: connect(target), groups: groups}
	f.session = connect(source).NewSession(groups...).WithNamespace("DOCKER")
	f.store = v1.New(f.session)
	f.aim("DOCKER")
	return f
}

// aim makes the target another namespace of its cluster.
func (f *fixture) aim(namespace string) {
	f.Helper()
	var err error
	f.driver, err = driver.New(f.ctx, driver.Parameters{
		Cluster: f.client, Groups: f.groups, Namespace: namespace, WaitTimeout: 5 * time.Second, MaxThreads: 100,
	})
	require.NoError(f, err)
	d := f.driver
	f.Cleanup(func() { d.Close() })
	f.target, err = NewTarget(f.ctx, d)
	require.NoError(f, err)
}

func (f *fixture) push(repo, tag string, img *v1test.Image) {
	f.Helper()
	v1test.Push(f.ctx, f, f.store, repo, tag, img)
}

// importer is one whose attempts follow each other without a pause.
func (f *fixture) importer(opt Options) *Importer {
	im := New(f.store, f.target, opt)
	im.pause = time.Millisecond
	return im
}

func (f *fixture) selections(names ...string) (list []Selection) {
	f.Helper()
	for _, n := range names {
		s, err := ParseSelection(n)
		require.NoError(f, err)
		list = append(list, s)
	}
	return list
}

// run imports names.
func (f *fixture) run(opt Options, names ...string) *Report {
	f.Helper()
	im := f.importer(opt)
	p, err := im.Plan(f.ctx, f.selections(names...))
	require.NoError(f, err)
	r, err := im.Run(f.ctx, p)
	require.NoError(f, err)
	progress := im.Progress()
	require.Equal(f, progress.Bytes, progress.BytesDone, "at the end nothing is left to be done")
	require.Equal(f, progress.Tags, progress.TagsDone)
	return r
}

// tag is the result for a tag of the target.
func tag(t testing.TB, r *Report, to string) *Tag {
	t.Helper()
	i := slices.IndexFunc(r.Tags, func(t *Tag) bool { return t.To == to })
	require.GreaterOrEqual(t, i, 0, "%s is not in the report", to)
	return r.Tags[i]
}

func requireStatus(t testing.TB, r *Report, want map[string]Status) {
	t.Helper()
	got := make(map[string]Status)
	for _, t := range r.Tags {
		got[t.To] = t.Status
	}
	if !maps.Equal(want, got) {
		for _, tag := range r.Tags {
			t.Logf("%s: %s %s", tag.To, tag.Status, tag.Reason)
		}
	}
	require.Equal(t, want, got)
}

// pulled is an image as a client gets it.
type pulled struct {
	mediaType string
	digest    digest.Digest
	manifest  schema2.Manifest // an OCI manifest has the same fields
	config    []byte
	image     ocispec.Image
	blobs     [][]byte // of the layers
	files     map[string]string
}

// pull gets an image as a client would, and checks what a client checks.
func (f *fixture) pull(name string) pulled {
	f.Helper()
	repo, tag := splitTag(name)
	r, err := f.target.repository(f.ctx, repo)
	require.NoError(f, err)
	desc, err := r.Tags(f.ctx).Get(f.ctx, tag)
	require.NoError(f, err)
	manifests, err := r.Manifests(f.ctx)
	require.NoError(f, err)
	m, err := manifests.Get(f.ctx, desc.Digest)
	require.NoError(f, err)
	var p pulled
	mediaType, text, err := m.Payload()
	require.NoError(f, err)
	p.mediaType, p.digest = mediaType, desc.Digest
	require.NoError(f, json.Unmarshal(text, &p.manifest))
	get := func(d ocispec.Descriptor) []byte {
		b, err := r.Blobs(f.ctx).Get(f.ctx, d.Digest)
		require.NoError(f, err)
		require.Equal(f, d.Digest, digest.FromBytes(b))
		require.Equal(f, d.Size, int64(len(b)))
		return b
	}
	p.config = get(p.manifest.Config)
	require.NoError(f, json.Unmarshal(p.config, &p.image))
	require.Len(f, p.image.RootFS.DiffIDs, len(p.manifest.Layers))
	p.files = make(map[string]string)
	for i, l := range p.manifest.Layers {
		blob := get(l)
		p.blobs = append(p.blobs, blob)
		zip, err := gzip.NewReader(bytes.NewReader(blob))
		require.NoError(f, err)
		plain, err := io.ReadAll(zip)
		require.NoError(f, err)
		require.Equal(f, p.image.RootFS.DiffIDs[i], digest.FromBytes(plain))
		v1test.Unpack(f.TB, bytes.NewReader(plain), p.files)
	}
	layers := 0
	for _, h := range p.image.History {
		if !h.EmptyLayer {
			layers++
		}
	}
	require.Equal(f, len(p.manifest.Layers), layers, "the history has one step for each layer")
	return p
}

// requireImage compares what is pulled with what was pushed.
func (f *fixture) requireImage(name string, img *v1test.Image) pulled {
	f.Helper()
	p := f.pull(name)
	require.Equal(f, img.Merged(), p.files, name)
	return p
}
