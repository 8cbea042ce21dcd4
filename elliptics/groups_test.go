package elliptics_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/elliptics/node"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

func TestCheckers(t *testing.T) {
	for _, c := range []struct {
		checker elliptics.Checker
		fail    []wire.Status // by group; 0: it succeeds
		ok      bool
	}{
		{elliptics.One, []wire.Status{wire.ErrNoSpace, wire.ErrNoSpace, 0}, true},
		{elliptics.One, []wire.Status{wire.ErrNoSpace, wire.ErrReadOnly, wire.ErrIO}, false},
		{elliptics.Quorum, []wire.Status{0, wire.ErrNoSpace, 0}, true},
		{elliptics.Quorum, []wire.Status{0, wire.ErrNoSpace, wire.ErrNoSpace}, false},
		{elliptics.All, []wire.Status{0, 0, 0}, true},
		{elliptics.All, []wire.Status{0, 0, wire.ErrNoSpace}, false},
	} {
		t.Run(c.checker.String(), func(t *testing.T) {
			servers, n := cluster(t, 1, 2, 3)
			s := n.NewSession(1, 2, 3).WithChecker(c.checker)
			ok := 0
			for i, status := range c.fail {
				if status == 0 {
					ok++
				} else {
					servers.Fail(i, wire.CmdWrite, -1, node.Fault{Status: status})
				}
			}
			results, err := s.WriteData(t.Context(), s.Key("k"), []byte("data"))
			require.Len(t, results, 3)
			for i, r := range results {
				require.EqualValues(t, i+1, r.Group)
				require.ErrorIs(t, r.Err, c.fail[i].Err())
				require.Equal(t, r.Err == nil, r.Info.Size == 4)
			}
			if c.ok {
				require.NoError(t, err)
				return
			}
			var all *elliptics.GroupsError
			require.ErrorAs(t, err, &all)
			require.Equal(t, ok, all.OK)
			require.Equal(t, c.checker.Need(3), all.Need)
			for _, status := range c.fail {
				if status != 0 {
					require.ErrorIs(t, err, status)
				}
			}
			require.ErrorContains(t, err, "of 3 groups succeeded")
		})
	}
	for total, need := range map[int]int{1: 1, 2: 2, 3: 2, 4: 3, 5: 3} {
		require.Equal(t, need, elliptics.Quorum.Need(total))
	}
}

func TestOneGroupAway(t *testing.T) {
	servers, n := cluster(t, 1, 2, 3)
	s := n.NewSession(1, 2, 3)
	key := s.Key("k")
	servers.Stop(0)
	require.Eventually(t, func() bool { return connected(n) == 2 }, patience, instant)
	results, err := s.WriteData(t.Context(), key, []byte("data"))
	require.NoError(t, err)
	require.ErrorIs(t, results[0].Err, elliptics.ErrNoRoute)
	require.ErrorContains(t, results[0].Err, "the connected nodes have groups [2 3]")
	_, err = s.WithChecker(elliptics.All).WriteData(t.Context(), key, []byte("data"))
	require.ErrorIs(t, err, elliptics.ErrNoRoute)
	r, err := s.Read(t.Context(), key, 0, 0)
	require.NoError(t, err)
	require.EqualValues(t, 2, r.Group)
	info, err := s.Lookup(t.Context(), key)
	require.NoError(t, err)
	require.EqualValues(t, 2, info.Group)
	_, err = s.Remove(t.Context(), key)
	require.NoError(t, err)
	_, err = s.Read(t.Context(), key, 0, 0)
	require.ErrorIs(t, err, elliptics.ErrNotFound)
	require.ErrorIs(t, err, elliptics.ErrNoRoute)
	require.False(t, elliptics.Missing(err), "one group could not be asked")
	_, err = s.WithGroups(2, 3).Read(t.Context(), key, 0, 0)
	require.True(t, elliptics.Missing(err))
}

