package v1

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
)

// lookups bounds the requests that one List or Remove has in flight.
const lookups = 16

// List returns the full paths of what a directory holds, sorted; "" is the
// root. A directory that lost its last entry is empty. Entries of the index
// whose record is gone are left out.
func (s *Store) List(ctx context.Context, dir string) ([]string, error) {
	list, err := s.list(ctx, dir)
	return list, inPath("list", dir, err)
}

func (s *Store) list(ctx context.Context, dir string) ([]string, error) {
	if dir != "" {
		info, err := s.stat(ctx, dir)
		if err != nil {
			return nil, err
		}
		if !info.Dir {
			return nil, ErrNotDir
		}
	}
	found, err := s.tagged(ctx, dir)
	if err != nil {
		return nil, err
	}
	gone := make([]bool, len(found))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(lookups)
	for i, path := range found {
		g.Go(func() error {
			exists, err := s.Exists(ctx, path)
			gone[i] = !exists
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	list := found[:0]
	for i, path := range found {
		if !gone[i] {
			list = append(list, path)
		}
	}
	return list, nil
}

// Remove removes a file, or a directory with everything below it. It is only
// done when every group has: one that is away would bring the record back, and
// is an error.
func (s *Store) Remove(ctx context.Context, path string) error {
	return inPath("remove", path, s.remove(ctx, path, lookups))
}

// remove removes up to parallel of the entries of a directory at once, and
// what is below them one after the other.
func (s *Store) remove(ctx context.Context, path string, parallel int) error {
	info, err := s.stat(ctx, path)
	if err == nil && !info.Dir {
		return s.removeFile(ctx, path)
	}
	if err != nil && !errors.Is(err, ErrNotExist) {
		return err
	}
	// A directory whose own record is gone may still have entries.
	below, err := s.tagged(ctx, path)
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, child := range below {
		g.Go(func() error {
			if err := s.remove(gctx, child, 1); !errors.Is(err, ErrNotExist) {
				return inPath("remove", child, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err = s.removeFile(ctx, path); errors.Is(err, ErrNotExist) && len(below) > 0 {
		return nil
	}
	return err
}

// removeFile removes a record everywhere, and then its tags: a tag without a
// record shows nothing.
func (s *Store) removeFile(ctx context.Context, path string) error {
	results, err := s.write.WithChecker(elliptics.All).Remove(ctx, s.write.Key(path))
	removed := 0
	for _, r := range results {
		switch {
		case r.Err == nil:
			removed++
		case !errors.Is(r.Err, elliptics.ErrNotFound):
			return fmt.Errorf("group %d may still have it, remove it again when the group can be reached: %w", r.Group, r.Err)
		}
	}
	if len(results) == 0 && err != nil {
		return err
	}
	if err := s.untag(ctx, path); err != nil {
		return err
	}
	if removed == 0 {
		return ErrNotExist
	}
	return nil
}
