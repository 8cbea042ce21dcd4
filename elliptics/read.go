package elliptics

import (
	"context"
	"fmt"

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
// written back unless WithWriteBack asks for it.
//
// Errors: ErrNotFound for a record that is missing or not committed; ErrTooBig
// for an offset at or behind the end; ErrChecksum for a damaged part.
func (s *Session) Read(ctx context.Context, key Key, offset, size uint64) (*Record, error) {
	if len(s.groups) == 1 {
		return s.readGroup(ctx, s.groups[0], key, offset, size, s.ioFlags)
	}
	r, failed, err := s.readInTurn(ctx, key, offset, size)
	if err == nil && s.writeBack && offset == 0 {
		s.giveBack(ctx, r, key, failed)
	}
	return r, err
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
