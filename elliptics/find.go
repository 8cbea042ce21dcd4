package elliptics

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// FoundObject is an object that was found by its tags.
type FoundObject struct {
	Key     Key
	Indexes []Index // those of the tags asked for that it has
}

// FindAllIndexes finds the objects that have all of the tags, in no order. A
// tag is spread over shards; the groups are asked in turn for the shards that
// no earlier one had, and what a group has of a shard counts, even if others
// have more. An object that is found need not exist any more.
//
// A shard that some group answered and none has is empty. For a shard that no
// group answered there is an error, beside what was found in the others.
// Everything is delivered at once: the result of a shard must fit into
// Config.MaxReply.
func (s *Session) FindAllIndexes(ctx context.Context, tags []Key) ([]FoundObject, error) {
	return s.find(ctx, "find all indexes", wire.IndexIntersect, tags)
}

// FindAnyIndexes finds the objects that have any of the tags, otherwise as
// FindAllIndexes.
func (s *Session) FindAnyIndexes(ctx context.Context, tags []Key) ([]FoundObject, error) {
	return s.find(ctx, "find any indexes", wire.IndexUnite, tags)
}

// search is a find that is under way.
type search struct {
	s     *Session
	op    string
	flags wire.IndexFlags
	tags  []Key
	count uint32

	mu       sync.Mutex
	found    []FoundObject
	open     map[uint32]bool // shards without a result so far
	answered map[uint32]bool // shards that some group was able to answer
	errs     []error
}

func (s *Session) find(ctx context.Context, op string, flags wire.IndexFlags, tags []Key) ([]FoundObject, error) {
	if len(tags) == 0 {
		return nil, fmt.Errorf("%s: %w: no tags", op, wire.ErrInvalid)
	}
	if len(s.groups) == 0 {
		return nil, s.noGroups(op, tags[0])
	}
	f := &search{s: s, op: op, flags: flags, open: make(map[uint32]bool), answered: make(map[uint32]bool)}
	for _, t := range tags {
		if !slices.Contains(f.tags, t) {
			f.tags = append(f.tags, t)
		}
	}
	for _, g := range s.groups {
		if err := f.group(ctx, g); err != nil {
			f.errs = append(f.errs, err)
		}
		if f.count > 0 && len(f.open) == 0 || ctx.Err() != nil {
			break
		}
	}
	if f.count > 0 && len(f.answered) == int(f.count) {
		return f.found, nil
	}
	return f.found, fmt.Errorf("%s %s: %d of %d shards have no answer from any group: %w",
		op, f.tags[0].Short(), int(f.count)-len(f.answered), f.count, errors.Join(f.errs...))
}

// group asks one group for the open shards, each backend for all of its own.
func (f *search) group(ctx context.Context, group uint32) error {
	count, err := f.s.shards(f.op, f.tags[0], group)
	if err != nil {
		return err
	}
	switch f.count {
	case count:
	case 0:
		f.count = count
		for shard := range count {
			f.open[shard] = true
		}
	default:
		return &Error{Op: f.op, Group: group, Key: f.tags[0], Err: fmt.Errorf("%w: the group has %d index shards, others have %d", wire.ErrProtocol, count, f.count)}
	}
	var parts [][]uint32
	var last owner
	for shard := range count {
		if !f.open[shard] {
			continue
		}
		r, err := f.s.owner(group, f.tags[0].IndexShard(shard, count))
		if err != nil {
			return &Error{Op: f.op, Group: group, Key: f.tags[0], Err: err}
		}
		if len(parts) == 0 || r.owner != last {
			parts = append(parts, nil)
			last = r.owner
		}
		parts[len(parts)-1] = append(parts[len(parts)-1], shard)
	}
	var all errgroup.Group
	all.SetLimit(indexesAtOnce)
	for _, shards := range parts {
		all.Go(func() error {
			if err := f.part(ctx, group, shards); err != nil {
				f.mu.Lock()
				defer f.mu.Unlock()
				f.errs = append(f.errs, about(f.tags[0], err))
			}
			return nil
		})
	}
	return all.Wait()
}

// part asks one backend for some shards.
func (f *search) part(ctx context.Context, group uint32, shards []uint32) error {
	var req wire.IndexFind
	shardOf := make(map[wire.ID]uint32, len(shards)) // by the id that an answer carries
	tagOf := make(map[wire.ID]Key)
	for _, shard := range shards {
		b := wire.IndexRequest{ID: f.tags[0].IndexShard(shard, f.count), Group: group, Flags: f.flags}
		for _, t := range f.tags {
			id := t.IndexShard(shard, f.count)
			tagOf[id] = t
			b.Entries = append(b.Entries, wire.IndexEntry{ID: id})
		}
		shardOf[b.ID] = shard
		req.Blocks = append(req.Blocks, b)
	}
	answer, err := f.s.request(ctx, f.op, group, wire.Header{ID: req.Blocks[0].ID, Command: wire.CmdIndexesFind}, nil, [][]byte{req.Append(nil)})
	if err != nil && !errors.Is(err, wire.ErrNotFound) { // to have none of them is an answer as well
		return err
	}
	var packets []packet
	if answer != nil {
		packets = answer.packets
	}
	results := make(map[uint32][]FoundObject)
	for _, p := range packets {
		if len(p.body) == 0 {
			continue
		}
		shard, ok := shardOf[p.header.ID]
		if !ok {
			return p.bad(f.op, group, f.tags[0], fmt.Errorf("%w: an answer for shard %s, which was not asked for", wire.ErrProtocol, p.header.ID.Short()))
		}
		var found wire.IndexFound
		if err := found.Decode(p.body); err != nil {
			return p.bad(f.op, group, f.tags[0], err)
		}
		list := make([]FoundObject, 0, len(found.Objects))
		for _, o := range found.Objects {
			object := FoundObject{Key: o.ID, Indexes: make([]Index, len(o.Tags))}
			for i, t := range o.Tags {
				tag, ok := tagOf[t.Shard]
				if !ok {
					return p.bad(f.op, group, f.tags[0], fmt.Errorf("%w: a tag that was not asked for: %s", wire.ErrProtocol, t.Shard.Short()))
				}
				object.Indexes[i] = Index{Tag: tag, Data: t.Data}
			}
			list = append(list, object)
		}
		results[shard] = list
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, shard := range shards {
		f.answered[shard] = true
		if list, ok := results[shard]; ok {
			delete(f.open, shard)
			f.found = append(f.found, list...)
		}
	}
	return nil
}
