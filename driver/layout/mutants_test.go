package layout

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// mutant is a Store that makes the protocol above it wrong: a filesystem on it
// behaves as if its own code had the bug. So the bugs that the model must find
// are planted without a line in the code that they are planted in.
type mutant struct {
	Store
	tag Timestamp // of the registry

	mu    sync.Mutex
	newer Timestamp            // than anything that was written
	held  map[string]heldLinks // by directory and group
}

type heldLinks struct {
	group uint32
	dir   string
	write Write
}

func newMutant(m *model, s Store) *mutant {
	return &mutant{Store: s, tag: stamps * m.opened, held: make(map[string]heldLinks)}
}

// seen remembers the newest timestamp.
func (m *mutant) seen(ts Timestamp) Timestamp {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.newer = max(m.newer, ts+tags)
	return m.newer
}

// fileWrite decodes the write of a file record.
func fileWrite(key string, w Write) *fileRecord {
	path, ok := strings.CutPrefix(key, "file:")
	if !ok {
		return nil
	}
	rec, err := decodeFile(path, bytes.Join(w.Data, nil))
	if err != nil {
		return nil
	}
	return rec
}

// rewrite changes the entries of an append to a directory's log.
func rewrite(key string, w Write, f func(e *logEntry)) Write {
	if !strings.HasPrefix(key, "dir:") || !w.Append {
		return w
	}
	var b []byte
	eachEntry(bytes.Join(w.Data, nil), func(e logEntry, _ []byte) {
		f(&e)
		b = e.append(b)
	})
	w.Data = [][]byte{b}
	return w
}

type (
	recordBeforeLink struct{ *mutant }
	noFence          struct{ *mutant }
	noClear          struct{ *mutant }
	oneGroupRead     struct{ *mutant }
	oneGroupWritten  struct{ *mutant }
	moveDeletes      struct{ *mutant }
	freshUnlink      struct{ *mutant }
	noRepair         struct{ *mutant }
	noOwners         struct{ *mutant }
	noTombstones     struct{ *mutant }
	lastRequestWins  struct{ *mutant }
	blindUpdate      struct{ *mutant }
	blindCompaction  struct{ *mutant }
)

func (m recordBeforeLink) Write(ctx context.Context, g uint32, key string, w Write) error {
	if strings.HasPrefix(key, "dir:") && w.Append {
		link := false
		eachEntry(bytes.Join(w.Data, nil), func(e logEntry, _ []byte) {
			link = link || e.typ == entryLink && e.kind == KindFile
		})
		if link {
			m.mu.Lock()
			m.held[string(rune(g))+key] = heldLinks{g, key, w}
			m.mu.Unlock()
			return nil
		}
	}
	if err := m.Store.Write(ctx, g, key, w); err != nil {
		return err
	}
	rec := fileWrite(key, w)
	if rec == nil {
		return nil
	}
	dir := dirKey(rec.path[:max(1, strings.LastIndexByte(rec.path, '/'))])
	m.mu.Lock()
	h, ok := m.held[string(rune(g))+dir]
	delete(m.held, string(rune(g))+dir)
	m.mu.Unlock()
	if ok {
		return m.Store.Write(ctx, g, dir, h.write)
	}
	return nil
}

// without hides the entries of one type.
func (m *mutant) without(typ entryType, ctx context.Context, g uint32, key string, offset, size uint64) (Value, error) {
	v, err := m.Read(ctx, g, key, offset, size)
	if err == nil && strings.HasPrefix(key, "dir:") {
		v.Data = slices.Clone(v.Data)
		eachEntry(v.Data, func(e logEntry, frame []byte) {
			if e.typ == typ {
				clear(frame)
			}
		})
	}
	return v, err
}

func (m noFence) Read(ctx context.Context, g uint32, key string, offset, size uint64) (Value, error) {
	return m.without(entryFence, ctx, g, key, offset, size)
}

func (m noClear) Read(ctx context.Context, g uint32, key string, offset, size uint64) (Value, error) {
	return m.without(entryClear, ctx, g, key, offset, size)
}

func (m oneGroupRead) Read(ctx context.Context, _ uint32, key string, offset, size uint64) (v Value, err error) {
	for _, g := range m.Groups() { // the first that says something
		if v, err = m.Store.Read(ctx, g, key, offset, size); err == nil || isNotFound(err) || isBehindEnd(err) {
			break
		}
	}
	return v, err
}

func (m oneGroupWritten) Write(ctx context.Context, g uint32, key string, w Write) error {
	if g != m.Groups()[0] {
		return nil
	}
	return m.Store.Write(ctx, g, key, w)
}

