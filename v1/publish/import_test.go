package publish

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/distribution/distribution/v3/manifest/schema2"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics/ellipticstest"
	"github.com/elliptics-registry/elliptics-registry/elliptics/node"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
	"github.com/elliptics-registry/elliptics-registry/v1/v1test"
)

// A family of images: base, with two children that share it.
func family() (base, app, tool *v1test.Image) {
	base = &v1test.Image{Files: []v1test.File{
		{Name: "etc/os-release", Body: "NAME=Test"}, {Name: "bin/sh", Body: noise(300_000), Mode: 0o755},
	}, Compression: v1test.Gzip, JSON: map[string]any{"author": "Автор <a@example.org>", "comment": "the base"}}
	env := &v1test.Image{Parent: base, JSON: map[string]any{
		"container_config": map[string]any{"Cmd": []string{"/bin/sh", "-c", "#(nop) ENV A=1 && B=<2>"}},
	}}
	app = &v1test.Image{Parent: env, Files: []v1test.File{
		{Name: "приложение/данные.txt", Body: "содержание"},
		{Name: "etc/.wh.os-release"},
		{Name: "bin/dash", Link: "bin/sh"},
	}}
	app.Files = app.Files[:2] // a hard link must not lead to another layer
	tool = &v1test.Image{Parent: base, Files: []v1test.File{
		{Name: "bin/tool", Body: strings.Repeat("tool", 50_000)}, {Name: "bin/alias", Symlink: "tool"},
	}, Compression: v1test.XZ}
	return base, app, tool
}

// What was pushed to the old registry is pulled from the new one, in either
// format: the same files, the configuration, and a history with every step.
func TestImport(t *testing.T) {
	for format, types := range map[Format][3]string{
		Docker: {schema2.MediaTypeManifest, schema2.MediaTypeImageConfig, schema2.MediaTypeLayer},
		OCI:    {ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, ocispec.MediaTypeImageLayerGzip},
	} {
		t.Run(string(format), func(t *testing.T) {
			f := start(t, 1)
			base, app, tool := family()
			f.push("team/base", "1", base)
			f.push("team/app", "latest", app)
			f.push("team/tool", "v2", tool)
			r := f.run(Options{Format: format}, "team/base:1", "team/app:latest", "team/tool:v2")
			requireStatus(t, r, map[string]Status{"team/base:1": Imported, "team/app:latest": Imported, "team/tool:v2": Imported})
			require.Equal(t, 4, r.Layers.Converted, "shared layers are converted once")

			f.requireImage("team/base:1", base)
			f.requireImage("team/tool:v2", tool)
			p := f.requireImage("team/app:latest", app)
			require.Equal(t, types[0], p.mediaType)
			require.Equal(t, types[1], p.manifest.Config.MediaType)
			for _, l := range p.manifest.Layers {
				require.Equal(t, types[2], l.MediaType)
			}
			require.Equal(t, base.Layer(t), p.blobs[0], "a gzip'd layer stays as it is")
			require.Equal(t, "linux", p.image.OS)
			require.Equal(t, "amd64", p.image.Architecture)
			require.Equal(t, []string{"/hello"}, p.image.Config.Cmd)
			require.Equal(t, []string{"PATH=/bin"}, p.image.Config.Env)
			require.Len(t, p.image.History, 3)
			require.Equal(t, "Автор <a@example.org>", p.image.History[0].Author)
			require.Equal(t, "the base", p.image.History[0].Comment)
			require.Equal(t, "/bin/sh -c #(nop) ENV A=1 && B=<2>", p.image.History[1].CreatedBy)
			require.Equal(t, []bool{false, true, false}, []bool{p.image.History[0].EmptyLayer, p.image.History[1].EmptyLayer, p.image.History[2].EmptyLayer})
			require.Equal(t, 2014, p.image.History[0].Created.Year())

			var config map[string]any
			require.NoError(t, json.Unmarshal(p.config, &config))
			for _, key := range notInConfig {
				require.NotContains(t, config, key)
			}
			require.Equal(t, "1.3.0", config["docker_version"], "what the old image says is kept")
			require.Contains(t, config, "container_config")
		})
	}
}

// What was done is not done again: not the tags, not the layers of a new tag,
// and nothing at all is written.
func TestImportAgain(t *testing.T) {
	f := start(t, 1)
	base, app, _ := family()
	f.push("team/app", "1", app)
	first := f.run(Options{}, "team/app:1")
	require.Equal(t, Imported, tag(t, first, "team/app:1").Status)

	writes := f.nodes.Requests(0, wire.CmdWrite)
	again := f.run(Options{}, "team/app:1")
	require.Equal(t, Unchanged, tag(t, again, "team/app:1").Status)
	require.Equal(t, tag(t, first, "team/app:1").Manifest, tag(t, again, "team/app:1").Manifest)
	require.Equal(t, writes, f.nodes.Requests(0, wire.CmdWrite))

	f.push("team/base", "1", base)
	r := f.run(Options{}, "team/base:1")
	require.Equal(t, Imported, tag(t, r, "team/base:1").Status)
	require.Equal(t, LayerCount{Known: 1}, r.Layers)
	f.requireImage("team/base:1", base)

	// The other format has other manifests and the same layers.
	r = f.run(Options{Format: OCI}, "team/app:1")
	require.Equal(t, Imported, tag(t, r, "team/app:1").Status)
	require.Equal(t, LayerCount{Known: 3}, r.Layers)
	require.Equal(t, ocispec.MediaTypeImageManifest, f.requireImage("team/app:1", app).mediaType)
}

