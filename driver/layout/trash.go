package layout

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Content that nobody needs any more is noted in the trash log of the hour and
// removed when Options.TrashGrace has passed, unless a record refers to it by
// then. Trash logs are only appended to, and removed whole.
const trashMagic = "ERt"

// trashEntry is one note.
type trashEntry struct {
	ts      Timestamp
	content content
	// paths are those whose record may still need the content: the one it was
	// thrown away from, and those that the owner record names.
	paths []string
	// tombstone is a path whose tombstone can go as well.
	tombstone string
	// unneeded: a grace period ago nobody needed it already.
	unneeded bool
}

func (e *trashEntry) encode() []byte {
	b := beginFrame(trashMagic)
	b = binary.AppendUvarint(b, uint64(e.ts))
	b = e.content.append(b)
	b = binary.AppendUvarint(b, uint64(len(e.paths)))
	for _, p := range e.paths {
		b = appendBytes(b, p)
	}
	b = appendBytes(b, e.tombstone)
	unneeded := uint64(0)
	if e.unneeded {
		unneeded = 1
	}
	return endFrame(binary.AppendUvarint(b, unneeded))
}

func decodeTrash(b []byte) (e trashEntry, err error) {
	f, err := openFrame(trashMagic, b)
	if err != nil {
		return e, err
	}
	e.ts = Timestamp(f.uint())
	e.content = f.content()
	for range f.count() {
		if e.paths = append(e.paths, string(f.bytes())); f.bad {
			break
		}
	}
	e.tombstone = string(f.bytes())
	e.unneeded = f.uint() != 0
	return e, f.err()
}

const hour = Timestamp(time.Hour)

// trash notes content for removal, as of now: the deletion itself may carry an
// older timestamp.
func (fs *FS) trash(ctx context.Context, e trashEntry) error {
	e.ts = max(e.ts, fs.clock.Next())
	b := appendLength(e.encode())
	return fs.cluster.write(ctx, func(ctx context.Context, g uint32) error {
		return fs.cluster.store.Write(ctx, g, trashKey(int64(e.ts/hour)), Write{
			Data: [][]byte{b}, Timestamp: e.ts, Flags: flagsTrash, Append: true,
		})
	}, nil)
}

// eachTrash calls f for every good entry of a trash log. Damaged ones cost
// garbage, not data, and are passed over.
func eachTrash(b []byte, f func(trashEntry)) {
	for pos := 0; pos+4+frameHeader <= len(b); {
		n := int(binary.LittleEndian.Uint32(b[pos:]))
		if n >= frameHeader && n <= len(b)-pos-4 {
			if e, err := decodeTrash(b[pos+4 : pos+4+n]); err == nil {
				f(e)
				pos += 4 + n
				continue
			}
		}
		next := bytes.Index(b[pos+5:], []byte(trashMagic))
		if next < 0 {
			return
		}
		pos = max(pos+1, pos+5+next-4)
	}
}

// trashBack is how far back trash is looked for when nobody remembers how far
// it was emptied, and trashAgain how many hours are looked at once more,
// because clocks differ and requests come late.
const (
	trashBack  = 40 * 24
	trashAgain = 3
)

// Reaped says what EmptyTrash removed.
type Reaped struct {
	Chunks     int
	Tombstones int
	Kept       int // contents that a record still needs
}

// EmptyTrash removes what was thrown away before the grace period. It is safe
// to run at any time, on any number of machines. Hours that could not be
// emptied in every group are tried again the next time.
func (fs *FS) EmptyTrash(ctx context.Context) (Reaped, error) {
	var total Reaped
	limit := int64((Timestamp(fs.opt.Now().UnixNano()) - Timestamp(fs.opt.TrashGrace)) / hour)
	cursor, err := fs.trashCursor(ctx)
	if err != nil {
		return total, fmt.Errorf("empty trash: %w", err)
	}
	from := limit - trashBack
	if cursor > from {
		from = cursor - trashAgain
	}
	done := from
	for h := from; h < limit; h++ {
		r, err := fs.emptyHour(ctx, h)
		total.Chunks += r.Chunks
		total.Tombstones += r.Tombstones
		total.Kept += r.Kept
		if err != nil {
			return total, fmt.Errorf("empty trash of %s: %w", time.Unix(h*3600, 0).UTC().Format("2006-01-02 15h"), err)
		}
		done = h + 1
	}
	if done > cursor {
		err = fs.writeTrashCursor(ctx, done)
	}
	return total, err
}

// emptyHour needs every group: one that is away would bring back what it does
// not see removed.
func (fs *FS) emptyHour(ctx context.Context, h int64) (Reaped, error) {
	logs, err := askN(ctx, fs.cluster, len(fs.cluster.groups), func(ctx context.Context, g uint32) ([]byte, error) {
		return fs.readAll(ctx, g, trashKey(h))
	}, nil)
	if err != nil {
		return Reaped{}, err
	}
	seen := make(map[string]bool)
	var entries []trashEntry
	found := false
	for _, l := range logs {
		found = found || len(l.value) > 0
		eachTrash(l.value, func(e trashEntry) {
			if key := string(e.encode()); !seen[key] {
				seen[key] = true
				entries = append(entries, e)
			}
		})
	}
	if !found {
		return Reaped{}, nil
	}
	var r Reaped
	for _, e := range entries {
		if err := fs.reap(ctx, e, &r); err != nil {
			return r, err
		}
	}
	return r, fs.removeEverywhere(ctx, trashKey(h))
}

// readAll reads a whole log from one group; a missing one is empty.
func (fs *FS) readAll(ctx context.Context, g uint32, key string) ([]byte, error) {
	t, err := fs.readTail(ctx, g, key, groupLog{})
	return t.data, err
}

const cursorMagic = "ERh"

// trashCursor is the first hour that was not emptied yet; 0: nobody knows.
func (fs *FS) trashCursor(ctx context.Context) (int64, error) {
	answers, err := ask(ctx, fs.cluster, func(ctx context.Context, g uint32) (int64, error) {
		v, err := fs.cluster.store.Read(ctx, g, reapingKey, 0, maxRecord)
		if isNotFound(err) {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		defer v.Release()
		f, err := openFrame(cursorMagic, v.Data)
		if errors.Is(err, errDamaged) {
			return 0, nil // everything is looked at again
		}
		if err != nil {
			return 0, err
		}
		h := int64(f.uint())
		return h, f.err()
	}, nil)
	var cursor int64
	for _, a := range answers {
		cursor = max(cursor, a.value)
	}
	return cursor, err
}

func (fs *FS) writeTrashCursor(ctx context.Context, h int64) error {
	raw := endFrame(binary.AppendUvarint(beginFrame(cursorMagic), uint64(h)))
	ts := fs.clock.Next()
	err := fs.cluster.write(ctx, func(ctx context.Context, g uint32) error {
		return fs.cluster.store.Write(ctx, g, reapingKey, Write{
			Data: [][]byte{raw}, Timestamp: ts, Flags: flagsReaping, IfNotNewer: true,
		})
	}, nil)
	if isConflict(err) {
		return nil // another machine was faster
	}
	return err
}
