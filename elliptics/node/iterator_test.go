package node

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics/node/engine"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

func iteratorHeader() wire.Header {
	return wire.Header{Group: 1, Backend: 1, Command: wire.CmdIterator,
		Flags: wire.FlagNeedAck | wire.FlagNoLock | wire.FlagDirect | wire.FlagDirectBackend}
}

// found is a record that an iterator has sent.
type found struct {
	wire.IteratorReply
	data string
}

// iterate starts an iterator and answers everything that it sends, and its
// last status.
func (c *client) iterate(ask wire.IteratorRequest) ([]found, wire.Status) {
	c.t.Helper()
	c.send(iteratorHeader(), ask.Append(nil))
	var all []found
	for {
		f, r := c.nextFound()
		if r.Flags&wire.FlagMore == 0 {
			require.Empty(c.t, r.payload)
			return all, r.Status
		}
		all = append(all, f)
	}
}

func (c *client) nextFound() (f found, r reply) {
	c.t.Helper()
	r = c.receive()
	require.Equal(c.t, wire.CmdIterator, r.Command)
	if r.Flags&wire.FlagMore != 0 {
		require.NoError(c.t, f.Decode(r.payload))
		f.data = string(r.payload[wire.IteratorReplySize:])
	}
	return f, r
}

// act sends pause, continue or cancel on a connection of its own.
func act(t *testing.T, n *Node, number uint64, action wire.IteratorAction) wire.Status {
	t.Helper()
	ask := wire.IteratorRequest{Number: number, Action: action, Type: wire.IteratorNetwork}
	return dial(t, n).call(iteratorHeader(), ask.Append(nil)).Status
}

// start is a request for everything.
func start(flags wire.IteratorFlags) wire.IteratorRequest {
	return wire.IteratorRequest{Action: wire.IteratorStart, Type: wire.IteratorNetwork, Flags: flags, Begin: wire.EndOfTime, End: wire.EndOfTime}
}

func TestIterate(t *testing.T) {
	both(t, func(t *testing.T, transport func(*Config)) {
		n := startNode(t, transport)
		c := dial(t, n)
		data := make(map[wire.ID]string)
		for i := range 50 {
			name := fmt.Sprint("record ", i)
			data[key(name)] = strings.Repeat("x", i*400)
			flags := wire.IOFlags(0)
			if i == 0 {
				flags = oneShot // an empty record
			}
			r := c.write(name, wire.IOAttr{Flags: flags, Timestamp: wire.Time{Sec: uint64(i)}, UserFlags: uint64(i)}, data[key(name)])
			require.Equal(t, wire.OK, r.Status)
		}
		data[key("large")] = strings.Repeat("L", maxBuffered+1)
		require.Equal(t, wire.OK, c.write("large", wire.IOAttr{Timestamp: wire.Time{Sec: 100}}, data[key("large")]).Status)
		require.Equal(t, wire.OK, c.write("prepared", wire.IOAttr{Flags: prepare, Num: 5, Timestamp: wire.Time{Sec: 101}}, "ab").Status)
		data[key("prepared")] = "ab"
		require.Equal(t, wire.OK, c.write("gone", wire.IOAttr{}, "gone").Status)
		require.Equal(t, wire.OK, c.del("gone"))

		all, status := c.iterate(start(wire.IteratorData))
		require.Equal(t, wire.OK, status)
		require.Len(t, all, len(data))
		for i, f := range all {
			require.Zero(t, f.Status)
			if want, ok := data[f.Key]; !ok || want != f.data {
				t.Fatalf("record %s came with %d bytes, %d expected", f.Key.Short(), len(f.data), len(want))
			}
			require.EqualValues(t, len(f.data), f.Size)
			require.EqualValues(t, i+1, f.Iterated)
			require.EqualValues(t, len(data), f.Total)
			require.Equal(t, f.Key == key("prepared"), f.RecordFlags&wire.RecordUncommitted != 0)
			if f.Timestamp.Sec < 100 {
				require.Equal(t, f.Timestamp.Sec, f.UserFlags)
			}
		}
		keys, status := c.iterate(start(wire.IteratorNoMeta))
		require.Equal(t, wire.OK, status)
		require.Len(t, keys, len(data))
		for i, f := range keys {
			require.Empty(t, f.data)
			require.Equal(t, all[i].Timestamp, f.Timestamp, "sent by real servers as well")
			require.EqualValues(t, len(data[f.Key]), f.Size)
		}

		ask := start(wire.IteratorTimeRange)
		ask.Begin, ask.End = wire.Time{Sec: 10}, wire.Time{Sec: 20}
		some, _ := c.iterate(ask)
		require.Len(t, some, 11, "both ends belong to the range")

		sorted := slices.SortedFunc(func(yield func(wire.ID) bool) {
			for k := range data {
				if !yield(k) {
					return
				}
			}
		}, wire.ID.Compare)
		ask = start(wire.IteratorKeyRange)
		ask.Ranges = []wire.IDRange{{First: sorted[40], Last: sorted[45]}, {First: sorted[3], Last: sorted[7]}, {First: sorted[5], Last: sorted[9]}}
		some, _ = c.iterate(ask)
		var got []wire.ID
		for _, f := range some {
			got = append(got, f.Key)
		}
		require.Equal(t, append(slices.Clone(sorted[3:10]), sorted[40:46]...), got, "ranges may overlap and come in any order")
		requireNothingLent(t, n)
	})
}

