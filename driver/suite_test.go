package driver_test

import (
	"context"
	"sync"
	"testing"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/testsuites"
	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics/ellipticstest"
)

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
