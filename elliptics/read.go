package elliptics

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// Record is what a read found.
type Record struct {
	Data        []byte
	Timestamp   Time
	UserFlags   uint64
	TotalSize   uint64   // of the whole record, bytes
	RecordFlags uint64   // see wire.RecordUncommitted and the others
	Checksum    [64]byte // SHA-512 of Data, if wire.IOChecksum asked for it
	Group       uint32   // that answered
	pooled      *[]byte
}

// Release gives Data's memory back for other reads. Data must not be used
// afterwards. Calling it is optional.
func (r *Record) Release() {
	putBuffer(r.pooled)
	r.pooled, r.Data = nil, nil
}

// Read returns up to size bytes of a record from offset; size 0 means to the
// end. A record arrives in one piece, so ask for large ones in parts of a few
// MiB. The groups are asked one after the other until one answers; nothing is
// ever written back.
//
// Errors: ErrNotFound for a record that is missing or not committed; ErrTooBig
// for an offset at or behind the end; ErrChecksum for a damaged part.
func (s *Session) Read(ctx context.Context, key Key, offset, size uint64) (*Record, error) {
	if len(s.groups) == 1 {
		return s.readGroup(ctx, s.groups[0], key, offset, size, s.ioFlags)
	}
	return inTurn(ctx, s, "read", key, func(g uint32) (*Record, error) {
		return s.readGroup(ctx, g, key, offset, size, s.ioFlags)
	})
}

func (s *Session) readGroup(ctx context.Context, group uint32, key Key, offset, size uint64, flags wire.IOFlags) (*Record, error) {
	attr := wire.IOAttr{Parent: key, ID: key, Flags: flags, Offset: offset, Size: size}
	p, err := s.single(ctx, "read", group, wire.Header{ID: key, Command: wire.CmdRead}, &attr, nil)
	if err != nil {
		return nil, err
	}
	if size > 0 && uint64(len(p.body)) > size {
		putBuffer(p.pooled)
		return nil, p.bad("read", group, key, fmt.Errorf("%w: an answer of %d bytes, %d were asked for", wire.ErrProtocol, len(p.body), size))
	}
	return p.record(group, key)
}

// bad is the error of an answer that is not what it should be.
func (p *packet) bad(op string, group uint32, key Key, err error) error {
	return &Error{Op: op, Group: group, Remote: p.remote.name.String(), Key: key, Err: err}
}

// record checks that a READ answer is what it says.
func (p *packet) record(group uint32, key Key) (*Record, error) {
	if p.attr.ID != key || p.attr.Size != uint64(len(p.body)) {
		putBuffer(p.pooled)
		return nil, p.bad("read", group, key, fmt.Errorf("%w: an answer for %s with %d bytes announces %d",
			wire.ErrProtocol, p.attr.ID.Short(), len(p.body), p.attr.Size))
	}
	return &Record{
		Data: p.body, Timestamp: p.attr.Timestamp, UserFlags: p.attr.UserFlags, TotalSize: p.attr.TotalSize,
		RecordFlags: p.attr.RecordFlags, Checksum: p.attr.Parent, Group: group, pooled: p.pooled,
	}, nil
}

// ReadLatest looks the record up in all groups and reads it from the one with
// the newest timestamp; equal ones in the order of the groups. The session's
// checker says how many groups must have it.
func (s *Session) ReadLatest(ctx context.Context, key Key, offset, size uint64) (*Record, error) {
	found, err := s.LookupAll(ctx, key)
	if err != nil {
		return nil, err
	}
	found = slices.DeleteFunc(found, func(r GroupResult) bool { return r.Err != nil })
	slices.SortStableFunc(found, func(a, b GroupResult) int {
		return cmp.Or(b.Info.Timestamp.Compare(a.Info.Timestamp), 0)
	})
	groups := make([]uint32, len(found))
	for i, r := range found {
		groups[i] = r.Group
	}
	return s.WithGroups(groups...).Read(ctx, key, offset, size)
}

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
	type owner struct {
		remote  *remote
		backend uint32
	}
	table := s.node.routes.Load()
	parts := make(map[owner][]Key)
	for _, k := range keys {
		r, ok := table.owner(group, k)
		if !ok { // nor has any other key one
			return &Error{Op: "bulk read", Group: group, Key: k, Err: table.noRoute()}
		}
		o := owner{r.remote, r.backend}
		parts[o] = append(parts[o], k)
	}
	var errs []error
	for _, part := range parts {
		for chunk := range slices.Chunk(part, maxBulk) {
			errs = append(errs, s.bulkPart(ctx, group, chunk, found))
		}
	}
	return errors.Join(errs...)
}

// bulkPart asks one backend. A key that it cannot read is answered with the id
// of the request, so answers are told apart by the id in their payload.
func (s *Session) bulkPart(ctx context.Context, group uint32, keys []Key, found map[Key]*Record) error {
	attr := wire.IOAttr{ID: keys[0], Flags: s.ioFlags, Size: uint64(len(keys)) * wire.IOAttrSize}
	list := make([]byte, 0, attr.Size)
	for _, k := range keys {
		item := wire.IOAttr{ID: k, Flags: s.ioFlags}
		list = item.Append(list)
	}
	packets, err := s.request(ctx, "bulk read", group, wire.Header{ID: keys[0], Command: wire.CmdBulkRead}, &attr, [][]byte{list})
	if half := len(keys) / 2; half > 0 && errors.Is(err, ErrTooLarge) {
		return errors.Join(s.bulkPart(ctx, group, keys[:half], found), s.bulkPart(ctx, group, keys[half:], found))
	}
	if err != nil {
		return err
	}
	for _, p := range packets {
		if p.header.Command == wire.CmdRead && p.header.Status == 0 && p.header.Size >= wire.IOAttrSize {
			if r, err := p.record(group, p.attr.ID); err == nil {
				found[p.attr.ID] = r
			}
		}
	}
	return nil
}
