package elliptics_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/elliptics/ellipticstest"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// Benchmarks of one group: on an embedded node that does not sync, and on the
// first group of ELLIPTICS_TEST_GROUPS where ELLIPTICS_TEST_REMOTES is given.
// BenchmarkTCP is what a loopback connection copies without any protocol, for
// comparison:
//
//	go test -run '^$' -bench . ./elliptics

// benchServers runs a benchmark on each kind of server.
func benchServers(b *testing.B, run func(b *testing.B, s *elliptics.Session)) {
	b.Run("embedded", func(b *testing.B) { run(b, benchSession(b, ellipticstest.Start(b, 1).Remotes(), 1)) })
	remotes, groups := testServers(b)
	if len(remotes) == 0 {
		return
	}
	b.Run("remote", func(b *testing.B) { run(b, benchSession(b, remotes, append(groups, 1)[0])) })
}

func benchSession(b *testing.B, remotes []string, group uint32) *elliptics.Session {
	n := connect(b, remotes, func(c *elliptics.Config) { c.Logger = slog.New(slog.DiscardHandler) })
	require.Eventually(b, func() bool { return len(n.Backends(group)) > 0 }, patience, instant)
	return n.NewSession(group).WithNamespace(fmt.Sprintf("bench-%d-%d", os.Getpid(), time.Now().UnixNano()))
}

const benchKeys = 256

// benchRecords writes records of size bytes, to be removed at the end.
func benchRecords(b *testing.B, s *elliptics.Session, size int) []elliptics.Key {
	b.Helper()
	n := min(benchKeys, max(2, 64<<20/size))
	keys := make([]elliptics.Key, n)
	data := make([]byte, size)
	for i := range keys {
		keys[i] = s.Key(fmt.Sprint(i))
		_, err := s.WriteData(b.Context(), keys[i], data)
		require.NoError(b, err)
	}
	b.Cleanup(func() { s.BulkRemove(context.Background(), keys) })
	return keys
}

// inFlight runs op with 1 and with 64 requests at the same time.
func inFlight(b *testing.B, size int, op func(i int) error) {
	for _, n := range []int{1, 64} {
		b.Run(fmt.Sprintf("inflight=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			if size > 0 {
				b.SetBytes(int64(size))
			}
			var next atomic.Int64
			var wg sync.WaitGroup
			for range n {
				wg.Go(func() {
					for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
						if err := op(int(i)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

func BenchmarkLookup(b *testing.B) {
	benchServers(b, func(b *testing.B, s *elliptics.Session) {
		keys := benchRecords(b, s, 128)
		ctx := b.Context()
		inFlight(b, 0, func(i int) error {
			_, err := s.Lookup(ctx, keys[i%len(keys)])
			return err
		})
	})
}

var benchSizes = map[string]int{"128B": 128, "1MiB": 1 << 20, "4MiB": 4 << 20}

func bySize(b *testing.B, run func(b *testing.B, size int)) {
	for _, name := range []string{"128B", "1MiB", "4MiB"} {
		b.Run(name, func(b *testing.B) { run(b, benchSizes[name]) })
	}
}

func BenchmarkRead(b *testing.B) {
	benchServers(b, func(b *testing.B, s *elliptics.Session) {
		bySize(b, func(b *testing.B, size int) {
			keys := benchRecords(b, s, size)
			ctx := b.Context()
			inFlight(b, size, func(i int) error {
				r, err := s.Read(ctx, keys[i%len(keys)], 0, uint64(size))
				if err == nil {
					r.Release()
				}
				return err
			})
		})
	})
}

func BenchmarkWrite(b *testing.B) {
	benchServers(b, func(b *testing.B, s *elliptics.Session) {
		bySize(b, func(b *testing.B, size int) {
			keys := benchRecords(b, s, size)
			w := elliptics.Write{Data: [][]byte{make([]byte, size)}}
			ctx := b.Context()
			inFlight(b, size, func(i int) error {
				_, err := s.Write(ctx, keys[i%len(keys)], w)
				return err
			})
		})
	})
}

// BenchmarkTCP asks for 1 MiB or 4 MiB by a message of the size of a READ
// request, and reads them.
func BenchmarkTCP(b *testing.B) {
	for _, name := range []string{"1MiB", "4MiB"} {
		size := benchSizes[name]
		b.Run(name, func(b *testing.B) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(b, err)
			var wg sync.WaitGroup
			defer wg.Wait()
			defer ln.Close()
			wg.Go(func() {
				nc, err := ln.Accept()
				if err != nil {
					return
				}
				defer nc.Close()
				ask, data := make([]byte, wire.HeaderSize+wire.IOAttrSize), make([]byte, size)
				for {
					if _, err := io.ReadFull(nc, ask); err != nil {
						return
					}
					if _, err := nc.Write(data); err != nil {
						return
					}
				}
			})
			nc, err := net.Dial("tcp", ln.Addr().String())
			require.NoError(b, err)
			defer nc.Close()
			ask, data := make([]byte, wire.HeaderSize+wire.IOAttrSize), make([]byte, size)
			b.SetBytes(int64(size))
			for b.Loop() {
				if _, err := nc.Write(ask); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(nc, data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
