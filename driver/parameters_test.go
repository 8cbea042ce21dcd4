package driver_test

import (
	"fmt"
	"log/slog"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/driver"
)

// list is a YAML list as Distribution hands it over.
func list(v ...any) []any { return v }

// forms are the ways to write the value of each key, by what they mean, and
// values that are none.
var forms = map[string]struct {
	good []form
	bad  []any
}{
	"nodes": {
		good: []form{
			{list("a:1:2", "b:2:10"), func(p driver.Parameters) bool { return slices.Equal(p.Nodes, []string{"a:1:2", "b:2:10"}) }},
			{"a:1:2 b:2:10", func(p driver.Parameters) bool { return slices.Equal(p.Nodes, []string{"a:1:2", "b:2:10"}) }},
			{" a:1:2\n", func(p driver.Parameters) bool { return slices.Equal(p.Nodes, []string{"a:1:2"}) }},
			{"[a:1:2, b:2:10]", func(p driver.Parameters) bool { return slices.Equal(p.Nodes, []string{"a:1:2", "b:2:10"}) }},
			{list("::1:1025:10"), func(p driver.Parameters) bool { return slices.Equal(p.Nodes, []string{"::1:1025:10"}) }},
		},
		bad: []any{nil, "", list(), 1111111, list(1), list(""), "a", "a:1", "a:1:3", "a:0:2", "a:65536:2", "a:b:2", ":1:2", true, map[any]any{"a": 1025}},
	},
	"groups": {
		good: []form{
			{list(1, 2, 3), func(p driver.Parameters) bool { return slices.Equal(p.Groups, []uint32{1, 2, 3}) }},
			{"[1, 2,3]", func(p driver.Parameters) bool { return slices.Equal(p.Groups, []uint32{1, 2, 3}) }},
			{"1 2 3", func(p driver.Parameters) bool { return slices.Equal(p.Groups, []uint32{1, 2, 3}) }},
			{"3,1", func(p driver.Parameters) bool { return slices.Equal(p.Groups, []uint32{3, 1}) }},
			{list("7"), func(p driver.Parameters) bool { return slices.Equal(p.Groups, []uint32{7}) }},
			{5, func(p driver.Parameters) bool { return slices.Equal(p.Groups, []uint32{5}) }},
			{4294967295, func(p driver.Parameters) bool { return slices.Equal(p.Groups, []uint32{4294967295}) }},
		},
		bad: []any{nil, "", "[]", list(), 0, -1, 4294967296, list(1, 1), "one", 1.5, list(1, nil), map[any]any{}},
	},
	"namespace": {
		good: []form{{"OTHER", func(p driver.Parameters) bool { return p.Namespace == "OTHER" }}},
		bad:  []any{nil, "", 5, "a\x00b"},
	},
	"embedded": {
		good: []form{{"/data", func(p driver.Parameters) bool { return p.Embedded == "/data" }}},
		bad:  []any{nil, "", 5, true},
	},
	"sync": {
		good: []form{
			{"always", func(p driver.Parameters) bool { return p.Sync == "always" }},
			{"none", func(p driver.Parameters) bool { return p.Sync == "none" }},
		},
		bad: []any{nil, "", "allways", true},
	},
	"waittimeout":  durations(func(p driver.Parameters) time.Duration { return p.WaitTimeout }),
	"checktimeout": durations(func(p driver.Parameters) time.Duration { return p.CheckTimeout }),
	"trashgrace":   durations(func(p driver.Parameters) time.Duration { return p.TrashGrace }),
	"netthreadnum": numbers(func(p driver.Parameters) int { return p.NetThreads }, 65),
	"iothreadnum":  numbers(func(p driver.Parameters) int { return p.IOThreads }, 100_001),
	"nonblockingiothreadnum": numbers(func(p driver.Parameters) int { return p.NonblockingIOThreads },
		100_001),
	"maxthreads": numbers(func(p driver.Parameters) int { return p.MaxThreads }, 100_001),
	"chunksize": {
		good: []form{
			{65536, func(p driver.Parameters) bool { return p.ChunkSize == 64<<10 }},
			{"64KiB", func(p driver.Parameters) bool { return p.ChunkSize == 64<<10 }},
			{"8 MiB", func(p driver.Parameters) bool { return p.ChunkSize == 8<<20 }},
			{"16MiB", func(p driver.Parameters) bool { return p.ChunkSize == 16<<20 }},
		},
		bad: []any{nil, "", 0, 65535, "17MiB", "1GiB", "4MB", -4, 1.5, "9223372036854775807MiB"},
	},
	"verbosity": logLevels, "loglevel": logLevels,
	"logfile": {
		good: []form{{"/dev/stderr", func(p driver.Parameters) bool { return p.LogFile == "/dev/stderr" }}},
		bad:  []any{nil, "", 5},
	},
	"nodeflags": {
		good: []form{
			{list("mix_states", "no_csum"), func(p driver.Parameters) bool { return slices.Equal(p.NodeFlags, []string{"mix_states", "no_csum"}) }},
			{"mix_states no_csum", func(p driver.Parameters) bool { return slices.Equal(p.NodeFlags, []string{"mix_states", "no_csum"}) }},
			{list(), func(p driver.Parameters) bool { return len(p.NodeFlags) == 0 }},
		},
		bad: []any{list("mix_stats"), "join", 4, list(8)},
	},
}

