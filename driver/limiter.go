package driver

import (
	"context"

	"golang.org/x/sync/semaphore"
)

// limiter bounds the operations that run at once. Unlike Distribution's
// regulator it obeys the context of whoever waits.
type limiter struct {
	slots *semaphore.Weighted // nil: no limit
}

func newLimiter(max int) limiter {
	if max <= 0 {
		return limiter{}
	}
	return limiter{semaphore.NewWeighted(int64(max))}
}

// enter waits for a place; leave must be called if err is nil.
func (l limiter) enter(ctx context.Context) (leave func(), err error) {
	if l.slots == nil {
		return func() {}, nil
	}
	if err := l.slots.Acquire(ctx, 1); err != nil {
		return nil, context.Cause(ctx)
	}
	return func() { l.slots.Release(1) }, nil
}
