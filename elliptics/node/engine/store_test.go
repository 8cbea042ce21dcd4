package engine

import (
	"bytes"
	"context"
	"io"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

func TestRecordSurvivesReopen(t *testing.T) {
	fs := vfs.NewMem()
	s := newStore(t, Options{FS: fs})
	info := Info{Size: 5, Reserved: 7, Timestamp: Time{1, 2}, UserFlags: 3, Flags: 4}
	require.NoError(t, update(s, key(1), func(*Snapshot) *Change {
		return &Change{Data: [][]byte{[]byte("he"), []byte("llo")}, Size: 5, Reserved: 7, Timestamp: Time{1, 2}, UserFlags: 3, Flags: 4}
	}))
	require.NoError(t, set(s, key(2), nil))
	require.NoError(t, set(s, key(3), []byte("gone")))
	require.NoError(t, remove(s, key(3)))
	large := pattern(1, 5<<20+17)
	require.NoError(t, set(s, key(4), large))
	for range 2 {
		snap, err := s.Get(context.Background(), key(1))
		require.NoError(t, err)
		require.Equal(t, info, snap.Info())
		snap.Close()
		requireRecord(t, s, key(1), []byte("hello"))
		requireRecord(t, s, key(2), []byte{})
		requireMissing(t, s, key(3))
		requireRecord(t, s, key(4), large)
		require.Equal(t, int64(3), s.Stats().Records)
		require.NoError(t, s.Close())
		s = newStore(t, Options{FS: fs})
	}
}

func TestChangesOfParts(t *testing.T) {
	s := newStore(t, Options{})
	change := func(c Change) {
		t.Helper()
		require.NoError(t, update(s, key(1), func(*Snapshot) *Change { return &c }))
	}
	require.NoError(t, set(s, key(1), []byte("0123456789")))
	change(Change{Data: [][]byte{[]byte("ab")}, Offset: 3, Size: 10}) // in the middle
	requireRecord(t, s, key(1), []byte("012ab56789"))
	change(Change{Data: [][]byte{[]byte("X")}, Offset: 12, Size: 13}) // behind a gap
	requireRecord(t, s, key(1), []byte("012ab56789\x00\x00X"))
	change(Change{Size: 4}) // cut
	requireRecord(t, s, key(1), []byte("012a"))
	change(Change{Size: 6}) // what was cut off does not come back
	requireRecord(t, s, key(1), []byte("012a\x00\x00"))
	change(Change{Data: [][]byte{[]byte("new")}, Size: 3})
	requireRecord(t, s, key(1), []byte("new"))
}

func TestReadParts(t *testing.T) {
	s := newStore(t, Options{})
	want := pattern(2, 300_000)
	for at := 0; at < len(want); at += 50_001 { // blocks do not end where extents do
		require.NoError(t, add(s, key(1), want[at:min(at+50_001, len(want))]))
	}
	snap, err := s.Get(context.Background(), key(1))
	require.NoError(t, err)
	defer snap.Close()
	for _, r := range [][2]int{{0, 1}, {0, 300_000}, {65_535, 2}, {65_536, 65_536}, {49_999, 100_004}, {299_999, 1}, {300_000, 0}} {
		got := make([]byte, r[1])
		require.NoError(t, snap.ReadAt(got, int64(r[0])))
		require.True(t, bytes.Equal(want[r[0]:r[0]+r[1]], got), "%d bytes from %d", r[1], r[0])
	}
	require.ErrorIs(t, snap.ReadAt(make([]byte, 1), 300_000), io.ErrUnexpectedEOF)
	require.ErrorIs(t, snap.ReadAt(make([]byte, 2), 299_999), io.ErrUnexpectedEOF)
}

// A record that grows by very many appends neither gets slow to read nor is it
// rewritten again and again.
func TestManyAppends(t *testing.T) {
	s := newStore(t, Options{Sync: SyncNone})
	var want []byte
	const appends, size = 3000, 100
	for i := range appends {
		part := pattern(i, size)
		want = append(want, part...)
		require.NoError(t, add(s, key(1), part))
	}
	requireRecord(t, s, key(1), want)
	snap, err := s.Get(context.Background(), key(1))
	require.NoError(t, err)
	defer snap.Close()
	require.Less(t, len(snap.rec.extents), 100)
	require.Less(t, s.Stats().FileBytes, int64(20*appends*(size+headerSize)))
}

// A snapshot shows the record as it was, whatever happens to it.
func TestSnapshotIsolation(t *testing.T) {
	s := newStore(t, Options{SegmentSize: 1 << 20})
	old := pattern(1, 700_000)
	require.NoError(t, set(s, key(1), old))
	snap, err := s.Get(context.Background(), key(1))
	require.NoError(t, err)
	require.NoError(t, set(s, key(1), []byte("new")))
	for i := range 4 { // fill segments, so that the old one can be given back
		require.NoError(t, set(s, key(2), pattern(i, 700_000)))
	}
	require.NoError(t, s.Compact(context.Background()))
	got := make([]byte, len(old))
	require.NoError(t, snap.ReadAt(got, 0))
	require.True(t, bytes.Equal(old, got))
	snap.Close()
	snap.Close() // may be called again
	requireRecord(t, s, key(1), []byte("new"))
}

func TestUpdateSeesTheNewestState(t *testing.T) {
	s := newStore(t, Options{})
	require.NoError(t, set(s, key(1), []byte("one")))
	// Compare and swap: the second one must see what the first left.
	swap := func(from, to string) bool {
		swapped := false
		require.NoError(t, update(s, key(1), func(old *Snapshot) *Change {
			b := make([]byte, old.Info().Size)
			require.NoError(t, old.ReadAt(b, 0))
			if string(b) != from {
				return nil
			}
			swapped = true
			return &Change{Data: [][]byte{[]byte(to)}, Size: uint64(len(to))}
		}))
		return swapped
	}
	require.True(t, swap("one", "two"))
	require.False(t, swap("one", "three"))
	requireRecord(t, s, key(1), []byte("two"))
}

func TestIterateInOrder(t *testing.T) {
	s := newStore(t, Options{})
	for i := range 100 {
		require.NoError(t, set(s, key(99-i), pattern(99-i, 10+i)))
	}
	require.NoError(t, remove(s, key(50)))
	var first, last Key
	for i := range last {
		last[i] = 0xff
	}
	var seen []Key
	require.NoError(t, s.Iterate(context.Background(), first, last, func(k Key, snap *Snapshot) error {
		seen = append(seen, k)
		b := make([]byte, snap.Info().Size)
		return snap.ReadAt(b, 0)
	}))
	require.Len(t, seen, 99)
	for i := 1; i < len(seen); i++ {
		require.Negative(t, bytes.Compare(seen[i-1][:], seen[i][:]))
	}
}

// TestIterateDoesNotWaitForTheInterval: what is asked for now is made durable
// now, in every mode.
func TestIterateDoesNotWaitForTheInterval(t *testing.T) {
	for _, mode := range []SyncMode{SyncInterval, SyncNone} {
		s := newStore(t, Options{Sync: mode, SyncInterval: time.Hour})
		var last Key
		for i := range last {
			last[i] = 0xff
		}
		for i := range 3 {
			require.NoError(t, set(s, key(i), pattern(i, 10)))
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			seen := 0
			err := s.Iterate(ctx, Key{}, last, func(Key, *Snapshot) error { seen++; return nil })
			cancel()
			require.NoError(t, err, "mode %v", mode)
			require.Equal(t, i+1, seen)
		}
	}
}

func TestClosed(t *testing.T) {
	s := newStore(t, Options{})
	require.NoError(t, s.Close())
	require.ErrorIs(t, set(s, key(1), nil), ErrClosed)
	_, err := get(s, key(1))
	require.ErrorIs(t, err, ErrClosed)
	require.NoError(t, s.Close())
}

func TestSyncModes(t *testing.T) {
	for _, mode := range []SyncMode{SyncAlways, SyncInterval, SyncNone} {
		fs := vfs.NewMem()
		s := newStore(t, Options{FS: fs, Sync: mode})
		for i := range 50 {
			require.NoError(t, set(s, key(i), pattern(i, 1000)))
		}
		require.NoError(t, s.Close())
		s = newStore(t, Options{FS: fs, Sync: mode})
		for i := range 50 {
			requireRecord(t, s, key(i), pattern(i, 1000))
		}
		got, err := ParseSyncMode(mode.String())
		require.NoError(t, err)
		require.Equal(t, mode, got)
	}
	_, err := ParseSyncMode("sometimes")
	require.ErrorContains(t, err, "always, interval or none")
}
