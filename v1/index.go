package v1

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
)

// allFiles is the index that every record carries, beside that of its
// directory.
const allFiles = "docker"

// tag makes a path an entry of its directory.
func (s *Store) tag(ctx context.Context, path string) error {
	data := []byte(path)
	_, err := s.write.UpdateIndexes(ctx, s.write.Key(path), []elliptics.Index{
		{Tag: s.write.Key(allFiles), Data: data}, {Tag: s.write.Key(parent(path)), Data: data},
	})
	return err
}

// untag takes a path out of its directory. A group that cannot be reached goes
// on listing it, which does no harm.
func (s *Store) untag(ctx context.Context, path string) error {
	_, err := s.write.RemoveIndexes(ctx, s.write.Key(path), []elliptics.Key{s.write.Key(allFiles), s.write.Key(parent(path))})
	return err
}

// tagged finds the paths of what is tagged as an entry of a directory. A group
// that was away lacks some, so that a majority is asked and all they have
// counts.
func (s *Store) tagged(ctx context.Context, dir string) ([]string, error) {
	groups := s.read.Groups()
	lists, errs := make([][]string, len(groups)), make([]error, len(groups))
	var all errgroup.Group
	for i, g := range groups {
		all.Go(func() error {
			lists[i], errs[i] = s.taggedIn(ctx, g, dir)
			return nil
		})
	}
	_ = all.Wait() // errs has the errors
	answered := 0
	for _, err := range errs {
		if err == nil {
			answered++
		}
	}
	if need := elliptics.Quorum.Need(len(groups)); answered < need {
		return nil, fmt.Errorf("%d of %d groups answered, %d needed: %w", answered, len(groups), need, errors.Join(errs...))
	}
	return children(dir, slices.Concat(lists...)), nil
}

func (s *Store) taggedIn(ctx context.Context, group uint32, dir string) ([]string, error) {
	found, err := s.read.WithGroups(group).FindAllIndexes(ctx, []elliptics.Key{s.read.Key(allFiles), s.read.Key(dir)})
	if err != nil {
		return nil, err
	}
	list := make([]string, 0, len(found))
	for _, o := range found {
		for _, ix := range o.Indexes { // all have the same data
			list = append(list, string(ix.Data))
			break
		}
	}
	return list, nil
}

// children keeps of the data of an index what can be the path of an entry of
// dir. The old driver tagged the root as an entry of itself, and nobody may
// remove something because a table of a server is damaged.
func children(dir string, data []string) []string {
	list := slices.DeleteFunc(data, func(p string) bool { return checkPath(p) != nil || parent(p) != dir })
	slices.Sort(list)
	return slices.Compact(list)
}
