package elliptics

import (
	"context"
	"errors"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// ReadLatest looks the record up in all groups and reads it from the one with
// the newest timestamp, or, if that fails, from the next. The session's checker
// says how many groups must have it. Timestamps are those of the writers'
// clocks; size and contents are not compared. An empty record counts as missing.
func (s *Session) ReadLatest(ctx context.Context, key Key, offset, size uint64) (*Record, error) {
	results, err := s.LookupAll(ctx, key)
	if err != nil {
		return nil, err
	}
	found := newestFirst(results)
	groups := make([]uint32, len(found))
	for i, r := range found {
		groups[i] = r.Group
	}
	from := s.WithGroups(groups...)
	from.writeBack = false
	r, failed, err := from.readInTurn(ctx, key, offset, size)
	if err != nil || !s.writeBack || offset != 0 {
		return r, err
	}
	for _, l := range results {
		if errors.Is(l.Err, wire.ErrNotFound) || l.Err == nil && l.Info.Timestamp.Compare(r.Timestamp) < 0 {
			failed = append(failed, GroupResult{Group: l.Group, Err: wire.ErrNotFound})
		}
	}
	s.giveBack(ctx, r, key, failed)
	return r, nil
}

// readInTurn reads from one group after the other. It returns the results of
// those that failed before one succeeded as well.
func (s *Session) readInTurn(ctx context.Context, key Key, offset, size uint64) (*Record, []GroupResult, error) {
	var failed []GroupResult
	r, err := inTurn(ctx, s, "read", key, func(g uint32) (*Record, error) {
		r, err := s.readGroup(ctx, g, key, offset, size, s.ioFlags)
		if err != nil {
			failed = append(failed, GroupResult{Group: g, Err: err})
		}
		return r, err
	})
	return r, failed, err
}

// giveBack writes a record that was read whole to the groups that have none, or
// a damaged one. It never takes the place of a newer one. What fails is only
// logged: the read has succeeded.
func (s *Session) giveBack(ctx context.Context, r *Record, key Key, failed []GroupResult) {
	if uint64(len(r.Data)) != r.TotalSize {
		return
	}
	var groups []uint32
	for _, f := range failed {
		if errors.Is(f.Err, wire.ErrNotFound) || errors.Is(f.Err, wire.ErrChecksum) {
			groups = append(groups, f.Group)
		}
	}
	if len(groups) == 0 {
		return
	}
	attr := wire.IOAttr{ID: key, Timestamp: r.Timestamp, UserFlags: r.UserFlags, Flags: wire.IOCASTimestamp}
	if len(r.Data) == 0 { // the only way to make an empty record
		attr.Flags |= wire.IOPrepare | wire.IOCommit | wire.IOPlainWrite
	}
	_, err := s.WithGroups(groups...).WithChecker(All).everywhere(ctx, "write back", key, func(g uint32) (FileInfo, error) {
		return s.writeGroup(ctx, g, wire.Header{ID: key, Command: wire.CmdWrite}, attr, [][]byte{r.Data})
	})
	if err != nil {
		s.node.cfg.Logger.Warn("could not write a record back to groups that lack it", "error", err)
	}
}
