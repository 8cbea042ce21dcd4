package publish

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/elliptics/node"
	"github.com/elliptics-registry/elliptics-registry/v1"
	"github.com/elliptics-registry/elliptics-registry/v1/v1test"
)

// The image of the benchmarks. Its layers hold machine code, as most do.
const (
	benchLayers = 6
	benchSize   = 32 << 20
	benchJobs   = 4
)

// BenchmarkMove moves the layers of an image from one node to another: as they
// are, and as an image of today. Both do four at once, in bytes as the old
// registry has them. The nodes are its own, in this process, or those whose
// remotes ELLIPTICS_BENCH_SOURCE and ELLIPTICS_BENCH_TARGET name: there it
// fills namespaces of its own in group 1 and leaves them.
func BenchmarkMove(b *testing.B) {
	for _, compression := range []v1test.Compression{v1test.Gzip, v1test.Plain} {
		f := startOn(b, benchNode(b, "ELLIPTICS_BENCH_SOURCE"), benchNode(b, "ELLIPTICS_BENCH_TARGET"), 1)
		run := fmt.Sprint("bench ", time.Now().UnixNano())
		f.session = f.session.WithNamespace(run)
		f.store = v1.New(f.session)
		img, total := f.benchImage(compression)
		stored := "stored=plain/"
		if compression == v1test.Gzip {
			stored = "stored=gzip/"
		}
		iteration := 0
		b.Run(stored+"copy", func(b *testing.B) {
			b.SetBytes(total)
			for b.Loop() {
				iteration++
				f.copyLayers(img, fmt.Sprint(run, " copy ", iteration))
			}
		})
		b.Run(stored+"import", func(b *testing.B) {
			b.SetBytes(total)
			for b.Loop() {
				iteration++
				f.aim(fmt.Sprint(run, " import ", iteration))
				r := f.run(Options{Jobs: benchJobs}, "team/large:1")
				require.Equal(b, 1, r.Count(Imported), r.Tags[0].Reason)
			}
		})
	}
}

// oneNode is a node whose writes are on the disk when it acknowledges them, as
// that of `elliptics-registry node`.
type oneNode struct{ remote string }

func (n oneNode) Remotes() []string { return []string{n.remote} }

// benchNode is the node that a variable names. Else it is one whose writes are
// on the disk when it acknowledges them, as those of `elliptics-registry node`.
func benchNode(b *testing.B, variable string) oneNode {
	b.Helper()
	if remote := os.Getenv(variable); remote != "" {
		return oneNode{remote}
	}
	n, err := node.OpenDir(b.TempDir(), []uint32{1}, node.Config{Listen: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)})
	require.NoError(b, err)
	b.Cleanup(func() { n.Close() })
	return oneNode{n.Remote()}
}

// benchImage pushes the image and answers the bytes of its layers.
func (f *fixture) benchImage(compression v1test.Compression) (img *v1test.Image, total int64) {
	f.Helper()
	program, err := os.Executable()
	require.NoError(f, err)
	code, err := os.ReadFile(program)
	require.NoError(f, err)
	code = bytes.Repeat(code, benchSize/len(code)+2)
	for i := range benchLayers {
		body := code[i*1_000_003%len(code)/2:][:benchSize]
		img = &v1test.Image{Parent: img, Files: []v1test.File{{Name: fmt.Sprint("code", i), Body: string(body)}}, Compression: compression}
		v1test.PushImage(f.ctx, f, f.store, img)
		size, err := f.store.Size(f.ctx, v1.LayerPath(img.ID()))
		require.NoError(f, err)
		total += size
	}
	v1test.Tag(f.ctx, f, f.store, "team/large", "1", img.ID())
	return img, total
}

// copyLayers is the fastest way to have the same bytes elsewhere: a record of
// 4 MiB is read and written, in the words of the protocol.
func (f *fixture) copyLayers(img *v1test.Image, namespace string) {
	f.Helper()
	to := f.client.NewSession(1).WithNamespace(namespace)
	var g errgroup.Group
	g.SetLimit(benchJobs)
	for _, id := range img.Ancestry() {
		g.Go(func() error {
			path := v1.LayerPath(id)
			key := f.session.Key(path)
			for offset, size := uint64(0), uint64(1); offset < size; {
				rec, err := f.session.Read(f.ctx, key, offset, 4<<20)
				if err != nil {
					return err
				}
				_, err = to.Write(f.ctx, to.Key(fmt.Sprint(path, offset)), elliptics.Write{Data: [][]byte{rec.Data}})
				if err != nil {
					return err
				}
				size = rec.TotalSize
				offset += uint64(len(rec.Data))
				rec.Release()
			}
			return nil
		})
	}
	require.NoError(f, g.Wait())
}