type form struct {
	value any
	means func(driver.Parameters) bool
}

func durations(of func(driver.Parameters) time.Duration) (f struct {
	good []form
	bad  []any
}) {
	for _, v := range []any{60, "60", "60s", "1m", 60.0, " 60 "} {
		f.good = append(f.good, form{v, func(p driver.Parameters) bool { return of(p) == time.Minute }})
	}
	f.bad = []any{nil, "", 0, -1, "0s", "-5s", "soon", 1.5, true, 1 << 62, list(5)}
	return f
}

func numbers(of func(driver.Parameters) int, tooMuch int) (f struct {
	good []form
	bad  []any
}) {
	for _, v := range []any{2, "2", 2.0} {
		f.good = append(f.good, form{v, func(p driver.Parameters) bool { return of(p) == 2 }})
	}
	f.bad = []any{nil, "", 0, -1, 1.5, "two", tooMuch, true, list(2)}
	return f
}

var logLevels = func() (f struct {
	good []form
	bad  []any
}) {
	for v, want := range map[any]slog.Level{
		"data": slog.LevelError, "error": slog.LevelError, "warning": slog.LevelWarn, "info": slog.LevelInfo,
		"notice": slog.LevelInfo - 1, "debug": slog.LevelDebug, "DEBUG": slog.LevelDebug,
		0: slog.LevelError, 1: slog.LevelError, 2: slog.LevelInfo, 3: slog.LevelInfo - 1, 4: slog.LevelDebug, "4": slog.LevelDebug,
	} {
		f.good = append(f.good, form{v, func(p driver.Parameters) bool { return *p.LogLevel == want }})
	}
	f.bad = []any{nil, "", "blabla", 5, -1, 2.5, true, list(1)}
	return f
}()

// minimal is a configuration to which one key can be added.
func minimal(key string) map[string]any {
	switch key {
	case "nodes", "elliptics_nodes", "embedded":
		return map[string]any{}
	case "sync":
		return map[string]any{"embedded": "/data"}
	}
	return map[string]any{"nodes": "127.0.0.1:1025:2"}
}

func TestValues(t *testing.T) {
	require.ElementsMatch(t, driver.PublicKeys(), slices.Collect(maps.Keys(forms)), "every key has its forms here")
	for name, f := range forms {
		keys := []string{name}
		for old, n := range driver.OldNames {
			if n == name {
				keys = append(keys, old)
			}
		}
		for _, key := range keys {
			for _, good := range f.good {
				m := minimal(key)
				m[key] = good.value
				p, err := driver.ParseParameters(m)
				require.NoError(t, err, "%s: %#v", key, good.value)
				require.True(t, good.means(p), "%s: %#v is read as %+v", key, good.value, p)
			}
			for _, bad := range f.bad {
				m := minimal(key)
				m[key] = bad
				_, err := driver.ParseParameters(m)
				if key != name && driver.Unset(name, bad) {
					continue // meant the default
				}
				require.ErrorContains(t, err, "storage.elliptics."+key+":", "%s: %#v", key, bad)
				require.NotContains(t, err.Error(), "\n", "one line for each key")
			}
		}
	}
}

func TestOldDefaults(t *testing.T) {
	want, err := driver.ParseParameters(map[string]any{"nodes": "a:1:2"})
	require.NoError(t, err)
	m := map[string]any{"elliptics_nodes": "a:1:2"}
	for old := range driver.OldNames {
		if old != "elliptics_nodes" {
			m[old] = nil // an unset variable of the environment
		}
	}
	got, err := driver.ParseParameters(m)
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Equal(t, []uint32{1}, got.Groups)
	require.Equal(t, "DOCKER", got.Namespace)
}

func TestTypos(t *testing.T) {
	for _, name := range slices.Concat(driver.PublicKeys(), slices.Collect(maps.Keys(driver.OldNames))) {
		typo := name[:1] + "x" + name[1:]
		_, err := driver.ParseParameters(map[string]any{"nodes": "a:1:2", typo: 1})
		require.ErrorContains(t, err, "storage.elliptics."+typo+": unknown key; did you mean", name)
	}
	for typo, meant := range map[string]string{"node": "nodes", "group": "groups", "wait_timeout": "waittimeout", "Groups": "groups", "chunk-size": "chunksize"} {
		_, err := driver.ParseParameters(map[string]any{"nodes": "a:1:2", typo: 1})
		require.ErrorContains(t, err, "storage.elliptics."+typo+": unknown key; did you mean "+meant+"?")
	}
	_, err := driver.ParseParameters(map[string]any{"nodes": "a:1:2", "rootdirectory": "/", "grops": 1, "waittimeout": "x"})
	require.Len(t, strings.Split(err.Error(), "\n"), 3, "every mistake is named")
	require.ErrorContains(t, err, "rootdirectory: unknown key; known are checktimeout, chunksize,")
	_, err = driver.ParseParameters(map[string]any{"nodes": "a:1:2", "nodeflags": list("mix_stats")})
	require.ErrorContains(t, err, "storage.elliptics.nodeflags: unknown flag mix_stats; did you mean mix_states?")
	_, err = driver.ParseParameters(map[string]any{"nodes": "a:1:2", "elliptics_node_flags": list("join")})
	require.ErrorContains(t, err, "storage.elliptics.elliptics_node_flags: the flag join is for servers")
}

