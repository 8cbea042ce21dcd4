package node

import (
	"context"
	"sync"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// maxIterators bounds the iterators of one backend.
const maxIterators = 64

// iterators are the running ones of a backend, by their numbers.
type iterators struct {
	stopping <-chan struct{} // the node is

	mu     sync.Mutex
	byID   map[uint64]*iterator
	closed bool // until the backend is opened again
}

// iterator is a running one. Pause, continue and cancel come from other
// requests.
type iterator struct {
	number uint64
	owner  *iterators
	ctx    context.Context // ends with the connection, or by cancel
	cancel context.CancelCauseFunc

	mu     sync.Mutex
	resume chan struct{} // closed when the iterator goes on; nil: it does
}

// begin gives a new iterator the lowest free number; nil when there are too
// many, or the backend is about to be closed.
func (s *iterators) begin(ctx context.Context) *iterator {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.byID) >= maxIterators {
		return nil
	}
	if s.byID == nil {
		s.byID = make(map[uint64]*iterator)
	}
	it := &iterator{owner: s}
	for s.byID[it.number] != nil {
		it.number++
	}
	it.ctx, it.cancel = context.WithCancelCause(ctx)
	s.byID[it.number] = it
	return it
}

// end frees the number.
func (it *iterator) end() {
	it.owner.mu.Lock()
	delete(it.owner.byID, it.number)
	it.owner.mu.Unlock()
	it.cancel(nil)
}

// act does what a request wants of a running iterator.
func (s *iterators) act(number uint64, action wire.IteratorAction) wire.Status {
	s.mu.Lock()
	it := s.byID[number]
	s.mu.Unlock()
	if it == nil {
		return wire.ErrNotFound
	}
	it.mu.Lock()
	defer it.mu.Unlock()
	switch action {
	case wire.IteratorPause:
		if it.resume == nil {
			it.resume = make(chan struct{})
		}
	case wire.IteratorContinue:
		if it.resume != nil {
			close(it.resume)
			it.resume = nil
		}
	case wire.IteratorCancel:
		it.cancel(wire.ErrExec)
	default:
		return wire.ErrInvalid
	}
	return wire.OK
}

func (s *iterators) open() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = false
}

// close ends all iterators and lets none begin.
func (s *iterators) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, it := range s.byID {
		it.cancel(wire.ErrAgain)
	}
}

// paused tells whether the iterator has to wait.
func (it *iterator) paused() bool {
	it.mu.Lock()
	defer it.mu.Unlock()
	return it.resume != nil
}

// wait returns when the iterator may go on, with the reason when it may not.
func (it *iterator) wait() error {
	for {
		it.mu.Lock()
		resume := it.resume
		it.mu.Unlock()
		if resume == nil {
			return context.Cause(it.ctx)
		}
		select {
		case <-resume:
		case <-it.ctx.Done():
			return context.Cause(it.ctx)
		case <-it.owner.stopping:
			return wire.ErrAgain
		}
	}
}
