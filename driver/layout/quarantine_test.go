package layout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// damage flips a bit in the middle of the value of every key with a prefix.
func (s *memStore) damage(group uint32, prefix string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, v := range s.groups[group] {
		if strings.HasPrefix(k, prefix) {
			v.data = slices.Clone(v.data)
			v.data[len(v.data)/2] ^= 1
			s.groups[group][k] = v
		}
	}
}

// snapshot is what a group holds under the keys with a prefix.
func (s *memStore) snapshot(group uint32, prefix string) map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := make(map[string]string)
	for k, v := range s.groups[group] {
		if strings.HasPrefix(k, prefix) {
			m[k] = string(v.data)
		}
	}
	return m
}

func TestReadersHealChunks(t *testing.T) {
	for _, lose := range []string{"damaged", "missing", "cut off"} {
		t.Run(lose, func(t *testing.T) {
			s := newMemStore(1, 2, 3)
			fs := newTestFS(t, s, Options{})
			ctx := context.Background()
			data := randomBytes(1<<20, 1)
			must(t, fs.Put(ctx, "/blob", data))
			want := s.snapshot(3, "chunk:")
			for _, g := range []uint32{1, 2} {
				switch lose {
				case "damaged":
					s.damage(g, "chunk:")
				case "missing":
					s.forget(g, "chunk:")
				case "cut off":
					s.mu.Lock()
					for k, v := range s.groups[g] {
						if strings.HasPrefix(k, "chunk:") {
							v.data = v.data[:len(v.data)/3]
							s.groups[g][k] = v
						}
					}
					s.mu.Unlock()
				}
			}
			// A reader heals what it comes across: the groups are asked in an
			// order that the chunk's number chooses.
			healed := func() bool {
				got1, got2 := s.snapshot(1, "chunk:"), s.snapshot(2, "chunk:")
				for key, v := range want {
					switch n := key[len(key)-1] - '0'; {
					case n%3 == 0 && (got1[key] != v || got2[key] != v), n%3 == 1 && got2[key] != v:
						return false
					}
				}
				return true
			}
			for range 100 {
				mustGet(t, fs, "/blob", data)
				if healed() {
					return
				}
				time.Sleep(5 * time.Millisecond)
			}
			t.Fatal("the groups still differ")
		})
	}
}

func (s *memStore) forget(group uint32, prefix string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.groups[group] {
		if strings.HasPrefix(k, prefix) {
			delete(s.groups[group], k)
		}
	}
}

// A blob that no group has any more is never served, reads as missing, and is
// whole again when it is pushed again.
func TestQuarantine(t *testing.T) {
	eachSetup(t, func(t *testing.T, s *memStore) {
		for _, lose := range []string{"chunk:", "file:/blobs/"} {
			now := time.Now()
			fs := newTestFS(t, s, Options{Now: func() time.Time { return now }})
			ctx := context.Background()
			data := randomBytes(1<<20, 1)
			p := "/blobs/" + lose[:4]
			must(t, fs.Put(ctx, p, data))
			for _, g := range s.order {
				s.damage(g, lose)
			}
			if _, err := fs.Get(ctx, p); err == nil {
				t.Fatal("damaged content was read")
			}
			if _, err := fs.Get(ctx, p); !errors.Is(err, ErrQuarantined) {
				t.Fatalf("damaged everywhere: %v", err)
			}
			info, err := fs.Stat(ctx, p)
			must(t, err)
			if !info.Quarantined || !listed(t, fs, p) {
				t.Fatalf("%+v", info)
			}
			if err := fs.Move(ctx, p, "/elsewhere"); !errors.Is(err, ErrQuarantined) {
				t.Fatalf("move: %v", err)
			}
			if err := fs.Renew(ctx, p); !errors.Is(err, ErrQuarantined) {
				t.Fatalf("renew: %v", err)
			}
			must(t, fs.Put(ctx, "/session", data))
			must(t, fs.Move(ctx, "/session", p)) // pushed again
			mustGet(t, fs, p, data)
			for _, g := range s.order {
				s.damage(g, lose)
			}
			_, _ = fs.Get(ctx, p)
			must(t, fs.Delete(ctx, p))
			mustNotExist(t, fs, p)
			if listed(t, fs, p) {
				t.Fatal("listed after the deletion")
			}
			now = now.Add(5 * time.Hour)
			_, err = fs.EmptyTrash(ctx)
			must(t, err)
			if lose == "chunk:" && len(s.keys(1, "chunk:")) > 0 {
				t.Fatal("damaged content was not removed")
			}
			for _, g := range s.order {
				s.forget(g, "")
			}
		}
	})
}

// A group that does not answer may have what the others have lost.
func TestNoQuarantineWhileAGroupIsAway(t *testing.T) {
	s := newMemStore(1, 2, 3)
	fs := newTestFS(t, s, Options{})
	ctx := context.Background()
	data := randomBytes(1<<20, 1)
	must(t, fs.Put(ctx, "/blob", data))
	s.damage(1, "chunk:")
	s.damage(2, "chunk:")
	s.setDown(3, true)
	if _, err := fs.Get(ctx, "/blob"); err == nil || errors.Is(err, ErrQuarantined) {
		t.Fatal(err)
	}
	info, err := fs.Stat(ctx, "/blob")
	must(t, err)
	if info.Quarantined {
		t.Fatal("quarantined although a group did not answer")
	}
	s.setDown(3, false)
	mustGet(t, fs, "/blob", data)
}

// Damaged copies of a record are written again from the others, as long as one
// of those surely is the newest.
func TestDamagedRecordsAreRestored(t *testing.T) {
	for groups, bad := range map[int]int{2: 1, 3: 1, 5: 2} {
		var list []uint32
		for g := range groups {
			list = append(list, uint32(g+1))
		}
		s := newMemStore(list...)
		fs := newTestFS(t, s, Options{})
		ctx := context.Background()
		must(t, fs.Put(ctx, "/file", []byte("content")))
		for _, all := range []bool{false, true} {
			for g := range bad {
				s.damage(uint32(g+1), "file:")
			}
			reader := newTestFS(t, s, Options{AllGroups: all})
			mustGet(t, reader, "/file", []byte("content"))
			reader.Close()
			if groups == 2 || all {
				if want, got := s.snapshot(uint32(groups), "file:"), s.snapshot(1, "file:"); fmt.Sprint(want) != fmt.Sprint(got) {
					t.Errorf("%d groups: the damaged copy is still there", groups)
				}
			}
		}
	}
}
