package driver_test

import (
	"context"
	"sync"
	"testing"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/driver"
	"github.com/elliptics-registry/elliptics-registry/elliptics/ellipticstest"
	"github.com/elliptics-registry/elliptics-registry/elliptics/node"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// silence makes the only node of a cluster answer no read until stop.
func silence(c *ellipticstest.Cluster) (f *ellipticstest.Failure, stop func()) {
	f = c.Fail(0, wire.CmdRead, -1, node.Fault{Drop: true})
	return f, f.Stop
}

// With maxthreads, whoever waits for its turn still obeys its context, and
// Name, which Distribution asks for at every step, waits for nobody.
func TestWaitingForATurnObeysContexts(t *testing.T) {
	c := ellipticstest.Start(t)
	d := open(t, c, map[string]any{"maxthreads": 1, "waittimeout": "1h"})
	put(t, d, "/f")
	failure, stop := silence(c)
	defer stop()
	slow, cancelSlow := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancelSlow()
	wg.Go(func() { _, _ = d.Stat(slow, "/f") })
	require.Eventually(t, func() bool { return failure.Hits() > 0 }, 10*time.Second, time.Millisecond)

	require.Equal(t, driver.Name, d.Name())
	for name, op := range operations(d) {
		if name == "PutContent" {
			continue // must be done even for a client that has gone
		}
		for _, path := range []string{"/f", upload(1, "data")} {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
			err := op(ctx, path)
			cancel()
			require.ErrorContains(t, err, context.DeadlineExceeded.Error(), "%s %s", name, path)
		}
	}
	require.EqualValues(t, 1, failure.Hits(), "somebody did not wait")

	stop()
	cancelSlow()
	_, err := d.Stat(context.Background(), "/f")
	require.NoError(t, err, "the turn is given back")
}

// An operation inside a walk must not wait for the walk.
func TestWalkHoldsNoTurn(t *testing.T) {
	d := open(t, ellipticstest.Start(t), map[string]any{"maxthreads": 1})
	put(t, d, "/r/a/1", "/r/b/1", "/r/c/1")
	got, err := walk(d, "/r", "", func(fi storagedriver.FileInfo) error {
		if fi.IsDir() {
			return nil
		}
		_, err := d.GetContent(context.Background(), fi.Path())
		return err
	})
	require.NoError(t, err)
	require.Len(t, got, 6)
}
