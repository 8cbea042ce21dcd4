package layout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// inspect does what fsck does: directories, then records, then content.
func inspect(t testing.TB, fs *FS, repair bool) (findings []Finding) {
	t.Helper()
	ctx := context.Background()
	c, err := NewChecker(fs, CheckOptions{
		Repair: repair, Grace: 24 * time.Hour,
		Abandoned: func(p string, attrs map[string][]byte) bool {
			return strings.Contains(p, "/_uploads/") && attrs["startedat"] == nil
		},
		Unique: func(p string) bool { return strings.Contains(p, "/_uploads/") },
	})
	must(t, err)
	var walk func(p string)
	walk = func(p string) {
		entries, f, err := c.CheckDir(ctx, p)
		must(t, err)
		findings = append(findings, f...)
		for _, e := range entries {
			if e.Kind == KindDir {
				walk(join(p, e.Name))
			}
		}
	}
	walk("/")
	must(t, c.LoadTrash(ctx))
	for _, chunks := range []bool{false, true} {
		for slice := range 3 {
			list, err := c.Slice(ctx, slice, 3)
			must(t, err)
			for _, s := range list {
				if chunks {
					f, err := c.CheckChunk(ctx, s)
					must(t, err)
					if f != nil {
						findings = append(findings, *f)
					}
					continue
				}
				f, err := c.CheckRecord(ctx, s)
				must(t, err)
				findings = append(findings, f...)
			}
		}
	}
	return findings
}

func scrub(t testing.TB, fs *FS, repair bool) (findings []Finding) {
	t.Helper()
	ctx := context.Background()
	c, err := NewChecker(fs, CheckOptions{Repair: repair})
	must(t, err)
	list, err := c.Slice(ctx, 0, 1)
	must(t, err)
	for _, s := range list {
		f, err := c.Sync(ctx, s)
		must(t, err)
		findings = append(findings, f...)
	}
	return findings
}

func problems(findings []Finding) map[string]int {
	m := make(map[string]int)
	for _, f := range findings {
		m[f.Problem]++
	}
	return m
}

// unrepaired are the findings that are left.
func unrepaired(findings []Finding) []Finding {
	return slices.DeleteFunc(slices.Clone(findings), func(f Finding) bool { return f.Repaired })
}

