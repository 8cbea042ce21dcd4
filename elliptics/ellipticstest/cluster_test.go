package ellipticstest_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/elliptics/ellipticstest"
	"github.com/elliptics-registry/elliptics-registry/elliptics/node"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

// client is connected to all nodes.
func client(t *testing.T, c *ellipticstest.Cluster) *elliptics.Node {
	t.Helper()
	n, err := elliptics.NewNode(elliptics.Config{
		Remotes: c.Remotes(), CheckTimeout: 100 * time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	require.Eventually(t, func() bool {
		for _, r := range n.Remotes() {
			if r.Connections == 0 {
				return false
			}
		}
		return true
	}, patience, time.Millisecond)
	return n
}

// Each fault, as the client sees it, and whether the write was executed.
func TestFaults(t *testing.T) {
	for name, c := range map[string]struct {
		fault node.Fault
		err   error
		done  bool
	}{
		"none":                 {node.Fault{}, nil, true},
		"delay":                {node.Fault{Delay: 10 * time.Millisecond}, nil, true},
		"drop":                 {node.Fault{Drop: true}, elliptics.ErrTimeout, false},
		"reset":                {node.Fault{Reset: true}, elliptics.ErrConnectionReset, false},
		"status":               {node.Fault{Status: wire.ErrNoSpace}, elliptics.ErrNoSpace, false},
		"status after a delay": {node.Fault{Status: wire.ErrNoSpace, Delay: 10 * time.Millisecond}, elliptics.ErrNoSpace, false},
		"drop the answer":      {node.Fault{DropAnswer: true}, elliptics.ErrTimeout, true},
		"reset at the answer":  {node.Fault{ResetAnswer: true}, elliptics.ErrConnectionReset, true},
		"twice":                {node.Fault{Twice: true}, nil, true},
		"byte by byte":         {node.Fault{Slow: 10 * time.Microsecond}, nil, true},
		"twice, byte by byte":  {node.Fault{Twice: true, Slow: 10 * time.Microsecond}, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			cluster := ellipticstest.Start(t)
			n := client(t, cluster)
			s := n.NewSession(1)
			failure := cluster.Fail(0, wire.CmdWrite, 1, c.fault)
			began := time.Now()
			first := s
			if c.fault.Drop || c.fault.DropAnswer {
				first = s.WithTimeout(100 * time.Millisecond)
			}
			_, err := first.WriteData(t.Context(), s.Key("k"), []byte("data"))
			require.ErrorIs(t, err, c.err)
			require.GreaterOrEqual(t, time.Since(began), c.fault.Delay)
			require.Equal(t, 1, failure.Hits())
			require.Eventually(t, func() bool {
				_, err = s.Read(t.Context(), s.Key("k"), 0, 0)
				return err == nil || elliptics.Missing(err)
			}, patience, time.Millisecond)
			require.Equal(t, c.done, err == nil)
			_, err = s.WriteData(t.Context(), s.Key("k"), []byte("data"))
			require.NoError(t, err, "only one request was to be spoiled")
			require.Equal(t, 1, failure.Hits())
		})
	}
}

func TestWhichRequestsFail(t *testing.T) {
	c := ellipticstest.Start(t, 1, 2)
	n := client(t, c)
	s := n.NewSession(1)
	ctx := t.Context()
	a, b := s.Key("a"), s.Key("b")
	require.Zero(t, c.Requests(0, wire.CmdWrite))
	all := c.FailIf(0, -1, node.Fault{Status: wire.ErrIO}, func(h wire.Header) bool { return h.ID == a })
	for range 3 {
		_, err := s.WriteData(ctx, a, []byte("data"))
		require.ErrorIs(t, err, elliptics.ErrIO)
		_, err = s.WriteData(ctx, b, []byte("data"))
		require.NoError(t, err)
	}
	_, err := s.Lookup(ctx, a)
	require.ErrorIs(t, err, elliptics.ErrIO)
	require.Equal(t, 4, all.Hits())
	require.Equal(t, 6, c.Requests(0, wire.CmdWrite))
	require.Equal(t, 1, c.Requests(0, wire.CmdLookup))
	require.GreaterOrEqual(t, c.Requests(0, ellipticstest.AnyCommand), 7)
	require.Zero(t, c.Requests(1, wire.CmdWrite))
	all.Stop()
	_, err = s.WriteData(ctx, a, []byte("data"))
	require.NoError(t, err)
	// The oldest counts, as long as it has requests left.
	c.Fail(0, wire.CmdWrite, 1, node.Fault{Status: wire.ErrNoSpace})
	c.Fail(0, ellipticstest.AnyCommand, -1, node.Fault{Status: wire.ErrReadOnly})
	_, err = s.WriteData(ctx, a, []byte("data"))
	require.ErrorIs(t, err, elliptics.ErrNoSpace)
	_, err = s.WriteData(ctx, a, []byte("data"))
	require.ErrorIs(t, err, elliptics.ErrReadOnly)
}

// A delayed request holds up those for the same key only.
func TestDelay(t *testing.T) {
	c := ellipticstest.Start(t)
	n := client(t, c)
	s := n.NewSession(1)
	c.FailIf(0, 1, node.Fault{Delay: time.Hour}, func(h wire.Header) bool { return h.ID == s.Key("a") })
	_, err := s.WithTimeout(20*time.Millisecond).WriteData(t.Context(), s.Key("a"), []byte("data"))
	require.ErrorIs(t, err, elliptics.ErrTimeout)
	_, err = s.WriteData(t.Context(), s.Key("b"), []byte("data"))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = s.Read(ctx, s.Key("a"), 0, 0)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	c.Stop(0) // does not wait for it
}

func TestStopAndRestart(t *testing.T) {
	c := ellipticstest.StartNodes(t, []uint32{1, 2}, []uint32{3})
	require.Equal(t, 2, c.Len())
	n := client(t, c)
	s := n.NewSession(1, 2, 3).WithChecker(elliptics.All)
	key := s.Key("k")
	_, err := s.WriteData(t.Context(), key, []byte("data"))
	require.NoError(t, err)
	remotes := c.Remotes()
	failure := c.Fail(0, wire.CmdLookup, -1, node.Fault{Status: wire.ErrIO})
	requests := c.Requests(0, wire.CmdWrite)
	c.Stop(0)
	c.Stop(0) // again
	require.Nil(t, c.Node(0))
	require.NotNil(t, c.Node(1))
	require.Equal(t, remotes, c.Remotes())
	require.Eventually(t, func() bool {
		_, err := s.Read(t.Context(), key, 0, 0)
		_, three := s.WithGroups(1, 2).Read(t.Context(), key, 0, 0)
		return err == nil && three != nil
	}, patience, time.Millisecond)
	c.Restart(0)
	c.Restart(1)
	require.Equal(t, remotes, c.Remotes())
	require.Eventually(t, func() bool {
		results, _ := s.LookupAll(t.Context(), key)
		return results[2].Err == nil && elliptics.Retry(results[0].Err) == wire.RetryIdempotent
	}, patience, time.Millisecond, "the data is there, and so is the fault")
	require.Positive(t, failure.Hits())
	require.Equal(t, requests, c.Requests(0, wire.CmdWrite))
	for g := range uint32(2) {
		r, err := s.WithGroups(g+1).Read(t.Context(), key, 0, 0)
		require.NoError(t, err)
		require.Equal(t, "data", string(r.Data))
	}
}
