package layout

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

// straggleGrace is how long a write that a majority already holds waits for
// the other groups, so that in good weather all groups are equal when it
// returns and the next read has nothing to repair, and how long a read whose
// answers differ waits for one more. A group that misses it is not waited for
// until it keeps up again.
const straggleGrace = 100 * time.Millisecond

// errPending stands for a group that had not answered when the others had
// decided. Its request goes on.
var errPending = errors.New("still waiting for an answer")

// maxBehind bounds the writes that wait for a group that is lagging. More are
// only sent to it while their majority needs it, or a frozen group would keep
// the data of all uploads in memory; it gets what it missed from scrub, or
// from who reads it.
const maxBehind = 16

var errBehind = errors.New("too many writes wait for it already; it is brought up to date later")

// cluster runs one request on all groups at once.
type cluster struct {
	store   Store
	groups  []uint32
	need    int           // a majority
	timeout time.Duration // of one request that nobody waits for any more
	lagging []atomic.Bool
	writing []*semaphore.Weighted // the first maxBehind writes on their way, by group
	life    *lifetime
	onError func(group uint32, err error)
}

func newCluster(store Store, timeout time.Duration, life *lifetime, onError func(uint32, error)) *cluster {
	groups := store.Groups()
	c := &cluster{
		store: store, groups: groups, need: len(groups)/2 + 1,
		timeout: timeout, lagging: make([]atomic.Bool, len(groups)), life: life, onError: onError,
	}
	for range groups {
		c.writing = append(c.writing, semaphore.NewWeighted(maxBehind))
	}
	return c
}

// answer is what one group said. Not being there is an answer, too: the
// requests below turn it into a value.
type answer[T any] struct {
	group int // index
	value T
	err   error
}

// ask sends a read to all groups and returns when a majority answered, if
// their answers are enough; else it gives the other groups a short time to say
// what they know. Groups that have not answered are absent from the result.
//
// A majority holds whatever was acknowledged. Enough is more than that where
// the answers differ, or where nobody has anything: then one of those asked
// may be behind, and another one may have lost what it had.
func ask[T any](ctx context.Context, c *cluster, read func(ctx context.Context, group uint32) (T, error), enough func([]answer[T]) bool) ([]answer[T], error) {
	return askN(ctx, c, c.need, read, enough)
}

// askN asks for the answers of want groups. Fewer will do if they are a
// majority and the others failed.
func askN[T any](ctx context.Context, c *cluster, want int, read func(ctx context.Context, group uint32) (T, error), enough func([]answer[T]) bool) ([]answer[T], error) {
	if len(c.groups) == 1 {
		v, err := read(ctx, c.groups[0])
		if err != nil {
			return nil, c.quorumError(ctx, 0, []error{err})
		}
		return []answer[T]{{value: v}}, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ch := make(chan answer[T], len(c.groups))
	for i, g := range c.groups {
		c.life.begin()
		go func() {
			defer c.life.end()
			v, err := read(ctx, g)
			ch <- answer[T]{i, v, err}
		}()
	}
	var good []answer[T]
	errs := make([]error, len(c.groups))
	for i := range errs {
		errs[i] = errPending
	}
	var patience <-chan time.Time
	for range c.groups {
		select {
		case a := <-ch:
			errs[a.group] = a.err
			if a.err != nil {
				c.onError(c.groups[a.group], a.err)
				break
			}
			c.lagging[a.group].Store(false)
			good = append(good, a)
		case <-patience:
			c.setLagging(errs)
			return good, nil
		case <-ctx.Done():
			return nil, c.quorumError(ctx, len(good), errs)
		}
		if len(good) < want {
			continue
		}
		if enough != nil && enough(good) || c.allPendingLag(errs) {
			return good, nil
		}
		if patience == nil {
			t := time.NewTimer(straggleGrace)
			defer t.Stop()
			patience = t.C
		}
	}
	if len(good) >= c.need { // fewer than wanted, but enough
		return good, nil
	}
	return nil, c.quorumError(ctx, len(good), errs)
}

// write sends a write to all groups. It returns nil as soon as a majority
// holds it (and the rest had a short time to follow), and a QuorumError as
// soon as a majority cannot be had. done, if not nil, is called when the last
// request has ended, which may be later.
func (c *cluster) write(ctx context.Context, write func(ctx context.Context, group uint32) error, done func()) error {
	if len(c.groups) == 1 {
		err := write(ctx, c.groups[0])
		if done != nil {
			done()
		}
		if err != nil {
			return c.quorumError(ctx, 0, []error{err})
		}
		return nil
	}
	type result struct {
		group int
		err   error
	}
	ch := make(chan result, len(c.groups))
	undecided, decide := context.WithCancel(ctx)
	defer decide()
	c.life.begin()
	go func() {
		defer c.life.end()
		// The caller's context must not take back what a minority still has
		// to do.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.timeout)
		defer cancel()
		var all sync.WaitGroup
		for i, g := range c.groups {
			all.Go(func() {
				leave, err := c.queue(undecided, i)
				if err == nil {
					err = write(ctx, g)
					leave()
				}
				if err != nil {
					c.onError(g, err)
				}
				ch <- result{i, err}
			})
		}
		all.Wait()
		if done != nil {
			done()
		}
	}()
	errs := make([]error, len(c.groups))
	for i := range errs {
		errs[i] = errPending
	}
	ok, failed := 0, 0
	var grace <-chan time.Time
	for {
		select {
		case r := <-ch:
			errs[r.group] = r.err
			if r.err == nil {
				ok++
				c.lagging[r.group].Store(false)
			} else {
				failed++
			}
		case <-grace:
			c.setLagging(errs)
			return nil
		case <-ctx.Done():
			return c.quorumError(ctx, ok, errs)
		}
		if failed > len(c.groups)-c.need {
			return c.quorumError(ctx, ok, errs)
		}
		if ok >= c.need {
			if ok+failed == len(c.groups) || c.allPendingLag(errs) {
				return nil
			}
			if grace == nil {
				t := time.NewTimer(straggleGrace)
				defer t.Stop()
				grace = t.C
			}
		}
	}
}

// queue lets a write to a group begin: at once, or, while too many wait for a
// lagging group, when one of those has ended. A write whose outcome is decided
// before that is not sent.
func (c *cluster) queue(undecided context.Context, group int) (leave func(), err error) {
	places := c.writing[group]
	switch {
	case places.TryAcquire(1):
	case !c.lagging[group].Load():
		return func() {}, nil
	case places.Acquire(undecided, 1) != nil:
		return nil, errBehind
	}
	return func() { places.Release(1) }, nil
}

// setLagging says that the groups of which nothing was heard keep others
// waiting. Nobody waits for them until they are heard of in time.
func (c *cluster) setLagging(errs []error) {
	for i, err := range errs {
		if errors.Is(err, errPending) {
			c.lagging[i].Store(true)
		}
	}
}

func (c *cluster) allPendingLag(errs []error) bool {
	for i, err := range errs {
		if errors.Is(err, errPending) && !c.lagging[i].Load() {
			return false
		}
	}
	return true
}

func (c *cluster) quorumError(ctx context.Context, ok int, errs []error) error {
	if ctx.Err() != nil && ok == 0 && len(errs) == 1 {
		return context.Cause(ctx)
	}
	return &QuorumError{Need: c.need, OK: ok, Groups: c.groups, Errs: errs}
}
