package driver_test

import (
	"context"
	"sync"
	"testing"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/testsuites"
	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/driver"
	"github.com/elliptics-registry/elliptics-registry/elliptics/ellipticstest"
)

// open makes a driver on a test cluster, as a configuration would.
func open(t testing.TB, c *ellipticstest.Cluster, parameters map[string]any) *driver.Driver {
	t.Helper()
	m := map[string]any{"nodes": c.Remotes(), "waittimeout": "3s", "checktimeout": "1s"}
	for k, v := range parameters {
		m[k] = v
	}
	p, err := driver.ParseParameters(m)
	require.NoError(t, err)
	d, err := driver.New(context.Background(), p)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	require.Eventually(t, func() bool {
		_, err := d.Stat(context.Background(), "/")
		return err == nil
	}, 20*time.Second, 5*time.Millisecond, "the cluster was not reached")
	return d
}

func TestSuiteOnOneGroup(t *testing.T) {
	c := ellipticstest.Start(t, 1)
	d := open(t, c, nil)
	testsuites.Driver(t, func() (storagedriver.StorageDriver, error) { return d, nil }, false)
}

// Three groups of three nodes each, one of which goes away half-way: the suite
// runs its tests by name, and the first Move is in the middle of them.
func TestSuiteOnThreeGroupsOfThreeNodes(t *testing.T) {
	c := ellipticstest.Start(t, 1, 1, 1, 2, 2, 2, 3, 3, 3)
	d := open(t, c, map[string]any{"groups": "1 2 3"})
	stopping := &stopsHalfway{StorageDriver: d, stop: func() { c.Stop(4) }}
	testsuites.Driver(t, func() (storagedriver.StorageDriver, error) { return stopping, nil }, false)
	require.Nil(t, c.Node(4), "no node was stopped")
}

// stopsHalfway stops a node before the first Move.
type stopsHalfway struct {
	storagedriver.StorageDriver
	once sync.Once
	stop func()
}

func (d *stopsHalfway) Move(ctx context.Context, from, to string) error {
	d.once.Do(d.stop)
	return d.StorageDriver.Move(ctx, from, to)
}
