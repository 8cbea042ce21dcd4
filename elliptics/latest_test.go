package elliptics_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/elliptics/node"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// at writes a record to some groups with a time.
func at(t *testing.T, s *elliptics.Session, key elliptics.Key, sec uint64, data string, groups ...uint32) {
	t.Helper()
	w := elliptics.Write{Data: [][]byte{[]byte(data)}, Timestamp: elliptics.Time{Sec: sec}, UserFlags: sec}
	_, err := s.WithGroups(groups...).WithChecker(elliptics.All).Write(t.Context(), key, w)
	require.NoError(t, err)
}

func groupsOf(results []elliptics.GroupResult) (groups []uint32) {
	for _, r := range results {
		groups = append(groups, r.Group)
	}
	return groups
}

func TestLatest(t *testing.T) {
	servers, n := cluster(t, 1, 2, 3)
	s := n.NewSession(1, 2, 3)
	key := s.Key("k")
	at(t, s, key, 100, "old", 1)
	_, err := s.LookupLatest(t.Context(), key)
	require.ErrorIs(t, err, elliptics.ErrNotFound, "a quorum needs two")
	at(t, s, key, 100, "same time", 2)
	at(t, s, key, 300, "newest", 3)
	found, err := s.LookupLatest(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, []uint32{3, 1, 2}, groupsOf(found))
	r, err := s.ReadLatest(t.Context(), key, 0, 3)
	require.NoError(t, err)
	require.Equal(t, "new", string(r.Data))
	// If the newest cannot be read the next has its turn.
	servers.Fail(2, wire.CmdRead, 1, node.Fault{Status: wire.ErrChecksum})
	r, err = s.ReadLatest(t.Context(), key, 0, 0)
	require.NoError(t, err)
	require.Equal(t, "old", string(r.Data))
	_, err = s.ReadLatest(t.Context(), s.Key("missing"), 0, 0)
	require.True(t, elliptics.Missing(err))
}

func TestLookupQuorum(t *testing.T) {
	servers, n := cluster(t, 1, 2, 3)
	s := n.NewSession(1, 2, 3).WithTimeout(time.Minute)
	key := s.Key("k")
	_, err := s.LookupQuorum(t.Context(), key)
	require.True(t, elliptics.Missing(err))
	at(t, s, key, 200, "new", 1)
	at(t, s, key, 100, "old", 2)
	found, err := s.LookupQuorum(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, []uint32{1}, groupsOf(found), "no two agree: the newest")
	at(t, s, key, 100, "old", 3)
	found, err = s.LookupQuorum(t.Context(), key)
	require.NoError(t, err)
	require.ElementsMatch(t, []uint32{2, 3}, groupsOf(found), "two agree")
	servers.Fail(0, wire.CmdLookup, -1, node.Fault{Drop: true})
	found, err = s.LookupQuorum(t.Context(), key)
	require.NoError(t, err, "the third group is not waited for")
	require.Len(t, found, 2)
}

func TestWriteBack(t *testing.T) {
	servers, n := cluster(t, 1, 2, 3)
	s := n.NewSession(1, 2, 3)
	held := func(key elliptics.Key) (data [3]string) {
		for g := range uint32(3) {
			if r, err := s.WithGroups(g+1).Read(t.Context(), key, 0, 0); err == nil {
				data[g] = string(r.Data)
			}
		}
		return data
	}
	key := s.Key("k")
	at(t, s, key, 100, "data", 3)
	_, err := s.Read(t.Context(), key, 0, 0)
	require.NoError(t, err)
	require.Equal(t, [3]string{"", "", "data"}, held(key), "not without being asked")
	back := s.WithWriteBack(true)
	_, err = back.Read(t.Context(), key, 1, 0)
	require.NoError(t, err)
	_, err = back.Read(t.Context(), key, 0, 3)
	require.NoError(t, err)
	require.Equal(t, [3]string{"", "", "data"}, held(key), "not a part of it")
	servers.Fail(0, wire.CmdRead, 1, node.Fault{Status: wire.ErrIO})
	_, err = back.Read(t.Context(), key, 0, 0)
	require.NoError(t, err)
	require.Equal(t, [3]string{"", "data", "data"}, held(key), "not to a group in trouble")
	_, err = back.Read(t.Context(), key, 0, 0)
	require.NoError(t, err)
	r, err := s.WithGroups(1).Read(t.Context(), key, 0, 0)
	require.NoError(t, err)
	require.Equal(t, elliptics.Time{Sec: 100}, r.Timestamp)
	require.EqualValues(t, 100, r.UserFlags)
	// A damaged copy is replaced, a newer one is not, and failures do not matter.
	at(t, s, key, 200, "newer", 1)
	servers.Fail(0, wire.CmdRead, 1, node.Fault{Status: wire.ErrChecksum})
	r, err = back.Read(t.Context(), key, 0, 0)
	require.NoError(t, err)
	require.Equal(t, "data", string(r.Data))
	require.Equal(t, [3]string{"newer", "data", "data"}, held(key))
	// ReadLatest knows who has an old one.
	r, err = back.ReadLatest(t.Context(), key, 0, 0)
	require.NoError(t, err)
	require.Equal(t, "newer", string(r.Data))
	require.Equal(t, [3]string{"newer", "newer", "newer"}, held(key))
	// An empty record is one.
	empty := s.Key("empty")
	_, err = s.WithGroups(2).Write(t.Context(), empty, elliptics.Write{Flags: wire.IOPrepare | wire.IOCommit | wire.IOPlainWrite})
	require.NoError(t, err)
	_, err = back.Read(t.Context(), empty, 0, 0)
	require.NoError(t, err)
	_, err = s.WithGroups(1).Read(t.Context(), empty, 0, 0)
	require.NoError(t, err)
}

func TestWithBackend(t *testing.T) {
	_, n := cluster(t, 1, 2)
	s := n.NewSession(1, 2)
	key := s.Key("k")
	at(t, s, key, 1, "data", 2)
	b := n.Backends(2)
	require.Len(t, b, 1)
	r, err := s.WithBackend(b[0]).Read(t.Context(), key, 0, 0)
	require.NoError(t, err)
	require.Equal(t, "data", string(r.Data))
	_, err = s.WithBackend(n.Backends(1)[0]).Read(t.Context(), key, 0, 0)
	require.ErrorIs(t, err, elliptics.ErrNotFound)
	b[0].Backend = 77
	_, err = s.WithBackend(b[0]).Read(t.Context(), key, 0, 0)
	require.ErrorIs(t, err, elliptics.ErrNotSupported)
	b[0].Remote = "192.0.2.1:1025:2"
	_, err = s.WithBackend(b[0]).Read(t.Context(), key, 0, 0)
	require.ErrorIs(t, err, elliptics.ErrNoRoute)
	require.ErrorContains(t, err, "192.0.2.1:1025:2 is not known")
}
