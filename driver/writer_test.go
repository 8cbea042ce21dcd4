package driver_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics/ellipticstest"
	"github.com/elliptics-registry/elliptics-registry/elliptics/node"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// smallChunks make files of a few hundred KiB consist of several chunks.
var smallChunks = map[string]any{"chunksize": "64KiB"}

func TestWriterCountsWhatItGot(t *testing.T) {
	d := open(t, ellipticstest.Start(t), smallChunks)
	ctx := context.Background()
	content := random(1, 300_000)
	w := writer(t, d, "/f", false)
	require.Zero(t, w.Size())
	write(t, w, content[:10])
	require.EqualValues(t, 10, w.Size(), "what is not sent yet counts")
	write(t, w, content[10:200_000])
	require.EqualValues(t, 200_000, w.Size())
	require.NoError(t, w.Close())
	require.EqualValues(t, 200_000, w.Size(), "after Close")
	require.NoError(t, w.Close(), "the registry closes twice")

	_, err := d.Stat(ctx, "/f")
	require.Equal(t, missing("/f"), err, "unfinished")
	_, err = d.GetContent(ctx, "/f")
	require.Equal(t, missing("/f"), err, "unfinished")

	w = writer(t, d, "/f", true)
	require.EqualValues(t, 200_000, w.Size(), "right after opening")
	write(t, w, content[200_000:])
	require.NoError(t, w.Commit(ctx))
	require.EqualValues(t, len(content), w.Size(), "after Commit")
	fi, err := d.Stat(ctx, "/f")
	require.NoError(t, err, "visible at once")
	require.EqualValues(t, len(content), fi.Size())
	require.NoError(t, w.Close(), "Close after Commit")
	require.NoError(t, w.Close())
	require.EqualValues(t, len(content), w.Size())
	require.Equal(t, content, get(t, d, "/f"))

	_, err = w.Write([]byte("more"))
	require.Error(t, err, "Write after Commit")
	require.Error(t, w.Commit(ctx), "Commit after Commit")
	require.Equal(t, content, get(t, d, "/f"))
}

func TestNothingIsAFile(t *testing.T) {
	d := open(t, ellipticstest.Start(t), nil)
	ctx := context.Background()
	w := writer(t, d, "/committed", false)
	require.NoError(t, w.Commit(ctx))
	require.NoError(t, w.Close())
	require.NoError(t, d.PutContent(ctx, "/put", nil))
	for _, path := range []string{"/committed", "/put"} {
		fi, err := d.Stat(ctx, path)
		require.NoError(t, err)
		require.Zero(t, fi.Size())
		require.False(t, fi.IsDir())
		require.Empty(t, get(t, d, path))

		// An empty file can be gone on with.
		w := writer(t, d, path, true)
		require.Zero(t, w.Size())
		write(t, w, []byte("something"))
		require.NoError(t, w.Commit(ctx))
		require.NoError(t, w.Close())
		require.Equal(t, "something", string(get(t, d, path)))
	}
	w = writer(t, d, "/created", true) // filesystem creates; so does this
	write(t, w, []byte("new"))
	require.NoError(t, w.Commit(ctx))
	require.NoError(t, w.Close())
	require.Equal(t, "new", string(get(t, d, "/created")))
}

// The registry cancels uploads that it has committed and closed: the digest was
// wrong. It closes after that, and may cancel again.
func TestCancelAtAnyTime(t *testing.T) {
	content := random(1, 200_000)
	for name, before := range map[string]func(w storagedriver.FileWriter) error{
		"at once":                func(storagedriver.FileWriter) error { return nil },
		"after Close":            func(w storagedriver.FileWriter) error { return w.Close() },
		"after Commit":           func(w storagedriver.FileWriter) error { return w.Commit(context.Background()) },
		"after Commit and Close": func(w storagedriver.FileWriter) error { return firstError(w.Commit(context.Background()), w.Close()) },
		"after Cancel":           func(w storagedriver.FileWriter) error { return w.Cancel(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, ellipticstest.Start(t), smallChunks)
			ctx := context.Background()
			begin(t, d, 1)
			for _, path := range []string{"/plain/file", upload(1, "data")} {
				w := writer(t, d, path, true)
				write(t, w, content)
				require.NoError(t, before(w))
				require.NoError(t, w.Cancel(ctx))
				require.NoError(t, w.Cancel(ctx), "again")
				require.NoError(t, w.Close())
				_, err := d.Stat(ctx, path)
				require.Equal(t, missing(path), err)
				_, err = w.Write([]byte("more"))
				require.Error(t, err)
				require.Error(t, w.Commit(ctx))
			}
			_, err := d.Stat(ctx, upload(1, ""))
			require.Equal(t, missing(upload(1, "")), err)
			require.Equal(t, missing(upload(1, "")), d.Delete(ctx, upload(1, "")), "which the registry takes for 'already gone'")
		})
	}
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// What somebody else wrote meanwhile is not a writer's to cancel.
func TestCancelLeavesWhatIsNewer(t *testing.T) {
	d := open(t, ellipticstest.Start(t), nil)
	ctx := context.Background()
	w := writer(t, d, "/f", false)
	write(t, w, []byte("old"))
	require.NoError(t, w.Commit(ctx))
	require.NoError(t, w.Close())
	put(t, d, "/f")
	require.NoError(t, w.Cancel(ctx))
	require.Equal(t, "/f", string(get(t, d, "/f")))
}