// A process dies between any two of its writes, in the middle of any operation.
// What was there before is whole; fsck finds what is left behind, mends it, and
// finds nothing afterwards; and what no record needs is gone in the end.
func TestCrashesLeaveNothingThatFsckCannotMend(t *testing.T) {
	large, small := randomBytes(300_000, 1), []byte("small")
	operations := map[string]func(ctx context.Context, fs *FS) error{
		"put":              func(ctx context.Context, fs *FS) error { return fs.Put(ctx, "/new/dir/file", large) },
		"large over large": func(ctx context.Context, fs *FS) error { return fs.Put(ctx, "/dir/large", randomBytes(300_000, 2)) },
		"small over large": func(ctx context.Context, fs *FS) error { return fs.Put(ctx, "/dir/large", small) },
		"large over small": func(ctx context.Context, fs *FS) error { return fs.Put(ctx, "/dir/small", large) },
		"move":             func(ctx context.Context, fs *FS) error { return fs.Move(ctx, "/dir/large", "/else/where") },
		"move over large":  func(ctx context.Context, fs *FS) error { return fs.Move(ctx, "/dir/large", "/other/large") },
		"delete":           func(ctx context.Context, fs *FS) error { return fs.Delete(ctx, "/dir/large") },
		"delete directory": func(ctx context.Context, fs *FS) error { return fs.Delete(ctx, "/dir") },
		"renew":            func(ctx context.Context, fs *FS) error { return fs.Renew(ctx, "/dir/large") },
		"delete what is older": func(ctx context.Context, fs *FS) error {
			_, err := fs.DeleteOlder(ctx, "/dir", fs.clock.Next())
			return err
		},
		"upload": func(ctx context.Context, fs *FS) error {
			const session = "/repo/_uploads/1"
			if err := fs.SetAttrs(ctx, session, map[string][]byte{"startedat": {1}}, true); err != nil {
				return err
			}
			w, err := fs.Resume(ctx, session)
			if err != nil {
				return err
			}
			if _, err = w.Write(large); err == nil {
				err = w.Commit(ctx)
			}
			if err := errors.Join(err, w.Close()); err != nil {
				return err
			}
			if err := fs.Move(ctx, session, "/blobs/1"); err != nil {
				return err
			}
			return nil
		},
	}
	dead := errors.New("dead")
	for _, name := range slices.Sorted(maps.Keys(operations)) {
		t.Run(name, func(t *testing.T) {
			for crash := 0; ; crash++ {
				s := newMemStore(1)
				now := time.Now()
				clock := func() time.Time { return now }
				fs := newTestFS(t, s, Options{Now: clock})
				ctx := context.Background()
				before := map[string][]byte{"/dir/large": large, "/dir/small": small, "/other/large": randomBytes(300_000, 3)}
				for p, data := range before {
					must(t, fs.Put(ctx, p, data))
				}
				writes := 0
				s.setFaults(func(_ uint32, op, _ string) (error, error) {
					if op == "write" || op == "remove" {
						if writes++; writes > crash {
							return dead, nil
						}
					}
					return nil, nil
				}, nil)
				err := operations[name](ctx, fs)
				fs.Close()
				s.setFaults(nil, nil)
				if err == nil && writes <= crash {
					return // it did not die
				}
				now = now.Add(48 * time.Hour)
				after := newTestFS(t, s, Options{Now: clock})
				found := inspect(t, after, false)
				repaired := inspect(t, after, true)
				if left := unrepaired(repaired); len(left) > 0 && err != nil {
					left = slices.DeleteFunc(left, func(f Finding) bool { return f.Problem == "abandoned upload" })
					if len(left) > 0 {
						t.Fatalf("crash at write %d: not repaired: %v", crash, left)
					}
				}
				if fmt.Sprint(problems(found)) != fmt.Sprint(problems(repaired)) && len(found) == 0 {
					t.Fatalf("crash at write %d: found %v, repaired %v", crash, found, repaired)
				}
				if again := inspect(t, after, true); len(again) > 0 {
					again = inspect(t, after, false) // a repair may lay open another problem
					if len(again) > 0 {
						t.Fatalf("crash at write %d: after the repair of %v: %v", crash, repaired, again)
					}
				}
				// What the operation does not touch is as it was; what it does
				// is old or new, but whole.
				for _, p := range []string{"/dir/large", "/dir/small", "/other/large", "/new/dir/file", "/else/where", "/blobs/1"} {
					b, err := after.Get(ctx, p)
					if errors.Is(err, ErrNotExist) || errors.Is(err, ErrUnfinished) {
						continue
					}
					must(t, err)
					whole := bytes.Equal(b, small)
					for seed := range uint64(3) {
						whole = whole || bytes.Equal(b, randomBytes(300_000, seed+1))
					}
					if !whole || !listed(t, after, p) {
						t.Fatalf("crash at write %d: %s is not whole, or not listed", crash, p)
					}
				}
				if want := before["/other/large"]; name != "move over large" {
					mustGet(t, after, "/other/large", want)
				}
				now = now.Add(48 * time.Hour)
				_, err = after.EmptyTrash(ctx)
				must(t, err)
				now = now.Add(48 * time.Hour)
				_, err = after.EmptyTrash(ctx)
				must(t, err)
				needed := make(map[string]bool)
				for _, key := range s.keys(1, "file:") {
					rec, err := after.readRecord(ctx, strings.TrimPrefix(key, "file:"))
					must(t, err)
					for _, x := range rec.data.extents {
						for n := range x.chunks() {
							needed[chunkKey(x.id, n)] = true
						}
					}
				}
				for _, key := range s.keys(1, "chunk:") {
					if !needed[key] {
						t.Fatalf("crash at write %d: %s is garbage for ever", crash, key)
					}
				}
				if more := inspect(t, after, false); len(more) > 0 {
					t.Fatalf("crash at write %d: in the end: %v", crash, more)
				}
				after.Close()
			}
		})
	}
}