func TestIteratorErrors(t *testing.T) {
	n := startNode(t)
	c := dial(t, n)
	wrongTimes := start(wire.IteratorTimeRange)
	wrongTimes.Begin, wrongTimes.End = wire.Time{Sec: 2}, wire.Time{Sec: 1}
	wrongKeys := start(wire.IteratorKeyRange)
	wrongKeys.Ranges = []wire.IDRange{{First: wire.ID{2}, Last: wire.ID{1}}}
	serverSend := start(0)
	serverSend.Type = wire.IteratorServerSend
	serverSend.Groups = []uint32{2}
	disk := start(0)
	disk.Type = wire.IteratorDisk
	for want, asks := range map[wire.Status][]wire.IteratorRequest{
		wire.ErrRange:        {wrongTimes, wrongKeys, start(wire.IteratorKeyRange)},
		wire.ErrNotSupported: {serverSend, disk, start(1 << 6), start(wire.IteratorMove)},
		wire.ErrNotFound: {{Action: wire.IteratorPause}, {Action: wire.IteratorContinue, Number: 5},
			{Action: wire.IteratorCancel, Number: math.MaxUint64}, {Action: 77}},
	} {
		for _, ask := range asks {
			_, status := c.iterate(ask)
			require.Equal(t, want, status, "%+v", ask)
		}
	}
	b := (&wire.IteratorRequest{}).Append(nil)
	require.Equal(t, wire.ErrInvalid, c.call(iteratorHeader(), b[:103]).Status)
	require.Equal(t, wire.ErrInvalid, c.call(iteratorHeader(), append(b, 1)).Status)
	all, status := c.iterate(start(0))
	require.Equal(t, wire.OK, status)
	require.Empty(t, all, "an empty backend")
}

// manyRecords makes an iteration that cannot end before its client has read.
func manyRecords(t *testing.T, c *client) int {
	t.Helper()
	const records = 64
	for i := range records {
		require.Equal(t, wire.OK, c.write(fmt.Sprint("record ", i), wire.IOAttr{}, strings.Repeat("x", 200_000)).Status)
	}
	return records
}

func TestPauseAndContinue(t *testing.T) {
	both(t, func(t *testing.T, transport func(*Config)) {
		n := startNode(t, transport)
		c := dial(t, n)
		total := manyRecords(t, c)
		ask := start(wire.IteratorData)
		c.send(iteratorHeader(), ask.Append(nil))
		first, _ := c.nextFound()
		require.Zero(t, first.Number)
		require.Equal(t, wire.OK, act(t, n, 0, wire.IteratorPause))
		require.Equal(t, wire.OK, act(t, n, 0, wire.IteratorPause), "again")
		// What is on its way arrives, then nothing until the iterator goes on.
		arrived := make(chan reply)
		ended := make(chan reply, 1)
		go func() {
			defer close(arrived)
			for {
				r, err := c.tryReceive()
				if err != nil || r.Flags&wire.FlagMore == 0 {
					ended <- r
					return
				}
				arrived <- r
			}
		}()
		seen := 1
		for quiet := false; !quiet; {
			select {
			case <-arrived:
				seen++
			case <-time.After(200 * time.Millisecond):
				quiet = true
			}
		}
		require.Less(t, seen, total)
		// Another iterator has the next number and is not held up.
		second := dial(t, n)
		keys, status := second.iterate(start(0))
		require.Equal(t, wire.OK, status)
		require.Len(t, keys, total)
		require.EqualValues(t, 1, keys[0].Number)

		require.Equal(t, wire.OK, act(t, n, 0, wire.IteratorContinue))
		for range arrived {
			seen++
		}
		require.Equal(t, wire.OK, (<-ended).Status)
		require.Equal(t, total, seen)
		require.Equal(t, wire.ErrNotFound, act(t, n, 0, wire.IteratorContinue), "it is over")
	})
}

func TestCancelIterator(t *testing.T) {
	n := startNode(t)
	c := dial(t, n)
	total := manyRecords(t, c)
	for _, pause := range []bool{false, true} {
		ask := start(wire.IteratorData)
		c.send(iteratorHeader(), ask.Append(nil))
		c.nextFound()
		if pause {
			require.Equal(t, wire.OK, act(t, n, 0, wire.IteratorPause))
		}
		require.Equal(t, wire.OK, act(t, n, 0, wire.IteratorCancel))
		seen := 1
		for {
			_, r := c.nextFound()
			if r.Flags&wire.FlagMore == 0 {
				require.Equal(t, wire.ErrExec, r.Status)
				break
			}
			seen++
		}
		require.Less(t, seen, total)
	}
	requireNothingLent(t, n)
}

