package elliptics_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/elliptics/ellipticstest"
	"github.com/elliptics-registry/elliptics-registry/elliptics/node"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

var soakFor = flag.Duration("soak", 2*time.Second, "how long TestSoak goes on")

// What a soak may take at most: the client's and three nodes' live memory, and
// goroutines.
const (
	soakHeap       = 256 << 20
	soakGoroutines = 1000
)

// soakFaults are what happens to requests now and then.
var soakFaults = []node.Fault{
	{Delay: 50 * time.Millisecond}, {Delay: time.Second}, {Drop: true}, {DropAnswer: true}, {Reset: true},
	{ResetAnswer: true}, {Twice: true}, {Slow: 20 * time.Microsecond}, {Status: wire.ErrNoSpace},
	{Status: wire.ErrAgain}, {Status: wire.ErrIO}, {Status: wire.ErrNotFound}, {Status: wire.ErrChecksum},
}

// TestSoak works on three groups whose nodes spoil requests and go away all the
// time, and checks that no acknowledged write is lost, that nothing comes back
// wrong, and that memory stays bounded. For a long time:
//
//	go test -race -run TestSoak -soak 10m -timeout 20m ./elliptics
func TestSoak(t *testing.T) {
	c := ellipticstest.Start(t, 1, 2, 3)
	n := connect(t, c.Remotes(), func(c *elliptics.Config) {
		c.WaitTimeout, c.CheckTimeout = 300*time.Millisecond, 300*time.Millisecond
		c.Logger = slog.New(slog.DiscardHandler)
	})
	require.Eventually(t, func() bool { return connected(n) == 3 }, patience, instant)
	ctx, cancel := context.WithTimeout(t.Context(), *soakFor)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { trouble(ctx, c) })
	wg.Go(func() { watchMemory(ctx, t) })
	var workers []*soaker
	var done, failed atomic.Int64
	for i := range 8 {
		w := newSoaker(t, n, i)
		workers = append(workers, w)
		wg.Go(func() {
			for ctx.Err() == nil && !t.Failed() {
				if err := w.step(ctx); err != nil {
					failed.Add(1)
				} else {
					done.Add(1)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d operations succeeded, %d failed", done.Load(), failed.Load())
	require.Positive(t, done.Load())
	for i := range c.Len() {
		c.Restart(i)
	}
	patient := connect(t, c.Remotes())
	require.Eventually(t, func() bool { return connected(patient) == 3 }, patience, instant)
	for _, w := range workers {
		w.check(patient)
	}
}

// trouble spoils some requests and stops a node now and then. At its end all
// faults are over.
func trouble(ctx context.Context, c *ellipticstest.Cluster) {
	for ctx.Err() == nil {
		i := rand.N(c.Len())
		failure := c.FailIf(i, -1, soakFaults[rand.N(len(soakFaults))], func(h wire.Header) bool {
			return h.Command != wire.CmdReverseLookup && rand.N(4) == 0
		})
		pause := func(d time.Duration) {
			select {
			case <-time.After(rand.N(d)):
			case <-ctx.Done():
			}
		}
		pause(200 * time.Millisecond)
		if rand.N(4) == 0 {
			c.Stop(i)
			pause(500 * time.Millisecond)
			c.Restart(i)
		}
		failure.Stop()
		pause(100 * time.Millisecond)
	}
}

func watchMemory(ctx context.Context, t *testing.T) {
	var most uint64
	for ctx.Err() == nil {
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		most = max(most, m.HeapAlloc)
		if m.HeapAlloc > soakHeap || runtime.NumGoroutine() > soakGoroutines {
			t.Errorf("%d MiB and %d goroutines are in use", m.HeapAlloc>>20, runtime.NumGoroutine())
		}
	}
	t.Logf("at most %d MiB were in use", most>>20)
}

// soaker works on some keys that are its own, and on a counter. What it knows
// of a key is the version that was acknowledged last and the one that was
// written last, whether acknowledged or not.
type soaker struct {
	t         *testing.T
	namespace string
	s         *elliptics.Session
	keys      []elliptics.Key
	acked     []uint64
	written   []uint64
	counter   elliptics.Key
	added     int // acknowledged
	tried     int
}

func newSoaker(t *testing.T, n *elliptics.Node, i int) *soaker {
	w := &soaker{t: t, namespace: strconv.Itoa(i)}
	w.s = w.session(n)
	for k := range 5 {
		w.keys = append(w.keys, w.s.Key(fmt.Sprint(k)))
	}
	w.acked, w.written = make([]uint64, len(w.keys)), make([]uint64, len(w.keys))
	w.counter = w.s.Key("counter")
	return w
}

func (w *soaker) session(n *elliptics.Node) *elliptics.Session {
	return n.NewSession(1, 2, 3).WithNamespace(w.namespace)
}

// contents of a version: nothing else may come back.
func contents(key elliptics.Key, version uint64) []byte {
	b := binary.LittleEndian.AppendUint64(nil, version)
	b = append(b, key[:]...)
	return bytes.Repeat(b, 1+int(version*version%2000))
}

// step does something. Its error is one of those that faults make.
func (w *soaker) step(ctx context.Context) error {
	i := rand.N(len(w.keys))
	key := w.keys[i]
	switch rand.N(6) {
	case 0, 1:
		w.written[i]++
		version := w.written[i]
		data := contents(key, version)
		wr := elliptics.Write{Data: [][]byte{data[:8], data[8:]}, Timestamp: elliptics.Time{Sec: version}, Flags: wire.IOCASTimestamp}
		_, err := w.s.Write(ctx, key, wr)
		if err == nil {
			w.acked[i] = version
		}
		clear(data) // it is ours again
		return err
	case 2:
		found, err := w.s.LookupLatest(ctx, key)
		if err == nil && found[0].Info.Timestamp.Sec < w.acked[i] {
			w.t.Errorf("a quorum has version %d, %d was acknowledged", found[0].Info.Timestamp.Sec, w.acked[i])
		}
		return err
	case 3:
		r, err := w.s.ReadLatest(ctx, key, 0, 0)
		if err == nil {
			w.intact(key, w.written[i], r.Timestamp, r.Data)
			r.Release()
		}
		return err
	case 4:
		found, err := w.s.BulkRead(ctx, w.keys)
		for i, key := range w.keys {
			if r := found[key]; r != nil {
				w.intact(key, w.written[i], r.Timestamp, r.Data)
			}
		}
		return err
	}
	if rand.N(20) == 0 {
		var errs []error
		for e, err := range w.s.Iterate(ctx, 1+rand.N[uint32](3), elliptics.Iteration{Data: true}) {
			for i, key := range w.keys {
				if e.Key == key && err == nil {
					w.intact(key, w.written[i], e.Timestamp, e.Data)
				}
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	}
	w.tried++
	_, err := w.s.WithGroups(1).Update(ctx, w.counter, 0, count)
	if err == nil {
		w.added++
	}
	return err
}

func (w *soaker) intact(key elliptics.Key, written uint64, at elliptics.Time, data []byte) {
	if at.Sec == 0 || at.Sec > written || !bytes.Equal(data, contents(key, at.Sec)) {
		w.t.Errorf("%d bytes of version %d came back wrong; %d was written last", len(data), at.Sec, written)
	}
}

// check is for the time when all trouble is over, with a client that has more
// patience.
func (w *soaker) check(n *elliptics.Node) {
	w.s = w.session(n)
	ctx := w.t.Context()
	for i, key := range w.keys {
		found, err := w.s.LookupLatest(ctx, key)
		if w.acked[i] == 0 && err != nil {
			continue // perhaps it was never written
		}
		require.NoError(w.t, err)
		require.GreaterOrEqual(w.t, found[0].Info.Timestamp.Sec, w.acked[i])
		r, err := w.s.ReadLatest(ctx, key, 0, 0)
		require.NoError(w.t, err)
		w.intact(key, w.written[i], r.Timestamp, r.Data)
	}
	total := 0
	r, err := w.s.WithGroups(1).Read(ctx, w.counter, 0, 0)
	if !elliptics.Missing(err) {
		require.NoError(w.t, err)
		total, err = strconv.Atoi(string(r.Data))
		require.NoError(w.t, err)
	}
	require.GreaterOrEqual(w.t, total, w.added, "no acknowledged update is lost")
	require.LessOrEqual(w.t, total, w.tried, "none is done twice")
}
