package layout

import (
	"context"
	"crypto/sha512"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// memStore is a Store in memory that behaves like real groups do: each key is
// atomic within a group, nothing is shared between groups, and a group may be
// down, slow, or lose the answer to a request that it executed.
type memStore struct {
	mu     sync.Mutex
	groups map[uint32]map[string]memValue
	order  []uint32
	down   map[uint32]bool
	// fault, if set, may fail a request, before or after it is executed.
	fault func(group uint32, op, key string) (before, after error)
	delay func() time.Duration
	calls int
}

type memValue struct {
	data  []byte
	ts    Timestamp
	flags uint64
}

var errDown = errors.New("connection refused")

func newMemStore(groups ...uint32) *memStore {
	s := &memStore{groups: make(map[uint32]map[string]memValue), order: groups, down: make(map[uint32]bool)}
	for _, g := range groups {
		s.groups[g] = make(map[string]memValue)
	}
	return s
}

func (s *memStore) Groups() []uint32 { return s.order }

func (s *memStore) setDown(group uint32, down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down[group] = down
}

func (s *memStore) setFaults(fault func(group uint32, op, key string) (before, after error), delay func() time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault, s.delay = fault, delay
}

func (s *memStore) do(ctx context.Context, group uint32, op, key string, f func(m map[string]memValue) error) error {
	s.mu.Lock()
	delay := s.delay
	s.mu.Unlock()
	if delay != nil {
		time.Sleep(delay())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.down[group] {
		return errDown
	}
	var after error
	if s.fault != nil {
		var before error
		if before, after = s.fault(group, op, key); before != nil {
			return before
		}
	}
	if err := f(s.groups[group]); err != nil {
		return err
	}
	return after
}

func (s *memStore) Read(ctx context.Context, group uint32, key string, offset, size uint64) (v Value, err error) {
	err = s.do(ctx, group, "read", key, func(m map[string]memValue) error {
		r, ok := m[key]
		if !ok {
			return wire.ErrNotFound
		}
		if offset >= uint64(len(r.data)) {
			return wire.ErrTooBig
		}
		data := r.data[offset:]
		if size > 0 && size < uint64(len(data)) {
			data = data[:size]
		}
		v = NewValue(slices.Clone(data), uint64(len(r.data)), nil)
		return nil
	})
	return v, err
}

func (s *memStore) Write(ctx context.Context, group uint32, key string, w Write) error {
	return s.do(ctx, group, "write", key, func(m map[string]memValue) error {
		old, ok := m[key]
		if ok && w.IfNotNewer && old.ts > w.Timestamp {
			return wire.ErrConflict
		}
		if ok && w.IfSum != nil && sha512.Sum512(old.data) != *w.IfSum {
			return wire.ErrConflict
		}
		data := slices.Concat(w.Data...)
		if w.Append {
			data = append(slices.Clone(old.data), data...)
		}
		m[key] = memValue{data, w.Timestamp, w.Flags}
		return nil
	})
}

func (s *memStore) Remove(ctx context.Context, group uint32, key string) error {
	return s.do(ctx, group, "remove", key, func(m map[string]memValue) error {
		if _, ok := m[key]; !ok {
			return wire.ErrNotFound
		}
		delete(m, key)
		return nil
	})
}

func (s *memStore) ID(key string) wire.ID { return wire.HashID("", key) }

func (s *memStore) Scan(ctx context.Context, group uint32, first, last wire.ID, f func(Found) error) error {
	var found []Found
	err := s.do(ctx, group, "scan", "", func(m map[string]memValue) error {
		for key, v := range m {
			if id := s.ID(key); first.Compare(id) <= 0 && id.Compare(last) <= 0 {
				found = append(found, Found{ID: id, Timestamp: v.ts, Flags: v.flags, Size: uint64(len(v.data))})
			}
		}
		return nil
	})
	for _, r := range found {
		if err == nil {
			err = f(r)
		}
	}
	return err
}

// byID finds the key of an id.
func (s *memStore) byID(id wire.ID) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.groups {
		for key := range m {
			if s.ID(key) == id {
				return key
			}
		}
	}
	return ""
}

func (s *memStore) ReadID(ctx context.Context, group uint32, id wire.ID, offset, size uint64) (Value, error) {
	return s.Read(ctx, group, s.byID(id), offset, size)
}

// keys lists the keys of a group that begin with prefix.
func (s *memStore) keys(group uint32, prefix string) (keys []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.groups[group] {
		if strings.HasPrefix(k, prefix) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

func newTestFS(t testing.TB, s Store, opt Options) *FS {
	t.Helper()
	if opt.ChunkSize == 0 {
		opt.ChunkSize = 128 << 10
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	fs, err := New(s, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { fs.Close() })
	return fs
}

func randomBytes(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, uint64(n)))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}
