package publish

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/v1"
	"github.com/elliptics-registry/elliptics-registry/v1/v1test"
)

// Without a selection everything is imported, under the names that pulled it
// from the old registry.
func TestImportEverything(t *testing.T) {
	f := start(t, 1)
	base, app, tool := family()
	f.push("library/ubuntu", "14.04", base)
	f.push("library/ubuntu", "latest", base)
	f.push("team/app", "1", app)
	f.push("secret/tool", "1", tool)
	require.NoError(t, f.store.Put(f.ctx, "repositories/secret/tool/_private", nil))
	f.push("Team/App", "1", app)
	f.push("old/bad-", "1", app)
	r := f.run(Options{Rename: map[string]string{"Team/App": "team/app-upper"}})
	requireStatus(t, r, map[string]Status{
		"ubuntu:14.04": Imported, "ubuntu:latest": Imported, "library/ubuntu:14.04": Imported, "library/ubuntu:latest": Imported,
		"team/app:1": Imported, "secret/tool:1": Imported, "team/app-upper:1": Imported, "old/bad-:1": Failed,
	})
	require.Contains(t, tag(t, r, "old/bad-:1").Reason, "--rename")
	require.Equal(t, "Team/App:1", tag(t, r, "team/app-upper:1").From)
	require.Equal(t, []string{"secret/tool"}, r.PrivateRepositories())
	for name, img := range map[string]*v1test.Image{
		"ubuntu:14.04": base, "library/ubuntu:latest": base, "team/app:1": app, "secret/tool:1": tool, "team/app-upper:1": app,
	} {
		f.requireImage(name, img)
	}
	again := f.run(Options{Rename: map[string]string{"Team/App": "team/app-upper"}})
	require.Equal(t, 7, again.Count(Unchanged))
	require.Equal(t, LayerCount{}, again.Layers)
}

func TestSelections(t *testing.T) {
	f := start(t, 1)
	base, app, _ := family()
	f.push("library/ubuntu", "14.04", base)
	f.push("library/ubuntu", "latest", base)
	f.push("team/app", "1", app)
	r := f.run(Options{Library: LibraryShort, Rate: 1 << 30}, "ubuntu")
	requireStatus(t, r, map[string]Status{"ubuntu:14.04": Imported, "ubuntu:latest": Imported})
	r = f.run(Options{Library: LibraryFull}, "library/ubuntu:latest")
	requireStatus(t, r, map[string]Status{"library/ubuntu:latest": Imported})
	_, err := f.importer(Options{}).Plan(f.ctx, f.selections("team/typo"))
	require.ErrorContains(t, err, "repository team/typo: the old registry does not have it")
}

func TestParseSelection(t *testing.T) {
	for s, want := range map[string]Selection{
		"ubuntu":             {v1.Repository{Namespace: "library", Name: "ubuntu"}, ""},
		"ubuntu:14.04":       {v1.Repository{Namespace: "library", Name: "ubuntu"}, "14.04"},
		"team/app":           {v1.Repository{Namespace: "team", Name: "app"}, ""},
		"team/app:latest":    {v1.Repository{Namespace: "team", Name: "app"}, "latest"},
		"team/deep/name:1.0": {v1.Repository{Namespace: "team", Name: "deep/name"}, "1.0"},
	} {
		got, err := ParseSelection(s)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for _, s := range []string{"", ":", "ubuntu:", "ubuntu:a b", "/x", "x/"} {
		_, err := ParseSelection(s)
		require.Error(t, err, "%q", s)
	}
}
