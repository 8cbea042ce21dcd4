package registry_test

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/elliptics/ellipticstest"
)

// damageChunks flips a bit in every chunk of some groups, behind the back of
// the servers' own checksums.
func damageChunks(t *testing.T, c *ellipticstest.Cluster, groups ...uint32) (damaged int) {
	t.Helper()
	client, err := elliptics.NewNode(elliptics.Config{Remotes: c.Remotes()})
	require.NoError(t, err)
	defer client.Close()
	ctx := context.Background()
	require.Eventually(t, func() bool {
		return !slices.ContainsFunc(client.Remotes(), func(r elliptics.RemoteStatus) bool { return r.Connections == 0 })
	}, 20*time.Second, time.Millisecond, "not all nodes were reached")
	for _, g := range groups {
		s := client.NewSession(g)
		for e, err := range s.Iterate(ctx, g, elliptics.Iteration{}) {
			require.NoError(t, err)
			if e.UserFlags&0xff != 2 { // not a chunk
				continue
			}
			rec, err := s.Read(ctx, e.Key, 0, 0)
			require.NoError(t, err)
			data := bytes.Clone(rec.Data)
			data[len(data)*3/4] ^= 4
			_, err = s.WithUserFlags(e.UserFlags).WriteData(ctx, e.Key, data)
			require.NoError(t, err)
			damaged++
		}
	}
	return damaged
}

func randomLayer(size int) []byte {
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

// A layer that is damaged in every group is never served: the pull that finds
// out breaks off, every later one is told that it is not there, and so is the
// client that pushes it again, which makes it whole.
func TestDamagedEverywhere(t *testing.T) {
	for _, list := range [][]uint32{{1}, {1, 2}} {
		c := ellipticstest.Start(t, list...)
		registry := start(t, c, list...)
		content := randomLayer(6 << 20)
		url := pushBlob(t, registry, content)
		_, got := request(t, "GET", url, nil)
		require.True(t, bytes.Equal(content, got))

		require.NotZero(t, damageChunks(t, c, list...))
		resp, err := http.Get(url)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, resp.StatusCode)
		got, err = io.ReadAll(resp.Body)
		resp.Body.Close()
		require.Error(t, err, "the pull must not look complete")
		require.True(t, bytes.HasPrefix(content, got), "wrong bytes were served")

		for _, method := range []string{"GET", "HEAD"} {
			resp, _ = request(t, method, url, nil)
			require.Equal(t, http.StatusNotFound, resp.StatusCode, method)
		}
		require.Equal(t, url, pushBlob(t, registry, content))
		resp, got = request(t, "GET", url, nil)
		require.Equal(t, http.StatusOK, resp.StatusCode)
		require.True(t, bytes.Equal(content, got))
	}
}

// As long as one group has it, nobody notices, and the others get it back.
func TestDamagedInOneGroup(t *testing.T) {
	c := ellipticstest.Start(t, 1, 2)
	registry := start(t, c, 1, 2)
	content := randomLayer(6 << 20)
	url := pushBlob(t, registry, content)
	require.NotZero(t, damageChunks(t, c, 1))
	for range 2 {
		resp, got := request(t, "GET", url, nil)
		require.Equal(t, http.StatusOK, resp.StatusCode)
		require.True(t, bytes.Equal(content, got))
	}
}
