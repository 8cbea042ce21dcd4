package elliptics_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// interopReplicas is about groups that differ.
func interopReplicas(t *testing.T, p *peer) {
	if len(p.groups) < 2 {
		t.Log("only one group: nothing can differ")
		return
	}
	first, last := p.groups[0], p.groups[len(p.groups)-1]
	key := p.key("k")
	at(t, p.Session, key, 100, "old", first)
	r, err := p.Read(t.Context(), key, 0, 0)
	require.NoError(t, err)
	require.Equal(t, first, r.Group)
	at(t, p.Session, key, 200, "new", last)
	one := p.WithChecker(elliptics.One)
	found, err := one.LookupLatest(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, []uint32{last, first}, groupsOf(found))
	r, err = one.ReadLatest(t.Context(), key, 0, 0)
	require.NoError(t, err)
	require.Equal(t, "new", string(r.Data))
	newest, err := p.LookupQuorum(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, []uint32{last}, groupsOf(newest))
	r, err = one.WithWriteBack(true).ReadLatest(t.Context(), key, 0, 0)
	require.NoError(t, err)
	require.Equal(t, "new", string(r.Data))
	p.holds(t, key, "new")
	// A record that only the last group has is found, and brought back.
	_, err = p.WithGroups(p.groups[:len(p.groups)-1]...).Remove(t.Context(), key)
	require.NoError(t, err)
	r, err = p.WithWriteBack(true).Read(t.Context(), key, 0, 0)
	require.NoError(t, err)
	require.Equal(t, last, r.Group)
	p.holds(t, key, "new")
	newest, err = p.LookupQuorum(t.Context(), key)
	require.NoError(t, err)
	require.Greater(t, len(newest), len(p.groups)/2)
}

