// Package architecture holds no code: its test keeps the direction of the
// imports that docs/design.md describes.
package architecture

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/elliptics-registry/elliptics-registry/"

// rooms says which other rooms of this module a room may know. A folder belongs
// to the room with the longest name that it begins with.
var rooms = map[string][]string{
	"cmd":                     {"registry", "v1", "v1/publish", "driver", "driver/gc", "driver/repair", "driver/layout", "elliptics", "elliptics/wire", "elliptics/node", "elliptics/node/engine", "internal"},
	"benchmarks":              {"registry", "driver", "internal"},
	"registry":                {"driver", "driver/layout", "elliptics", "elliptics/wire", "elliptics/node", "elliptics/node/engine", "internal"},
	"v1":                      {"elliptics", "elliptics/wire"},
	"v1/publish":              {"v1"},
	"v1/v1test":               {"v1"},
	"driver":                  {"driver/layout", "elliptics", "elliptics/wire", "internal"},
	"driver/gc":               {"driver"},
	"driver/repair":           {"driver", "driver/layout"},
	"driver/layout":           {"elliptics/wire"},
	"elliptics":               {"elliptics/wire"},
	"elliptics/wire":          {},
	"elliptics/node":          {"elliptics/node/engine", "elliptics/wire"},
	"elliptics/node/engine":   {},
	"elliptics/ellipticstest": {"elliptics/node", "elliptics/node/engine", "elliptics/wire"},
	"internal":                {},
	"e2e":                     {},
}

// strangers are imports that would be a mistake whatever they are used for.
var strangers = map[string]struct {
	paths []string
	why   string
}{
	"driver/layout":         {[]string{"github.com/distribution/", "net"}, "it knows a Store, neither a registry nor a network"},
	"v1":                    {[]string{"github.com/distribution/"}, "it is the old registry's storage"},
	"elliptics":             {[]string{"github.com/distribution/"}, "it is a client for everybody"},
	"elliptics/wire":        {[]string{"net", "os", "sync", "github.com/"}, "it does no I/O and keeps no state"},
	"elliptics/node":        {[]string{"github.com/distribution/"}, "it is a server for everybody"},
	"elliptics/node/engine": {[]string{"github.com/distribution/", "net"}, "it knows files only"},
}

func room(dir string) string {
	for ; dir != "."; dir = filepath.Dir(dir) {
		if _, ok := rooms[dir]; ok {
			return dir
		}
	}
	return ""
}

func TestImportsGoOneWay(t *testing.T) {
	checked := 0
	require.NoError(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch name := d.Name(); {
		case err != nil:
			return err
		case d.IsDir() && path != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "tools"):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		at := room(filepath.Dir(path))
		if at == "" {
			t.Errorf("%s belongs to no room: say in this test, and in docs/design.md, what it may know", path)
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, i := range f.Imports {
			name, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			checked++
			if inside, ours := strings.CutPrefix(name, module); ours {
				if to := room(inside); to != at && !slices.Contains(rooms[at], to) {
					t.Errorf("%s imports %s: %s may know %v only", path, inside, at, rooms[at])
				}
			}
			for _, bad := range strangers[at].paths {
				if name == bad || strings.HasSuffix(bad, "/") && strings.HasPrefix(name, bad) {
					t.Errorf("%s imports %s: %s", path, name, strangers[at].why)
				}
			}
		}
		return nil
	}))
	require.Greater(t, checked, 100, "imports were found")
}
