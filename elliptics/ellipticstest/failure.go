package ellipticstest

import (
	"sync"

	"github.com/elliptics-registry/elliptics-registry/elliptics/node"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// AnyCommand stands for every command.
const AnyCommand wire.Command = 0

// Failure is a fault that waits for requests.
type Failure struct {
	owner *troubles
	fault node.Fault
	match func(wire.Header) bool
	left  int // negative: without end
	hits  int
}

// Hits is how many requests were spoiled so far.
func (f *Failure) Hits() int {
	f.owner.mu.Lock()
	defer f.owner.mu.Unlock()
	return f.hits
}

// Stop lets further requests through.
func (f *Failure) Stop() {
	f.owner.mu.Lock()
	defer f.owner.mu.Unlock()
	f.left = 0
}

// troubles are the failures of one node, and what it was asked.
type troubles struct {
	mu       sync.Mutex
	failures []*Failure
	requests map[wire.Command]int
}

func (t *troubles) add(n int, f node.Fault, match func(wire.Header) bool) *Failure {
	failure := &Failure{owner: t, fault: f, match: match, left: n}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failures = append(t.failures, failure)
	return failure
}

func (t *troubles) intercept(h wire.Header) node.Fault {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.requests == nil {
		t.requests = make(map[wire.Command]int)
	}
	t.requests[h.Command]++
	for _, f := range t.failures {
		if f.left != 0 && f.match(h) {
			f.left--
			f.hits++
			return f.fault
		}
	}
	return node.Fault{}
}

func (t *troubles) count(cmd wire.Command) (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if cmd != AnyCommand {
		return t.requests[cmd]
	}
	for _, requests := range t.requests {
		n += requests
	}
	return n
}
