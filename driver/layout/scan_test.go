package layout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

var lastID = wire.ID(slices.Repeat([]byte{0xff}, wire.IDSize))

// Whoever finds a record without knowing its key can tell whose it is, and
// that of another namespace is told from a damaged one.
func TestRecordsSayWhoseTheyAre(t *testing.T) {
	s := newMemStore(1)
	fs := newTestFS(t, s, Options{})
	ctx := context.Background()
	must(t, fs.Put(ctx, "/a/small", []byte("content")))
	must(t, fs.Put(ctx, "/a/b/large", randomBytes(300_000, 1)))
	must(t, fs.Move(ctx, "/a/b/large", "/c/moved"))
	must(t, fs.Put(ctx, "/c/replaced", randomBytes(300_000, 2)))
	must(t, fs.Put(ctx, "/c/replaced", nil))
	must(t, fs.SetAttrs(ctx, "/u/session", map[string][]byte{"startedat": {1}}, true))
	must(t, fs.Delete(ctx, "/u/session"))
	must(t, fs.writeTrashCursor(ctx, 1))
	fs.Close() // ends what runs in the background
	kinds := make(map[RecordKind]int)
	must(t, s.Scan(ctx, 1, wire.ID{}, lastID, func(f Found) error {
		kinds[f.Kind()]++
		n, err := fs.identify(ctx, s, 1, f)
		must(t, err)
		if key := s.byID(f.ID); n.key != key {
			t.Errorf("%s says that it is %q", key, n.key)
		}
		// The same record under an id of another namespace.
		foreign := f
		foreign.ID = wire.HashID("other", n.key)
		if f.Kind() != RecordCursor && n.path != "/" {
			if _, err := fs.identify(ctx, renamed{s, foreign.ID, f.ID}, 1, foreign); !errors.Is(err, errForeign) {
				t.Errorf("%s of another namespace: %v", n.key, err)
			}
		}
		return nil
	}))
	for _, k := range []RecordKind{RecordFile, RecordChunk, RecordDir, RecordTrash, RecordOwner, RecordCursor} {
		if kinds[k] == 0 {
			t.Errorf("no %s among the records", k)
		}
	}
}

// renamed answers reads of one id with the record of another.
type renamed struct {
	*memStore
	from, to wire.ID
}

func (r renamed) ReadID(ctx context.Context, group uint32, id wire.ID, offset, size uint64) (Value, error) {
	if id == r.from {
		id = r.to
	}
	return r.memStore.ReadID(ctx, group, id, offset, size)
}

// hooked calls a function before each read.
type hooked struct {
	*memStore
	before func(key string)
}

func (h *hooked) Read(ctx context.Context, group uint32, key string, offset, size uint64) (Value, error) {
	if f := h.before; f != nil {
		f(key)
	}
	return h.memStore.Read(ctx, group, key, offset, size)
}

// Content that was thrown away by mistake, as by a write whose acknowledgement
// got lost, moves to another path just while the trash is emptied.
func TestMoveWhileTrashIsEmptied(t *testing.T) {
	for _, names := range [][2]string{{"/a", "/z"}, {"/z", "/a"}} {
		t.Run(fmt.Sprint(names), func(t *testing.T) {
			now := time.Now()
			clock := func() time.Time { return now }
			s := &hooked{memStore: newMemStore(1)}
			fs := newTestFS(t, s, Options{Now: clock})
			other := newTestFS(t, s.memStore, Options{Now: clock})
			ctx := context.Background()
			data := randomBytes(300_000, 1)
			must(t, fs.Put(ctx, names[0], data))
			rec, err := fs.readRecord(ctx, names[0])
			must(t, err)
			must(t, fs.trash(ctx, trashEntry{ts: fs.clock.Next(), content: rec.data, paths: []string{names[0]}}))
			must(t, fs.own(ctx, rec.data.id, fs.clock.Next(), names[1], names[0]))
			now = now.Add(5 * time.Hour)
			reads := 0
			s.before = func(key string) {
				if key == fileKey(names[0]) || key == fileKey(names[1]) {
					if reads++; reads == 2 {
						must(t, other.Move(ctx, names[0], names[1]))
					}
				}
			}
			_, err = fs.EmptyTrash(ctx)
			must(t, err)
			s.before = nil
			mustGet(t, fs, names[1], data)
		})
	}
}
