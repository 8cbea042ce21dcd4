package registry

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/driver"
	"github.com/elliptics-registry/elliptics-registry/elliptics/node/engine"
)

func parameters(t *testing.T, m map[string]any) driver.Parameters {
	t.Helper()
	p, err := driver.ParseParameters(m)
	require.NoError(t, err)
	return p
}

// What storage.elliptics.embedded names is a node in this process, which keeps
// its data there.
func TestEmbedded(t *testing.T) {
	p := parameters(t, map[string]any{"embedded": t.TempDir(), "sync": "none", "groups": "1 2"})
	ctx := context.Background()
	for round := range 2 {
		s, err := OpenStorage(p)
		require.NoError(t, err)
		d, err := s.Driver(ctx)
		require.NoError(t, err)
		if round == 0 {
			require.NoError(t, d.PutContent(ctx, "/f", []byte("x")))
		}
		b, err := d.GetContent(ctx, "/f")
		require.NoError(t, err)
		require.Equal(t, "x", string(b))

		_, err = OpenStorage(p)
		require.Error(t, err, "a second node on the same directory")
		beside, err := OpenStorageBeside(p)
		require.NoError(t, err, "a tool talks to the node that runs")
		require.Nil(t, beside.Node)
		require.NoError(t, beside.Close())

		require.NoError(t, d.Close())
		require.NoError(t, s.Close())
	}
}

func TestSyncIsTheNodes(t *testing.T) {
	for value, want := range map[string]engine.SyncMode{"": engine.SyncAlways, "always": engine.SyncAlways, "interval": engine.SyncInterval, "none": engine.SyncNone} {
		m := map[string]any{"embedded": t.TempDir()}
		if value != "" {
			m["sync"] = value
		}
		config, err := nodeConfig(parameters(t, m))
		require.NoError(t, err)
		require.Equal(t, want, config.Sync)
	}
}
