package driver

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/elliptics-registry/elliptics-registry/driver/layout"
	"github.com/elliptics-registry/elliptics-registry/elliptics"
)

// turns bound the requests to one group that run at once: those for content,
// and all others. A group that does not answer holds up no other.
type turns struct {
	content, small           *semaphore.Weighted
	contentLimit, smallLimit int
}

func newTurns(p Parameters) *turns {
	t := &turns{contentLimit: p.IOThreads, smallLimit: p.NonblockingIOThreads}
	if t.contentLimit == 0 {
		t.contentLimit = defaultIOThreads
	}
	if t.smallLimit == 0 {
		t.smallLimit = defaultNonblockingIOThreads
	}
	t.content = semaphore.NewWeighted(int64(t.contentLimit))
	t.small = semaphore.NewWeighted(int64(t.smallLimit))
	return t
}

// turnPatience bounds the wait for a turn. Whoever has one gives it back within
// the time-out of a request.
const turnPatience = time.Minute

// take waits for a turn; give must be called if err is nil.
func (t *turns) take(ctx context.Context, group uint32, key string) (give func(), err error) {
	slots, limit, name := t.small, t.smallLimit, "nonblockingiothreadnum"
	if layout.IsChunk(key) {
		slots, limit, name = t.content, t.contentLimit, "iothreadnum"
	}
	if !slots.TryAcquire(1) {
		wait, cancel := context.WithTimeoutCause(ctx, turnPatience, fmt.Errorf(
			"%w: %d requests to group %d are under way, as many as %s%s allows", elliptics.ErrTimeout, limit, group, prefix, name))
		defer cancel()
		if slots.Acquire(wait, 1) != nil {
			return nil, context.Cause(wait)
		}
	}
	return func() { slots.Release(1) }, nil
}
