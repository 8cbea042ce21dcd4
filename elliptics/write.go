package elliptics

import (
	"context"
	"time"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// Write is a write request.
type Write struct {
	// Data is sent piece after piece, from where it is. It must not change
	// before the call returns.
	Data   [][]byte
	Offset uint64 // of the first byte, in the record; 0 for appends
	// Flags choose the kind of write. Without any, the bytes from Offset are
	// replaced and the record ends with them.
	Flags IOFlags
	// Num is the reservation of a prepare or the final size of a commit.
	Num uint64
	// IfChecksum makes a group refuse with ErrConflict unless the SHA-512 of
	// its record is this one. All zero means: only if the record is missing or
	// empty. A group without the record accepts whatever this says.
	IfChecksum *[64]byte
	// Timestamp of the record; zero: the session's or, without one, the time
	// of the call.
	Timestamp Time
	// UserFlags of the record; zero: the session's.
	UserFlags uint64
	// Lifetime in the server's memory cache, in seconds, with wire.IOCache.
	Lifetime uint64
	// Checksum asks for the SHA-512 of the record after the write, for which
	// the server reads all of it.
	Checksum bool
}

// Write sends a write to all groups at once and returns when each has answered,
// or failed, or timed out. The error is the checker's verdict. A write that
// failed in some groups may have happened in others, and one that timed out
// may still happen: see Retry.
func (s *Session) Write(ctx context.Context, key Key, w Write) ([]GroupResult, error) {
	attr := wire.IOAttr{
		ID: key, Start: w.Lifetime, Num: w.Num, Timestamp: w.Timestamp, UserFlags: w.UserFlags,
		Flags: w.Flags | s.ioFlags, Offset: w.Offset,
	}
	if w.IfChecksum != nil {
		attr.Parent = *w.IfChecksum
		attr.Flags |= wire.IOCompareAndSwap
	}
	if attr.Timestamp.IsZero() {
		attr.Timestamp = s.timestamp
	}
	if attr.Timestamp.IsZero() {
		attr.Timestamp = now()
	}
	if attr.UserFlags == 0 {
		attr.UserFlags = s.userFlags
	}
	h := wire.Header{ID: key, Command: wire.CmdWrite}
	if w.Checksum {
		h.Flags |= wire.FlagChecksum
	}
	return s.everywhere(ctx, "write", key, func(g uint32) (FileInfo, error) {
		return s.writeGroup(ctx, g, h, attr, w.Data)
	})
}

func (s *Session) writeGroup(ctx context.Context, group uint32, h wire.Header, attr wire.IOAttr, data [][]byte) (info FileInfo, err error) {
	for _, d := range data {
		attr.Size += uint64(len(d))
	}
	p, err := s.single(ctx, "write", group, h, &attr, data)
	if err != nil || attr.Flags&wire.IOWriteNoFileInfo != 0 {
		return info, err
	}
	return p.fileInfo("write", group)
}

// now is the time of a write, with the precision of the original client.
func now() Time { return wire.TimeOf(time.Now().Truncate(time.Microsecond)) }

func (p *packet) fileInfo(op string, group uint32) (info FileInfo, err error) {
	err = info.Decode(p.body)
	putBuffer(p.pooled)
	if err != nil {
		err = p.bad(op, group, p.header.ID, err)
	}
	return info, err
}

// WriteData replaces a record.
func (s *Session) WriteData(ctx context.Context, key Key, data []byte) ([]GroupResult, error) {
	return s.Write(ctx, key, Write{Data: [][]byte{data}})
}

// Append adds to the end of a record, or makes one. It is not idempotent: an
// append that timed out may have happened.
func (s *Session) Append(ctx context.Context, key Key, data []byte) ([]GroupResult, error) {
	return s.Write(ctx, key, Write{Data: [][]byte{data}, Flags: wire.IOAppend})
}

// Prepare begins a record that grows in pieces: it reserves reserve bytes,
// writes data at offset, and leaves the record invisible until Commit. A
// record that was there is invisible from now on.
func (s *Session) Prepare(ctx context.Context, key Key, data []byte, offset, reserve uint64) ([]GroupResult, error) {
	return s.Write(ctx, key, Write{Data: [][]byte{data}, Offset: offset, Num: reserve, Flags: wire.IOPrepare | wire.IOPlainWrite})
}

// PlainWrite adds a piece to a prepared record.
func (s *Session) PlainWrite(ctx context.Context, key Key, data []byte, offset uint64) ([]GroupResult, error) {
	return s.Write(ctx, key, Write{Data: [][]byte{data}, Offset: offset, Num: offset + uint64(len(data)), Flags: wire.IOPlainWrite})
}

// Commit adds the last piece, which may be empty, and makes a prepared record
// visible with size bytes: never more than were reserved, and every one of
// them written.
func (s *Session) Commit(ctx context.Context, key Key, data []byte, offset, size uint64) ([]GroupResult, error) {
	return s.Write(ctx, key, Write{Data: [][]byte{data}, Offset: offset, Num: size, Flags: wire.IOCommit | wire.IOPlainWrite})
}

// Remove deletes a record from all groups. A group that does not have it
// counts as failed, with ErrNotFound. Elliptics keeps no tombstones: a group
// that is away keeps the record.
func (s *Session) Remove(ctx context.Context, key Key) ([]GroupResult, error) {
	return s.everywhere(ctx, "remove", key, func(g uint32) (FileInfo, error) {
		attr := wire.IOAttr{Parent: key, ID: key, Flags: s.ioFlags}
		_, err := s.single(ctx, "remove", g, wire.Header{ID: key, Command: wire.CmdDel}, &attr, nil)
		return FileInfo{}, err
	})
}
