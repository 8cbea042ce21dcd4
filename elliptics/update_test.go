package elliptics_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/elliptics/node"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// count is a change that adds one to a number.
func count(old []byte) ([]byte, error) {
	n, _ := strconv.Atoi(string(old))
	return []byte(strconv.Itoa(n + 1)), nil
}

// Of many who count at the same time nobody is lost.
func TestUpdateTogether(t *testing.T) {
	_, n := cluster(t, 1)
	s := n.NewSession(1)
	key := s.Key("counter")
	const writers, each = 8, 10
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				if _, err := s.Update(t.Context(), key, 1000, count); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	r, err := s.Read(t.Context(), key, 0, 0)
	require.NoError(t, err)
	require.Equal(t, strconv.Itoa(writers*each), string(r.Data))
}

// Groups with other contents get what was made of the newest.
func TestUpdateConverges(t *testing.T) {
	servers, n := cluster(t, 1, 2, 3)
	s := n.NewSession(1, 2, 3).WithChecker(elliptics.All)
	key := s.Key("counter")
	at(t, s, key, 100, "7", 1)
	at(t, s, key, 200, "41", 2)
	results, err := s.Update(t.Context(), key, 0, count)
	require.NoError(t, err)
	require.Equal(t, []uint32{1, 2, 3}, groupsOf(results))
	for g := range uint32(3) {
		r, err := s.WithGroups(g+1).Read(t.Context(), key, 0, 0)
		require.NoError(t, err)
		require.Equal(t, "42", string(r.Data))
	}
	// Somebody is faster, in one group.
	raced := false
	_, err = s.Update(t.Context(), key, 0, func(old []byte) ([]byte, error) {
		if !raced {
			raced = true
			at(t, s, key, uint64(1)<<40, "99", 2)
		}
		return count(old)
	})
	require.NoError(t, err)
	r, err := s.ReadLatest(t.Context(), key, 0, 0)
	require.NoError(t, err)
	require.Equal(t, "100", string(r.Data))
	// Nothing is written without a change.
	writes := servers.Requests(0, wire.CmdWrite)
	_, err = s.Update(t.Context(), key, 0, func(old []byte) ([]byte, error) { return bytes.Clone(old), nil })
	require.NoError(t, err)
	require.Equal(t, writes, servers.Requests(0, wire.CmdWrite))
}

func TestUpdateFails(t *testing.T) {
	servers, n := cluster(t, 1, 2)
	s := n.NewSession(1, 2)
	key := s.Key("counter")
	why := errors.New("do not")
	_, err := s.Update(t.Context(), key, 0, func(old []byte) ([]byte, error) {
		require.Nil(t, old)
		return nil, why
	})
	require.ErrorIs(t, err, why)
	_, err = s.Read(t.Context(), key, 0, 0)
	require.True(t, elliptics.Missing(err))

	at(t, s, key, 100, "7", 1, 2)
	servers.Fail(0, wire.CmdWrite, -1, node.Fault{Status: wire.ErrConflict})
	tries := 0
	results, err := s.Update(t.Context(), key, 3, func(old []byte) ([]byte, error) {
		tries++
		return count(old)
	})
	require.Equal(t, 3, tries)
	require.ErrorIs(t, err, elliptics.ErrConflict)
	require.ErrorContains(t, err, "1 of 2 groups succeeded, 2 needed")
	require.ErrorIs(t, results[0].Err, elliptics.ErrConflict)
	require.NoError(t, results[1].Err)
	_, err = s.WithChecker(elliptics.One).Update(t.Context(), key, 2, count)
	require.NoError(t, err)

	servers.Fail(1, wire.CmdLookup, -1, node.Fault{Status: wire.ErrIO})
	_, err = s.Update(t.Context(), key, 1, count)
	require.ErrorIs(t, err, elliptics.ErrIO)
	ctx, cancel := context.WithCancelCause(t.Context())
	_, err = s.WithChecker(elliptics.One).Update(ctx, key, 0, func(old []byte) ([]byte, error) {
		cancel(why)
		return count(old)
	})
	require.ErrorIs(t, err, why)
}

// An empty record is a value as others are.
func TestUpdateToEmpty(t *testing.T) {
	_, n := cluster(t, 1)
	s := n.NewSession(1)
	key := s.Key("k")
	empty := func([]byte) ([]byte, error) { return nil, nil }
	_, err := s.Update(t.Context(), key, 0, empty)
	require.NoError(t, err)
	r, err := s.Read(t.Context(), key, 0, 0)
	require.NoError(t, err)
	require.Empty(t, r.Data)
	_, err = s.Update(t.Context(), key, 0, count)
	require.NoError(t, err)
	_, err = s.Update(t.Context(), key, 0, empty)
	require.NoError(t, err)
	_, err = s.Update(t.Context(), key, 0, count)
	require.NoError(t, err)
	r, err = s.Read(t.Context(), key, 0, 0)
	require.NoError(t, err)
	require.Equal(t, "1", string(r.Data))
}

