//go:build e2e

package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

// Eight layers of 1 GiB at once: the registry and its node together stay below
// 400 MiB.
func TestMemory(t *testing.T) {
	const layers, size, limit = 8, 1 << 30, 400 << 20
	p := serve(t, "--data", t.TempDir())
	digests := make([]string, layers)
	var g errgroup.Group
	for i := range layers {
		g.Go(func() (err error) {
			digests[i], err = pushBlob(p, "large", content(byte(i), size))
			return err
		})
	}
	require.NoError(t, g.Wait())
	pushed := p.peakMemory()
	for i := range layers {
		g.Go(func() error {
			got, n, err := pullBlob(p, "large", digests[i])
			if err == nil && (n != size || got != digests[i]) {
				t.Errorf("layer %d: %d bytes with digest %s came back, %s was pushed", i, n, got, digests[i])
			}
			return err
		})
	}
	require.NoError(t, g.Wait())
	pulled := p.peakMemory()
	t.Logf("peak after pushing: %d MiB, after pulling: %d MiB", pushed>>20, pulled>>20)
	require.Less(t, pulled, int64(limit))
}
