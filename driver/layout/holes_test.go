package layout

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// What the model has found, each as the shortest story that shows it.

// between is a Store that lets something happen right before a write.
type between struct {
	Store
	once  sync.Once
	match func(key string, w Write) bool
	do    func()
}

func (b *between) Write(ctx context.Context, g uint32, key string, w Write) error {
	if b.match(key, w) {
		b.once.Do(b.do)
	}
	return b.Store.Write(ctx, g, key, w)
}

func ahead(d time.Duration) Options {
	return Options{Now: func() time.Time { return time.Now().Add(d) }}
}

func TestDeleteSparesNothingOfAClockAhead(t *testing.T) {
	s := newMemStore(1, 2, 3)
	ctx := context.Background()
	require.NoError(t, newTestFS(t, s, ahead(time.Minute)).Put(ctx, "/d/e/f", []byte("x")))
	slow := newTestFS(t, s, Options{})
	require.NoError(t, slow.Delete(ctx, "/d"))
	mustNotExist(t, slow, "/d/e/f")
	_, err := slow.Stat(ctx, "/d")
	require.ErrorIs(t, err, ErrNotExist)
}

func TestDeletionMeetsAFileThatIsOnlyLinked(t *testing.T) {
	s := newMemStore(1)
	ctx := context.Background()
	other := newTestFS(t, s, ahead(time.Second))
	b := &between{Store: s, match: func(key string, _ Write) bool { return key == fileKey("/d/f") }}
	b.do = func() { require.NoError(t, other.Delete(ctx, "/d")) }
	fs := newTestFS(t, b, Options{})
	data := randomBytes(300_000, 1)
	require.NoError(t, fs.Put(ctx, "/d/f", data))
	mustGet(t, fs, "/d/f", data)
	require.True(t, listed(t, fs, "/d/f"), "a file that can be read is not listed")
	require.True(t, listed(t, fs, "/d"), "its directory is not listed")
}

func TestDeletionMeetsAWriterThatDied(t *testing.T) {
	s := newMemStore(1)
	ctx := context.Background()
	fs := newTestFS(t, s, Options{})
	require.NoError(t, fs.Put(ctx, "/d/f", []byte("old")))
	slow := newTestFS(t, s, ahead(-time.Minute))
	// Its LINK is newer than the deletion's timestamp, its record never comes.
	dead := newTestFS(t, s, Options{})
	b := &between{Store: s, match: func(key string, _ Write) bool { return key == dirKey("/d") }}
	b.do = func() {
		_, err := dead.link(ctx, "/d/f", KindFile, 3, dead.clock.Next()+Timestamp(time.Minute))
		require.NoError(t, err)
	}
	slow.cluster.store = b
	require.NoError(t, slow.Delete(ctx, "/d"))
	mustNotExist(t, fs, "/d/f")
}

func TestALinkWithoutARecordHidesNoFile(t *testing.T) {
	s := newMemStore(1)
	ctx := context.Background()
	dead := newTestFS(t, s, ahead(time.Minute))
	_, err := dead.link(ctx, "/d/f", KindOpen, 0, dead.clock.Next())
	require.NoError(t, err)
	fs := newTestFS(t, s, Options{})
	require.NoError(t, fs.Put(ctx, "/d/f", []byte("x")))
	entries, err := fs.List(ctx, "/d")
	require.NoError(t, err)
	require.Len(t, entries, 1)
	require.Equal(t, KindFile, entries[0].Kind)
	require.EqualValues(t, 1, entries[0].Size)
}

func TestANameWithoutAFileCanBeDeleted(t *testing.T) {
	s := newMemStore(1)
	ctx := context.Background()
	fs := newTestFS(t, s, Options{})
	_, err := fs.link(ctx, "/d/f", KindFile, 1, fs.clock.Next())
	require.NoError(t, err)
	require.NoError(t, fs.Delete(ctx, "/d/f"))
	require.False(t, listed(t, fs, "/d/f"))
	require.ErrorIs(t, fs.Delete(ctx, "/d/f"), ErrNotExist)
}