func TestBothNames(t *testing.T) {
	contradict := func(m map[string]any, a, b string) {
		t.Helper()
		_, err := driver.ParseParameters(m)
		require.ErrorContains(t, err, fmt.Sprintf("storage.elliptics.%s and storage.elliptics.%s contradict each other", a, b))
	}
	contradict(map[string]any{"nodes": "a:1:2", "elliptics_nodes": "b:1:2"}, "elliptics_nodes", "nodes")
	contradict(map[string]any{"nodes": "a:1:2", "groups": "1", "elliptics_groups": "[1, 2]"}, "elliptics_groups", "groups")
	contradict(map[string]any{"nodes": "a:1:2", "waittimeout": "5s", "elliptics_wait_timeout": 60}, "elliptics_wait_timeout", "waittimeout")
	contradict(map[string]any{"nodes": "a:1:2", "loglevel": "debug", "verbosity": 1}, "loglevel", "verbosity")
	contradict(map[string]any{"nodes": "a:1:2", "elliptics_loglevel": "debug", "elliptics_verbosity": "error"}, "elliptics_loglevel", "elliptics_verbosity")

	p, err := driver.ParseParameters(map[string]any{ // the same by two names is no contradiction
		"nodes": list("a:1:2", "b:1:2"), "elliptics_nodes": "a:1:2 b:1:2",
		"groups": list(1, 2), "elliptics_groups": "[1, 2]",
		"elliptics_wait_timeout": 60, "waittimeout": "1m",
		"elliptics_verbosity": 4, "elliptics_loglevel": "debug",
	})
	require.NoError(t, err)
	require.Equal(t, []uint32{1, 2}, p.Groups)
	require.Equal(t, time.Minute, p.WaitTimeout)
}

func TestWhatDoesNotGoTogether(t *testing.T) {
	for want, m := range map[string]map[string]any{
		"storage.elliptics.nodes: missing": {},
		"give one of them":                 {"nodes": "a:1:2", "embedded": "/data"},
		"storage.elliptics.sync is given without storage.elliptics.embedded": {"nodes": "a:1:2", "sync": "none"},
	} {
		_, err := driver.ParseParameters(m)
		require.ErrorContains(t, err, want)
	}
}

// The names without underscores are there for this.
func TestEnvironment(t *testing.T) {
	t.Setenv("REGISTRY_STORAGE_ELLIPTICS_NODES", "db1:1025:2 db2:1025:2")
	t.Setenv("REGISTRY_STORAGE_ELLIPTICS_GROUPS", "[1, 2,3]")
	t.Setenv("REGISTRY_STORAGE_ELLIPTICS_WAITTIMEOUT", "60")
	t.Setenv("REGISTRY_STORAGE_ELLIPTICS_IOTHREADNUM", "4")
	t.Setenv("REGISTRY_STORAGE_ELLIPTICS_NODEFLAGS", "mix_states")
	t.Setenv("REGISTRY_STORAGE_ELLIPTICS_LOGLEVEL", "debug")
	config, err := configuration.Parse(strings.NewReader("version: 0.1\nstorage:\n  elliptics:\n    nodes: [elsewhere:1:2]\n"))
	require.NoError(t, err)
	p, err := driver.ParseParameters(config.Storage.Parameters())
	require.NoError(t, err)
	require.Equal(t, []string{"db1:1025:2", "db2:1025:2"}, p.Nodes)
	require.Equal(t, []uint32{1, 2, 3}, p.Groups)
	require.Equal(t, time.Minute, p.WaitTimeout)
	require.Equal(t, 4, p.IOThreads)
	require.Equal(t, []string{"mix_states"}, p.NodeFlags)
	require.Equal(t, slog.LevelDebug, *p.LogLevel)
}

// The table in the documentation names every key and every old name.
func TestDocumentation(t *testing.T) {
	text, err := os.ReadFile("../docs/configuration.md")
	require.NoError(t, err)
	var keys, old []string
	for _, row := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\| (?:`(\\w+)`)? ?\\|").FindAllStringSubmatch(string(text), -1) {
		keys = append(keys, row[1])
		if row[2] != "" {
			require.Equal(t, row[1], driver.OldNames[row[2]], "the row of %s", row[1])
			old = append(old, row[2])
		}
	}
	require.ElementsMatch(t, driver.PublicKeys(), keys)
	require.ElementsMatch(t, slices.Collect(maps.Keys(driver.OldNames)), old)
}
