package v1

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"
)

// Repositories lists all repositories, sorted by the path of their directory.
func (s *Store) Repositories(ctx context.Context) ([]Repository, error) {
	namespaces, err := s.dirs(ctx, RepositoriesDir)
	if errors.Is(err, ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []Repository
	for _, ns := range namespaces {
		dirs, err := s.dirs(ctx, ns)
		if err != nil {
			return nil, err
		}
		for _, dir := range dirs {
			repo, err := repositoryOf(dir)
			if err != nil {
				return nil, Damage("repository", "%w", err)
			}
			list = append(list, repo)
		}
	}
	return list, nil
}

// dirs lists the directories in a directory.
func (s *Store) dirs(ctx context.Context, dir string) ([]string, error) {
	list, err := s.List(ctx, dir)
	if err != nil {
		return nil, err
	}
	dirs := list[:0]
	for _, p := range list {
		info, err := s.Stat(ctx, p)
		if errors.Is(err, ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		if info.Dir {
			dirs = append(dirs, p)
		}
	}
	return dirs, nil
}

// Tags lists the tags of a repository. Beside the file of a tag there is
// tag<TAG>_json, which looks like that of another tag when TAG begins with an
// underscore.
func (s *Store) Tags(ctx context.Context, r Repository) ([]string, error) {
	list, err := s.List(ctx, r.dir())
	if err != nil {
		return nil, err
	}
	var tags []string
	for _, p := range list {
		quoted, ok := strings.CutPrefix(path.Base(p), tagPrefix)
		if !ok {
			continue
		}
		if strings.HasSuffix(quoted, "_json") {
			if b, err := s.description(ctx, p); err == nil && bytes.HasPrefix(bytes.TrimSpace(b), []byte("{")) {
				continue
			}
		}
		tag, err := url.QueryUnescape(quoted)
		if err != nil {
			return nil, Damage("repository "+r.String(), "%s is not the file of a tag: %w", p, err)
		}
		tags = append(tags, tag)
	}
	return tags, nil
}

// Tag is the id of the image that a tag names.
func (s *Store) Tag(ctx context.Context, r Repository, tag string) (string, error) {
	b, err := s.description(ctx, r.tagPath(tag))
	if errors.Is(err, ErrNotExist) {
		return "", Damage("repository "+r.String(), "the old registry has no tag %s of it", tag)
	}
	if err != nil {
		return "", err
	}
	// The registry stored the id bare; other tools, as a JSON string.
	id := strings.Trim(string(bytes.TrimSpace(b)), `"`)
	if !idPattern.MatchString(id) {
		return "", Damage(fmt.Sprintf("tag %s:%s", r, tag), "it names %.80q, which is not the id of an image", id)
	}
	return id, nil
}

// Private tells whether the old registry kept the repository from people
// without permission.
func (s *Store) Private(ctx context.Context, r Repository) (bool, error) {
	return s.Exists(ctx, r.privatePath())
}
