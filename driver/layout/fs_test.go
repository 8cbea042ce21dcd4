package layout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var sizes = []int{0, 1, 100, inlineLimit, inlineLimit + 1, 128 << 10, 128<<10 + 1, 300_000, 128 << 12}

func names(entries []Entry) (names []string) {
	for _, e := range entries {
		names = append(names, e.Name)
	}
	return names
}

func mustGet(t *testing.T, fs *FS, p string, want []byte) {
	t.Helper()
	got, err := fs.Get(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("%s holds %d bytes that differ from the %d written", p, len(got), len(want))
	}
}

func mustNotExist(t *testing.T, fs *FS, p string) {
	t.Helper()
	if _, err := fs.Get(context.Background(), p); !errors.Is(err, ErrNotExist) {
		t.Fatalf("get %s: %v, ErrNotExist expected", p, err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func eachSetup(t *testing.T, test func(t *testing.T, s *memStore)) {
	for _, groups := range [][]uint32{{1}, {1, 2}, {1, 2, 3}} {
		t.Run(fmt.Sprint("groups ", groups), func(t *testing.T) { test(t, newMemStore(groups...)) })
	}
}

func TestPutGet(t *testing.T) {
	eachSetup(t, func(t *testing.T, s *memStore) {
		fs := newTestFS(t, s, Options{})
		ctx := context.Background()
		for i, size := range sizes {
			p := fmt.Sprintf("/a/%d/file", size)
			data := randomBytes(size, uint64(i))
			must(t, fs.Put(ctx, p, data))
			mustGet(t, fs, p, data)
			info, err := fs.Stat(ctx, p)
			must(t, err)
			if info.Size != int64(size) || info.Dir || info.Path != p {
				t.Fatalf("stat: %+v", info)
			}
			entries, err := fs.List(ctx, fmt.Sprintf("/a/%d", size))
			must(t, err)
			if len(entries) != 1 || entries[0].Size != int64(size) || entries[0].Kind != KindFile {
				t.Fatalf("list: %+v", entries)
			}
		}
		entries, err := fs.List(ctx, "/")
		must(t, err)
		if !slices.Equal(names(entries), []string{"a"}) || entries[0].Kind != KindDir {
			t.Fatalf("root: %+v", entries)
		}
	})
}

func TestReaderRanges(t *testing.T) {
	s := newMemStore(1)
	fs := newTestFS(t, s, Options{})
	ctx := context.Background()
	data := randomBytes(900_001, 7)
	w, err := fs.Create(ctx, "/f")
	must(t, err)
	for _, piece := range [][]byte{data[:100_000], data[100_000:700_000], data[700_000:]} {
		_, err := w.Write(piece)
		must(t, err)
		must(t, w.Close())
		w, err = fs.Resume(ctx, "/f") // several extents of odd sizes
		must(t, err)
	}
	must(t, w.Commit(ctx))
	must(t, w.Close())
	f, err := fs.Open(ctx, "/f")
	must(t, err)
	size := int64(len(data))
	for _, r := range [][2]int64{{0, -1}, {0, 1}, {1, -1}, {65535, 2}, {99_999, 2}, {131072, 131072}, {size - 1, -1},
		{size, -1}, {size + 5, -1}, {12345, 400_000}, {699_999, 200_002}, {5, 0}} {
		rd := f.Reader(ctx, r[0], r[1])
		got, err := io.ReadAll(rd)
		must(t, err)
		must(t, rd.Close())
		from := min(r[0], size)
		to := size
		if r[1] >= 0 {
			to = min(size, from+r[1])
		}
		if !bytes.Equal(got, data[from:to]) {
			t.Fatalf("range %v: %d bytes, %d expected", r, len(got), to-from)
		}
	}
	rd := f.Reader(ctx, 0, -1) // given up in the middle
	_, err = io.CopyN(io.Discard, rd, 100)
	must(t, err)
	must(t, rd.Close())
	if _, err := rd.Read(make([]byte, 1)); !errors.Is(err, io.ErrClosedPipe) {
		t.Fatalf("read after close: %v", err)
	}
}

func TestOverwriteKeepsOldContentForReaders(t *testing.T) {
	s := newMemStore(1)
	now := time.Now()
	fs := newTestFS(t, s, Options{Now: func() time.Time { return now }})
	ctx := context.Background()
	old, fresh := randomBytes(400_000, 1), randomBytes(300_000, 2)
	must(t, fs.Put(ctx, "/f", old))
	f, err := fs.Open(ctx, "/f")
	must(t, err)
	must(t, fs.Put(ctx, "/f", fresh))
	r := f.Reader(ctx, 0, -1)
	got, err := io.ReadAll(r)
	must(t, err)
	if !bytes.Equal(got, old) {
		t.Fatal("a reader that was open before an overwrite did not see the old content")
	}
	before := len(s.keys(1, "chunk:"))
	now = now.Add(3 * time.Hour)
	reaped, err := fs.EmptyTrash(ctx)
	must(t, err)
	if reaped.Chunks != 3 || len(s.keys(1, "chunk:")) != before-3 {
		t.Fatalf("reaped %+v, %d of %d chunks left", reaped, len(s.keys(1, "chunk:")), before)
	}
	mustGet(t, fs, "/f", fresh)
	if left := s.keys(1, "trash:"); len(left) != 0 {
		t.Fatalf("trash logs left: %v", left)
	}
}

func TestResumeAcrossProcesses(t *testing.T) {
	eachSetup(t, func(t *testing.T, s *memStore) {
		ctx := context.Background()
		var want []byte
		w, err := newTestFS(t, s, Options{}).Create(ctx, "/up/data")
		must(t, err)
		for i, n := range []int{10, 70_000, 0, 128 << 10, 500_000, 1} {
			piece := randomBytes(n, uint64(i))
			_, err = w.Write(piece)
			must(t, err)
			want = append(want, piece...)
			must(t, w.Close())
			must(t, w.Close())
			if w.Size() != int64(len(want)) {
				t.Fatalf("size after close %d, %d written", w.Size(), len(want))
			}
			fs := newTestFS(t, s, Options{})
			if _, err := fs.Open(ctx, "/up/data"); !errors.Is(err, ErrUnfinished) {
				t.Fatalf("open of an unfinished file: %v", err)
			}
			w, err = fs.Resume(ctx, "/up/data")
			must(t, err)
			if w.Size() != int64(len(want)) {
				t.Fatalf("size after resume %d, %d written", w.Size(), len(want))
			}
		}
		must(t, w.Commit(ctx))
		must(t, w.Close())
		mustGet(t, newTestFS(t, s, Options{}), "/up/data", want)
	})
}

// A status poll opens a second writer while a PATCH runs; its Close must not
// take anything back.
func TestIdleWriterChangesNothing(t *testing.T) {
	s := newMemStore(1, 2, 3)
	fs := newTestFS(t, s, Options{})
	ctx := context.Background()
	data := randomBytes(300_000, 3)
	w, err := fs.Create(ctx, "/up/data")
	must(t, err)
	_, err = w.Write(data)
	must(t, err)
	poll, err := fs.Resume(ctx, "/up/data")
	must(t, err)
	must(t, w.Close())
	must(t, poll.Close())
	w, err = fs.Resume(ctx, "/up/data")
	must(t, err)
	must(t, w.Commit(ctx))
	mustGet(t, fs, "/up/data", data)
}

func TestSecondWriterDoesNotSilentlyWin(t *testing.T) {
	s := newMemStore(1, 2, 3)
	ctx := context.Background()
	a, err := newTestFS(t, s, Options{}).Create(ctx, "/up/data")
	must(t, err)
	b, err := newTestFS(t, s, Options{}).Resume(ctx, "/up/data")
	must(t, err)
	_, err = a.Write([]byte("from a"))
	must(t, err)
	_, err = b.Write([]byte("from b"))
	must(t, err)
	must(t, a.Close())
	if err := b.Close(); !errors.Is(err, ErrConcurrent) {
		t.Fatalf("the second writer closed with %v, ErrConcurrent expected", err)
	}
	fs := newTestFS(t, s, Options{})
	w, err := fs.Resume(ctx, "/up/data")
	must(t, err)
	must(t, w.Commit(ctx))
	mustGet(t, fs, "/up/data", []byte("from a"))
}

func TestCancel(t *testing.T) {
	for _, state := range []string{"open", "closed", "committed", "committed and closed"} {
		t.Run(state, func(t *testing.T) {
			s := newMemStore(1)
			now := time.Now()
			fs := newTestFS(t, s, Options{Now: func() time.Time { return now }})
			ctx := context.Background()
			w, err := fs.Create(ctx, "/up/data")
			must(t, err)
			_, err = w.Write(randomBytes(300_000, 3))
			must(t, err)
			if strings.HasPrefix(state, "committed") {
				must(t, w.Commit(ctx))
			}
			if strings.HasSuffix(state, "closed") {
				must(t, w.Close())
			}
			must(t, w.Cancel(ctx))
			must(t, w.Cancel(ctx))
			must(t, w.Close())
			mustNotExist(t, fs, "/up/data")
			now = now.Add(3 * time.Hour)
			_, err = fs.EmptyTrash(ctx)
			must(t, err)
			if left := s.keys(1, "chunk:"); len(left) != 0 {
				t.Fatalf("chunks left: %v", left)
			}
		})
	}
}

func TestMove(t *testing.T) {
	eachSetup(t, func(t *testing.T, s *memStore) {
		now := time.Now()
		fs := newTestFS(t, s, Options{Now: func() time.Time { return now }})
		ctx := context.Background()
		big, other := randomBytes(500_000, 1), randomBytes(200_000, 2)
		must(t, fs.Put(ctx, "/src/f", big))
		must(t, fs.Put(ctx, "/dst/g", other))
		chunks := s.keys(1, "chunk:")
		must(t, fs.Move(ctx, "/src/f", "/dst/g"))
		if !slices.Equal(s.keys(1, "chunk:"), chunks) {
			t.Fatal("a move touched chunks")
		}
		mustNotExist(t, fs, "/src/f")
		mustGet(t, fs, "/dst/g", big)
		if err := fs.Move(ctx, "/src/f", "/dst/h"); !errors.Is(err, ErrNotExist) {
			t.Fatalf("move of a missing file: %v", err)
		}
		now = now.Add(3 * time.Hour)
		_, err := fs.EmptyTrash(ctx)
		must(t, err)
		mustGet(t, fs, "/dst/g", big)
		must(t, fs.Delete(ctx, "/dst/g"))
		now = now.Add(3 * time.Hour)
		_, err = fs.EmptyTrash(ctx)
		must(t, err)
		for _, g := range s.order {
			if left := append(s.keys(g, "chunk:"), s.keys(g, "owner:")...); len(left) != 0 {
				t.Fatalf("group %d keeps %v", g, left)
			}
		}
	})
}

// A move that died between its steps leaves two paths with one content:
// deleting either must not hurt the other.
func TestHalfMovedContentSurvivesDelete(t *testing.T) {
	for _, deleted := range []string{"/src/f", "/dst/g"} {
		t.Run(deleted, func(t *testing.T) {
			s := newMemStore(1)
			now := time.Now()
			fs := newTestFS(t, s, Options{Now: func() time.Time { return now }, Timeout: 5 * time.Second})
			ctx := context.Background()
			big := randomBytes(500_000, 1)
			must(t, fs.Put(ctx, "/src/f", big))
			died := errors.New("killed")
			placed := false
			s.setFaults(func(_ uint32, op, key string) (before, after error) {
				if placed {
					return died, nil
				}
				placed = op == "write" && key == fileKey("/dst/g")
				return nil, nil
			}, nil)
			if err := fs.Move(ctx, "/src/f", "/dst/g"); err == nil {
				t.Fatal("the move did not notice that it died")
			}
			s.setFaults(nil, nil)
			must(t, fs.Delete(ctx, deleted))
			now = now.Add(3 * time.Hour)
			_, err := fs.EmptyTrash(ctx)
			must(t, err)
			kept := map[string]string{"/src/f": "/dst/g", "/dst/g": "/src/f"}[deleted]
			mustGet(t, fs, kept, big)
		})
	}
}

func TestDeleteTree(t *testing.T) {
	eachSetup(t, func(t *testing.T, s *memStore) {
		now := time.Now()
		fs := newTestFS(t, s, Options{Now: func() time.Time { return now }})
		ctx := context.Background()
		for _, p := range []string{"/a/x/1", "/a/x/2", "/a/y/z/3", "/a/4", "/ab/5"} {
			must(t, fs.Put(ctx, p, randomBytes(200_000, 1)))
		}
		must(t, fs.Delete(ctx, "/a"))
		for _, p := range []string{"/a/x/1", "/a/x/2", "/a/y/z/3", "/a/4"} {
			mustNotExist(t, fs, p)
		}
		for _, p := range []string{"/a", "/a/x", "/a/y/z"} {
			if _, err := fs.Stat(ctx, p); !errors.Is(err, ErrNotExist) {
				t.Fatalf("stat %s: %v", p, err)
			}
			if _, err := fs.List(ctx, p); !errors.Is(err, ErrNotExist) {
				t.Fatalf("list %s: %v", p, err)
			}
		}
		if err := fs.Delete(ctx, "/a"); !errors.Is(err, ErrNotExist) {
			t.Fatalf("second delete: %v", err)
		}
		entries, err := fs.List(ctx, "/")
		must(t, err)
		if !slices.Equal(names(entries), []string{"ab"}) {
			t.Fatalf("root: %+v", entries)
		}
		must(t, fs.Put(ctx, "/a/y/z/3", []byte("again"))) // and back to life
		mustGet(t, fs, "/a/y/z/3", []byte("again"))
		entries, err = fs.List(ctx, "/a/y")
		must(t, err)
		if !slices.Equal(names(entries), []string{"z"}) {
			t.Fatalf("recreated: %+v", entries)
		}
		now = now.Add(3 * time.Hour)
		_, err = fs.EmptyTrash(ctx)
		must(t, err)
		if n := len(s.keys(1, "chunk:")); n != 2 {
			t.Fatalf("%d chunks left, only the 2 of /ab/5 are needed", n)
		}
	})
}

func TestFilesAndDirectoriesDoNotReplaceEachOther(t *testing.T) {
	s := newMemStore(1)
	fs := newTestFS(t, s, Options{})
	ctx := context.Background()
	must(t, fs.Put(ctx, "/file", []byte("x")))
	if err := fs.Put(ctx, "/file/below", nil); !errors.Is(err, ErrNotDir) {
		t.Fatalf("put below a file: %v", err)
	}
	must(t, fs.Put(ctx, "/dir/f", []byte("y")))
	if err := fs.Put(ctx, "/dir", nil); !errors.Is(err, ErrIsDir) {
		t.Fatalf("put over a directory: %v", err)
	}
	mustGet(t, fs, "/file", []byte("x"))
	mustGet(t, fs, "/dir/f", []byte("y"))
	entries, err := fs.List(ctx, "/")
	must(t, err)
	if len(entries) != 2 || entries[0].Kind != KindDir || entries[1].Kind != KindFile {
		t.Fatalf("root: %+v", entries)
	}
}

func TestSessionIsOneRecord(t *testing.T) {
	s := newMemStore(1)
	now := time.Now()
	fs := newTestFS(t, s, Options{Now: func() time.Time { return now }})
	ctx := context.Background()
	must(t, fs.SetAttrs(ctx, "/up/1", map[string][]byte{"startedat": []byte("now")}, true))
	w, err := fs.Create(ctx, "/up/1")
	must(t, err)
	_, err = w.Write(randomBytes(200_000, 1))
	must(t, err)
	if !fs.StageAttrs("/up/1", map[string][]byte{"hash": []byte("state")}) {
		t.Fatal("the open writer was not found")
	}
	must(t, w.Close())
	attrs, info, err := fs.Attrs(ctx, "/up/1")
	must(t, err)
	if string(attrs["startedat"]) != "now" || string(attrs["hash"]) != "state" || !info.Open || info.Size != 200_000 {
		t.Fatalf("attributes %q, info %+v", attrs, info)
	}
	w, err = fs.Resume(ctx, "/up/1")
	must(t, err)
	must(t, w.Commit(ctx))
	must(t, fs.Move(ctx, "/up/1", "/blob"))
	mustGet(t, fs, "/blob", randomBytes(200_000, 1))
	if err := fs.SetAttrs(ctx, "/up/1", map[string][]byte{"hash": nil}, false); !errors.Is(err, ErrNotExist) {
		t.Fatalf("attributes of a session that is gone: %v", err)
	}
	// The note that the tombstone can go is made in the background.
	require.Eventually(t, func() bool { return len(s.keys(1, "trash:")) > 0 }, 20*time.Second, time.Millisecond)
	fs.Close()
	fs = newTestFS(t, s, Options{Now: func() time.Time { return now }})
	now = now.Add(3 * time.Hour)
	_, err = fs.EmptyTrash(ctx)
	must(t, err)
	if keys := s.keys(1, "file:"); !slices.Equal(keys, []string{"file:/blob"}) {
		t.Fatalf("records left: %v", keys)
	}
	mustGet(t, fs, "/blob", randomBytes(200_000, 1))
}

func TestDirectoryLogsAreCompacted(t *testing.T) {
	eachSetup(t, func(t *testing.T, s *memStore) {
		now := time.Now()
		fs := newTestFS(t, s, Options{Now: func() time.Time { return now }})
		other := newTestFS(t, s, Options{Now: func() time.Time { return now }})
		ctx := context.Background()
		must(t, fs.Put(ctx, "/d/stays", []byte("1")))
		for i := range 600 {
			p := fmt.Sprintf("/d/%040d", i)
			must(t, fs.Put(ctx, p, nil))
			must(t, fs.Delete(ctx, p))
			if i%100 == 0 {
				_, err := other.List(ctx, "/d") // remembers a prefix
				must(t, err)
			}
		}
		now = now.Add(48 * time.Hour)
		must(t, fs.compact(ctx, fs.dir("/d"), func(before, after int) bool { return before > after }))
		for _, g := range s.order {
			if n := len(s.groups[g][dirKey("/d")].data); n > 1000 {
				t.Fatalf("the log in group %d has %d bytes for one name", g, n)
			}
		}
		must(t, fs.Put(ctx, "/d/new", nil))
		for i, f := range []*FS{fs, other, newTestFS(t, s, Options{})} {
			entries, err := f.List(ctx, "/d")
			must(t, err)
			if !slices.Equal(names(entries), []string{"new", "stays"}) {
				t.Fatalf("reader %d lists: %v", i, names(entries))
			}
		}
	})
}

func TestMinorityOfGroupsDown(t *testing.T) {
	s := newMemStore(1, 2, 3)
	fs := newTestFS(t, s, Options{})
	ctx := context.Background()
	must(t, fs.Put(ctx, "/d/old", []byte("old")))
	must(t, fs.Put(ctx, "/d/gone", []byte("old")))
	s.setDown(2, true)
	must(t, fs.Put(ctx, "/d/old", []byte("new")))
	big := randomBytes(300_000, 1)
	must(t, fs.Put(ctx, "/d/big", big))
	must(t, fs.Delete(ctx, "/d/gone"))
	s.setDown(2, false)
	s.setDown(1, true) // now group 2, which missed all of it, has to be outvoted
	mustGet(t, fs, "/d/old", []byte("new"))
	mustGet(t, fs, "/d/big", big)
	mustNotExist(t, fs, "/d/gone")
	entries, err := newTestFS(t, s, Options{}).List(ctx, "/d")
	must(t, err)
	if !slices.Equal(names(entries), []string{"big", "old"}) {
		t.Fatalf("list: %v", names(entries))
	}
	s.setDown(3, true)
	var q *QuorumError
	if _, err := fs.Get(ctx, "/d/old"); !errors.As(err, &q) || q.OK != 1 || q.Need != 2 {
		t.Fatalf("get without a majority: %v", err)
	}
	if err := fs.Put(ctx, "/d/x", nil); !errors.As(err, &q) {
		t.Fatalf("put without a majority: %v", err)
	}
	if err := fs.Check(ctx); !errors.As(err, &q) {
		t.Fatalf("check without a majority: %v", err)
	}
}

func TestDamageIsNeverServed(t *testing.T) {
	eachSetup(t, func(t *testing.T, s *memStore) {
		fs := newTestFS(t, s, Options{Timeout: time.Second})
		ctx := context.Background()
		big := randomBytes(300_000, 1)
		must(t, fs.Put(ctx, "/d/big", big))
		must(t, fs.Put(ctx, "/d/small", []byte("small")))
		s.mu.Lock()
		for k, v := range s.groups[1] { // flip a bit of everything in one group
			v.data = slices.Clone(v.data)
			v.data[len(v.data)-1] ^= 1
			s.groups[1][k] = v
		}
		s.mu.Unlock()
		for p, want := range map[string][]byte{"/d/big": big, "/d/small": []byte("small")} {
			got, err := fs.Get(ctx, p)
			switch {
			case len(s.order) == 3 && err != nil:
				t.Fatalf("%s: %v although two groups have it", p, err)
			case err == nil && !bytes.Equal(got, want):
				t.Fatalf("%s: wrong bytes", p)
			case len(s.order) == 1 && err == nil:
				t.Fatalf("%s: damage not noticed", p)
			}
		}
	})
}
