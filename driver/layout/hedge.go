package layout

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

// A chunk is read from one group. One that fails is replaced by the next at
// once; one that is slow gets company, a hedge, and whoever answers first wins.
// So a frozen group costs the reader a moment, and the reads after that
// nothing: it is asked last for a while.
const (
	// A hedge is sent when a read takes several times as long as reads did
	// lately, within these bounds. Under load all reads take longer, so that
	// load alone brings few hedges.
	hedgeFirst  = 250 * time.Millisecond // while nothing is known
	hedgeMin    = 50 * time.Millisecond
	hedgeMax    = time.Second
	hedgeFactor = 4
	// hedgesAtOnce bounds them: what is slow everywhere gets no better by more
	// requests.
	hedgesAtOnce = 16
	// slowFor is how long a group that lost to a hedge is asked last.
	slowFor = 10 * time.Second
)

// pace knows how fast chunks are read.
type pace struct {
	usual  atomic.Int64   // nanoseconds that a read takes, smoothed; 0: unknown
	hedges atomic.Int32   // on their way
	slow   []atomic.Int64 // by group: until when it is asked last, Unix nanoseconds
}

func (p *pace) took(d time.Duration) {
	if old := p.usual.Load(); old != 0 {
		d = time.Duration(old + (int64(d)-old)/8)
	}
	p.usual.Store(max(1, int64(d)))
}

func (p *pace) hedgeAfter() time.Duration {
	usual := time.Duration(p.usual.Load())
	if usual == 0 {
		return hedgeFirst
	}
	return min(max(hedgeFactor*usual, hedgeMin), hedgeMax)
}

// readOrder lists the groups, by index, in the order in which they are asked
// for chunk n, see Options.ReadOrder; those that were slow come last.
func (fs *FS) readOrder(n int) []int {
	groups := fs.cluster.groups
	order := make([]int, 0, len(groups))
	if fs.opt.ReadOrder != nil {
		for _, g := range fs.opt.ReadOrder(n) {
			order = append(order, slices.Index(groups, g))
		}
	} else {
		for i := range groups {
			order = append(order, (n+i)%len(groups))
		}
	}
	now := time.Now().UnixNano()
	slices.SortStableFunc(order, func(a, b int) int {
		slow := func(at int) int {
			if fs.pace.slow[at].Load() > now {
				return 1
			}
			return 0
		}
		return slow(a) - slow(b)
	})
	return order
}

// piece is some checked bytes of a chunk.
type piece struct {
	value Value
	data  []byte
	table chunkTable
}

// readBlocks reads bytes [from, to) of chunk n, which has size bytes; from is
// the start of a block, and to the end of one or of the chunk. table is nil
// the first time.
func (fs *FS) readBlocks(ctx context.Context, id contentID, n, size, from, to int, table *chunkTable) (Value, []byte, chunkTable, error) {
	groups := fs.cluster.groups
	errs := make([]error, len(groups))
	if len(groups) == 1 {
		v, data, t, err := fs.readBlocksOf(ctx, groups[0], id, n, size, from, to, table)
		if err == nil || ctx.Err() != nil {
			return v, data, t, err
		}
		errs[0] = err
		fs.cluster.onError(groups[0], fmt.Errorf("chunk %s:%d: %w", id, n, err))
		return Value{}, nil, chunkTable{}, &QuorumError{Need: 1, Groups: groups, Errs: errs}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan answer[piece], len(groups))
	order, asked, running := fs.readOrder(n), 0, 0
	ask := func() {
		at := order[asked]
		asked, running = asked+1, running+1
		fs.life.begin()
		go func() {
			defer fs.life.end()
			begun := time.Now()
			v, data, t, err := fs.readBlocksOf(ctx, groups[at], id, n, size, from, to, table)
			if err == nil {
				fs.pace.took(time.Since(begun))
			}
			answers <- answer[piece]{at, piece{v, data, t}, err}
		}()
	}
	// Those that nobody waits for any more give back what they got.
	defer func() {
		if running == 0 {
			return
		}
		fs.life.begin()
		go func() {
			defer fs.life.end()
			for range running {
				a := <-answers
				a.value.value.Release()
			}
		}()
	}()
	ask()
	hedge := time.NewTimer(fs.pace.hedgeAfter())
	defer hedge.Stop()
	hedged := 0 // how many of those asked first were too slow
	var lost []uint32
	for running > 0 {
		select {
		case a := <-answers:
			running--
			if a.err == nil {
				for _, at := range order[:hedged] {
					if at != a.group && errs[at] == nil {
						fs.pace.slow[at].Store(time.Now().Add(slowFor).UnixNano())
					}
				}
				if len(lost) > 0 {
					fs.healLater(id, n, size, groups[a.group], lost)
				}
				return a.value.value, a.value.data, a.value.table, nil
			}
			if ctx.Err() != nil {
				return Value{}, nil, chunkTable{}, context.Cause(ctx)
			}
			if isLost(a.err) {
				lost = append(lost, groups[a.group])
			}
			errs[a.group] = a.err
			fs.cluster.onError(groups[a.group], fmt.Errorf("chunk %s:%d: %w", id, n, a.err))
			if asked < len(order) {
				ask()
			}
		case <-hedge.C:
			if asked == len(order) || fs.pace.hedges.Load() >= hedgesAtOnce {
				continue
			}
			hedged = asked
			fs.pace.hedges.Add(1)
			defer fs.pace.hedges.Add(-1)
			ask()
			hedge.Reset(fs.pace.hedgeAfter())
		}
	}
	return Value{}, nil, chunkTable{}, &QuorumError{Need: 1, Groups: groups, Errs: errs}
}