func TestMoveSparesWhatIsPutMeanwhile(t *testing.T) {
	s := newMemStore(1)
	ctx := context.Background()
	other := newTestFS(t, s, Options{})
	b := &between{Store: s, match: func(key string, _ Write) bool { return key == fileKey("/to") }}
	fs := newTestFS(t, b, ahead(time.Second)) // so that the Put is the older of both
	require.NoError(t, other.Put(ctx, "/from", []byte("old")))
	b.do = func() { require.NoError(t, other.Put(ctx, "/from", []byte("new"))) }
	require.NoError(t, fs.Move(ctx, "/from", "/to"))
	mustGet(t, fs, "/to", []byte("old"))
	mustGet(t, fs, "/from", []byte("new"))
	require.True(t, listed(t, fs, "/from"))
}

func TestMoveOfAFileThatIsRenewedMeanwhile(t *testing.T) {
	s := newMemStore(1)
	ctx := context.Background()
	other := newTestFS(t, s, Options{})
	b := &between{Store: s, match: func(key string, _ Write) bool { return key == fileKey("/to") }}
	fs := newTestFS(t, b, Options{})
	require.NoError(t, other.Put(ctx, "/from", []byte("x")))
	b.do = func() { require.NoError(t, other.Renew(ctx, "/from")) }
	require.NoError(t, fs.Move(ctx, "/from", "/to"))
	mustGet(t, fs, "/to", []byte("x"))
	mustNotExist(t, fs, "/from")
	require.False(t, listed(t, fs, "/from"))
}

func TestTwoMovesOfOneFile(t *testing.T) {
	s := newMemStore(1)
	ctx := context.Background()
	now := time.Now()
	clock := Options{Now: func() time.Time { return now }}
	other := newTestFS(t, s, clock)
	b := &between{Store: s, match: func(key string, _ Write) bool { return strings.HasPrefix(key, "owner:") }}
	b.do = func() { require.NoError(t, other.Move(ctx, "/from", "/b")) }
	fs := newTestFS(t, b, clock)
	data := randomBytes(300_000, 1)
	require.NoError(t, other.Put(ctx, "/from", data))
	require.NoError(t, fs.Move(ctx, "/from", "/a")) // both have read the source
	for _, p := range []string{"/a", "/b"} {
		mustGet(t, fs, p, data)
	}
	require.NoError(t, fs.Delete(ctx, "/a"))
	for range 3 {
		now = now.Add(3 * time.Hour)
		_, err := fs.EmptyTrash(ctx)
		require.NoError(t, err)
	}
	mustGet(t, fs, "/b", data)
}

// A put that failed has left its record in one group. The trash, to which its
// content went, must not be emptied below it: the next read makes it the file.
func TestTrashMeetsAVersionThatOnlyOneGroupHas(t *testing.T) {
	s := newMemStore(1, 2, 3)
	ctx := context.Background()
	now := time.Now()
	fs := newTestFS(t, s, Options{Now: func() time.Time { return now }, Timeout: time.Second})
	old, failed := randomBytes(200_000, 1), randomBytes(300_000, 2)
	require.NoError(t, fs.Put(ctx, "/f", old))
	s.setFaults(func(g uint32, op, key string) (before, after error) {
		if op == "write" && key == fileKey("/f") && g != 3 {
			return errDown, nil
		}
		return nil, nil
	}, nil)
	require.Error(t, fs.Put(ctx, "/f", failed))
	s.setFaults(func(g uint32, op, _ string) (before, after error) {
		if op == "read" && g == 3 {
			return errDown, nil
		}
		return nil, nil
	}, nil)
	now = now.Add(3 * time.Hour)
	_, err := fs.EmptyTrash(ctx)
	require.Error(t, err, "the trash was emptied although a group could not be asked")
	s.setFaults(nil, nil)
	now = now.Add(time.Hour)
	_, err = fs.EmptyTrash(ctx)
	require.NoError(t, err)
	s.setDown(1, true)
	got, err := fs.Get(ctx, "/f")
	require.NoError(t, err)
	require.True(t, slices.Equal(got, old) || slices.Equal(got, failed))
}

