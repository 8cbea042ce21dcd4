package driver

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// readOrder says which groups are asked for content first: at random, each as
// likely as it was fast (mix_states), or all equally (randomize_states).
type readOrder struct {
	groups []uint32
	equal  bool

	mu   sync.Mutex
	cost map[uint32]float64 // microseconds for each byte, of late; missing: unknown
}

func newReadOrder(groups []uint32, equal bool) *readOrder {
	return &readOrder{groups: groups, equal: equal, cost: make(map[uint32]float64)}
}

const (
	// failed multiplies the cost of a group that did not answer.
	failed = 10
	// forget brings the cost of a group that was not asked down to that of the
	// best one, so that it is tried again some time.
	forget = 0.99
	// minCost and maxCost keep the numbers in a sane range.
	minCost, maxCost = 1e-6, 1e6
)

// best is the lowest known cost; an unknown group is taken to have it.
func (o *readOrder) best() float64 {
	best := maxCost
	for _, c := range o.cost {
		best = min(best, c)
	}
	return best
}

// order draws the groups one after the other.
func (o *readOrder) order(int) []uint32 {
	left := slices.Clone(o.groups)
	o.mu.Lock()
	defer o.mu.Unlock()
	best := o.best()
	weight := func(g uint32) float64 {
		if cost, known := o.cost[g]; known && !o.equal {
			return best / cost
		}
		return 1
	}
	for i := range left {
		total := 0.0
		for _, g := range left[i:] {
			total += weight(g)
		}
		at, j := rand.Float64()*total, i
		for ; j < len(left)-1; j++ {
			if at -= weight(left[j]); at < 0 {
				break
			}
		}
		left[i], left[j] = left[j], left[i]
	}
	for _, g := range left[1:] {
		if cost, known := o.cost[g]; known {
			o.cost[g] = max(best, cost*forget)
		}
	}
	return left
}

// done takes in how long a read took; of a failed one size is 0.
func (o *readOrder) done(group uint32, size int, took time.Duration) {
	if o == nil || o.equal {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	cost, known := o.cost[group]
	if !known {
		cost = min(o.best(), 1)
	}
	if size == 0 {
		cost *= failed
	} else if now := float64(took) / float64(time.Microsecond) / float64(size); known {
		cost = (cost + now) / 2
	} else {
		cost = now
	}
	o.cost[group] = min(max(cost, minCost), maxCost)
}
