package publish

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/elliptics/node"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
	"github.com/elliptics-registry/elliptics-registry/v1/v1test"
)

// Whatever is wrong with an image is said, and stops no other one.
func TestDamage(t *testing.T) {
	f := start(t, 1)
	good, app, _ := family()
	f.push("team/good", "1", good)
	put := func(path, content string) { require.NoError(t, f.store.Put(f.ctx, path, []byte(content))) }
	remove := func(path string) { require.NoError(t, f.store.Remove(f.ctx, path)) }
	json := func(path string, v any) { require.NoError(t, f.store.PutJSON(f.ctx, path, v)) }
	small := func(body string, parent *v1test.Image) *v1test.Image {
		return &v1test.Image{Parent: parent, Files: []v1test.File{{Name: "file", Body: body}}, Compression: v1test.Gzip}
	}
	const missing = "0123456789012345678901234567890123456789012345678901234567890123"
	damages := map[string]struct {
		damage func(img *v1test.Image, dir string)
		want   string
	}{
		"nowhere":      {func(*v1test.Image, string) { v1test.Tag(f.ctx, t, f.store, "team/nowhere", "1", missing) }, "image 012345678901: it is missing"},
		"notanid":      {func(*v1test.Image, string) { v1test.Tag(f.ctx, t, f.store, "team/notanid", "1", "{}") }, "which is not the id of an image"},
		"nojson":       {func(_ *v1test.Image, dir string) { remove(dir + "/json") }, "it is missing: there is no images/"},
		"badjson":      {func(_ *v1test.Image, dir string) { put(dir+"/json", `{"id": `) }, "its json cannot be read"},
		"otherjson":    {func(_ *v1test.Image, dir string) { put(dir+"/json", `{"id": "`+missing+`"}`) }, "its json is that of image"},
		"nolayer":      {func(_ *v1test.Image, dir string) { remove(dir + "/layer") }, "its layer is missing"},
		"unfinished":   {func(_ *v1test.Image, dir string) { put(dir+"/_inprogress", "true") }, "its upload to the old registry never ended"},
		"noparent":     {func(img *v1test.Image, _ string) { remove("images/" + img.Parent.ID() + "/json") }, "ancestor 1: image"},
		"ancestry":     {func(img *v1test.Image, dir string) { json(dir+"/ancestry", []string{img.ID(), missing}) }, "image 1 of its ancestry is \"0123"},
		"ancestrycut":  {func(img *v1test.Image, dir string) { json(dir+"/ancestry", []string{img.ID()}) }, "its ancestry has 1 images, but it has 2"},
		"ancestryjson": {func(_ *v1test.Image, dir string) { put(dir+"/ancestry", "{") }, "its ancestry cannot be read"},
		"checksum":     {func(_ *v1test.Image, dir string) { json(dir+"/_checksum", []string{v1test.Checksum(nil, nil)}) }, "the checksum of its json and layer is sha256:"},
		"cutlayer": {func(img *v1test.Image, dir string) {
			l := img.Layer(t)
			put(dir+"/layer", string(l[:len(l)/2]))
		}, "gzip"},
		"size": {func(img *v1test.Image, dir string) {
			img.JSON = map[string]any{"id": img.ID(), "Size": 12345}
			put(dir+"/json", string(img.Description(t)))
			remove(dir + "/_checksum")
		}, "its json announces 12345 bytes of files, it has 4"},
		"config": {func(img *v1test.Image, dir string) {
			img.JSON = map[string]any{"id": img.ID(), "config": map[string]any{"Env": "not a list"}}
			put(dir+"/json", string(img.Description(t)))
			remove(dir + "/_checksum")
		}, "no client could read its configuration"},
	}
	names := []string{"team/good:1"}
	want := map[string]Status{"team/good:1": Imported}
	for name, d := range damages {
		img := small("body", small(name, nil))
		f.push("team/"+name, "1", img)
		d.damage(img, "images/"+img.ID())
		names = append(names, "team/"+name+":1")
		want["team/"+name+":1"] = Failed
	}
	// Two images that are each other's parent.
	child := small("body", small("cycle", nil))
	f.push("team/cycle", "1", child)
	root := child.Parent
	looped := *root
	looped.JSON = map[string]any{"id": root.ID(), "parent": child.ID()}
	put("images/"+root.ID()+"/json", string(looped.Description(t)))
	names, want["team/cycle:1"] = append(names, "team/cycle:1"), Failed
	names, want["team/app:1"] = append(names, "team/app:1"), Imported
	f.push("team/app", "1", app)

	r := f.run(Options{}, names...)
	requireStatus(t, r, want)
	for name, d := range damages {
		require.Contains(t, tag(t, r, "team/"+name+":1").Reason, d.want, name)
	}
	require.Contains(t, tag(t, r, "team/cycle:1").Reason, "its ancestry never ends")
	f.requireImage("team/good:1", good)
	f.requireImage("team/app:1", app)
}

