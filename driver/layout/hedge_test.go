package layout

import (
	"bytes"
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

// frozen is a Store of which one group answers nothing, as a stopped process
// does: requests end when their context does, or after a minute.
type frozen struct {
	Store
	group  uint32
	thaw   atomic.Bool
	asked  atomic.Int32
	inside atomic.Int32
	most   atomic.Int32
}

func (f *frozen) hang(ctx context.Context, g uint32) error {
	if g != f.group || f.thaw.Load() {
		return nil
	}
	f.asked.Add(1)
	n := f.inside.Add(1)
	defer f.inside.Add(-1)
	for most := f.most.Load(); n > most && !f.most.CompareAndSwap(most, n); most = f.most.Load() {
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(time.Minute):
		return errDown
	}
}

func (f *frozen) Read(ctx context.Context, g uint32, key string, offset, size uint64) (Value, error) {
	if err := f.hang(ctx, g); err != nil {
		return Value{}, err
	}
	return f.Store.Read(ctx, g, key, offset, size)
}

func (f *frozen) Write(ctx context.Context, g uint32, key string, w Write) error {
	if err := f.hang(ctx, g); err != nil {
		return err
	}
	return f.Store.Write(ctx, g, key, w)
}

// A frozen group costs the reader of a file one hedge, not one for each chunk,
// and certainly no timeout.
func TestFrozenGroupCostsOneHedge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMemStore(1, 2, 3)
		ctx := context.Background()
		data := randomBytes(3_000_000, 1)
		require.NoError(t, newTestFS(t, s, Options{}).Put(ctx, "/f", data))
		f := &frozen{Store: s, group: 2}
		fs := newTestFS(t, f, Options{})
		begun := time.Now() // in the bubble, time passes only for timers
		mustGet(t, fs, "/f", data)
		require.Less(t, time.Since(begun), 2*hedgeFirst)
		require.LessOrEqual(t, int(f.asked.Load()), 1+windowAhead+1, "the slow group was asked again and again")
		f.thaw.Store(true)
		time.Sleep(2 * slowFor)
		calls := countReads(f)
		mustGet(t, fs, "/f", data)
		require.Positive(t, calls(), "a group that is back is not read any more")
	})
}

// countReads counts the reads that the once frozen group answers.
func countReads(f *frozen) func() int {
	var n atomic.Int32
	inner := f.Store
	f.Store = readCounter{inner, f.group, &n}
	return func() int { return int(n.Load()) }
}

type readCounter struct {
	Store
	group uint32
	n     *atomic.Int32
}

func (c readCounter) Read(ctx context.Context, g uint32, key string, offset, size uint64) (Value, error) {
	if g == c.group && strings.HasPrefix(key, chunkPrefix) {
		c.n.Add(1)
	}
	return c.Store.Read(ctx, g, key, offset, size)
}

// Writes go on while a group is frozen, and do not pile up in front of it.
func TestFrozenGroupHoldsABoundedNumberOfWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &frozen{Store: newMemStore(1, 2, 3), group: 3}
		fs := newTestFS(t, f, Options{})
		ctx := context.Background()
		for i := range 100 {
			require.NoError(t, fs.Put(ctx, "/f", bytes.Repeat([]byte{byte(i)}, 200_000)))
		}
		require.LessOrEqual(t, int(f.most.Load()), maxBehind+8) // some before it was known to lag, and the reads
		mustGet(t, fs, "/f", bytes.Repeat([]byte{99}, 200_000))
	})
}

// Slow is not down: a write that needs a group which others wait for already
// waits, too, instead of failing.
func TestManyWritesOnSlowGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := newTestFS(t, newMemStore(1, 2, 3), Options{})
		for i := range fs.cluster.lagging {
			fs.cluster.lagging[i].Store(true)
		}
		var g errgroup.Group
		for range 4 * maxBehind {
			g.Go(func() error {
				return fs.cluster.write(context.Background(), func(context.Context, uint32) error {
					time.Sleep(time.Second)
					return nil
				}, nil)
			})
		}
		require.NoError(t, g.Wait())
	})
}
