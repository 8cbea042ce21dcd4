package node

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics/node/engine"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

var crashRounds = flag.Int("crash-rounds", 12, "how many crashes TestCrash goes through")

// TestCrash has clients that change records in every way, over the wire, and
// takes the disk away at some instant. A node that is opened on what was on
// the disk answers for each record its last acknowledged state, or a later one
// that was on its way: nothing in part.
func TestCrash(t *testing.T) {
	for seed := range *crashRounds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { crash(t, uint64(seed)) })
	}
}

// state is what a record is expected to be.
type state struct {
	exists    bool
	committed bool
	data      []byte
	reserved  int // while it is not committed
}

func (s state) String() string {
	return fmt.Sprintf("exists %v, committed %v, %d bytes, %d reserved", s.exists, s.committed, len(s.data), s.reserved)
}

// lay is data with more laid over it from an offset, without a gap.
func lay(data []byte, offset int, more []byte) []byte {
	out := append(append([]byte{}, data[:min(offset, len(data))]...), more...)
	if len(out) < len(data) {
		out = append(out, data[len(out):]...)
	}
	return out
}

// change is one random request for a record, what it makes of it, and how it
// is answered.
func change(rng *rand.Rand, s state) (cmd wire.Command, io wire.IOAttr, data []byte, next state, want wire.Status) {
	data = make([]byte, 1+rng.IntN(3000))
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	cmd, next = wire.CmdWrite, state{exists: true, committed: true}
	switch kind := rng.IntN(9); {
	case kind == 0:
		if cmd, data, next = wire.CmdDel, nil, (state{}); !s.exists {
			want = wire.ErrNotFound
		}
	case kind == 1: // a compare-and-swap that fails, unless there is nothing to compare
		io.Flags, io.Parent = wire.IOCompareAndSwap, [64]byte{1}
		if next.data = data; s.committed {
			next, want = s, wire.ErrConflict
		}
	case kind == 2 && s.committed:
		io.Flags, io.Parent = wire.IOCompareAndSwap, sum512(s.data)
		next.data = data
	case kind == 3: // from an offset, which cuts the record off behind it
		if s.committed {
			io.Offset = rng.Uint64N(uint64(len(s.data)) + 1)
			next.data = append(append([]byte{}, s.data[:io.Offset]...), data...)
		} else {
			next.data = data
		}
	case kind == 4 || kind == 5:
		io.Flags = wire.IOAppend
		next.data = data
		if s.committed {
			next.data = append(append([]byte{}, s.data...), data...)
		}
	case kind == 6 || s.exists && !s.committed && kind == 7:
		if s.exists && !s.committed && rng.IntN(3) > 0 { // on with what is prepared
			io.Offset = rng.Uint64N(uint64(len(s.data)) + 1)
			data = data[:min(len(data), s.reserved-int(io.Offset))]
			next = state{exists: true, data: lay(s.data, int(io.Offset), data), reserved: s.reserved}
			io.Flags = plain
			if len(data) == 0 {
				next = s
			}
			if kind == 7 {
				io.Flags, io.Num = commit, uint64(len(next.data))
				next = state{exists: true, committed: true, data: next.data}
			}
			break
		}
		io.Flags, io.Num = prepare, uint64(len(data)+rng.IntN(6000))
		old := s.data[:min(len(s.data), int(io.Num))]
		next = state{exists: true, data: lay(old, 0, data), reserved: int(io.Num)}
	default:
		next.data = data
	}
	return cmd, io, data, next, want
}

func crash(t *testing.T, seed uint64) {
	const records, changes = 6, 40
	rng := rand.New(rand.NewPCG(seed, 1))
	fs := vfs.NewCrashableMem()
	dir := t.TempDir()
	open := func(fs *vfs.MemFS) *Node {
		return startNode(t, func(cfg *Config) {
			cfg.Backends[0].Dir = dir
			cfg.engineOptions = func(_ Backend, opt *engine.Options) {
				opt.FS, opt.SegmentSize, opt.MaxUnsynced = fs, 64<<10, 64<<10
			}
		})
	}
	n := open(fs)
	var mu sync.Mutex
	var histories [records][]state
	var acked, ackedAtCrash [records]int
	var disk *vfs.MemFS
	done, crashAt := 0, rng.IntN(records*changes)
	acknowledged := func(record, version int) {
		mu.Lock()
		defer mu.Unlock()
		acked[record] = version
		if done++; done == crashAt+1 {
			ackedAtCrash = acked
			disk = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 30, 70, 100}[seed%4], RNG: rng})
		}
	}
	var wg sync.WaitGroup
	for record := range records {
		c := dial(t, n)
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(record)+2))
			name := fmt.Sprint("record ", record)
			var s state
			mu.Lock()
			histories[record] = append(histories[record], s)
			mu.Unlock()
			for i := range changes {
				cmd, io, data, next, want := change(rng, s)
				io.UserFlags = uint64(i)
				mu.Lock()
				histories[record] = append(histories[record], next)
				mu.Unlock()
				h, payload := c.writeRequest(name, &io, string(data))
				h.Command = cmd
				c.send(h, payload)
				r, err := c.tryReceive()
				if err != nil || !assertEqual(t, want, r.Status) {
					t.Errorf("change %d of %s: flags %x, offset %d, num %d, %d bytes, of %v: %v, %v", i, name, io.Flags, io.Offset, io.Num, len(data), s, r.Status, err)
					return
				}
				s = next
				acknowledged(record, i+1)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	c := dial(t, n)
	for record, states := range histories {
		require.NoError(t, c.isOneOf(fmt.Sprint("record ", record), states[changes:]), "without a crash")
	}
	require.NoError(t, n.Close())
	c = dial(t, open(disk))
	for record, states := range histories {
		require.NoError(t, c.isOneOf(fmt.Sprint("record ", record), states[ackedAtCrash[record]:]), "after the crash")
	}
}

// isOneOf reads a record, and removes it, to see what it is.
func (c *client) isOneOf(name string, states []state) error {
	c.t.Helper()
	status, _, data := c.read(name, 0, 0, 0)
	exists := c.del(name) == wire.OK
	for _, s := range states {
		readable := status == wire.OK
		if s.exists == exists && s.committed == readable && (!readable || bytes.Equal(s.data, []byte(data))) {
			return nil
		}
	}
	return fmt.Errorf("%s (read: %d, exists: %v, %d bytes) is none of %v", name, int(status), exists, len(data), states)
}
