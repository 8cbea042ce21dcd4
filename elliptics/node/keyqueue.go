package node

import (
	"encoding/binary"
	"sync"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// keyQueue makes requests for one key run in the order in which they arrived.
// Consecutive requests that only read run together; nobody overtakes. A
// request that waits costs no goroutine: whoever unlocks starts it.
type keyQueue struct {
	start  func(*request)
	shards [64]keyShard
}

type keyShard struct {
	mu    sync.Mutex
	keys  map[wire.ID]*keyState
	spare []*keyState
}

// keyState is the queue of one key. It exists while a request runs or waits.
type keyState struct {
	readers     int
	writer      bool
	first, last *request // waiting, linked by request.behind
}

// lockMode is how a request holds its key.
type lockMode uint8

const (
	lockNone   lockMode = iota
	lockShared          // with others that hold it shared
	lockExclusive
)

func newKeyQueue(start func(*request)) *keyQueue {
	q := &keyQueue{start: start}
	for i := range q.shards {
		q.shards[i].keys = make(map[wire.ID]*keyState)
	}
	return q
}

func (q *keyQueue) shard(key *wire.ID) *keyShard {
	// The last bytes too: the ids of index shards differ in the first four only.
	h := binary.LittleEndian.Uint64(key[:]) ^ binary.LittleEndian.Uint64(key[56:])
	h ^= h >> 32
	return &q.shards[(h^h>>7)%uint64(len(q.shards))]
}

// lock takes the key of r for r, or puts r at the end of the key's queue; it
// answers whether r may run. If not, r is started when its turn comes.
func (q *keyQueue) lock(r *request) bool {
	s := q.shard(&r.hdr.ID)
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[r.hdr.ID]
	if k == nil {
		k = s.take()
		s.keys[r.hdr.ID] = k
	}
	if k.first == nil && k.admits(r.lock) {
		k.admit(r.lock)
		return true
	}
	if k.last == nil {
		k.first = r
	} else {
		k.last.behind = r
	}
	k.last = r
	return false
}

// unlock gives the key back and starts those whose turn it is.
func (q *keyQueue) unlock(r *request) {
	s := q.shard(&r.hdr.ID)
	s.mu.Lock()
	k := s.keys[r.hdr.ID]
	if r.lock == lockShared {
		k.readers--
	} else {
		k.writer = false
	}
	var ready *request
	tail := &ready
	for k.first != nil && k.admits(k.first.lock) {
		next := k.first
		k.admit(next.lock)
		k.first, next.behind = next.behind, nil
		*tail, tail = next, &next.behind
	}
	if k.first == nil {
		k.last = nil
	}
	if k.readers == 0 && !k.writer {
		delete(s.keys, r.hdr.ID)
		s.put(k)
	}
	s.mu.Unlock()
	for ready != nil {
		next := ready
		ready, next.behind = next.behind, nil
		q.start(next)
	}
}

func (k *keyState) admits(m lockMode) bool {
	return !k.writer && (m == lockShared || k.readers == 0)
}

func (k *keyState) admit(m lockMode) {
	if m == lockShared {
		k.readers++
	} else {
		k.writer = true
	}
}

const spareKeys = 64

func (s *keyShard) take() *keyState {
	if n := len(s.spare); n > 0 {
		k := s.spare[n-1]
		s.spare = s.spare[:n-1]
		return k
	}
	return &keyState{}
}

func (s *keyShard) put(k *keyState) {
	if len(s.spare) < spareKeys {
		s.spare = append(s.spare, k)
	}
}

// waiting counts the requests that wait for a key.
func (q *keyQueue) waiting() (n int) {
	for i := range q.shards {
		s := &q.shards[i]
		s.mu.Lock()
		for _, k := range s.keys {
			for r := k.first; r != nil; r = r.behind {
				n++
			}
		}
		s.mu.Unlock()
	}
	return n
}
