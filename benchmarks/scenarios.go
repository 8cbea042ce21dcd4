package benchmarks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"golang.org/x/sync/errgroup"
)

// Scenario is one row of the comparison. Run does it once and answers how much
// was done, in Unit, and how long it took without what was prepared for it.
type Scenario struct {
	Name string
	Unit string
	Run  func(ctx context.Context, s *Store, dir string) (amount float64, took time.Duration, err error)
}

const (
	streamSize  = 512 << 20
	smallFiles  = 1000
	listEntries = 1000
	walkFiles   = 10_000
	copySize    = 32 << 10 // what the registry copies a request in
)

// small is as long as a link of the registry.
var small = []byte("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")

// block does not compress.
var block = func() []byte {
	b := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}()

// Scenarios are the rows of the comparison.
var Scenarios = []Scenario{
	{"stream in, 512 MiB", "MiB/s", streamIn},
	{"stream out to a socket, 512 MiB", "MiB/s", streamSocket},
	{"stream out to nowhere, 512 MiB", "MiB/s", streamNowhere},
	{"put 1,000 small files, 1 writer", "files/s", puts(1)},
	{"put 1,000 small files, 8 writers", "files/s", puts(8)},
	{"get 1,000 small files, 1 reader", "files/s", gets(1)},
	{"get 1,000 small files, 8 readers", "files/s", gets(8)},
	{"list 1,000 entries", "lists/s", list},
	{"walk 10,000 files", "files/s", walk},
}

func write(ctx context.Context, s *Store, path string, size int) error {
	w, err := s.Writer(ctx, path, false)
	if err != nil {
		return err
	}
	defer w.Close()
	for written := 0; written < size; written += copySize {
		off := written % len(block)
		if _, err := w.Write(block[off : off+copySize]); err != nil {
			return err
		}
	}
	if err := w.Commit(ctx); err != nil {
		return err
	}
	return w.Close()
}

func streamIn(ctx context.Context, s *Store, dir string) (float64, time.Duration, error) {
	began := time.Now()
	err := write(ctx, s, dir+"/stream", streamSize)
	return streamSize >> 20, time.Since(began), err
}

// nowhere is a writer that costs nothing.
type nowhere struct{ n int64 }

func (s *nowhere) Write(p []byte) (int, error) {
	s.n += int64(len(p))
	return len(p), nil
}

// streamOut reads a large file into a writer.
func streamOut(ctx context.Context, s *Store, dir string, to io.Writer) (float64, time.Duration, error) {
	if err := write(ctx, s, dir+"/stream", streamSize); err != nil {
		return 0, 0, err
	}
	began := time.Now()
	r, err := s.Reader(ctx, dir+"/stream", 0)
	if err != nil {
		return 0, 0, err
	}
	defer r.Close()
	// The short cut of files to sockets is not open to a registry, which
	// counts, or encrypts, what it sends.
	n, err := io.Copy(struct{ io.Writer }{to}, r)
	if err == nil && n != streamSize {
		err = io.ErrUnexpectedEOF
	}
	return streamSize >> 20, time.Since(began), err
}

func streamNowhere(ctx context.Context, s *Store, dir string) (float64, time.Duration, error) {
	return streamOut(ctx, s, dir, &nowhere{})
}

// streamSocket sends the file to somebody on this machine, who reads it and
// does nothing with it.
func streamSocket(ctx context.Context, s *Store, dir string) (float64, time.Duration, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, 0, err
	}
	defer l.Close()
	var g errgroup.Group
	g.Go(func() error {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = io.CopyBuffer(&nowhere{}, struct{ io.Reader }{c}, make([]byte, 256<<10))
		return err
	})
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return 0, 0, err
	}
	amount, took, err := streamOut(ctx, s, dir, c)
	return amount, took, errors.Join(err, c.Close(), g.Wait())
}

// parallel calls f for 0 to n-1 from several goroutines.
func parallel(goroutines, n int, f func(i int) error) error {
	var g errgroup.Group
	for first := range goroutines {
		g.Go(func() error {
			for i := first; i < n; i += goroutines {
				if err := f(i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// smallPath is a folder for each file, as the registry's links have it.
func smallPath(dir string, i int) string { return fmt.Sprintf("%s/%04d/link", dir, i) }

func puts(writers int) func(context.Context, *Store, string) (float64, time.Duration, error) {
	return func(ctx context.Context, s *Store, dir string) (float64, time.Duration, error) {
		began := time.Now()
		err := parallel(writers, smallFiles, func(i int) error { return s.PutContent(ctx, smallPath(dir, i), small) })
		return smallFiles, time.Since(began), err
	}
}

func gets(readers int) func(context.Context, *Store, string) (float64, time.Duration, error) {
	return func(ctx context.Context, s *Store, dir string) (float64, time.Duration, error) {
		err := parallel(8, smallFiles, func(i int) error { return s.PutContent(ctx, smallPath(dir, i), small) })
		if err != nil {
			return 0, 0, err
		}
		began := time.Now()
		err = parallel(readers, smallFiles, func(i int) error {
			b, err := s.GetContent(ctx, smallPath(dir, i))
			if err == nil && len(b) != len(small) {
				err = io.ErrUnexpectedEOF
			}
			return err
		})
		return smallFiles, time.Since(began), err
	}
}

func list(ctx context.Context, s *Store, dir string) (float64, time.Duration, error) {
	err := parallel(8, listEntries, func(i int) error {
		return s.PutContent(ctx, fmt.Sprintf("%s/tag-%04d", dir, i), small)
	})
	if err != nil {
		return 0, 0, err
	}
	const times = 20
	began := time.Now()
	for range times {
		l, err := s.List(ctx, dir)
		if err == nil && len(l) != listEntries {
			err = fmt.Errorf("%d entries listed, %d expected", len(l), listEntries)
		}
		if err != nil {
			return 0, 0, err
		}
	}
	return times, time.Since(began), nil
}

func walk(ctx context.Context, s *Store, dir string) (float64, time.Duration, error) {
	if err := Fill(ctx, s, dir, walkFiles); err != nil {
		return 0, 0, err
	}
	began := time.Now()
	files := 0
	err := s.Walk(ctx, dir, func(fi storagedriver.FileInfo) error {
		if !fi.IsDir() {
			files++
		}
		return nil
	})
	if err == nil && files != walkFiles {
		err = errors.New("the walk missed files")
	}
	return walkFiles, time.Since(began), err
}
