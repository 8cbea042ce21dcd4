package elliptics

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// ErrNoIndexes: the servers have no secondary indexes. Those of the 3.0 line,
// and of 2.27 from 2.27.0.6 on, have none. It is an ErrNotSupported too.
var ErrNoIndexes = fmt.Errorf("%w: these servers have no secondary indexes", wire.ErrNotSupported)

// Index is a tag that an object has, and the data that is stored with the pair
// of both. Neither the name of the object nor that of the tag is stored
// anywhere, so whoever needs them puts them into Data.
type Index struct {
	Tag  Key // Session.Key of the tag's name
	Data []byte
}

// UpdateIndexes adds tags to an object, or changes their data. A group has
// succeeded when the object's own table and that of every tag are written;
// they are written at the same time and independently, so that after an error
// some may be. Doing it again does no harm. The object need not exist.
func (s *Session) UpdateIndexes(ctx context.Context, key Key, indexes []Index) ([]GroupResult, error) {
	return s.changeIndexes(ctx, "update indexes", key, indexes, wire.IndexAdd, wire.EntryInsert)
}

// RemoveIndexes takes tags away from an object. Removing a record does not do
// that.
func (s *Session) RemoveIndexes(ctx context.Context, key Key, tags []Key) ([]GroupResult, error) {
	indexes := make([]Index, len(tags))
	for i, t := range tags {
		indexes[i].Tag = t
	}
	return s.changeIndexes(ctx, "remove indexes", key, indexes, wire.IndexRemove, wire.EntryRemove)
}

// SetIndexes gives an object exactly these tags; the servers find out what has
// changed. They do not lock the tags' tables for it: when several objects with
// a common tag are set at the same time, some of them are lost. UpdateIndexes
// and RemoveIndexes lose nothing.
func (s *Session) SetIndexes(ctx context.Context, key Key, indexes []Index) ([]GroupResult, error) {
	return s.changeIndexes(ctx, "set indexes", key, indexes, 0, 0)
}

// indexesAtOnce bounds the requests of one call that are under way in a group.
const indexesAtOnce = 16

// changeIndexes changes an object's table in each group and, if action is one,
// the table of each tag.
func (s *Session) changeIndexes(ctx context.Context, op string, key Key, indexes []Index, flags wire.IndexFlags, action uint64) ([]GroupResult, error) {
	table := key.ObjectTable()
	return s.everywhere(ctx, op, key, func(group uint32) (FileInfo, error) {
		count, err := s.shards(op, key, group)
		if err != nil {
			return FileInfo{}, err
		}
		var all errgroup.Group
		all.SetLimit(indexesAtOnce)
		object := wire.IndexRequest{ID: key, Group: group, Flags: flags}
		for _, ix := range indexes {
			object.Entries = append(object.Entries, wire.IndexEntry{ID: ix.Tag, Data: ix.Data})
		}
		all.Go(func() error { return s.indexRequest(ctx, op, key, group, wire.CmdIndexesUpdate, table, object) })
		if action != 0 {
			shard := table.ShardOf(count)
			for _, ix := range indexes {
				id := ix.Tag.IndexShard(shard, count)
				tag := wire.IndexRequest{ID: key, Shard: shard, ShardCount: count, Entries: []wire.IndexEntry{
					{ID: id, Flags: action, Shard: shard, ShardCount: count, Data: ix.Data}}}
				all.Go(func() error { return s.indexRequest(ctx, op, key, group, wire.CmdIndexesInternal, id, tag) })
			}
		}
		return FileInfo{}, all.Wait()
	})
}

// indexRequest changes one table. Errors come in the acknowledge or with an
// entry of the answer.
func (s *Session) indexRequest(ctx context.Context, op string, key Key, group uint32, cmd wire.Command, table wire.ID, req wire.IndexRequest) error {
	answer, err := s.request(ctx, op, group, wire.Header{ID: table, Command: cmd}, nil, [][]byte{req.Append(nil)})
	if err != nil {
		return about(key, err)
	}
	defer release(answer.packets)
	for _, p := range answer.packets {
		if len(p.body) == 0 {
			continue
		}
		var r wire.IndexReply
		if err := r.Decode(p.body); err != nil {
			return p.bad(op, group, key, err)
		}
		for _, e := range r.Entries {
			if e.Status < 0 {
				return p.bad(op, group, key, wire.Status(e.Status))
			}
		}
	}
	return nil
}

// about makes an error name the key that the user knows.
func about(key Key, err error) error {
	var e *Error
	if errors.As(err, &e) {
		e.Key = key
	}
	return err
}

// shards is the number of shards of each tag, as the nodes of a group announced
// it in their handshakes.
func (s *Session) shards(op string, key Key, group uint32) (uint32, error) {
	fail := func(err error) (uint32, error) { return 0, &Error{Op: op, Group: group, Key: key, Err: err} }
	if s.node.ctx.Err() != nil {
		return fail(ErrClosed)
	}
	table := s.node.routes.Load()
	counts := table.shards[group]
	switch {
	case len(counts) == 0:
		return fail(table.noRoute())
	case len(counts) > 1:
		return fail(fmt.Errorf("%w: the nodes of the group disagree about the number of index shards: %v", wire.ErrProtocol, counts))
	case counts[0] <= 0:
		return fail(ErrNoIndexes)
	}
	return uint32(counts[0]), nil
}

// ListIndexes lists the tags of an object, sorted by their keys, as the group
// with the newest table has them; the session's checker says how many groups
// must have a table. An object that never had tags has none.
func (s *Session) ListIndexes(ctx context.Context, key Key) ([]Index, error) {
	if len(s.groups) > 0 {
		if _, err := s.shards("list indexes", key, s.groups[0]); errors.Is(err, ErrNoIndexes) {
			return nil, err
		}
	}
	r, err := s.ReadLatest(ctx, key.ObjectTable(), 0, 0)
	if Missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var t wire.IndexTable
	if err := t.Decode(r.Data); err != nil {
		return nil, &Error{Op: "list indexes", Group: r.Group, Key: key, Err: err}
	}
	list := make([]Index, len(t.Entries))
	for i, e := range t.Entries {
		list[i] = Index{Tag: e.ID, Data: e.Data}
	}
	return list, nil
}