func TestWriteChunked(t *testing.T) {
	_, n := cluster(t, 1, 2)
	s := n.NewSession(1, 2).WithChecker(elliptics.All).WithUserFlags(5)
	text := strings.Repeat("0123456789", 1000)
	for _, size := range []int{0, 1, 999, 1000, 1001, 2000, 9999, 10000} {
		key := s.Key("size " + strconv.Itoa(size))
		_, err := s.WriteChunked(t.Context(), key, iotest.HalfReader(strings.NewReader(text)), uint64(size), 1000)
		require.NoError(t, err)
		for g := range uint32(2) {
			r, err := s.WithGroups(g+1).Read(t.Context(), key, 0, 0)
			require.NoError(t, err)
			require.True(t, text[:size] == string(r.Data))
			require.EqualValues(t, 5, r.UserFlags)
		}
	}
	key := s.Key("default")
	_, err := s.WriteChunked(t.Context(), key, bytes.NewReader(make([]byte, 9<<20)), 9<<20, 0)
	require.NoError(t, err)
	l, err := s.Lookup(t.Context(), key)
	require.NoError(t, err)
	require.EqualValues(t, 9<<20, l.Info.Size)
}

func TestWriteChunkedFails(t *testing.T) {
	servers, n := cluster(t, 1, 2, 3)
	s := n.NewSession(1, 2, 3)
	key := s.Key("k")
	_, err := s.WriteChunked(t.Context(), key, strings.NewReader("short"), 10, 4)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.ErrorContains(t, err, "behind byte 4 of 10")
	_, err = s.Read(t.Context(), key, 0, 0)
	require.True(t, elliptics.Missing(err), "nothing is visible")
	why := errors.New("broken source")
	_, err = s.WriteChunked(t.Context(), key, iotest.ErrReader(why), 10, 4)
	require.ErrorIs(t, err, why)

	// A group that fails is left out; the others make it.
	failure := servers.Fail(0, wire.CmdWrite, 1, node.Fault{Status: wire.ErrNoSpace})
	results, err := s.WriteChunked(t.Context(), key, strings.NewReader("0123456789"), 10, 4)
	require.NoError(t, err)
	require.Equal(t, 1, failure.Hits())
	require.ErrorIs(t, results[0].Err, elliptics.ErrNoSpace)
	require.NoError(t, results[1].Err)
	require.NoError(t, results[2].Err)
	r, err := s.Read(t.Context(), key, 0, 0)
	require.NoError(t, err)
	require.Equal(t, "0123456789", string(r.Data))
	// Too few are left: what was asked of the others is no more.
	writes := servers.Requests(2, wire.CmdWrite)
	servers.Fail(0, wire.CmdWrite, -1, node.Fault{Status: wire.ErrNoSpace})
	servers.Fail(1, wire.CmdWrite, -1, node.Fault{Status: wire.ErrReadOnly})
	results, err = s.WriteChunked(t.Context(), key, strings.NewReader("0123456789"), 10, 4)
	require.ErrorIs(t, err, elliptics.ErrNoSpace)
	require.ErrorIs(t, err, elliptics.ErrReadOnly)
	require.ErrorContains(t, err, "1 of 3 groups succeeded, 2 needed")
	require.NoError(t, results[2].Err)
	require.Equal(t, writes+1, servers.Requests(2, wire.CmdWrite))
}

func TestBulkRemove(t *testing.T) {
	servers, n := cluster(t, 1, 2)
	s := n.NewSession(1, 2).WithChecker(elliptics.All)
	var keys []elliptics.Key
	for i := range 200 {
		keys = append(keys, s.Key(strconv.Itoa(i)))
		at(t, s, keys[i], 1, "data", 1, 2)
	}
	require.Nil(t, s.BulkRemove(t.Context(), keys[:150]))
	servers.FailIf(0, -1, node.Fault{Status: wire.ErrReadOnly}, func(h wire.Header) bool { return h.ID == keys[170] })
	failed := s.BulkRemove(t.Context(), keys[149:])
	require.Len(t, failed, 2)
	require.True(t, elliptics.Missing(failed[keys[149]]))
	require.ErrorIs(t, failed[keys[170]], elliptics.ErrReadOnly)
	found, err := s.WithGroups(1).BulkRead(t.Context(), keys)
	require.NoError(t, err)
	require.Len(t, found, 1)
}
