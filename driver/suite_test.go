package driver_test

import (
	"context"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/testsuites"
	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/driver"
	"github.com/elliptics-registry/elliptics-registry/elliptics/ellipticstest"
)

// The suite runs on the servers of ELLIPTICS_TEST_REMOTES (host:port:family,
// separated by spaces) and the groups of ELLIPTICS_TEST_GROUPS (default 1), or
// without them on one embedded node.
func TestSuite(t *testing.T) {
	d := suiteDriver(t)
	testsuites.Driver(t, func() (storagedriver.StorageDriver, error) { return d, nil }, false)
}

// suitePatience is long: the suite streams gigabytes, on machines that may have
// other work. What is stopped refuses at once.
const suitePatience = "30s"

func suiteDriver(t *testing.T) *driver.Driver {
	remotes := os.Getenv("ELLIPTICS_TEST_REMOTES")
	if remotes == "" {
		return open(t, ellipticstest.Start(t, 1), map[string]any{"waittimeout": suitePatience})
	}
	// The suite expects to be alone, and servers keep what an earlier one left.
	parameters := map[string]any{"namespace": "suite-" + time.Now().Format(time.RFC3339Nano)}
	if groups := os.Getenv("ELLIPTICS_TEST_GROUPS"); groups != "" {
		parameters["groups"] = groups
	}
	return openNodes(t, strings.Fields(remotes), parameters)
}

// Three groups of three nodes each, one of which goes away half-way: the suite
// runs its tests by name, and the first Move is in the middle of them.
func TestSuiteOnThreeGroupsOfThreeNodes(t *testing.T) {
	c := ellipticstest.Start(t, 1, 1, 1, 2, 2, 2, 3, 3, 3)
	d := open(t, c, map[string]any{"groups": "1 2 3", "waittimeout": suitePatience})
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
