package engine

import (
	"context"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// Any flipped byte of a segment leads to an error for the record that it
// belongs to, never to wrong bytes, and leaves the others alone.
func TestFlippedBytes(t *testing.T) {
	const records = 12
	content := func(i int) []byte { return pattern(i, 1+i*i*2500) }
	rng := rand.New(rand.NewPCG(1, 2))
	fs := vfs.NewMem()
	s := newStore(t, Options{FS: fs})
	for i := range records {
		require.NoError(t, set(s, key(i), content(i)))
	}
	size := int64(s.active.end)
	name := filepath.Join("store", segmentFiles(t, fs)[0])
	check := func(s *Store) (damaged int) {
		for i := range records {
			got, err := get(s, key(i))
			switch {
			case errors.Is(err, ErrCorrupt), errors.Is(err, ErrNotFound):
				damaged++
			default:
				require.NoError(t, err)
				require.Equal(t, content(i), got)
			}
		}
		return damaged
	}
	for range 60 {
		at := rng.Int64N(size)
		flip(t, fs, name, at)
		require.LessOrEqual(t, check(s), 1, "byte %d", at)

		// The same when the index is made anew from the damaged segments. The
		// last frame is special: nothing tells it from what a crash cut off.
		damaged := copyFiles(t, fs, "store")
		require.NoError(t, damaged.RemoveAll(filepath.Join("store", "index")))
		r, err := Open("store", Options{FS: damaged, MinFree: 1, Logger: quiet})
		require.NoError(t, err)
		require.LessOrEqual(t, check(r), 1, "byte %d, rebuilt", at)
		require.NoError(t, r.Close())
		flip(t, fs, name, at)
	}
	require.Zero(t, check(s))
}

// Damage in the middle of what was durable does not take along what came
// later: that is not what a crash leaves.
func TestDamageIsNotACrash(t *testing.T) {
	fs := vfs.NewMem()
	s := newStore(t, Options{FS: fs})
	for i := range 10 {
		require.NoError(t, set(s, key(i), pattern(i, 1000)))
	}
	require.NoError(t, s.Close())
	name := filepath.Join("store", segmentFiles(t, fs)[0])
	flip(t, fs, name, 3*int64(frameSize(1000))+8) // the header of the fourth
	require.NoError(t, fs.RemoveAll(filepath.Join("store", "index")))
	s = newStore(t, Options{FS: fs})
	requireMissing(t, s, key(3))
	for _, i := range []int{0, 1, 2, 4, 5, 6, 7, 8, 9} {
		requireRecord(t, s, key(i), pattern(i, 1000))
	}
}

// A lost or damaged index is made anew.
func TestIndexIsRebuilt(t *testing.T) {
	damage := map[string]func(fs vfs.FS){
		"removed": func(fs vfs.FS) { require.NoError(t, fs.RemoveAll(filepath.Join("store", "index"))) },
		"flipped": func(fs vfs.FS) {
			dir := filepath.Join("store", "index")
			names, err := fs.List(dir)
			require.NoError(t, err)
			for _, n := range names {
				if filepath.Ext(n) == ".sst" {
					info, err := fs.Stat(filepath.Join(dir, n))
					require.NoError(t, err)
					flip(t, fs, filepath.Join(dir, n), info.Size()-30)
				}
			}
		},
	}
	for name, damage := range damage {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewMem()
			s := newStore(t, Options{FS: fs, SegmentSize: 1 << 20})
			for i := range 200 {
				require.NoError(t, set(s, key(i), pattern(i, 20_000)))
			}
			for i := range 100 {
				require.NoError(t, remove(s, key(i)))
			}
			require.NoError(t, add(s, key(150), []byte("tail")))
			require.NoError(t, s.Compact(context.Background()))
			before := s.Stats()
			require.NoError(t, s.Close())
			damage(fs)
			s = newStore(t, Options{FS: fs, SegmentSize: 1 << 20})
			for i := range 200 { // damage may only show when it is met
				if _, err := get(s, key(i)); err != nil && !errors.Is(err, ErrNotFound) {
					require.ErrorIs(t, err, ErrCorrupt)
				}
			}
			require.NoError(t, s.Close())
			s = newStore(t, Options{FS: fs, SegmentSize: 1 << 20})
			for i := range 100 {
				requireMissing(t, s, key(i))
			}
			for i := 100; i < 200; i++ {
				want := pattern(i, 20_000)
				if i == 150 {
					want = append(want, "tail"...)
				}
				requireRecord(t, s, key(i), want)
			}
			require.Equal(t, before.Records, s.Stats().Records)
			require.Equal(t, before.LiveBytes, s.Stats().LiveBytes)
		})
	}
}

// Whoever stores frames in a record cannot make recovery believe in them.
func TestForgedFrames(t *testing.T) {
	fs := vfs.NewMem()
	s := newStore(t, Options{FS: fs})
	forged := frame{seq: 1 << 40, durable: 1 << 40, key: key(7), kind: kindPut, dataLen: 6, info: Info{Size: 6}}
	bytes := forged.appendHeader(nil, [][]byte{[]byte("forged")})
	forged.seal(bytes[:headerSize], 0)
	bytes = append(bytes, "forged"...)
	require.NoError(t, set(s, key(7), []byte("genuine")))
	require.NoError(t, set(s, key(1), bytes))
	at := s.active.end
	require.NoError(t, set(s, key(2), pattern(2, 100)))
	require.NoError(t, set(s, key(3), pattern(3, 100)))
	require.NoError(t, s.Close())
	name := filepath.Join("store", segmentFiles(t, fs)[0])
	flip(t, fs, name, int64(at)-int64(frameSize(uint64(len(bytes))))+8) // the header before the forged one
	require.NoError(t, fs.RemoveAll(filepath.Join("store", "index")))
	s = newStore(t, Options{FS: fs})
	requireRecord(t, s, key(7), []byte("genuine"))
	requireRecord(t, s, key(3), pattern(3, 100))
}
