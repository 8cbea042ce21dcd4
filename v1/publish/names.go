package publish

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/distribution/reference"

	"github.com/elliptics-registry/elliptics-registry/v1"
)

// LibraryNames says what becomes of repositories in the namespace library. The
// old registry gave `host/ubuntu` and `host/library/ubuntu` the same images;
// today these are two repositories.
type LibraryNames string

// The choices.
const (
	LibraryBoth  LibraryNames = "both"  // ubuntu and library/ubuntu
	LibraryShort LibraryNames = "short" // ubuntu
	LibraryFull  LibraryNames = "full"  // library/ubuntu
)

// names are the repositories of the target that get the images of r.
func (o *Options) names(r v1.Repository) []string {
	if name, ok := o.Rename[r.String()]; ok {
		return []string{name}
	}
	if r.Namespace != v1.Library || o.Library == LibraryFull {
		return []string{r.String()}
	}
	if o.Library == LibraryShort {
		return []string{r.Name}
	}
	return []string{r.Name, r.String()}
}

// checkName tells why a name cannot be one of today's repositories.
func checkName(name string) error {
	if _, err := reference.WithName(name); err != nil {
		return fmt.Errorf("%q cannot be the name of a repository today (lower case, digits, and . _ - between them): give another one with --rename", name)
	}
	return nil
}

var tagPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)

// Selection is what to import: a repository, or one tag of it.
type Selection struct {
	Repository v1.Repository
	Tag        string // "": all of them
}

// ParseSelection reads NAME[:TAG] or NAMESPACE/NAME[:TAG].
func ParseSelection(s string) (Selection, error) {
	name, tag := s, ""
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.Contains(s[i:], "/") {
		name, tag = s[:i], s[i+1:]
		if !tagPattern.MatchString(tag) {
			return Selection{}, fmt.Errorf("%q: %q is not a tag", s, tag)
		}
	}
	r, err := v1.ParseRepository(name)
	return Selection{r, tag}, err
}
