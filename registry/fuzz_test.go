package registry

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whatever a configuration file holds, it is taken or refused, in lines that
// each say something; and what an old one is converted to is taken.
func FuzzConfiguration(f *testing.F) {
	old, err := filepath.Glob("testdata/old/*.yml")
	require.NoError(f, err)
	for _, name := range old {
		text, err := os.ReadFile(name)
		require.NoError(f, err)
		f.Add(text, "prod")
	}
	f.Add([]byte("version: 0.1\nstorage: {elliptics: {nodes: [a:1:2], groups: '1 2', chunksize: 1MiB}, maintenance: {uploadpurging: {age: 1h}}}\n"), "")
	f.Add([]byte("version: 0.1\nstorage: {elliptics: {embedded: /x}}\nauth: {token: {realm: a}}\nhealth: {http: [{uri: x}]}\n"), "")
	f.Add([]byte("dev: {storage: elliptics, elliptics_nodes: {a: 1}, include: [dev, *x]}\n"), "dev")
	f.Add([]byte("a: &a [*a]\n<<: {b: 1}\n"), "")
	f.Fuzz(func(t *testing.T, text []byte, flavor string) {
		if strings.ContainsRune(flavor, 0) {
			return // cannot be in an environment
		}
		t.Setenv(flavorVariable, flavor)
		isOld := IsOld(text)
		if isOld {
			c, err := ConvertOld(text)
			if err != nil {
				requireLines(t, err)
				return
			}
			require.False(t, IsOld(c.Text), "%s", c.Text)
			text = c.Text
		}
		_, err := parse(text)
		if err != nil {
			requireLines(t, err)
			require.False(t, isOld, "the converted file is refused: %v\n%s", err, text)
		}
	})
}

func requireLines(t *testing.T, err error) {
	for line := range strings.Lines(err.Error()) {
		require.NotEmpty(t, strings.TrimSpace(line), "in %q", err.Error())
	}
}
