package layout

import (
	"math/rand/v2"
	"sync"
	"time"
)

// Timestamp orders everything that is written: nanoseconds since 1970, of
// which the last three digits tell the process instead of the time.
type Timestamp uint64

// Time is the timestamp as a time, exact to the microsecond.
func (t Timestamp) Time() time.Time { return time.Unix(0, int64(t)).UTC() }

// maxAhead is how far ahead of this machine's clock a timestamp is still
// followed. Beyond it, somebody's clock is wrong.
const maxAhead = 10 * time.Minute

const tags = 1000 // processes are told apart by the last three digits

// stamps is how many timestamps belong to one version of a file: the tags of
// processes are multiples of it. The first is the version's own; the others
// are newer than it, and older than any other version that is newer.
const stamps = 8

// after is the last timestamp of a version: its end, and nothing else's.
func (t Timestamp) after() Timestamp { return t - t%stamps + stamps - 1 }

// spread is a pause below limit that differs from one timestamp to the next, so
// that those who have been in each other's way are not again.
func (t Timestamp) spread(limit time.Duration) time.Duration {
	return time.Duration(uint64(t) * 0x9e3779b97f4a7c15 >> 1 % uint64(limit))
}

// Clock is a hybrid logical clock: never behind the wall clock, never behind a
// timestamp it was shown, and never the same twice.
type Clock struct {
	now func() time.Time
	tag Timestamp

	mu   sync.Mutex
	last Timestamp
}

// NewClock makes a clock on the wall clock now with a random process tag.
func NewClock(now func() time.Time) *Clock {
	return &Clock{now: now, tag: Timestamp(stamps * rand.N(tags/stamps))}
}

// Next is a timestamp newer than every one before it.
func (c *Clock) Next() Timestamp {
	wall := Timestamp(c.now().UnixMicro())*tags + c.tag
	c.mu.Lock()
	defer c.mu.Unlock()
	if wall <= c.last {
		wall = (c.last/tags+1)*tags + c.tag
	}
	c.last = wall
	return wall
}

// Observe makes the clock follow a timestamp that somebody else wrote. It
// reports false, and does not follow, when that is too far in the future.
func (c *Clock) Observe(t Timestamp) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t <= c.last {
		return true
	}
	if t > Timestamp(c.now().Add(maxAhead).UnixNano()) {
		return false
	}
	c.last = t
	return true
}