func TestOffsets(t *testing.T) {
	d := open(t, ellipticstest.Start(t), smallChunks)
	ctx := context.Background()
	small, large := random(1, 100), random(2, 200_001)
	require.NoError(t, d.PutContent(ctx, "/small", small))
	require.NoError(t, d.PutContent(ctx, "/large", large))
	require.NoError(t, d.PutContent(ctx, "/empty", nil))
	for path, content := range map[string][]byte{"/small": small, "/large": large, "/empty": nil} {
		size := int64(len(content))
		for _, offset := range []int64{0, 1, size / 2, size - 1, size, size + 1, size + 1<<40} {
			if offset < 0 {
				continue
			}
			r, err := d.Reader(ctx, path, offset)
			require.NoError(t, err, "%s from %d", path, offset)
			b, err := io.ReadAll(r)
			require.NoError(t, err)
			require.True(t, bytes.Equal(content[min(offset, size):], b), "%s from %d", path, offset)
			n, err := r.Read(make([]byte, 1))
			require.Zero(t, n)
			require.Equal(t, io.EOF, err)
			require.NoError(t, r.Close())

			r, err = d.ReaderRange(ctx, path, offset, 7)
			require.NoError(t, err)
			b, err = io.ReadAll(r)
			require.NoError(t, err)
			require.True(t, bytes.Equal(content[min(offset, size):min(offset+7, size)], b), "7 of %s from %d", path, offset)
			require.NoError(t, r.Close())
		}
		want := storagedriver.InvalidOffsetError{Path: path, Offset: -1, DriverName: "elliptics"}
		_, err := d.Reader(ctx, path, -1)
		require.Equal(t, want, err)
		_, err = d.ReaderRange(ctx, path, -1, 7)
		require.Equal(t, want, err)
	}
	for _, offset := range []int64{0, 5} {
		_, err := d.Reader(ctx, "/nothing", offset)
		require.Equal(t, missing("/nothing"), err)
	}
}

// The registry takes io.EOF for the end, whatever the size, and a missing path
// for an empty file: content that ends too early must be neither.
func TestShortContentIsAnError(t *testing.T) {
	c := ellipticstest.Start(t)
	d := open(t, c, smallChunks)
	ctx := context.Background()
	content := random(1, 2_000_000)
	require.NoError(t, d.PutContent(ctx, "/f", content))
	r, err := d.Reader(ctx, "/f", 0)
	require.NoError(t, err)
	defer r.Close()
	head := make([]byte, 100_000)
	_, err = io.ReadFull(r, head)
	require.NoError(t, err)
	lost := c.Fail(0, wire.CmdRead, -1, node.Fault{Status: wire.ErrNotFound})
	rest, err := io.ReadAll(r)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Less(t, len(head)+len(rest), len(content))
	require.True(t, bytes.HasPrefix(content, append(head, rest...)))
	lost.Stop()
	require.NoError(t, d.PutContent(ctx, "/f", content), "writing it again repairs it")
	require.Equal(t, content, get(t, d, "/f"))
}

// Concurrent writers of one path: the last one wins, and no reader ever sees
// anything but what one of them wrote.
func TestConcurrentPutsAreNeverMixed(t *testing.T) {
	for name, size := range map[string]int{"inline": 1000, "chunks": 200_000} {
		t.Run(name, func(t *testing.T) {
			c := ellipticstest.Start(t, 1, 2, 3)
			params := map[string]any{"groups": "1 2 3", "chunksize": "64KiB"}
			drivers := []storagedriver.StorageDriver{open(t, c, params), open(t, c, params)}
			ctx := context.Background()
			const writers, rounds = 4, 5
			content := func(w, round int) []byte {
				return append([]byte{byte(w), byte(round)}, random(uint64(w*rounds+round), size+w)...)
			}
			require.NoError(t, drivers[0].PutContent(ctx, "/f", content(0, 0)))
			check := func(b []byte) error {
				if len(b) < 2 || !bytes.Equal(b, content(int(b[0]), int(b[1]))) {
					return fmt.Errorf("%d bytes that nobody wrote", len(b))
				}
				return nil
			}
			failed := make(chan error, 100)
			done := make(chan struct{})
			var writing, reading sync.WaitGroup
			for w := range writers {
				writing.Go(func() {
					for round := range rounds {
						if err := drivers[w%2].PutContent(ctx, "/f", content(w, round)); err != nil {
							failed <- err
						}
					}
				})
			}
			for i := range 2 {
				reading.Go(func() {
					for {
						select {
						case <-done:
							return
						default:
						}
						b, err := drivers[i].GetContent(ctx, "/f")
						if err == nil {
							err = check(b)
						}
						if err != nil {
							failed <- err
							return
						}
					}
				})
			}
			writing.Wait()
			close(done)
			reading.Wait()
			close(failed)
			for err := range failed {
				require.NoError(t, err)
			}
			last := get(t, drivers[0], "/f")
			require.NoError(t, check(last))
			require.Equal(t, last, get(t, drivers[1], "/f"))
		})
	}
}

func TestRewriteIsNewer(t *testing.T) {
	d := open(t, ellipticstest.Start(t), nil)
	var before time.Time
	for range 5 {
		put(t, d, "/f")
		fi, err := d.Stat(context.Background(), "/f")
		require.NoError(t, err)
		require.True(t, fi.ModTime().After(before), "%v is not after %v", fi.ModTime(), before)
		before = fi.ModTime()
	}
}
