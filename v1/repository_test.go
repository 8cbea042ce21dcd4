package v1_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/v1"
)

// The names of the files are those of docker-registry 0.9, with what it quoted.
func TestRepositories(t *testing.T) {
	s, _ := servers(t, 1)
	ctx := deadline(t)
	list, err := s.Repositories(ctx)
	require.NoError(t, err)
	require.Empty(t, list, "a registry that never had an image")

	const id = "0123456789012345678901234567890123456789012345678901234567890123"
	for path, content := range map[string]string{
		"repositories/library/ubuntu/tag_14.04":      id,
		"repositories/library/ubuntu/tag_latest":     `"` + id + `"`,
		"repositories/library/ubuntu/taglatest_json": `{"last_update": 1}`,
		"repositories/library/ubuntu/tag__x":         id,
		"repositories/library/ubuntu/tag__x_json":    `{"last_update": 1}`,
		"repositories/library/ubuntu/_index_images":  `[]`,
		"repositories/library/ubuntu/json":           `{}`,
		"repositories/team/deep%252Fname/tag_1":      id,
		"repositories/team/app/_private":             "",
		"repositories/team/app/tag_broken":           "not an id",
	} {
		require.NoError(t, s.Put(ctx, path, []byte(content)))
	}
	ubuntu, deep, app := v1.Repository{Namespace: "library", Name: "ubuntu"}, v1.Repository{Namespace: "team", Name: "deep/name"}, v1.Repository{Namespace: "team", Name: "app"}
	list, err = s.Repositories(ctx)
	require.NoError(t, err)
	require.ElementsMatch(t, []v1.Repository{ubuntu, deep, app}, list)
	tags, err := s.Tags(ctx, ubuntu)
	require.NoError(t, err)
	require.Equal(t, []string{"14.04", "_x", "latest"}, tags)
	for _, r := range []struct {
		repo v1.Repository
		tag  string
	}{{ubuntu, "14.04"}, {ubuntu, "latest"}, {deep, "1"}} {
		got, err := s.Tag(ctx, r.repo, r.tag)
		require.NoError(t, err)
		require.Equal(t, id, got)
	}
	_, err = s.Tag(ctx, app, "broken")
	require.ErrorContains(t, err, `tag team/app:broken: it names "not an id"`)
	_, err = s.Tag(ctx, app, "missing")
	require.ErrorContains(t, err, "the old registry has no tag missing")
	for repo, want := range map[v1.Repository]bool{ubuntu: false, app: true} {
		private, err := s.Private(ctx, repo)
		require.NoError(t, err)
		require.Equal(t, want, private, repo)
	}
	_, err = s.Tags(ctx, v1.Repository{Namespace: "no", Name: "such"})
	require.ErrorIs(t, err, v1.ErrNotExist)
}

func TestParseRepository(t *testing.T) {
	for s, want := range map[string]string{"ubuntu": "library/ubuntu", "library/ubuntu": "library/ubuntu", "a/b/c": "a/b/c"} {
		r, err := v1.ParseRepository(s)
		require.NoError(t, err)
		require.Equal(t, want, r.String())
	}
	for _, s := range []string{"", "/", "a/", "/b"} {
		_, err := v1.ParseRepository(s)
		require.ErrorContains(t, err, "expected NAME or NAMESPACE/NAME", "%q", s)
	}
}
