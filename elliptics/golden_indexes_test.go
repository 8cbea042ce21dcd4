package elliptics_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
)

// docker is a session as the captured ones.
func docker(n *elliptics.Node, groups ...uint32) *elliptics.Session {
	if len(groups) == 0 {
		groups = []uint32{1}
	}
	return n.NewSession(groups...).WithNamespace("DOCKER")
}

// tagged makes indexes out of "tag=data".
func tagged(s *elliptics.Session, list ...string) (indexes []elliptics.Index) {
	for _, l := range list {
		tag, data, _ := strings.Cut(l, "=")
		indexes = append(indexes, elliptics.Index{Tag: s.Key(tag), Data: []byte(data)})
	}
	return indexes
}

func tags(s *elliptics.Session, names ...string) (keys []elliptics.Key) {
	for _, n := range names {
		keys = append(keys, s.Key(n))
	}
	return keys
}

var goldenIndexes = map[string]struct {
	groups []uint32
	do     func(t *testing.T, s *elliptics.Session)
}{
	"set-indexes": {nil, func(t *testing.T, s *elliptics.Session) {
		_, err := s.SetIndexes(context.Background(), s.Key("vec-key"), tagged(s, "other=dx"))
		require.NoError(t, err)
	}},
	"set-indexes-empty": {nil, func(t *testing.T, s *elliptics.Session) {
		_, err := s.SetIndexes(context.Background(), s.Key("vec-key"), nil)
		require.NoError(t, err)
	}},
	"update-indexes": {nil, func(t *testing.T, s *elliptics.Session) {
		_, err := s.UpdateIndexes(context.Background(), s.Key("vec-key"), tagged(s, "docker=vec-key", "dir=vec-key"))
		require.NoError(t, err)
	}},
	"update-indexes-second-object": {nil, func(t *testing.T, s *elliptics.Session) {
		_, err := s.UpdateIndexes(context.Background(), s.Key("vec-new"), tagged(s, "docker=vec-new"))
		require.NoError(t, err)
	}},
	"remove-indexes": {nil, func(t *testing.T, s *elliptics.Session) {
		_, err := s.RemoveIndexes(context.Background(), s.Key("vec-new"), tags(s, "docker"))
		require.NoError(t, err)
	}},
	"list-indexes": {nil, func(t *testing.T, s *elliptics.Session) {
		list, err := s.ListIndexes(context.Background(), s.Key("vec-key"))
		require.NoError(t, err)
		want := tagged(s, "docker=vec-key", "dir=vec-key")
		slices.SortFunc(want, func(a, b elliptics.Index) int { return a.Tag.Compare(b.Tag) })
		require.Equal(t, want, list)
	}},
	"find-all-one-tag":         {nil, finds((*elliptics.Session).FindAllIndexes, []string{"docker"}, "vec-key: docker=vec-key", "vec-new: docker=vec-new")},
	"find-all-two-tags":        {nil, finds((*elliptics.Session).FindAllIndexes, []string{"docker", "dir"}, "vec-key: docker=vec-key dir=vec-key")},
	"find-all-missing":         {nil, finds((*elliptics.Session).FindAllIndexes, []string{"no-such-tag"})},
	"find-all-after-set-empty": {nil, finds((*elliptics.Session).FindAllIndexes, []string{"other"})},
	"find-any":                 {nil, finds((*elliptics.Session).FindAnyIndexes, []string{"dir", "none"}, "vec-key: dir=vec-key")},
	"g3-find-all":              {[]uint32{1, 2, 3}, finds((*elliptics.Session).FindAllIndexes, []string{"docker"}, "tri-key: docker=tri-key")},
	"g3-update-indexes": {[]uint32{1, 2, 3}, func(t *testing.T, s *elliptics.Session) {
		_, err := s.UpdateIndexes(context.Background(), s.Key("tri-key"), tagged(s, "docker=tri-key"))
		require.NoError(t, err)
	}},
	"g3-set-indexes-empty": {[]uint32{1, 2, 3}, func(t *testing.T, s *elliptics.Session) {
		_, err := s.SetIndexes(context.Background(), s.Key("tri-key"), nil)
		require.NoError(t, err)
	}},
}

func TestGoldenIndexes(t *testing.T) {
	for name, c := range goldenIndexes {
		t.Run(name, func(t *testing.T) {
			n := replayed(t, name, nil)
			c.do(t, docker(n, c.groups...).WithChecker(elliptics.All))
		})
	}
}

// finds is a search and what it finds, as "key: tag=data tag=data".
func finds(find func(*elliptics.Session, context.Context, []elliptics.Key) ([]elliptics.FoundObject, error), names []string, want ...string) func(*testing.T, *elliptics.Session) {
	return func(t *testing.T, s *elliptics.Session) {
		t.Helper()
		found, err := find(s, context.Background(), tags(s, names...))
		require.NoError(t, err)
		var expect []elliptics.FoundObject
		for _, w := range want {
			key, list, _ := strings.Cut(w, ": ")
			expect = append(expect, elliptics.FoundObject{Key: s.Key(key), Indexes: tagged(s, strings.Fields(list)...)})
		}
		require.ElementsMatch(t, expect, found)
	}
}