// Nothing that is damaged or lost goes unnoticed, whatever it is.
func TestFsckFindsDamage(t *testing.T) {
	s := newMemStore(1)
	now := time.Now()
	fs := newTestFS(t, s, Options{Now: func() time.Time { return now }})
	ctx := context.Background()
	data := randomBytes(300_000, 1)
	must(t, fs.Put(ctx, "/a/session", data))
	must(t, fs.Move(ctx, "/a/session", "/a/b/blob"))
	must(t, fs.Put(ctx, "/a/b/small", []byte("small")))
	now = now.Add(48 * time.Hour)
	if f := inspect(t, fs, false); len(f) > 0 {
		t.Fatal(f)
	}
	steps := []struct {
		break_ func()
		want   string
	}{
		{func() { s.forget(1, "dir:/a/b") }, "unlisted file"},
		{func() { s.forget(1, "dir:") }, "unlisted file"},
		{func() { s.forget(1, "dir:/a") }, "unlisted file"},
		{func() { s.damage(1, "dir:/a/b") }, "damaged directory log"},
		{func() { s.forget(1, "owner:") }, "content without owner"},
	}
	for _, step := range steps {
		step.break_()
		fresh := newTestFS(t, s, Options{Now: func() time.Time { return now }})
		found := problems(inspect(t, fresh, false))
		if found[step.want] == 0 {
			t.Fatalf("%v found, %q expected", found, step.want)
		}
		inspect(t, fresh, true)
		inspect(t, fresh, true)
		if left := inspect(t, fresh, false); len(left) > 0 {
			t.Fatalf("%s: left: %v", step.want, left)
		}
		for _, p := range []string{"/a/b/blob", "/a/b/small"} {
			if !listed(t, fresh, p) || !listed(t, fresh, "/a/b") || !listed(t, fresh, "/a") {
				t.Fatalf("%s: %s is not listed", step.want, p)
			}
		}
		mustGet(t, fresh, "/a/b/blob", data)
		fresh.Close()
	}
	s.damage(1, "file:/a/b/small")
	if found := problems(inspect(t, fs, true)); found["unreadable record"] != 1 {
		t.Fatal(found)
	}
	must(t, fs.Put(ctx, "/a/b/small", []byte("small")))
	s.damage(1, "chunk:")
	_, _ = fs.Get(ctx, "/a/b/blob")
	if found := problems(inspect(t, fs, true)); found["quarantined file"] != 1 {
		t.Fatal(found)
	}
}

