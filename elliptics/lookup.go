package elliptics

import (
	"cmp"
	"context"
	"slices"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// Lookup tells where a record is, its size and its timestamp. The groups are
// asked one after the other. An empty record is ErrNotFound, although it can
// be read.
func (s *Session) Lookup(ctx context.Context, key Key) (GroupResult, error) {
	return inTurn(ctx, s, "lookup", key, func(g uint32) (GroupResult, error) {
		info, err := s.lookupGroup(ctx, g, key, 0)
		return GroupResult{g, info, err}, err
	})
}

// LookupAll asks all groups at once.
func (s *Session) LookupAll(ctx context.Context, key Key) ([]GroupResult, error) {
	return s.everywhere(ctx, "lookup", key, func(g uint32) (FileInfo, error) { return s.lookupGroup(ctx, g, key, 0) })
}

// LookupChecksum is LookupAll with the SHA-512 of each group's copy, for which
// each server reads all of it.
func (s *Session) LookupChecksum(ctx context.Context, key Key) ([]GroupResult, error) {
	return s.everywhere(ctx, "lookup", key, func(g uint32) (FileInfo, error) {
		return s.lookupGroup(ctx, g, key, wire.FlagChecksum)
	})
}

func (s *Session) lookupGroup(ctx context.Context, group uint32, key Key, flags wire.Flags) (info FileInfo, err error) {
	if s.ioFlags&wire.IONoCache != 0 {
		flags |= wire.FlagNoCache
	}
	p, err := s.single(ctx, "lookup", group, wire.Header{ID: key, Command: wire.CmdLookup, Flags: flags}, nil, nil)
	if err != nil {
		return info, err
	}
	return p.fileInfo("lookup", group)
}

// LookupLatest asks all groups at once and returns those that have the record,
// the one with the newest timestamp first, equal ones in the order of the
// session. The checker says how many groups must have it. An empty record
// counts as missing.
func (s *Session) LookupLatest(ctx context.Context, key Key) ([]GroupResult, error) {
	results, err := s.LookupAll(ctx, key)
	if err != nil {
		return nil, err
	}
	return newestFirst(results), nil
}

func newestFirst(results []GroupResult) []GroupResult {
	found := slices.DeleteFunc(slices.Clone(results), func(r GroupResult) bool { return r.Err != nil })
	slices.SortStableFunc(found, func(a, b GroupResult) int { return b.Info.Timestamp.Compare(a.Info.Timestamp) })
	return found
}

// LookupQuorum asks all groups at once and returns as soon as more than half of
// them have the record with the same timestamp: those. Otherwise it returns the
// ones with the newest timestamp, however few; whether they are enough is for
// the caller to say. The error is that of a lookup that found nothing.
func (s *Session) LookupQuorum(ctx context.Context, key Key) ([]GroupResult, error) {
	if len(s.groups) == 0 {
		return nil, s.noGroups("lookup", key)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // who has not answered yet
	answers := make(chan GroupResult, len(s.groups))
	for _, g := range s.groups {
		go func() {
			info, err := s.lookupGroup(ctx, g, key, 0)
			answers <- GroupResult{g, info, err}
		}()
	}
	var results []GroupResult
	same := make(map[Time][]GroupResult)
	var newest Time
	for range s.groups {
		r := <-answers // bounded: every request obeys ctx and the time-out
		results = append(results, r)
		if r.Err != nil {
			continue
		}
		t := r.Info.Timestamp
		same[t] = append(same[t], r)
		if len(same[t]) > len(s.groups)/2 {
			return same[t], nil
		}
		if len(same) == 1 || t.Compare(newest) > 0 {
			newest = t
		}
	}
	if len(same) == 0 {
		slices.SortFunc(results, func(a, b GroupResult) int {
			return cmp.Compare(slices.Index(s.groups, a.Group), slices.Index(s.groups, b.Group))
		})
		return nil, &GroupsError{Op: "lookup", Key: key, Need: 1, Groups: results}
	}
	return same[newest], nil
}
