package node

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// TestKeyQueue lets random requests come and go and compares with the rule:
// of each key those run that are at the front of the queue, one alone if it
// is exclusive, all of them together as far as they are shared.
func TestKeyQueue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type entry struct {
			r       *request
			running bool
		}
		var q *keyQueue
		model := make(map[wire.ID][]*entry)
		var all []*entry
		started := func(r *request) {
			for _, e := range all {
				if e.r == r {
					if e.running {
						t.Fatalf("a request was started twice")
					}
					e.running = true
				}
			}
		}
		q = newKeyQueue(started)
		check := func() {
			waiting := 0
			for key, entries := range model {
				free := true
				for i, e := range entries {
					want := free && (i == 0 || e.r.lock == lockShared && entries[0].r.lock == lockShared)
					free = want
					if e.running != want {
						t.Fatalf("key %s: request %d of %d runs: %v, expected %v", key.Short(), i, len(entries), e.running, want)
					}
					if !e.running {
						waiting++
					}
				}
			}
			if got := q.waiting(); got != waiting {
				t.Fatalf("%d wait, expected %d", got, waiting)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"lock": func(t *rapid.T) {
				key := wire.ID{byte(rapid.IntRange(0, 2).Draw(t, "key"))}
				r := &request{lock: lockExclusive}
				if rapid.Bool().Draw(t, "shared") {
					r.lock = lockShared
				}
				r.hdr.ID = key
				e := &entry{r: r}
				all = append(all, e)
				model[key] = append(model[key], e)
				e.running = q.lock(r)
			},
			"unlock": func(t *rapid.T) {
				var running []*entry
				for _, e := range all {
					if e.running {
						running = append(running, e)
					}
				}
				if len(running) == 0 {
					return
				}
				e := rapid.SampledFrom(running).Draw(t, "request")
				remove := func(s []*entry) []*entry {
					for i := range s {
						if s[i] == e {
							return append(s[:i:i], s[i+1:]...)
						}
					}
					return s
				}
				all = remove(all)
				model[e.r.hdr.ID] = remove(model[e.r.hdr.ID])
				q.unlock(e.r)
			},
			"": func(*rapid.T) { check() },
		})
		for i := range q.shards {
			for key := range q.shards[i].keys {
				if len(model[key]) == 0 {
					t.Fatalf("an idle key is kept")
				}
			}
		}
	})
}

// TestRequestsForOneKeyAreInOrder pipelines appends and reads of one key over
// two connections of which one sends first: every read sees exactly what was
// sent before it.
func TestRequestsForOneKeyAreInOrder(t *testing.T) {
	n := startNode(t)
	c := dial(t, n)
	const rounds = 100
	go func() {
		for i := range rounds {
			h, payload := c.writeRequest("k", &wire.IOAttr{Flags: wire.IOAppend}, string(rune('a'+i%26)))
			h.Trans = uint64(2 * i)
			h.Size = uint64(len(payload))
			c.nc.Write(append(h.Append(nil), payload...))
			io := wire.IOAttr{ID: h.ID}
			h = wire.Header{ID: h.ID, Group: 1, Command: wire.CmdRead, Flags: wire.FlagNeedAck, Trans: uint64(2*i + 1), Size: wire.IOAttrSize}
			c.nc.Write(io.Append(h.Append(nil)))
		}
	}()
	for range 2 * rounds {
		r := c.receive()
		require.Equal(t, wire.OK, r.Status)
		if r.Command != wire.CmdRead {
			continue
		}
		var io wire.IOAttr
		require.NoError(t, io.Decode(r.payload))
		require.Equal(t, r.Trans/2+1, io.TotalSize)
	}
}
