package engine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// bench is what the choice of the engine was made between; docs/design.md has
// the numbers. Both sync every put, and share syncs between writers.
type bench interface {
	put(k Key, v []byte) error
	get(k Key) (int, error)
	remove(k Key) error
	compact() error // gives back what it can
	Close() error
}

var benches = []struct {
	name string
	open func(testing.TB, string) bench
}{
	{"segments", openBenchStore},
	{"pebble", func(t testing.TB, dir string) bench { return openPebble(t, dir, false) }},
	{"pebble-separated", func(t testing.TB, dir string) bench { return openPebble(t, dir, true) }},
}

type benchStore struct{ *Store }

func openBenchStore(t testing.TB, dir string) bench {
	s, err := Open(dir, Options{Logger: quiet, SegmentSize: 64 << 20, FS: vfs.Default})
	require.NoError(t, err)
	return benchStore{s}
}

func (s benchStore) put(k Key, v []byte) error { return set(s.Store, k, v) }
func (s benchStore) remove(k Key) error        { return remove(s.Store, k) }
func (s benchStore) compact() error            { return s.Compact(context.Background()) }

func (s benchStore) get(k Key) (int, error) {
	b, err := get(s.Store, k)
	return len(b), err
}

// pebbleStore is pebble with the values in it.
type pebbleStore struct{ *pebble.DB }

func openPebble(t testing.TB, dir string, separated bool) bench {
	cache := pebble.NewCache(64 << 20)
	defer cache.Unref()
	opt := &pebble.Options{
		Cache: cache, MemTableSize: 64 << 20, FormatMajorVersion: pebble.FormatNewest, Logger: pebbleLogger{quiet},
	}
	if separated { // values in files of their own
		opt.Experimental.ValueSeparationPolicy = func() pebble.ValueSeparationPolicy {
			return pebble.ValueSeparationPolicy{Enabled: true, MinimumSize: 4 << 10, MaxBlobReferenceDepth: 10, TargetGarbageRatio: 0.2}
		}
	}
	db, err := pebble.Open(dir, opt)
	require.NoError(t, err)
	return pebbleStore{db}
}

func (p pebbleStore) put(k Key, v []byte) error { return p.Set(k[:], v, pebble.Sync) }
func (p pebbleStore) remove(k Key) error        { return p.Delete(k[:], pebble.Sync) }

func (p pebbleStore) get(k Key) (int, error) {
	v, closer, err := p.Get(k[:])
	if err != nil {
		return 0, err
	}
	b := append([]byte(nil), v...) // as a reader needs it
	return len(b), closer.Close()
}

func (p pebbleStore) compact() error {
	if err := p.Flush(); err != nil {
		return err
	}
	return p.Compact(context.Background(), []byte{0}, []byte{0xff, 0xff}, true)
}

// BenchmarkEngine measures puts that are on stable storage when they return, by
// one writer and by sixteen, and gets with a warm page cache.
func BenchmarkEngine(b *testing.B) {
	for _, size := range []int{128, 64 << 10, 1 << 20} {
		value := pattern(1, size)
		for _, writers := range []int{1, 32} {
			for _, e := range benches {
				b.Run(fmt.Sprintf("put/size=%d/writers=%d/engine=%s", size, writers, e.name), func(b *testing.B) {
					s := e.open(b, b.TempDir())
					b.SetBytes(int64(size))
					var n atomic.Int64
					b.SetParallelism(max(1, writers/runtime.GOMAXPROCS(0)))
					written := writtenBytes()
					b.ResetTimer()
					run := func(next func() bool) {
						for next() {
							if err := s.put(key(int(n.Add(1))), value); err != nil {
								b.Error(err)
							}
						}
					}
					if writers == 1 {
						run(b.Loop)
					} else {
						b.RunParallel(func(pb *testing.PB) { run(pb.Next) })
					}
					b.StopTimer()
					require.NoError(b, s.Close())
					if w := writtenBytes() - written; w > 0 {
						b.ReportMetric(float64(w)/float64(n.Load()*int64(size)), "written/byte")
					}
				})
			}
		}
		for _, e := range benches {
			b.Run(fmt.Sprintf("get/size=%d/engine=%s", size, e.name), func(b *testing.B) {
				s := e.open(b, b.TempDir())
				const keys = 256
				for i := range keys {
					require.NoError(b, s.put(key(i), value))
				}
				b.SetBytes(int64(size))
				for i := 0; b.Loop(); i++ {
					if n, err := s.get(key(i * 7 % keys)); err != nil || n != size {
						b.Fatal(n, err)
					}
				}
				require.NoError(b, s.Close())
			})
		}
	}
	for _, e := range benches {
		b.Run("space/engine="+e.name, func(b *testing.B) { benchSpace(b, e.open) })
	}
}

// benchSpace stores 256 MiB, removes every other record, and reports how much
// of the disk is left, and what was written for it, per byte stored.
func benchSpace(b *testing.B, open func(testing.TB, string) bench) {
	const size, records = 64 << 10, 4096
	value := pattern(1, size)
	for b.Loop() {
		dir, written := b.TempDir(), writtenBytes()
		s := open(b, dir)
		for i := range records {
			require.NoError(b, s.put(key(i), value))
		}
		for i := 0; i < records; i += 2 {
			require.NoError(b, s.remove(key(i)))
		}
		require.NoError(b, s.compact())
		require.NoError(b, s.Close())
		// Files that nobody needs any more are gone after the next start.
		require.NoError(b, open(b, dir).Close())
		b.ReportMetric(float64(diskBytes(b, dir))/(size*records), "disk/byte")
		b.ReportMetric(float64(writtenBytes()-written)/(size*records), "written/byte")
	}
}

func diskBytes(t testing.TB, dir string) (n int64) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	}))
	return n
}

// writtenBytes is what this process has given to the disk so far; 0 where the
// system does not tell.
func writtenBytes() (n int64) {
	b, _ := os.ReadFile("/proc/self/io")
	for line := range strings.Lines(string(b)) {
		if _, err := fmt.Sscanf(line, "write_bytes: %d", &n); err == nil {
			return n
		}
	}
	return 0
}