// TestIteratorEndsWith: an iterator, paused or waiting for its client to read,
// ends with its connection, with its backend, and with the node.
func TestIteratorEndsWith(t *testing.T) {
	begin := func(t *testing.T, n *Node, pause bool) *client {
		c := dial(t, n)
		ask := start(wire.IteratorData)
		c.send(iteratorHeader(), ask.Append(nil))
		c.nextFound()
		if pause {
			require.Equal(t, wire.OK, act(t, n, 0, wire.IteratorPause))
		}
		return c
	}
	last := func(c *client) wire.Status {
		for {
			if _, r := c.nextFound(); r.Flags&wire.FlagMore == 0 {
				return r.Status
			}
		}
	}
	for _, pause := range []bool{false, true} {
		n := startNode(t)
		manyRecords(t, dial(t, n))
		c := begin(t, n, pause)
		c.nc.Close()
		require.Eventually(t, func() bool { return act(t, n, 0, wire.IteratorContinue) == wire.ErrNotFound }, 10*time.Second, time.Millisecond)
		requireNothingLent(t, n)

		c = begin(t, n, pause)
		disabled := make(chan wire.Status)
		go func() {
			status, _ := dial(t, n).control(wire.BackendControl{Backend: 1, Command: wire.BackendDisable})
			disabled <- status
		}()
		require.Equal(t, wire.ErrAgain, last(c))
		require.Equal(t, wire.OK, <-disabled)
		status, _ := dial(t, n).control(wire.BackendControl{Backend: 1, Command: wire.BackendEnable})
		require.Equal(t, wire.OK, status)

		c = begin(t, n, pause)
		stopped := make(chan error)
		go func() { stopped <- n.Shutdown(t.Context()) }()
		require.Equal(t, wire.ErrAgain, last(c))
		require.NoError(t, <-stopped)
	}
}

// TestIterateDamaged: a damaged record is sent without its data and with a
// status, and the others are sent as well.
func TestIterateDamaged(t *testing.T) {
	n := startNode(t)
	c := dial(t, n)
	for _, name := range []string{"a", "b", "large"} {
		size := 100
		if name == "large" {
			size = maxBuffered + 1
		}
		r := c.write(name, wire.IOAttr{}, strings.Repeat("x", size))
		require.Equal(t, wire.OK, r.Status)
		if name == "a" {
			continue
		}
		var info wire.FileInfo
		require.NoError(t, info.Decode(r.payload))
		f, err := os.OpenFile(filepath.Join(n.backend(1).dir, info.Path), os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = f.WriteAt([]byte("DAMAGE"), int64(info.Offset)+int64(size)-10)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	all, status := c.iterate(start(wire.IteratorData))
	require.Equal(t, wire.OK, status)
	require.Len(t, all, 3)
	for _, f := range all {
		if f.Key == key("a") {
			require.Zero(t, f.Status)
			require.Len(t, f.data, 100)
			continue
		}
		require.EqualValues(t, wire.ErrChecksum, f.Status)
		require.Empty(t, f.data)
		require.NotZero(t, f.Size, "of the record")
	}
	requireNothingLent(t, n)
}

// TestManyBatches passes the place where an iterator asks the engine anew.
func TestManyBatches(t *testing.T) {
	n := startNode(t, func(cfg *Config) { cfg.Sync = engine.SyncNone })
	c := dial(t, n)
	const records = 2*iteratorBatch + 1
	go func() {
		for i := range records {
			h, payload := c.writeRequest(fmt.Sprint(i), &wire.IOAttr{Flags: wire.IOWriteNoFileInfo}, "x")
			h.Size = uint64(len(payload))
			c.nc.Write(append(h.Append(nil), payload...))
		}
	}()
	for range records {
		require.Equal(t, wire.OK, c.receive().Status)
	}
	all, status := c.iterate(start(0))
	require.Equal(t, wire.OK, status)
	require.Len(t, all, records)
	seen := make(map[wire.ID]bool)
	for _, f := range all {
		require.False(t, seen[f.Key])
		seen[f.Key] = true
	}
}

func TestTooManyIterators(t *testing.T) {
	n := startNode(t)
	manyRecords(t, dial(t, n))
	c := dial(t, n)
	ask := start(wire.IteratorData)
	for range maxIterators {
		c.send(iteratorHeader(), ask.Append(nil))
	}
	require.Eventually(t, func() bool {
		s := &n.backend(1).iterators
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.byID) == maxIterators
	}, 10*time.Second, time.Millisecond)
	_, status := dial(t, n).iterate(start(0))
	require.Equal(t, wire.ErrAgain, status)
}