// A group that lost everything, or some of it, is filled from the others.
func TestScrub(t *testing.T) {
	for _, lost := range []string{"everything", "chunks", "records", "damaged", "cut log"} {
		t.Run(lost, func(t *testing.T) {
			s := newMemStore(1, 2, 3)
			now := time.Now()
			opt := Options{Now: func() time.Time { return now }}
			fs := newTestFS(t, s, opt)
			ctx := context.Background()
			for i := range 10 {
				p := fmt.Sprintf("/d%d/file", i%3)
				must(t, fs.Put(ctx, p, randomBytes(i*60_000, uint64(i))))
				must(t, fs.Move(ctx, p, fmt.Sprintf("/m/%d", i)))
			}
			must(t, fs.Delete(ctx, "/m/3"))
			must(t, fs.Delete(ctx, "/d0"))
			fs.Close()
			fs = newTestFS(t, s, opt)
			now = now.Add(5 * time.Hour)
			_, err := fs.EmptyTrash(ctx)
			must(t, err)
			scrub(t, fs, true) // what was still on its way
			if f := scrub(t, fs, true); len(f) > 0 {
				t.Fatal(f)
			}
			want := s.snapshot(2, "")
			switch lost {
			case "everything":
				s.forget(1, "")
			case "chunks":
				s.forget(1, "chunk:")
			case "records":
				s.forget(1, "file:")
			case "damaged":
				s.damage(1, "chunk:")
				s.damage(1, "file:")
				s.damage(1, "owner:")
				s.damage(1, "dir:")
			case "cut log":
				s.mu.Lock()
				for k, v := range s.groups[1] {
					if strings.HasPrefix(k, "dir:") {
						v.data = v.data[:len(v.data)/2]
						s.groups[1][k] = v
					}
				}
				s.mu.Unlock()
			}
			if f := scrub(t, fs, false); len(f) == 0 || len(unrepaired(f)) != len(f) {
				t.Fatalf("dry run: %v", f)
			}
			if left := unrepaired(scrub(t, fs, true)); len(left) > 0 {
				t.Fatal(left)
			}
			if f := scrub(t, fs, true); len(f) > 0 {
				t.Fatalf("left: %v", f)
			}
			got := s.snapshot(1, "")
			for key, v := range want {
				if strings.HasPrefix(key, "dir:") { // the same, in another order
					var a, b dirState
					eachEntry([]byte(v), func(e logEntry, _ []byte) { a.apply(e) })
					eachEntry([]byte(got[key]), func(e logEntry, _ []byte) { b.apply(e) })
					if len(a.lacks(&b, key))+len(b.lacks(&a, key)) > 0 {
						t.Errorf("%s differs", key)
					}
				} else if !strings.HasPrefix(key, "trash:") && got[key] != v {
					t.Errorf("%s differs", key)
				}
			}
			s.setDown(2, true)
			s.setDown(3, true)
			alone := newTestFS(t, &one{s}, Options{})
			for i := range 10 {
				if i != 3 {
					mustGet(t, alone, fmt.Sprintf("/m/%d", i), randomBytes(i*60_000, uint64(i)))
				}
			}
		})
	}
}

// one is a store with nothing but group 1.
type one struct{ *memStore }

func (one) Groups() []uint32 { return []uint32{1} }

// A damaged copy that claims to be newer than what was acknowledged is replaced
// as well.
func TestScrubReplacesDamageThatLooksNewer(t *testing.T) {
	s := newMemStore(1, 2, 3)
	fs := newTestFS(t, s, Options{})
	must(t, fs.Put(context.Background(), "/file", []byte("content")))
	s.mu.Lock()
	v := s.groups[2]["file:/file"]
	v.data, v.ts = []byte("damaged"), v.ts+5
	s.groups[2]["file:/file"] = v
	s.mu.Unlock()
	if left := unrepaired(scrub(t, fs, true)); len(left) > 0 {
		t.Fatal(left)
	}
	if f := scrub(t, fs, true); len(f) > 0 {
		t.Fatal(f)
	}
}

// What no group has is found and quarantined, and no longer so when it is back.
func TestScrubQuarantines(t *testing.T) {
	s := newMemStore(1, 2, 3)
	fs := newTestFS(t, s, Options{})
	ctx := context.Background()
	data := randomBytes(400_000, 1)
	must(t, fs.Put(ctx, "/blob", data))
	rec, err := fs.readRecord(ctx, "/blob")
	must(t, err)
	key := chunkKey(rec.data.extents[0].id, 1)
	for _, lose := range []string{"damaged", "missing"} {
		backup := s.snapshot(3, key)
		for _, g := range s.order {
			if lose == "damaged" {
				s.damage(g, key)
			} else {
				s.forget(g, key)
			}
		}
		if f := problems(scrub(t, fs, true)); f["lost content"] == 0 {
			t.Fatalf("%s: %v", lose, f)
		}
		if _, err := fs.Get(ctx, "/blob"); !errors.Is(err, ErrQuarantined) {
			t.Fatal(err)
		}
		s.mu.Lock()
		for k, v := range backup {
			s.groups[3][k] = memValue{[]byte(v), 1, flagsChunk}
		}
		s.mu.Unlock()
		scrub(t, fs, true)
		if f := unrepaired(scrub(t, fs, true)); len(f) > 0 {
			t.Fatal(f)
		}
		mustGet(t, fs, "/blob", data)
	}
}