func (m moveDeletes) Write(ctx context.Context, g uint32, key string, w Write) error {
	if rec := fileWrite(key, w); rec != nil && rec.state == stateTombstone {
		if v, err := m.Read(ctx, g, key, 0, 0); err == nil {
			if old, err := decodeFile(rec.path, v.Data); err == nil {
				for _, e := range old.data.extents {
					for n := range e.chunks() {
						_ = m.Remove(ctx, g, chunkKey(e.id, n))
					}
				}
			}
		}
	}
	return m.Store.Write(ctx, g, key, w)
}

func (m freshUnlink) Write(ctx context.Context, g uint32, key string, w Write) error {
	fresh := m.seen(w.Timestamp)
	return m.Store.Write(ctx, g, key, rewrite(key, w, func(e *logEntry) {
		if e.typ == entryUnlink {
			e.ts = fresh
		}
	}))
}

func (m noRepair) Write(ctx context.Context, g uint32, key string, w Write) error {
	if rec := fileWrite(key, w); rec != nil && rec.ts%stamps == 0 && rec.ts%tags != m.tag {
		return nil
	}
	return m.Store.Write(ctx, g, key, w)
}

func (m noOwners) Read(ctx context.Context, g uint32, key string, offset, size uint64) (Value, error) {
	if strings.HasPrefix(key, "owner:") {
		return Value{}, wire.ErrNotFound
	}
	return m.Store.Read(ctx, g, key, offset, size)
}

func (m noTombstones) Write(ctx context.Context, g uint32, key string, w Write) error {
	if rec := fileWrite(key, w); rec != nil && rec.state == stateTombstone {
		if err := m.Remove(ctx, g, key); !isNotFound(err) {
			return err
		}
		return nil
	}
	return m.Store.Write(ctx, g, key, w)
}

func (m lastRequestWins) Write(ctx context.Context, g uint32, key string, w Write) error {
	w.IfNotNewer = false
	return m.Store.Write(ctx, g, key, w)
}

func (m blindUpdate) Write(ctx context.Context, g uint32, key string, w Write) error {
	if w.IfSum != nil && strings.HasPrefix(key, "file:") {
		w.IfSum, w.IfNotNewer = nil, true
	}
	return m.Store.Write(ctx, g, key, w)
}

func (m blindCompaction) Write(ctx context.Context, g uint32, key string, w Write) error {
	if strings.HasPrefix(key, "dir:") {
		w.IfSum = nil
	}
	return m.Store.Write(ctx, g, key, w)
}

// The model is worth what it finds.
func TestModelFindsPlantedBugs(t *testing.T) {
	bugs := []struct {
		name  string
		plant func(*mutant) Store
	}{
		{"the record is written before its link", func(m *mutant) Store { return recordBeforeLink{m} }},
		{"a deletion that begins is not seen", func(m *mutant) Store { return noFence{m} }},
		{"a deletion that ended is not seen", func(m *mutant) Store { return noClear{m} }},
		{"one group is read", func(m *mutant) Store { return oneGroupRead{m} }},
		{"one group is written before the acknowledgement", func(m *mutant) Store { return oneGroupWritten{m} }},
		{"a move deletes the content", func(m *mutant) Store { return moveDeletes{m} }},
		{"unlink takes a fresh timestamp", func(m *mutant) Store { return freshUnlink{m} }},
		{"what a minority has is not repaired forward", func(m *mutant) Store { return noRepair{m} }},
		{"the trash does not ask the owners", func(m *mutant) Store { return noOwners{m} }},
		{"a deleted record is removed", func(m *mutant) Store { return noTombstones{m} }},
		{"the last request wins, not the newest version", func(m *mutant) Store { return lastRequestWins{m} }},
		{"a session is updated over its tombstone", func(m *mutant) Store { return blindUpdate{m} }},
		{"a compaction drops what was appended meanwhile", func(m *mutant) Store { return blindCompaction{m} }},
	}
	if testing.Short() {
		bugs = bugs[1:5]
	}
	for _, bug := range bugs {
		t.Run(bug.name, func(t *testing.T) {
			plant := func(m *model, s Store) Store { return bug.plant(newMutant(m, s)) }
			for seed := uint64(1); seed <= 5000; seed++ {
				if wrong, m := play(t, seed, plant, nil); wrong != "" {
					first, _, _ := strings.Cut(wrong, "\n")
					t.Logf("seed %d, %d steps: %s", seed, m.sim.steps, first)
					return
				}
			}
			t.Error("not found")
		})
	}
}
