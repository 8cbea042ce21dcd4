package layout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Several registries put, move and delete files and trees at the same time.
// Whatever the order: a file that can be read is listed, in its directory and
// its directory in all its parents; no content is mixed; and all registries
// agree at the end.
func TestConcurrentTrees(t *testing.T) {
	eachSetup(t, func(t *testing.T, s *memStore) {
		for seed := range uint64(30) {
			concurrentTrees(t, s, seed)
			for _, g := range s.order {
				clear(s.groups[g])
			}
		}
	})
}

func concurrentTrees(t *testing.T, s *memStore, seed uint64) {
	t.Helper()
	// Every tenth request or so fails, before or after it was executed, but
	// never in a majority of the groups at once.
	var fault func(uint32, string, string) (error, error)
	if len(s.order) == 3 {
		faults := rand.New(rand.NewPCG(seed, 1))
		bad := s.order[seed%3]
		fault = func(group uint32, _, _ string) (before, after error) {
			if group != bad {
				return nil, nil
			}
			switch faults.IntN(10) {
			case 0:
				return errDown, nil
			case 1:
				return nil, errors.New("answer lost")
			}
			return nil, nil
		}
	}
	s.setFaults(fault, func() time.Duration { return time.Duration(rand.IntN(30)) * time.Microsecond })
	defer s.setFaults(nil, nil)
	var registries []*FS
	for range 2 {
		registries = append(registries, newTestFS(t, s, Options{}))
	}
	paths := []string{"/a/1", "/a/2", "/a/b/1", "/a/b/c/1", "/d/1"}
	dirs := []string{"/a", "/a/b", "/a/b/c", "/d"}
	var wg sync.WaitGroup
	ctx := context.Background()
	for worker := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(100+worker)))
			fs := registries[worker%2]
			for step := range 12 {
				p := paths[r.IntN(len(paths))]
				var err error
				switch r.IntN(6) {
				case 0, 1, 2:
					err = fs.Put(ctx, p, []byte(strings.Repeat(fmt.Sprintf("%d.%d ", worker, step), 50)))
				case 3:
					err = fs.Delete(ctx, p)
				case 4:
					err = fs.Delete(ctx, dirs[r.IntN(len(dirs))])
				case 5:
					err = fs.Move(ctx, p, paths[r.IntN(len(paths))])
				}
				if err != nil && !errors.Is(err, ErrNotExist) && !errors.Is(err, ErrConcurrent) && !errors.Is(err, ErrIsDir) {
					t.Errorf("seed %d: %v", seed, err)
				}
			}
		})
	}
	wg.Wait()
	s.setFaults(nil, nil)
	registries = append(registries, newTestFS(t, s, Options{}))
	var before map[string]string
	for i, fs := range registries {
		state := make(map[string]string)
		for _, p := range paths {
			b, err := fs.Get(ctx, p)
			if errors.Is(err, ErrNotExist) {
				continue
			}
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			state[p] = string(b)
			if word, _, _ := bytes.Cut(b, []byte(" ")); !bytes.Equal(b, bytes.Repeat(append(word, ' '), 50)) {
				t.Fatalf("seed %d: %s holds a mixture: %q", seed, p, b)
			}
			for q := p; q != "/"; q = path.Dir(q) {
				if !listed(t, fs, q) {
					t.Fatalf("seed %d: registry %d reads %s, but %s is not listed in its directory", seed, i, p, q)
				}
			}
		}
		if before != nil && fmt.Sprint(before) != fmt.Sprint(state) {
			t.Fatalf("seed %d: registries disagree:\n%v\n%v", seed, before, state)
		}
		before = state
	}
	for _, fs := range registries {
		fs.Close()
	}
}

func listed(t *testing.T, fs *FS, p string) bool {
	entries, err := fs.List(context.Background(), path.Dir(p))
	if errors.Is(err, ErrNotExist) {
		return false
	}
	must(t, err)
	for _, e := range entries {
		if e.Name == path.Base(p) {
			return true
		}
	}
	return false
}

// Many uploads at once: content is whole, and what was cancelled or replaced
// leaves nothing behind once the trash is emptied.
func TestConcurrentUploads(t *testing.T) {
	s := newMemStore(1, 2, 3)
	start := time.Now()
	var passed atomic.Int64 // read in the background, too
	fs := newTestFS(t, s, Options{Now: func() time.Time { return start.Add(time.Duration(passed.Load())) }})
	ctx := context.Background()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			session := fmt.Sprintf("/r/_uploads/%d", i)
			data := randomBytes(400_000+i*1000, uint64(i))
			must(t, fs.SetAttrs(ctx, session, map[string][]byte{"startedat": []byte("now")}, true))
			for off := 0; off < len(data); {
				w, err := fs.Resume(ctx, session)
				must(t, err)
				n := min(len(data)-off, 150_000)
				_, err = w.Write(data[off : off+n])
				must(t, err)
				must(t, w.Close())
				off += n
			}
			w, err := fs.Resume(ctx, session)
			must(t, err)
			must(t, w.Commit(ctx))
			if i%2 == 0 {
				must(t, w.Cancel(ctx))
				return
			}
			must(t, fs.Move(ctx, session, fmt.Sprintf("/blobs/%d", i%4))) // two of them to each place
		})
	}
	wg.Wait()
	passed.Store(int64(5 * time.Hour))
	if _, err := fs.EmptyTrash(ctx); err != nil {
		t.Fatal(err)
	}
	chunks := 0
	for _, i := range []int{1, 3} {
		b, err := fs.Get(ctx, fmt.Sprintf("/blobs/%d", i))
		must(t, err)
		same := bytes.Equal(b, randomBytes(400_000+i*1000, uint64(i))) || bytes.Equal(b, randomBytes(404_000+i*1000, uint64(i+4)))
		if !same {
			t.Fatalf("blob %d is neither upload", i)
		}
		rec, err := fs.readRecord(ctx, fmt.Sprintf("/blobs/%d", i))
		must(t, err)
		for _, e := range rec.data.extents {
			chunks += e.chunks()
		}
	}
	if n := len(s.keys(1, "chunk:")); n != chunks {
		t.Errorf("%d chunks left, %d are needed", n, chunks)
	}
}