// Registries go on while fsck repairs and scrub restores: nothing that is alive
// is touched, and in the end all is well.
func TestFsckBesideRegistries(t *testing.T) {
	eachSetup(t, func(t *testing.T, s *memStore) {
		seed := rand.Uint64()
		t.Log("seed", seed)
		var mu sync.Mutex
		now := time.Now()
		clock := func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return now
		}
		ctx := context.Background()
		// As if the trash had been emptied before: 40 days are not looked at.
		must(t, newTestFS(t, s, Options{}).writeTrashCursor(ctx, now.Unix()/3600-24))
		s.setFaults(nil, func() time.Duration { return time.Duration(rand.IntN(20)) * time.Microsecond })
		// The clock jumps only while no operation runs: none takes as long as
		// the grace period.
		var working sync.RWMutex
		var wg sync.WaitGroup
		content := make([]map[string][]byte, 3)
		for w := range 3 {
			content[w] = make(map[string][]byte)
			wg.Go(func() {
				r := rand.New(rand.NewPCG(seed, uint64(w)))
				fs := newTestFS(t, s, Options{Now: clock})
				for step := range 20 {
					working.RLock()
					p := fmt.Sprintf("/shared/%d/%d", r.IntN(2), w)
					data := randomBytes(r.IntN(3)*100_000, uint64(step))
					switch r.IntN(5) {
					case 0, 1:
						must(t, fs.Put(ctx, p, data))
						content[w][p] = data
					case 2:
						session := fmt.Sprintf("/repo/_uploads/%d-%d", w, step)
						must(t, fs.SetAttrs(ctx, session, map[string][]byte{"startedat": {1}}, true))
						wr, err := fs.Resume(ctx, session)
						must(t, err)
						_, err = wr.Write(data)
						must(t, err)
						must(t, wr.Commit(ctx))
						must(t, fs.Move(ctx, session, p))
						content[w][p] = data
					case 3:
						if content[w][p] != nil {
							must(t, fs.Delete(ctx, p))
							delete(content[w], p)
						}
					case 4:
						if content[w][p] != nil {
							must(t, fs.Renew(ctx, p))
						}
					}
					working.RUnlock()
					if r.IntN(4) == 0 {
						working.Lock()
						mu.Lock()
						now = now.Add(30 * time.Hour)
						mu.Unlock()
						working.Unlock()
					}
				}
			})
		}
		done := make(chan struct{})
		var tools sync.WaitGroup
		tools.Go(func() {
			fs := newTestFS(t, s, Options{Now: clock})
			for {
				inspect(t, fs, true)
				scrub(t, fs, true)
				_, err := fs.EmptyTrash(ctx)
				must(t, err)
				select {
				case <-done:
					return
				default:
				}
			}
		})
		wg.Wait()
		close(done)
		tools.Wait()
		now = now.Add(48 * time.Hour)
		fs := newTestFS(t, s, Options{Now: clock})
		inspect(t, fs, true)
		scrub(t, fs, true)
		if f := inspect(t, fs, true); len(f) > 0 {
			t.Errorf("seed %d: left: %v", seed, f)
		}
		for w := range content {
			for p, data := range content[w] {
				mustGet(t, fs, p, data)
				if !listed(t, fs, p) {
					t.Errorf("seed %d: %s is not listed", seed, p)
				}
			}
		}
	})
}

// A writer that lived longer than content without a record is kept must not
// store what may be gone.
func TestWritersDoNotOutliveTheGraceOfContent(t *testing.T) {
	now := time.Now()
	fs := newTestFS(t, newMemStore(1), Options{Now: func() time.Time { return now }})
	ctx := context.Background()
	for size, stored := range map[int]bool{100: true, 300_000: false} {
		w, err := fs.Create(ctx, fmt.Sprint("/", size))
		must(t, err)
		_, err = w.Write(randomBytes(size, 1))
		must(t, err)
		now = now.Add(MinContentGrace)
		if err := w.Commit(ctx); (err == nil) != stored {
			t.Errorf("%d bytes: %v", size, err)
		}
		must(t, w.Cancel(ctx))
	}
}
