package engine

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// history is what one key went through: versions[i] is its content after
// change i (nil: removed), of which the first acked were acknowledged.
type history struct {
	mu       sync.Mutex
	versions [][]byte
	acked    int // index of the newest acknowledged version, -1: none
}

// check tells whether a content is one that may be there after a crash: the
// newest acknowledged one, or one that came later, whole.
func (h *history) check(got []byte, exists bool) error {
	first := max(h.acked, 0)
	if h.acked < 0 && !exists {
		return nil
	}
	for _, v := range h.versions[first:] {
		if exists == (v != nil) && bytes.Equal(v, got) {
			return nil
		}
	}
	return fmt.Errorf("%d bytes (exists: %v) are none of the versions %d to %d", len(got), exists, first, len(h.versions)-1)
}

// A crash at any instant leaves every acknowledged change, and no part of any
// other: whatever of the unsynced bytes had reached the disk.
func TestCrash(t *testing.T) {
	rounds := 30
	if testing.Short() {
		rounds = 8
	}
	for seed := range rounds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { crash(t, uint64(seed)) })
	}
}

func crash(t *testing.T, seed uint64) {
	const writers, keysEach, changes = 4, 5, 60
	fs := vfs.NewCrashableMem()
	s := newStore(t, Options{FS: fs, SegmentSize: 256 << 10, MaxUnsynced: 256 << 10})
	histories := make([]*history, writers*keysEach)
	for i := range histories {
		histories[i] = &history{acked: -1}
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	crashAt := rng.IntN(writers * changes)

	type crashed struct {
		fs    *vfs.MemFS
		acked []int
	}
	var clone *crashed
	var cloneMu sync.Mutex
	var done int
	// maybeCrash takes the picture of the disk: acknowledgements that were
	// seen before it must hold.
	maybeCrash := func() {
		cloneMu.Lock()
		defer cloneMu.Unlock()
		if done++; done != crashAt+1 {
			return
		}
		c := &crashed{}
		for _, h := range histories {
			h.mu.Lock()
			c.acked = append(c.acked, h.acked)
			h.mu.Unlock()
		}
		c.fs = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 30, 70, 100}[seed%4], RNG: rng})
		clone = c
	}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			rng := rand.New(rand.NewPCG(seed, uint64(w)+2))
			for i := range changes {
				n := w*keysEach + rng.IntN(keysEach)
				h := histories[n]
				var err error
				h.mu.Lock()
				var last []byte
				if len(h.versions) > 0 {
					last = h.versions[len(h.versions)-1]
				}
				next := pattern(int(seed)*1000+w*100+i, rng.IntN(9000))
				kind := rng.IntN(10)
				switch {
				case kind == 0:
					next = nil
				case kind < 6:
					next = append(append([]byte{}, last...), next...)
				}
				h.versions = append(h.versions, next)
				version := len(h.versions) - 1
				h.mu.Unlock()
				switch {
				case kind == 0:
					err = remove(s, key(n))
				case kind < 6:
					err = add(s, key(n), next[len(last):])
				default:
					err = set(s, key(n), next)
				}
				if err != nil {
					t.Errorf("change: %v", err)
					return
				}
				h.mu.Lock()
				h.acked = max(h.acked, version)
				h.mu.Unlock()
				maybeCrash()
			}
		}()
	}
	wg.Wait()
	require.NotNil(t, clone)

	for round := range 3 { // the recovery itself is recovered, then rebuilt
		if round == 2 {
			require.NoError(t, clone.fs.RemoveAll(filepath.Join("store", "index")))
		}
		r, err := Open("store", Options{FS: clone.fs, MinFree: 1, Logger: quiet, SegmentSize: 256 << 10})
		require.NoError(t, err)
		for n, h := range histories {
			got, err := get(r, key(n))
			if err != nil {
				require.ErrorIs(t, err, ErrNotFound, "key %d", n)
			}
			seen := history{versions: h.versions, acked: clone.acked[n]}
			require.NoError(t, seen.check(got, err == nil), "key %d in round %d", n, round)
		}
		// It is a store like any other.
		require.NoError(t, set(r, key(1000+round), pattern(round, 1000)))
		requireRecord(t, r, key(1000+round), pattern(round, 1000))
		require.NoError(t, r.Close())
	}
}

// A crash in which a write is lost, but a later one that nobody acknowledged
// was not: the later one must not damage what was acknowledged.
func TestCrashWithHole(t *testing.T) {
	for _, rebuild := range []bool{false, true} {
		fs := vfs.NewMem()
		s := newStore(t, Options{FS: fs})
		require.NoError(t, set(s, key(1), []byte("acknowledged")))
		require.NoError(t, set(s, key(2), []byte("too")))
		name := filepath.Join("store", segmentFiles(t, fs)[0])
		require.NoError(t, s.Close())

		// Two appends that no sync came after, the first of which is torn.
		s2, err := Open("store", Options{FS: fs, MinFree: 1, Logger: quiet, Sync: SyncNone})
		require.NoError(t, err)
		hole := s2.active.end
		require.NoError(t, add(s2, key(1), pattern(1, 1000)))
		require.NoError(t, add(s2, key(1), pattern(2, 1000)))
		require.NoError(t, set(s2, key(3), []byte("never acknowledged")))
		crashed := copyFiles(t, fs, "store")
		require.NoError(t, s2.Close())
		flip(t, crashed, name, int64(hole)+20)
		if rebuild {
			require.NoError(t, crashed.RemoveAll(filepath.Join("store", "index")))
		}

		for range 2 { // what was dropped stays so
			r, err := Open("store", Options{FS: crashed, MinFree: 1, Logger: quiet})
			require.NoError(t, err)
			requireRecord(t, r, key(1), []byte("acknowledged"))
			requireRecord(t, r, key(2), []byte("too"))
			requireMissing(t, r, key(3))
			require.NoError(t, set(r, key(4), []byte("later")))
			requireRecord(t, r, key(4), []byte("later"))
			require.NoError(t, r.Close())
			require.NoError(t, crashed.RemoveAll(filepath.Join("store", "index")))
		}
	}
}

// copyFiles is a picture of a directory of segments as a killed process leaves
// it, without the index's last changes.
func copyFiles(t *testing.T, from vfs.FS, dir string) vfs.FS {
	t.Helper()
	to := vfs.NewMem()
	ok, err := vfs.Clone(from, to, dir, dir)
	require.NoError(t, err)
	require.True(t, ok)
	return to
}
