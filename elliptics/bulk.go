package elliptics

import (
	"context"
	"errors"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// maxBulk bounds the keys in one BULK_READ, and with it the memory of its
// answer.
const maxBulk = 1000

// BulkRead reads many small records whole. The result has an entry for each
// key that some group had. The groups are asked in turn for what is missing;
// an error means that a group could not be asked, beside what the others had.
func (s *Session) BulkRead(ctx context.Context, keys []Key) (map[Key]*Record, error) {
	found := make(map[Key]*Record, len(keys))
	missing := slices.Clone(keys)
	var failed error
	for _, g := range s.groups {
		if err := s.bulkGroup(ctx, g, missing, found); err != nil {
			failed = err
		}
		missing = slices.DeleteFunc(missing, func(k Key) bool { return found[k] != nil })
		if len(missing) == 0 {
			return found, nil
		}
	}
	if len(s.groups) == 0 {
		failed = s.noGroups("bulk read", Key{})
	}
	return found, failed
}

func (s *Session) bulkGroup(ctx context.Context, group uint32, keys []Key, found map[Key]*Record) error {
	parts := make(map[owner][]Key)
	for _, k := range keys {
		r, err := s.owner(group, k)
		if err != nil { // nor has any other key one
			return &Error{Op: "bulk read", Group: group, Key: k, Err: err}
		}
		parts[r.owner] = append(parts[r.owner], k)
	}
	var errs []error
	for _, part := range parts {
		slices.SortFunc(part, wire.ID.Compare)
		for chunk := range slices.Chunk(part, maxBulk) {
			errs = append(errs, s.bulkPart(ctx, group, chunk, found))
		}
	}
	return errors.Join(errs...)
}

// bulkPart asks one backend. A key that it cannot read is answered with the id
// of the request, so answers are told apart by the id in their payload.
func (s *Session) bulkPart(ctx context.Context, group uint32, keys []Key, found map[Key]*Record) error {
	attr := wire.IOAttr{Flags: s.ioFlags, Size: uint64(len(keys)) * wire.IOAttrSize}
	list := make([]byte, 0, attr.Size)
	for _, k := range keys {
		item := wire.IOAttr{ID: k, Flags: s.ioFlags}
		list = item.Append(list)
	}
	answer, err := s.request(ctx, "bulk read", group, wire.Header{ID: keys[0], Command: wire.CmdBulkRead}, &attr, [][]byte{list})
	if half := len(keys) / 2; half > 0 && errors.Is(err, ErrTooLarge) {
		return errors.Join(s.bulkPart(ctx, group, keys[:half], found), s.bulkPart(ctx, group, keys[half:], found))
	}
	if err != nil {
		return err
	}
	for _, p := range answer.packets {
		if p.header.Command == wire.CmdRead && p.header.Status == 0 && p.header.Size >= wire.IOAttrSize {
			if r, err := p.record(group, p.attr.ID); err == nil {
				found[p.attr.ID] = r
			}
		}
	}
	return nil
}

// bulkAtOnce bounds the requests of a bulk removal that are under way.
const bulkAtOnce = 64

// BulkRemove removes many records, each as Remove does, several at a time. The
// result has an entry for each key that the session's checker is not satisfied
// with; it is nil when all are removed.
func (s *Session) BulkRemove(ctx context.Context, keys []Key) map[Key]error {
	var mu sync.Mutex
	var failed map[Key]error
	var all errgroup.Group
	all.SetLimit(bulkAtOnce)
	for _, k := range keys {
		all.Go(func() error {
			if _, err := s.Remove(ctx, k); err != nil {
				mu.Lock()
				defer mu.Unlock()
				if failed == nil {
					failed = make(map[Key]error)
				}
				failed[k] = err
			}
			return nil
		})
	}
	_ = all.Wait()
	return failed
}
