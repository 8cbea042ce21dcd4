package layout

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

func TestDeleteOlderSparesWhatIsNewer(t *testing.T) {
	eachSetup(t, func(t *testing.T, s *memStore) {
		now := time.Now()
		fs := newTestFS(t, s, Options{Now: func() time.Time { return now }})
		ctx := context.Background()
		data := randomBytes(200_000, 1)
		for _, p := range []string{"/old/1", "/old/2", "/mixed/1", "/mixed/2", "/renewed/1"} {
			must(t, fs.Put(ctx, p, data))
		}
		now = now.Add(time.Hour)
		cutoff := fs.clock.Next()
		now = now.Add(time.Hour)
		must(t, fs.Put(ctx, "/mixed/2", data))
		must(t, fs.Renew(ctx, "/renewed/1"))
		for p, want := range map[string]bool{"/old/1": true, "/old": true, "/mixed": false, "/mixed/2": false, "/renewed": false, "/renewed/1": false} {
			gone, err := fs.DeleteOlder(ctx, p, cutoff)
			if err != nil && !errors.Is(err, ErrNotExist) {
				t.Fatal(err)
			}
			if gone != want && err == nil {
				t.Errorf("%s is gone: %v", p, gone)
			}
		}
		now = now.Add(5 * time.Hour)
		_, err := fs.EmptyTrash(ctx)
		must(t, err)
		for _, p := range []string{"/old", "/old/1", "/old/2", "/mixed/1"} {
			mustNotExist(t, fs, p)
			if listed(t, fs, p) {
				t.Errorf("%s is still listed", p)
			}
		}
		for _, p := range []string{"/mixed/2", "/renewed/1"} {
			mustGet(t, fs, p, data)
			if !listed(t, fs, p) {
				t.Errorf("%s is not listed", p)
			}
		}
		if n := len(s.keys(1, "chunk:")); n != 4 {
			t.Errorf("%d chunks, 4 are needed", n)
		}
		before, err := fs.Stat(ctx, "/renewed/1")
		must(t, err)
		must(t, fs.Renew(ctx, "/renewed/1"))
		after, err := fs.Stat(ctx, "/renewed/1")
		must(t, err)
		if before.Mtime != after.Mtime || before.Written >= after.Written {
			t.Errorf("renewed: %+v, before: %+v", after, before)
		}
		if err := fs.Renew(ctx, "/old/1"); !errors.Is(err, ErrNotExist) {
			t.Errorf("renewing what is gone: %v", err)
		}
	})
}

// A renewal and a deletion of what is old meet. Either the file is renewed, or
// it is gone, and both sides are told so; nothing is lost, nothing comes back.
func TestRenewExcludesDeletion(t *testing.T) {
	eachSetup(t, func(t *testing.T, s *memStore) {
		var gone, kept int
		for seed := range uint64(60) {
			r := rand.New(rand.NewPCG(seed, 7))
			var mu sync.Mutex
			now := time.Now()
			clock := func() time.Time {
				mu.Lock()
				defer mu.Unlock()
				return now
			}
			pusher := newTestFS(t, s, Options{Now: clock})
			collector := newTestFS(t, s, Options{Now: clock, AllGroups: true})
			ctx := context.Background()
			p := fmt.Sprintf("/blobs/%d/data", seed)
			data := randomBytes(100_000, seed)
			must(t, pusher.Put(ctx, p, data))
			mu.Lock()
			now = now.Add(time.Hour)
			mu.Unlock()
			cutoff := collector.clock.Next()
			mu.Lock()
			now = now.Add(time.Hour)
			mu.Unlock()
			s.setFaults(nil, func() time.Duration { return time.Duration(rand.IntN(60)) * time.Microsecond })
			var renewed, deleted error
			var isGone bool
			renew := func() { renewed = pusher.Renew(ctx, p) }
			remove := func() { isGone, deleted = collector.DeleteOlder(ctx, fmt.Sprintf("/blobs/%d", seed), cutoff) }
			switch seed % 3 {
			case 0:
				renew()
				remove()
			case 1:
				remove()
				renew()
			case 2: // at the same time
				var wg sync.WaitGroup
				wg.Go(func() {
					time.Sleep(time.Duration(r.IntN(3000)) * time.Microsecond)
					renew()
				})
				wg.Go(remove)
				wg.Wait()
			}
			s.setFaults(nil, nil)
			mu.Lock()
			now = now.Add(5 * time.Hour)
			mu.Unlock()
			if renewed != nil && !errors.Is(renewed, ErrNotExist) {
				t.Fatalf("seed %d: renewed: %v", seed, renewed)
			}
			if deleted != nil {
				// With all groups needed, a renewal in one of them is enough
				// to refuse: the collector starts over another time.
				t.Logf("seed %d: deleted: %v", seed, deleted)
			}
			_, err := collector.EmptyTrash(ctx)
			must(t, err)
			if renewed == nil {
				kept++
				if isGone {
					t.Fatalf("seed %d: renewed and gone", seed)
				}
				mustGet(t, pusher, p, data)
				if !listed(t, pusher, p) || !listed(t, pusher, fmt.Sprintf("/blobs/%d", seed)) {
					t.Fatalf("seed %d: the renewed file is not listed", seed)
				}
			} else if isGone {
				gone++
				mustNotExist(t, pusher, p)
				if listed(t, pusher, p) {
					t.Fatalf("seed %d: the deleted file is listed", seed)
				}
			}
			pusher.Close()
			collector.Close()
		}
		if gone == 0 || kept == 0 {
			t.Errorf("%d times gone, %d times kept: the test tries only one order", gone, kept)
		}
	})
}
