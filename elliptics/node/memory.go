package node

import (
	"context"
	"math/bits"
	"sync"

	"golang.org/x/sync/semaphore"
)

// memory lends buffers for payloads and bounds how many bytes are lent at one
// time, over all connections. Buffers are used again: touching fresh memory
// costs several times what copying into warm memory does.
type memory struct {
	limit int64
	lent  *semaphore.Weighted
	pools [maxClass]sync.Pool
}

// buffer is lent memory. It is given back exactly once, with free.
type buffer struct {
	b     []byte // as long as was asked for
	class int
	owner *memory
	// ahead is what a part of it was taken from besides: see outbox.lend.
	ahead *semaphore.Weighted
	part  int64
}

func newMemory(limit int64) *memory {
	return &memory{limit: limit, lent: semaphore.NewWeighted(limit)}
}

// get waits for n bytes. More than the limit is never granted: the caller
// checks that before.
func (m *memory) get(ctx context.Context, n int64) (*buffer, error) {
	class, capacity := classOf(n)
	if err := m.lent.Acquire(ctx, min(capacity, m.limit)); err != nil {
		return nil, err
	}
	buf, ok := m.pools[class].Get().(*buffer)
	if !ok {
		buf = &buffer{b: make([]byte, capacity), class: class, owner: m}
	}
	buf.b = buf.b[:n]
	return buf, nil
}

func (b *buffer) free() {
	if b == nil {
		return
	}
	m, lent := b.owner, min(int64(cap(b.b)), b.owner.limit)
	if b.ahead != nil {
		b.ahead.Release(b.part)
		b.ahead = nil
	}
	m.pools[b.class].Put(b) // from here on it is somebody else's
	m.lent.Release(lent)
}

// Buffers come in four sizes for each power of two, so that at most a fifth
// of one is wasted: a chunk with a small header around it does not take twice
// its size.
const (
	minBuffer = 1 << 10
	maxClass  = 4 * 54
)

func classOf(n int64) (class int, capacity int64) {
	if n <= minBuffer {
		return 0, minBuffer
	}
	// n-1 lies in [2^k, 2^(k+1)); the capacity is the next quarter step above.
	k := bits.Len64(uint64(n-1)) - 1
	step := int64(1) << (k - 2)
	quarter := (n - 1 - 1<<k) / step // 0..3
	return 4*(k-10) + int(quarter) + 1, 1<<k + (quarter+1)*step
}