// A read goes from group to group, whatever is wrong.
func TestReadFallsBack(t *testing.T) {
	servers, n := cluster(t, 1, 2, 3)
	s := n.NewSession(1, 2, 3)
	key := s.Key("k")
	for i := range uint32(3) {
		_, err := s.WithGroups(i+1).WriteData(t.Context(), key, []byte{'a' + byte(i)})
		require.NoError(t, err)
	}
	for _, f := range []node.Fault{
		{Status: wire.ErrNotFound}, {Status: wire.ErrChecksum}, {Status: wire.ErrIO}, {Drop: true}, {ResetAnswer: true},
	} {
		failure := servers.Fail(0, wire.CmdRead, -1, f)
		s := s
		if f.Drop {
			s = s.WithTimeout(500 * time.Millisecond)
		}
		r, err := s.Read(t.Context(), key, 0, 0)
		require.NoError(t, err)
		require.Equal(t, "b", string(r.Data))
		failure.Stop()
		require.Eventually(t, func() bool { return connected(n) == 3 }, patience, instant)
	}
	for i := range 3 {
		servers.Fail(i, wire.CmdRead, 1, node.Fault{Status: wire.Status(-22 - i)})
	}
	_, err := s.Read(t.Context(), key, 0, 0)
	for i := range 3 {
		require.ErrorIs(t, err, wire.Status(-22-i))
	}
	require.EqualValues(t, 1, servers.Requests(2, wire.CmdRead))
}

func TestNoGroups(t *testing.T) {
	_, n := cluster(t, 1)
	s := n.NewSession()
	_, err := s.Read(t.Context(), s.Key("k"), 0, 0)
	require.ErrorIs(t, err, elliptics.ErrNoRoute)
	require.ErrorContains(t, err, "the session has no groups")
	_, err = s.WriteData(t.Context(), s.Key("k"), nil)
	require.ErrorContains(t, err, "the session has no groups")
	_, err = s.BulkRead(t.Context(), []elliptics.Key{s.Key("k")})
	require.ErrorContains(t, err, "the session has no groups")
	_, err = s.WithGroups(7).Read(t.Context(), s.Key("k"), 0, 0)
	require.ErrorIs(t, err, elliptics.ErrNoRoute)
	require.ErrorContains(t, err, "in group 7: no route to the group (status -6): the connected nodes have groups [1]")
}

func TestRetry(t *testing.T) {
	group := func(errs ...error) *elliptics.GroupsError {
		e := &elliptics.GroupsError{Need: 2}
		for _, err := range errs {
			if err == nil {
				e.OK++
			}
			e.Groups = append(e.Groups, elliptics.GroupResult{Err: err})
		}
		return e
	}
	for _, c := range []struct {
		err  error
		want wire.Retry
	}{
		{nil, wire.RetryNever},
		{errors.New("other"), wire.RetryNever},
		{&elliptics.Error{Err: elliptics.ErrNoRoute}, wire.RetrySafe},
		{&elliptics.Error{Err: elliptics.ErrTimeout}, wire.RetryIdempotent},
		{&elliptics.Error{Err: elliptics.ErrConflict}, wire.RetryNever},
		{group(elliptics.ErrNoRoute, elliptics.ErrNoRoute, elliptics.ErrNoSpace), wire.RetrySafe},
		{group(elliptics.ErrNoRoute, elliptics.ErrTimeout, elliptics.ErrNoSpace), wire.RetryIdempotent},
		{group(elliptics.ErrTimeout, elliptics.ErrNoSpace, elliptics.ErrNoSpace), wire.RetryNever},
		{group(nil, elliptics.ErrNoRoute, elliptics.ErrNoSpace), wire.RetryIdempotent},
		{group(nil, elliptics.ErrNoSpace, elliptics.ErrNoSpace), wire.RetryNever},
	} {
		require.Equal(t, c.want, elliptics.Retry(c.err), "%v", c.err)
	}
}
