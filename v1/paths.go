package v1

import (
	"fmt"
	"net/url"
	"path"
	"strings"
)

// The roots of the two trees.
const (
	ImagesDir       = "images"
	RepositoriesDir = "repositories"
)

// tagPrefix begins the names of the files that hold tags.
const tagPrefix = "tag_"

// The files of an image.
func jsonPath(id string) string       { return ImagesDir + "/" + id + "/json" }
func ancestryPath(id string) string   { return ImagesDir + "/" + id + "/ancestry" }
func checksumPath(id string) string   { return ImagesDir + "/" + id + "/_checksum" }
func unfinishedPath(id string) string { return ImagesDir + "/" + id + "/_inprogress" }

// LayerPath is the file of an image's layer.
func LayerPath(id string) string { return ImagesDir + "/" + id + "/layer" }

// Repository is a name in the old registry. There, every name has a namespace:
// `docker pull host/ubuntu` and `docker pull host/library/ubuntu` meant the
// same.
type Repository struct {
	Namespace string
	Name      string
}

// Library is the namespace of names without one.
const Library = "library"

// ParseRepository reads NAME or NAMESPACE/NAME.
func ParseRepository(s string) (Repository, error) {
	ns, name, ok := strings.Cut(s, "/")
	if !ok {
		ns, name = Library, s
	}
	if ns == "" || name == "" {
		return Repository{}, fmt.Errorf("repository %q: expected NAME or NAMESPACE/NAME", s)
	}
	return Repository{ns, name}, nil
}

func (r Repository) String() string { return r.Namespace + "/" + r.Name }

// dir is where the files of the repository are. The registry quoted the name
// once when it parsed the request and all parts again when it made the path.
func (r Repository) dir() string {
	return RepositoriesDir + "/" + quote(r.Namespace) + "/" + quote(url.QueryEscape(r.Name))
}

// repositoryOf reads the path of a repository.
func repositoryOf(dir string) (Repository, error) {
	parent, base := path.Split(dir)
	ns, err := url.QueryUnescape(path.Base(parent))
	if err == nil {
		base, err = url.QueryUnescape(base)
	}
	if err == nil {
		base, err = url.QueryUnescape(base)
	}
	if err != nil {
		return Repository{}, fmt.Errorf("%s is not the path of a repository: %w", dir, err)
	}
	return Repository{ns, base}, nil
}

func (r Repository) tagPath(tag string) string { return r.dir() + "/" + tagPrefix + quote(tag) }
func (r Repository) privatePath() string       { return r.dir() + "/_private" }

// quote is how the registry makes one part of a path.
func quote(part string) string {
	switch part {
	case ".":
		return "%252E"
	case "..":
		return "%252E%252E"
	}
	return url.QueryEscape(part)
}

// checkPath refuses what the old registry never made. An empty part would have
// a parent of the same name.
func checkPath(p string) error {
	if p == "" {
		return fmt.Errorf("%w: it is empty", ErrPath)
	}
	for part := range strings.SplitSeq(p, "/") {
		if part == "" {
			return fmt.Errorf("%w: %q has an empty part", ErrPath, p)
		}
	}
	return nil
}

// parent is the directory of a path, "" for one without.
func parent(p string) string {
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		return p[:i]
	}
	return ""
}
