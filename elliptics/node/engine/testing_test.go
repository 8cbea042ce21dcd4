package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

var quiet = slog.New(slog.DiscardHandler)

// newStore opens a store on a file system in memory, unless opt has another.
func newStore(t testing.TB, opt Options) *Store {
	t.Helper()
	if opt.FS == nil {
		opt.FS = vfs.NewMem()
	}
	if opt.Logger == nil {
		opt.Logger = quiet
	}
	if opt.MinFree == 0 {
		opt.MinFree = 1
	}
	s, err := Open("store", opt)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// key spreads over the key locks as hashes do.
func key(n int) (k Key) {
	copy(k[:], fmt.Sprintf("%c%c-key-%d", byte(n), byte(n>>8), n))
	return k
}

// set replaces a record and waits until that is acknowledged.
func set(s *Store, k Key, data []byte) error {
	return update(s, k, func(*Snapshot) *Change { return &Change{Data: [][]byte{data}, Size: uint64(len(data))} })
}

// add appends to a record.
func add(s *Store, k Key, data []byte) error {
	return update(s, k, func(old *Snapshot) *Change {
		var size uint64
		if old != nil {
			size = old.Info().Size
		}
		return &Change{Data: [][]byte{data}, Offset: size, Size: size + uint64(len(data))}
	})
}

func remove(s *Store, k Key) error {
	return update(s, k, func(*Snapshot) *Change { return &Change{Delete: true} })
}

func update(s *Store, k Key, fn func(*Snapshot) *Change) error {
	c, err := s.Update(context.Background(), k, func(old *Snapshot) (*Change, error) { return fn(old), nil })
	if err != nil {
		return err
	}
	return c.Wait(context.Background())
}

// get reads a record whole.
func get(s *Store, k Key) ([]byte, error) {
	snap, err := s.Get(context.Background(), k)
	if err != nil {
		return nil, err
	}
	defer snap.Close()
	b := make([]byte, snap.Info().Size)
	return b, snap.ReadAt(b, 0)
}

func requireRecord(t testing.TB, s *Store, k Key, want []byte) {
	t.Helper()
	got, err := get(s, k)
	require.NoError(t, err)
	if !bytes.Equal(want, got) {
		require.Failf(t, "wrong bytes", "record %q has %d bytes, first difference at %d of %d", k[:12], len(got), firstDifference(got, want), len(want))
	}
}

func requireMissing(t testing.TB, s *Store, k Key) {
	t.Helper()
	_, err := get(s, k)
	require.ErrorIs(t, err, ErrNotFound)
}

func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// pattern is n bytes that differ from each other pattern's.
func pattern(seed, n int) []byte {
	b := make([]byte, n)
	x := uint32(seed)*2654435761 + 1
	for i := range b {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = byte(x)
	}
	return b
}

// segmentFiles are the names of the segments, in order.
func segmentFiles(t testing.TB, fs vfs.FS) (names []string) {
	t.Helper()
	all, err := fs.List("store")
	require.NoError(t, err)
	for _, n := range all {
		if _, _, ok := parseSegmentName(n); ok {
			names = append(names, n)
		}
	}
	return names
}

// flip changes one byte of a file.
func flip(t testing.TB, fs vfs.FS, name string, at int64) {
	t.Helper()
	f, err := fs.OpenReadWrite(name, diskCategory)
	require.NoError(t, err)
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil && !errors.Is(err, io.EOF) {
		require.NoError(t, err)
	}
	b[0] ^= 0x40
	_, err = f.WriteAt(b, at)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}