// interopIterators finds the records of one test among whatever else there is.
func interopIterators(t *testing.T, p *peer) {
	group := p.groups[0]
	s := p.WithGroups(group)
	want := make(map[elliptics.Key]string)
	var keys []elliptics.Key
	for i := range 50 {
		key := p.key(strconv.Itoa(i))
		keys = append(keys, key)
		want[key] = fmt.Sprintf("record %d", i)
		w := elliptics.Write{Data: [][]byte{[]byte(want[key])}, Timestamp: elliptics.Time{Sec: uint64(1_000_000 + i)}, UserFlags: uint64(i)}
		_, err := s.Write(t.Context(), key, w)
		require.NoError(t, err)
	}
	slices.SortFunc(keys, elliptics.Key.Compare)
	walk := func(it elliptics.Iteration) map[elliptics.Key]elliptics.Entry {
		t.Helper()
		found := make(map[elliptics.Key]elliptics.Entry)
		for e, err := range s.Iterate(t.Context(), group, it) {
			require.NoError(t, err)
			require.Equal(t, group, e.Backend.Group)
			if want[e.Key] != "" {
				found[e.Key] = e
			}
		}
		return found
	}
	found := walk(elliptics.Iteration{Data: true})
	require.Len(t, found, 50)
	for key, e := range found {
		require.Equal(t, want[key], string(e.Data))
		require.EqualValues(t, len(want[key]), e.Size)
		require.Equal(t, 1_000_000+e.UserFlags, e.Timestamp.Sec)
		require.Zero(t, e.RecordFlags&wire.RecordUncommitted)
	}
	for _, e := range walk(elliptics.Iteration{}) {
		require.Empty(t, e.Data)
		require.EqualValues(t, len(want[e.Key]), e.Size)
	}
	require.Len(t, walk(elliptics.Iteration{From: elliptics.Time{Sec: 1_000_010}, To: elliptics.Time{Sec: 1_000_019}}), 10)
	require.Len(t, walk(elliptics.Iteration{Keys: []elliptics.KeyRange{{First: keys[10], Last: keys[19]}, {First: keys[30], Last: keys[30]}}}), 11)
	// An uncommitted record is found as one.
	prepared := p.key("prepared")
	_, err := s.Prepare(t.Context(), prepared, []byte("half"), 0, 100)
	require.NoError(t, err)
	want[prepared] = "half"
	e, ok := walk(elliptics.Iteration{})[prepared]
	require.True(t, ok)
	require.NotZero(t, e.RecordFlags&wire.RecordUncommitted)
	// Leaving the loop, and the end of the context.
	for range 10 {
		for _, err := range s.Iterate(t.Context(), group, elliptics.Iteration{Data: true}) {
			require.NoError(t, err)
			break
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var last error
	for _, err := range s.Iterate(ctx, group, elliptics.Iteration{}) {
		cancel(errStop)
		last = err
	}
	require.ErrorIs(t, last, errStop)
	for _, err := range s.IterateBackend(t.Context(), p.node.Backends(group)[0], elliptics.Iteration{Keys: []elliptics.KeyRange{{First: keys[1], Last: keys[0]}}}) {
		require.ErrorIs(t, err, elliptics.ErrRange)
	}
}

func interopIndexes(t *testing.T, p *peer) {
	ctx := t.Context()
	key := p.Key("object")
	shards := 0
	for _, r := range p.node.Remotes() {
		shards = max(shards, r.IndexShards)
	}
	if shards == 0 {
		for _, err := range []error{
			noInfo(p.UpdateIndexes(ctx, key, tagged(p.Session, "tag=data"))), noInfo(p.SetIndexes(ctx, key, nil)),
			noInfo(p.RemoveIndexes(ctx, key, tags(p.Session, "tag"))), second(p.ListIndexes(ctx, key)),
			second(p.FindAllIndexes(ctx, tags(p.Session, "tag"))), second(p.FindAnyIndexes(ctx, tags(p.Session, "tag"))),
		} {
			require.ErrorIs(t, err, elliptics.ErrNoIndexes)
		}
		return
	}
	// The tables are records as others are.
	for _, tag := range tags(p.Session, "red", "green", "blue", "never") {
		for s := range shards {
			p.remember(tag.IndexShard(uint32(s), uint32(shards)))
		}
	}
	object := func(name string) elliptics.Key {
		k := p.Key(name)
		p.remember(k.ObjectTable())
		return k
	}
	find := func(f func(context.Context, []elliptics.Key) ([]elliptics.FoundObject, error), names ...string) map[elliptics.Key][]elliptics.Index {
		t.Helper()
		found, err := f(ctx, tags(p.Session, names...))
		require.NoError(t, err)
		m := make(map[elliptics.Key][]elliptics.Index)
		for _, o := range found {
			m[o.Key] = o.Indexes
		}
		require.Len(t, m, len(found), "no object comes twice")
		return m
	}
	a, b := object("a"), object("b")
	list, err := p.ListIndexes(ctx, a)
	require.NoError(t, err)
	require.Empty(t, list)
	require.Empty(t, find(p.FindAllIndexes, "never"))
	_, err = p.UpdateIndexes(ctx, a, tagged(p.Session, "red=a-red", "green=a-green"))
	require.NoError(t, err)
	_, err = p.UpdateIndexes(ctx, b, tagged(p.Session, "green=b-green"))
	require.NoError(t, err)
	list, err = p.ListIndexes(ctx, a)
	require.NoError(t, err)
	require.ElementsMatch(t, tagged(p.Session, "red=a-red", "green=a-green"), list)
	require.Equal(t, map[elliptics.Key][]elliptics.Index{
		a: tagged(p.Session, "green=a-green"), b: tagged(p.Session, "green=b-green")}, find(p.FindAllIndexes, "green"))
	require.Equal(t, map[elliptics.Key][]elliptics.Index{
		a: tagged(p.Session, "green=a-green", "red=a-red")}, find(p.FindAllIndexes, "green", "red"))
	require.Len(t, find(p.FindAnyIndexes, "red", "green", "never"), 2)
	_, err = p.UpdateIndexes(ctx, a, tagged(p.Session, "red=other"))
	require.NoError(t, err)
	require.Equal(t, map[elliptics.Key][]elliptics.Index{a: tagged(p.Session, "red=other")}, find(p.FindAllIndexes, "red"))
	_, err = p.RemoveIndexes(ctx, a, tags(p.Session, "green"))
	require.NoError(t, err)
	require.Len(t, find(p.FindAllIndexes, "green"), 1)
	_, err = p.SetIndexes(ctx, b, tagged(p.Session, "blue=b-blue"))
	require.NoError(t, err)
	require.Empty(t, find(p.FindAllIndexes, "green"))
	require.Len(t, find(p.FindAllIndexes, "blue"), 1)
	_, err = p.SetIndexes(ctx, b, nil)
	require.NoError(t, err)
	require.Empty(t, find(p.FindAnyIndexes, "blue", "green"))
	list, err = p.ListIndexes(ctx, b)
	require.NoError(t, err)
	require.Empty(t, list)
	// Of many at the same time nobody is lost.
	var wg sync.WaitGroup
	for i := range 40 {
		key := object(strconv.Itoa(i))
		wg.Go(func() {
			if _, err := p.UpdateIndexes(ctx, key, tagged(p.Session, "blue="+strconv.Itoa(i))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.Len(t, find(p.FindAllIndexes, "blue"), 40)
}

func second[T any](_ T, err error) error { return err }

// interopServers asks the servers how they are, and changes nothing but a
// backend of the embedded node.
func interopServers(t *testing.T, p *peer) {
	ctx := t.Context()
	for _, r := range p.node.Remotes() {
		if r.Connections == 0 {
			continue
		}
		status, err := p.node.Status(ctx, r.Address)
		require.NoError(t, err)
		require.Zero(t, status.Status&wire.NodeExiting)
		list, err := p.node.BackendStatus(ctx, r.Address)
		require.NoError(t, err)
		for _, b := range r.Backends {
			i := slices.IndexFunc(list, func(s elliptics.BackendStatus) bool { return s.Backend == b.Backend })
			require.GreaterOrEqual(t, i, 0)
			require.Equal(t, wire.BackendEnabled, list[i].State)
		}
		var stats map[string]any
		require.NoError(t, p.node.Monitor(ctx, r.Address, wire.MonitorAll, &stats))
		require.NotEmpty(t, stats)
		var raw json.RawMessage
		require.NoError(t, p.node.Monitor(ctx, r.Address, wire.MonitorIO, &raw))
		_, err = p.node.ControlBackend(ctx, r.Address, elliptics.BackendControl{Backend: 1 << 20, Command: wire.BackendWritable})
		require.ErrorIs(t, err, elliptics.ErrInvalid)
	}
	if !p.embedded {
		return
	}
	b := p.node.Backends(p.groups[0])[0]
	control := func(cmd wire.BackendCommand) (elliptics.BackendStatus, error) {
		return p.node.ControlBackend(ctx, b.Remote, elliptics.BackendControl{Backend: b.Backend, Command: cmd})
	}
	one := p.WithGroups(b.Group)
	key := p.key("k")
	got, err := control(wire.BackendReadOnly)
	require.NoError(t, err)
	require.True(t, got.ReadOnly)
	_, err = control(wire.BackendReadOnly)
	require.ErrorIs(t, err, wire.ErrAlready)
	_, err = one.WriteData(ctx, key, []byte("data"))
	require.ErrorIs(t, err, elliptics.ErrReadOnly)
	_, err = control(wire.BackendWritable)
	require.NoError(t, err)
	got, err = control(wire.BackendDisable)
	require.NoError(t, err)
	require.Equal(t, wire.BackendDisabled, got.State)
	require.Eventually(t, func() bool { return len(p.node.Backends(b.Group)) == 0 }, patience, instant, "the server tells its clients")
	_, err = one.WriteData(ctx, key, []byte("data"))
	require.ErrorIs(t, err, elliptics.ErrNoRoute)
	_, err = control(wire.BackendEnable)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, err := one.WithTimeout(time.Second).WriteData(ctx, key, []byte("data"))
		return err == nil
	}, patience, instant)
}