// The tombstone of an upload is removed in the end, but not while a group that
// was away still has the upload.
func TestRemovedTombstoneBringsNothingBack(t *testing.T) {
	s := newMemStore(1, 2, 3)
	ctx := context.Background()
	var passed atomic.Int64 // read in the background, too
	start := time.Now()
	clock := func() time.Time { return start.Add(time.Duration(passed.Load())) }
	fs := newTestFS(t, s, Options{Now: clock, Timeout: time.Second})
	require.NoError(t, fs.SetAttrs(ctx, "/up/1", map[string][]byte{"startedat": []byte("now")}, true))
	s.setDown(3, true)
	require.NoError(t, fs.Delete(ctx, "/up/1"))
	require.Eventually(t, func() bool { return len(s.keys(1, "trash:")) == 1 && len(s.keys(2, "trash:")) == 1 },
		5*time.Second, time.Millisecond)
	passed.Add(int64(3 * time.Hour))
	s.setDown(3, false)
	s.setFaults(func(g uint32, op, _ string) (before, after error) { // it can only be read
		if op != "read" && g == 3 {
			return errDown, nil
		}
		return nil, nil
	}, nil)
	_, err := fs.EmptyTrash(ctx)
	require.Error(t, err)
	s.setFaults(nil, nil)
	s.setDown(2, true)
	mustNotExist(t, fs, "/up/1")
	s.setDown(2, false)
	passed.Add(int64(time.Hour))
	_, err = fs.EmptyTrash(ctx)
	require.NoError(t, err)
	for _, g := range s.order {
		require.Empty(t, s.keys(g, "file:"))
	}
}

// A deletion comes between a session's reading and its writing: the session
// either stays deleted, or is there and listed.
func TestUpdateOverATombstone(t *testing.T) {
	s := newMemStore(1, 2, 3)
	ctx := context.Background()
	other := newTestFS(t, s, Options{})
	require.NoError(t, other.SetAttrs(ctx, "/up/1", map[string][]byte{"startedat": []byte("now")}, true))
	b := &between{Store: s, match: func(key string, _ Write) bool { return key == fileKey("/up/1") }}
	b.do = func() { require.NoError(t, other.Delete(ctx, "/up/1")) }
	fs := newTestFS(t, b, ahead(time.Second)) // its version is newer than the tombstone
	err := fs.SetAttrs(ctx, "/up/1", map[string][]byte{"hash": []byte("state")}, false)
	_, _, there := fs.Attrs(ctx, "/up/1")
	require.Equal(t, err == nil, there == nil)
	require.Equal(t, there == nil, listed(t, fs, "/up/1"))
}

// Of three groups one was away when a file was written, and another has lost
// its keys since: the third one decides, although the two others agree.
func TestGroupThatLostItsKeysIsOutvoted(t *testing.T) {
	for _, before := range []string{"", "old"} {
		synctest.Test(t, func(t *testing.T) {
			s := newMemStore(1, 2, 3)
			ctx := context.Background()
			fs := newTestFS(t, s, Options{})
			if before != "" {
				require.NoError(t, fs.Put(ctx, "/d/f", []byte(before)))
			}
			s.setDown(3, true)
			require.NoError(t, fs.Put(ctx, "/d/f", []byte("x")))
			s.setDown(3, false)
			s.mu.Lock()
			clear(s.groups[1])
			s.mu.Unlock()
			slow := &slowGroup{Store: s, group: 2}
			mustGet(t, newTestFS(t, slow, Options{}), "/d/f", []byte("x"))
			require.True(t, listed(t, newTestFS(t, slow, Options{}), "/d/f"))
		})
	}
}

// slowGroup answers reads of one group a little later than those of others.
type slowGroup struct {
	Store
	group uint32
}

func (s *slowGroup) Read(ctx context.Context, g uint32, key string, offset, size uint64) (Value, error) {
	if g == s.group {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return Value{}, errors.New("nobody waits for it")
		}
	}
	return s.Store.Read(ctx, g, key, offset, size)
}
