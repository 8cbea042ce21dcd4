package elliptics

import (
	"bytes"
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"time"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// updateAttempts is how often Update begins anew unless it is told otherwise.
const updateAttempts = 10

// Update changes a record from what it is now, whoever else changes it: change
// gets the newest contents (nil if no group has the record) and returns the new
// ones, which are written to each group on the condition that its record is
// still the one that was seen. Groups whose record was changed meanwhile are
// tried again with new contents, up to attempts times (0: 10) in all, with a
// growing pause between; then they fail with ErrConflict. change may be called
// once for each attempt, must not keep or change what it gets, and ends the
// update with its own error. If it returns the same contents nothing is written.
//
// The condition holds within each group, not across them: two writers can each
// win in one group, and then the loser tries again there. A group without the
// record accepts every write. The contents are read in one piece.
func (s *Session) Update(ctx context.Context, key Key, attempts int, change func(old []byte) ([]byte, error)) ([]GroupResult, error) {
	if len(s.groups) == 0 {
		return nil, s.noGroups("update", key)
	}
	if attempts <= 0 {
		attempts = updateAttempts
	}
	results := make([]GroupResult, len(s.groups))
	for i, g := range s.groups {
		results[i] = GroupResult{Group: g, Err: wire.ErrConflict}
	}
	pause := time.Millisecond
	for attempt := 1; ; attempt++ {
		done, err := s.updateOnce(ctx, key, change, results)
		if err != nil || done || attempt == attempts {
			return results, errors.Join(err, s.verdictOf("update", key, results, err))
		}
		select {
		case <-time.After(jitter(pause)):
			pause = min(2*pause, 200*time.Millisecond)
		case <-ctx.Done():
			return results, fmt.Errorf("update %s: %w", key.Short(), context.Cause(ctx))
		}
	}
}

// verdictOf is the checker's verdict, unless the operation has ended otherwise.
func (s *Session) verdictOf(op string, key Key, results []GroupResult, ended error) error {
	if ended != nil {
		return nil
	}
	return s.verdict(op, key, results)
}

// updateOnce makes one attempt in the groups that are in conflict. It answers
// true when none is any more.
func (s *Session) updateOnce(ctx context.Context, key Key, change func([]byte) ([]byte, error), results []GroupResult) (done bool, err error) {
	var open []uint32
	at := make(map[uint32]*GroupResult)
	for i := range results {
		if r := &results[i]; errors.Is(r.Err, wire.ErrConflict) {
			open = append(open, r.Group)
			at[r.Group] = r
		}
	}
	session := s.WithGroups(open...)
	seen, _ := session.LookupChecksum(ctx, key) // each group's result counts
	checksums := make(map[uint32][64]byte)
	for _, r := range seen {
		if r.Err == nil || errors.Is(r.Err, wire.ErrNotFound) {
			checksums[r.Group] = r.Info.Checksum // zero for a record that is missing
		} else {
			at[r.Group].Err = r.Err
		}
	}
	var old []byte
	if newest := newestFirst(seen); len(newest) > 0 {
		var from []uint32
		for _, r := range newest {
			from = append(from, r.Group)
		}
		reading := s.WithGroups(from...).WithIOFlags(s.ioFlags | wire.IOChecksum)
		rec, _, err := reading.readInTurn(ctx, key, 0, 0)
		if err != nil {
			if errors.Is(err, wire.ErrNotFound) && ctx.Err() == nil {
				return false, nil // removed a moment ago
			}
			return false, err
		}
		old = rec.Data
		// What was read counts, should it have been changed since the lookup.
		checksums[rec.Group] = [64]byte{}
		if len(old) > 0 {
			checksums[rec.Group] = sha512.Sum512(old)
		}
	}
	if len(checksums) == 0 {
		return true, nil // every group has failed
	}
	data, err := change(old)
	if err != nil {
		return false, err
	}
	var groups []uint32
	for _, g := range open {
		if _, ok := checksums[g]; ok {
			groups = append(groups, g)
		}
	}
	if old != nil && bytes.Equal(old, data) {
		for _, g := range groups {
			at[g].Err = nil
		}
		return true, nil
	}
	attr := wire.IOAttr{
		ID: key, Num: uint64(len(data)), Timestamp: s.timestamp, UserFlags: s.userFlags,
		Flags: s.ioFlags | wire.IOCompareAndSwap,
	}
	if attr.Timestamp.IsZero() {
		attr.Timestamp = now()
	}
	if len(data) == 0 {
		attr.Flags |= wire.IOPrepare | wire.IOCommit | wire.IOPlainWrite
	}
	written, _ := session.WithGroups(groups...).everywhere(ctx, "update", key, func(g uint32) (FileInfo, error) {
		a := attr
		a.Parent = checksums[g]
		return s.writeGroup(ctx, g, wire.Header{ID: key, Command: wire.CmdWrite}, a, [][]byte{data})
	})
	done = true
	for _, r := range written {
		*at[r.Group] = r
		done = done && !errors.Is(r.Err, wire.ErrConflict)
	}
	return done, nil
}