// A run that was interrupted goes on where it was.
func TestImportGoesOn(t *testing.T) {
	f := start(t, 1)
	img := &v1test.Image{}
	for range 6 {
		img = &v1test.Image{Parent: img, Files: []v1test.File{{Name: "part/" + img.ID(), Body: noise(300_000)}}, Compression: v1test.Gzip}
	}
	f.push("team/long", "1", img)
	im := f.importer(Options{Jobs: 1})
	p, err := im.Plan(f.ctx, f.selections("team/long:1"))
	require.NoError(t, err)
	stopped := errors.New("stopped by the user")
	ctx, cancel := context.WithCancelCause(f.ctx)
	// The third layer that is read is the last one.
	reads := 0
	f.nodes.FailIf(0, -1, node.Fault{}, func(h wire.Header) bool {
		if h.Command == wire.CmdRead && h.ID == f.session.Key("images/"+img.Ancestry()[3]+"/layer") {
			reads++
			cancel(stopped)
		}
		return false
	})
	r, err := im.Run(ctx, p)
	require.ErrorIs(t, err, stopped)
	require.Equal(t, NotDone, tag(t, r, "team/long:1").Status)
	require.Positive(t, r.Layers.Converted)
	require.Less(t, r.Layers.Converted, 6)

	again := f.run(Options{}, "team/long:1")
	require.Equal(t, Imported, tag(t, again, "team/long:1").Status)
	require.Equal(t, r.Layers.Converted, again.Layers.Known)
	f.requireImage("team/long:1", img)
}

// A dry run says what would happen and changes nothing.
func TestPlanChangesNothing(t *testing.T) {
	f := start(t, 1)
	_, app, _ := family()
	f.push("team/app", "1", app)
	writes := f.nodes.Requests(0, wire.CmdWrite)
	p, err := f.importer(Options{}).Plan(f.ctx, f.selections("team/app:1", "team/app:2"))
	require.NoError(t, err)
	require.True(t, p.Report.DryRun)
	require.Equal(t, Planned, tag(t, p.Report, "team/app:1").Status)
	require.Equal(t, 3, p.Report.Layers.Converted)
	require.Positive(t, p.Report.Layers.Remaining)
	require.Equal(t, Failed, tag(t, p.Report, "team/app:2").Status)
	require.Contains(t, tag(t, p.Report, "team/app:2").Reason, "repository team/app: the old registry has no tag 2 of it")
	require.Equal(t, writes, f.nodes.Requests(0, wire.CmdWrite))
}

// The source is never written to.
func TestImportLeavesTheSourceAlone(t *testing.T) {
	source, target := ellipticstest.Start(t, 1), ellipticstest.Start(t, 1)
	f := startOn(t, source, target, 1)
	_, app, _ := family()
	f.push("team/app", "1", app)
	changes := func() (n int) {
		for _, cmd := range []wire.Command{wire.CmdWrite, wire.CmdDel, wire.CmdIndexesUpdate, wire.CmdIndexesInternal} {
			n += source.Requests(0, cmd)
		}
		return n
	}
	before := changes()
	f.run(Options{}, "team/app:1", "team/missing:1")
	f.requireImage("team/app:1", app)
	require.Equal(t, before, changes())
}

// A tag that somebody pushed to the new registry is not overwritten without
// being told to; one that only imports have touched follows the old registry.
func TestImportAndPushes(t *testing.T) {
	f := start(t, 1)
	base, app, tool := family()
	f.push("team/app", "1", app)
	f.run(Options{}, "team/app:1")

	f.push("team/app", "1", tool)
	r := f.run(Options{}, "team/app:1")
	require.Equal(t, Imported, tag(t, r, "team/app:1").Status, "it moved in the old registry")
	f.requireImage("team/app:1", tool)

	f.push("team/other", "1", base)
	f.run(Options{}, "team/other:1")
	repo, err := f.target.repository(f.ctx, "team/app")
	require.NoError(t, err)
	for _, l := range f.pull("team/other:1").manifest.References() {
		require.NoError(t, link(f.ctx, repo, l))
	}
	pushed := f.pull("team/other:1").digest
	other, err := f.target.repository(f.ctx, "team/other")
	require.NoError(t, err)
	manifests, err := other.Manifests(f.ctx)
	require.NoError(t, err)
	m, err := manifests.Get(f.ctx, pushed)
	require.NoError(t, err)
	mine, err := repo.Manifests(f.ctx)
	require.NoError(t, err)
	_, err = mine.Put(f.ctx, m)
	require.NoError(t, err)
	require.NoError(t, repo.Tags(f.ctx).Tag(f.ctx, "1", ocispec.Descriptor{Digest: pushed}))

	r = f.run(Options{}, "team/app:1")
	require.Equal(t, Kept, tag(t, r, "team/app:1").Status)
	require.Contains(t, tag(t, r, "team/app:1").Reason, "--overwrite")
	f.requireImage("team/app:1", base)
	r = f.run(Options{Overwrite: true}, "team/app:1")
	require.Equal(t, Imported, tag(t, r, "team/app:1").Status)
	f.requireImage("team/app:1", tool)
}

// A blob that garbage collection took is converted again.
func TestImportDoesNotTrustItsMemory(t *testing.T) {
	f := start(t, 1)
	base, _, tool := family()
	f.push("team/base", "1", base)
	f.run(Options{}, "team/base:1")
	hex := f.pull("team/base:1").manifest.Layers[0].Digest.Encoded()
	require.NoError(t, f.driver.Delete(f.ctx, "/docker/registry/v2/blobs/sha256/"+hex[:2]+"/"+hex))
	require.NoError(t, f.driver.Delete(f.ctx, "/docker/registry/v2/repositories/team"))

	f.push("team/tool", "1", tool)
	f.run(Options{}, "team/tool:1", "team/base:1")
	f.requireImage("team/tool:1", tool)
	f.requireImage("team/base:1", base)
}