// What is strange but harmless is imported, with a warning.
func TestStrange(t *testing.T) {
	f := start(t, 1)
	img := func(name string) *v1test.Image {
		i := &v1test.Image{
			Parent: &v1test.Image{Files: []v1test.File{{Name: "base", Body: name}}},
			Files:  []v1test.File{{Name: "file", Body: "body"}},
			JSON:   map[string]any{"comment": name},
		}
		f.push("team/"+name, "1", i)
		return i
	}
	noAncestry, tarsum, wrongSize, created := img("noancestry"), img("tarsum"), img("size"), img("created")
	require.NoError(t, f.store.Remove(f.ctx, "images/"+noAncestry.ID()+"/ancestry"))
	require.NoError(t, f.store.PutJSON(f.ctx, "images/"+tarsum.ID()+"/_checksum", []string{"tarsum+sha256:00"}))

	// With a checksum that is right, the layer is what was pushed.
	rewrite := func(i *v1test.Image, key string, value any) {
		changed := *i
		changed.JSON = map[string]any{"id": i.ID(), key: value}
		text := changed.Description(t)
		require.NoError(t, f.store.Put(f.ctx, "images/"+i.ID()+"/json", text))
		require.NoError(t, f.store.PutJSON(f.ctx, "images/"+i.ID()+"/_checksum", []string{v1test.Checksum(text, i.Layer(t))}))
	}
	rewrite(wrongSize, "Size", 99999)
	rewrite(created, "created", "yesterday")

	r := f.run(Options{}, "team/noancestry:1", "team/tarsum:1", "team/size:1", "team/created:1")
	for name, warning := range map[string]string{
		"noancestry": "it has no ancestry", "tarsum": "its tarsum was not checked",
		"size": "its json announces 99999 bytes of files, it has 4", "created": "its time of creation was left out",
	} {
		got := tag(t, r, "team/"+name+":1")
		require.Equal(t, Imported, got.Status, got.Reason)
		require.Len(t, got.Warnings, 1)
		require.Contains(t, got.Warnings[0], warning)
	}
	f.requireImage("team/noancestry:1", noAncestry)
	f.requireImage("team/size:1", wrongSize)
}

// Layers without files, in all the forms that the old registry had.
func TestEmptyLayers(t *testing.T) {
	f := start(t, 1)
	base := &v1test.Image{Files: []v1test.File{{Name: "file", Body: "body"}}}
	emptyTar := &v1test.Image{Parent: base}
	emptyZip := &v1test.Image{Parent: emptyTar, Compression: v1test.Gzip}
	marked := &v1test.Image{Parent: emptyZip, JSON: map[string]any{"comment": "EMPTY"}}
	never := &v1test.Image{Parent: marked, JSON: map[string]any{"comment": "no record"}}
	throwaway := &v1test.Image{Parent: never, JSON: map[string]any{"throwaway": true}}
	f.push("team/empty", "1", throwaway)
	f.push("team/onlyempty", "1", &v1test.Image{JSON: map[string]any{"comment": "no layers at all"}})
	empty := func(i *v1test.Image) {
		require.NoError(t, f.store.Put(f.ctx, "images/"+i.ID()+"/layer", nil))
		require.NoError(t, f.store.PutJSON(f.ctx, "images/"+i.ID()+"/_checksum", []string{v1test.Checksum(i.Description(t), nil)}))
	}
	empty(marked)
	empty(never)
	require.NoError(t, f.store.Remove(f.ctx, "images/"+never.ID()+"/layer"))
	require.NoError(t, f.store.Remove(f.ctx, "images/"+throwaway.ID()+"/layer"))

	r := f.run(Options{}, "team/empty:1", "team/onlyempty:1")
	requireStatus(t, r, map[string]Status{"team/empty:1": Imported, "team/onlyempty:1": Imported})
	p := f.requireImage("team/empty:1", base)
	require.Len(t, p.manifest.Layers, 1)
	require.Len(t, p.image.History, 6)
	f.requireImage("team/onlyempty:1", &v1test.Image{})
}

// A copy of a layer that is damaged in one group is read from another.
func TestDamagedCopy(t *testing.T) {
	f := start(t, 1, 2, 3)
	img := &v1test.Image{Files: []v1test.File{{Name: "file", Body: noise(400_000)}}, Compression: v1test.Gzip}
	f.push("team/app", "1", img)
	key := f.session.Key("images/" + img.ID() + "/layer")
	rec, err := f.session.Read(f.ctx, key, 0, 0)
	require.NoError(t, err)
	// A piece that was appended twice makes the longest copy of the same time.
	twice := append(bytes.Clone(rec.Data), rec.Data[:100]...)
	_, err = f.session.WithGroups(1).Write(f.ctx, key, elliptics.Write{Data: [][]byte{twice}, Timestamp: rec.Timestamp})
	require.NoError(t, err)
	// Another one cannot be read at all.
	f.nodes.FailIf(1, -1, node.Fault{Status: wire.ErrChecksum}, func(h wire.Header) bool {
		return h.Command == wire.CmdRead && h.ID == key
	})
	r := f.run(Options{}, "team/app:1")
	require.Equal(t, Imported, tag(t, r, "team/app:1").Status, tag(t, r, "team/app:1").Reason)
	f.requireImage("team/app:1", img)
}

// A storage that does not answer ends the run instead of failing every image
// one after the other; so does nothing else.
func TestGiveUp(t *testing.T) {
	f := start(t, 1)
	var names []string
	for i := range 3 * giveUpAfter {
		name := "team/app" + string(rune('a'+i))
		f.push(name, "1", &v1test.Image{Files: []v1test.File{{Name: name, Body: "body"}}})
		names = append(names, name+":1")
	}
	im := f.importer(Options{Jobs: 1})
	p, err := im.Plan(f.ctx, f.selections(names...))
	require.NoError(t, err)
	full := f.nodes.Fail(0, wire.CmdWrite, -1, node.Fault{Status: wire.ErrNoSpace})
	r, err := im.Run(f.ctx, p)
	require.ErrorIs(t, err, errGivenUp)
	require.GreaterOrEqual(t, r.Count(Failed), giveUpAfter)
	require.Positive(t, r.Count(NotDone))
	full.Stop()
	r = f.run(Options{}, names...)
	require.Equal(t, len(names), r.Count(Imported))
}
