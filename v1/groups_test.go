package v1_test

import (
	"bytes"
	"crypto/rand"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/elliptics/ellipticstest"
	"github.com/elliptics-registry/elliptics-registry/elliptics/node"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
	"github.com/elliptics-registry/elliptics-registry/v1"
)

// threeGroups is a store on a node for each of three groups.
func threeGroups(t *testing.T) (*ellipticstest.Cluster, *elliptics.Session, *v1.Store) {
	c := ellipticstest.Start(t, 1, 2, 3)
	session := connect(t, c.Remotes(), func(cfg *elliptics.Config) { cfg.WaitTimeout = time.Second }).NewSession(1, 2, 3).WithNamespace("DOCKER")
	return c, session, v1.New(session)
}

// One group of three may be away; what it missed does not come up when it is
// back, and its listing is not believed.
func TestGroupIsAway(t *testing.T) {
	c, session, s := threeGroups(t)
	ctx := deadline(t)
	require.NoError(t, s.Put(ctx, "dir/old", []byte("old")))
	require.NoError(t, s.Put(ctx, "dir/changed", []byte("before")))
	c.Stop(0)
	require.NoError(t, s.Put(ctx, "dir/changed", []byte("after")))
	require.NoError(t, s.Put(ctx, "dir/new", []byte("new")))
	err := s.Remove(ctx, "dir/old")
	require.ErrorContains(t, err, "group 1 may still have it")
	c.Restart(0)
	require.Eventually(t, func() bool {
		_, err := session.WithGroups(1).Lookup(ctx, session.Key("dir/changed"))
		return err == nil
	}, patience, 10*time.Millisecond, "group 1 was not taken back")

	got, err := s.Get(ctx, "dir/changed")
	require.NoError(t, err)
	require.Equal(t, "after", string(got))
	require.NoError(t, s.Remove(ctx, "dir/old"))
	list, err := s.List(ctx, "dir")
	require.NoError(t, err)
	require.Equal(t, []string{"dir/changed", "dir/new"}, list)
}

// Without a majority nothing is acknowledged, and nothing is called missing.
func TestMajorityIsAway(t *testing.T) {
	c, _, s := threeGroups(t)
	ctx := deadline(t)
	c.Stop(0)
	c.Stop(1)
	_, err := s.Get(ctx, "missing")
	require.Error(t, err)
	require.NotErrorIs(t, err, v1.ErrNotExist)
	_, err = s.Exists(ctx, "missing")
	require.Error(t, err)
	_, err = s.List(ctx, "")
	require.ErrorContains(t, err, "1 of 3 groups answered, 2 needed")
	err = s.Put(ctx, "file", []byte("x"))
	require.Error(t, err)
	require.NotErrorIs(t, err, v1.ErrNotExist)
}

// A group that missed a piece of a stream is never read, and gets no more.
func TestGroupMissesAPiece(t *testing.T) {
	c, session, s := threeGroups(t)
	ctx := deadline(t)
	content := make([]byte, 1<<20)
	_, _ = rand.Read(content)
	key, seen := session.Key("stream"), 0
	c.FailIf(0, 1, node.Fault{Status: wire.ErrNoSpace}, func(h wire.Header) bool {
		if h.Command == wire.CmdWrite && h.ID == key {
			seen++
		}
		return seen == 3
	})
	n, err := s.PutStream(ctx, "stream", bytes.NewReader(content))
	require.NoError(t, err)
	require.EqualValues(t, len(content), n)
	for range 3 {
		got, err := s.Get(ctx, "stream")
		require.NoError(t, err)
		require.True(t, bytes.Equal(content, got))
	}
	rec, err := session.WithGroups(1).Read(ctx, key, 0, 0)
	require.NoError(t, err)
	require.True(t, bytes.Equal(content[:256<<10], rec.Data), "it has what came before the piece")

	// A majority that fails ends the stream.
	for i := range 2 {
		c.FailIf(i, -1, node.Fault{Status: wire.ErrNoSpace}, func(h wire.Header) bool {
			return h.Command == wire.CmdWrite && h.ID == session.Key("other")
		})
	}
	_, err = s.PutStream(ctx, "other", bytes.NewReader(content))
	require.ErrorIs(t, err, elliptics.ErrNoSpace)
}

// A reader goes on with another group when one fails in the middle, and never
// mixes two versions of a file.
func TestReaderFailsOver(t *testing.T) {
	c, session, s := threeGroups(t)
	ctx := deadline(t)
	content := make([]byte, 9<<20)
	_, _ = rand.Read(content)
	_, err := session.Write(ctx, session.Key("file"), elliptics.Write{Data: [][]byte{content}})
	require.NoError(t, err)
	reads := 0
	failing := c.FailIf(0, -1, node.Fault{Status: wire.ErrChecksum}, func(h wire.Header) bool {
		if h.Command == wire.CmdRead {
			reads++
		}
		return h.Command == wire.CmdRead && reads > 1
	})
	got, err := s.Get(ctx, "file")
	require.NoError(t, err)
	require.True(t, bytes.Equal(content, got))
	require.Positive(t, failing.Hits())
	failing.Stop()

	r, err := s.Open(ctx, "file", 0, -1)
	require.NoError(t, err)
	defer r.Close()
	_, err = io.ReadFull(r, make([]byte, 100))
	require.NoError(t, err)
	content[8<<20] ^= 1
	_, err = session.Write(ctx, session.Key("file"), elliptics.Write{Data: [][]byte{content}})
	require.NoError(t, err)
	_, err = io.ReadAll(r)
	require.ErrorIs(t, err, v1.ErrChanged)
}

// A copy that is damaged in every group is an error that says so.
func TestDamagedEverywhere(t *testing.T) {
	c, session, s := threeGroups(t)
	ctx := deadline(t)
	require.NoError(t, s.Put(ctx, "file", []byte("some content")))
	for i := range c.Len() {
		c.FailIf(i, -1, node.Fault{Status: wire.ErrChecksum}, func(h wire.Header) bool {
			return h.Command == wire.CmdRead && h.ID == session.Key("file")
		})
	}
	_, err := s.Get(ctx, "file")
	var damage *v1.DamageError
	require.ErrorAs(t, err, &damage)
	require.ErrorIs(t, err, elliptics.ErrChecksum)
	require.NotErrorIs(t, err, v1.ErrNotExist)
}
