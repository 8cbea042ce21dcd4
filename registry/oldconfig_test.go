package registry_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/driver"
	"github.com/elliptics-registry/elliptics-registry/elliptics/ellipticstest"
	"github.com/elliptics-registry/elliptics-registry/registry"
)

// environment sets variables, and sees to it that no others are set.
func environment(t *testing.T, env ...string) {
	t.Helper()
	for _, unset := range []string{"SETTINGS_FLAVOR", "LOGLEVEL", "ELLIPTICS_NODES", "ELLIPTICS_GROUPS", "REGISTRY_HOST", "REGISTRY_PORT"} {
		t.Setenv(unset, "")
		require.NoError(t, os.Unsetenv(unset))
	}
	for i := 0; i < len(env); i += 2 {
		t.Setenv(env[i], env[i+1])
	}
}

func file(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "config.yml")
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	return name
}

func TestOldConfigurations(t *testing.T) {
	debug, errors := slog.LevelDebug, slog.LevelError
	for name, c := range map[string]struct {
		file    string
		env     []string
		want    driver.Parameters // without defaults
		level   string
		address string
		secret  string
		ignored []string // keys
	}{
		"merged flavors": {
			file: "flavors.yml", env: []string{"SETTINGS_FLAVOR", "prod"},
			want: driver.Parameters{
				Nodes: []string{"db1.example.org:1025:2", "db2.example.org:1025:10"}, Groups: []uint32{1, 2, 3},
				WaitTimeout: time.Minute, CheckTimeout: time.Minute, IOThreads: 2, NetThreads: 2, NonblockingIOThreads: 2,
				LogLevel: &debug, LogFile: "/dev/stderr",
			},
			level: "warn", address: "0.0.0.0:5000",
			ignored: []string{"bugsnag", "cache_lru"},
		},
		"values of the environment": {
			file: "flavors.yml", env: []string{
				"SETTINGS_FLAVOR", "elliptics", "ELLIPTICS_NODES", "db3:1025 db4:1025:10", "ELLIPTICS_GROUPS", "[7]",
				"ELLIPTICS_WAIT_TIMEOUT", "5", "ELLIPTICS_VERBOSITY", "error", "ELLIPTICS_LOGFILE", "", "LOGLEVEL", "debug",
				"ELLIPTICS_IO_THREAD_NUM", "9", "REGISTRY_HOST", "127.0.0.1", "REGISTRY_PORT", "5001", "DEBUG", "true",
				"STANDALONE", "false", "MIRROR_SOURCE", "https://mirror", "BUGSNAG", "", "SEARCH_BACKEND", "sqlalchemy",
			},
			want: driver.Parameters{
				Nodes: []string{"db3:1025:2", "db4:1025:10"}, Groups: []uint32{7},
				WaitTimeout: 5 * time.Second, CheckTimeout: time.Minute, IOThreads: 9, NetThreads: 2, NonblockingIOThreads: 2,
				LogLevel: &errors,
			},
			level: "debug", address: "127.0.0.1:5001",
			ignored: []string{"cache_lru", "debug", "index_endpoint", "mirroring", "search_backend", "sqlalchemy_index_database", "standalone"},
		},
		"no flavors": {
			file: "flat.yml",
			want: driver.Parameters{
				Nodes: []string{"db1:1025:2", "db2:1025:2"}, Groups: []uint32{1, 2}, Namespace: "IMAGES",
				WaitTimeout: 30 * time.Second, LogLevel: &errors, LogFile: "dev/stderr", NodeFlags: []string{"mix_states", "no_csum"},
			},
			level: "error", address: "0.0.0.0:5000", secret: "a secret of all: registries #1",
			ignored: []string{"standalone", "storage_path"},
		},
		"includes": {
			file:  "includes.yml",
			want:  driver.Parameters{Nodes: []string{"db1:1025:2"}, Groups: []uint32{9}, WaitTimeout: 15 * time.Second},
			level: "error", address: "0.0.0.0:5000",
		},
		"included by name": {
			file: "includes.yml", env: []string{"SETTINGS_FLAVOR", "staging"},
			want:  driver.Parameters{Nodes: []string{"db1:1025:2"}, Groups: []uint32{9}, WaitTimeout: 15 * time.Second, Namespace: "STAGING"},
			level: "error", address: "0.0.0.0:5000",
		},
	} {
		t.Run(name, func(t *testing.T) {
			environment(t, c.env...)
			path := filepath.Join("testdata", "old", c.file)
			old, err := registry.Load(path)
			require.NoError(t, err)
			if c.want.Namespace == "" {
				c.want.Namespace = "DOCKER"
			}
			for _, d := range []struct{ field, def *int }{{&c.want.IOThreads, new(64)}, {&c.want.NonblockingIOThreads, new(256)}, {&c.want.MaxThreads, new(100)}} {
				if *d.field == 0 {
					*d.field = *d.def
				}
			}
			require.Equal(t, c.want, old.Storage)
			require.EqualValues(t, c.level, old.Config.Log.Level)
			require.Equal(t, c.address, old.Config.HTTP.Addr)
			require.Equal(t, c.secret, old.Config.HTTP.Secret)
			require.Equal(t, true, old.Config.Storage["delete"]["enabled"])
			var keys []string
			for _, i := range old.Ignored {
				key, why, _ := strings.Cut(i, ": ")
				keys = append(keys, key)
				require.NotEmpty(t, why)
			}
			require.Equal(t, c.ignored, keys)

			// What convert-config prints means the same, without the old
			// environment.
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			converted, err := registry.ConvertOld(text)
			require.NoError(t, err)
			require.False(t, registry.IsOld(converted.Text))
			require.NotContains(t, string(converted.Text), "not-to-be-seen")
			environment(t)
			again, err := registry.Load(file(t, string(converted.Text)))
			require.NoError(t, err, string(converted.Text))
			require.Equal(t, old.Config, again.Config)
			require.Equal(t, old.Storage, again.Storage)
			require.Empty(t, again.Ignored)
			for _, key := range keys {
				require.Contains(t, string(converted.Text), "\n#   "+key+": ", "what was dropped is commented")
			}
		})
	}
}

func TestConvertedText(t *testing.T) {
	environment(t, "ELLIPTICS_NODES", "db1:1025:2", "SETTINGS_FLAVOR", "")
	c, err := registry.ConvertOld([]byte("storage: elliptics\nelliptics_nodes: _env:ELLIPTICS_NODES\nelliptics_groups: [1, 2]\nbugsnag: key\n"))
	require.NoError(t, err)
	require.Equal(t, `# Made from a configuration of docker-registry.
version: 0.1
log:
  level: info
http:
  addr: "0.0.0.0:5000"  # where the old registry listened
  # secret: a long random text, the same in all registries on the cluster
storage:
  elliptics:
    groups: [1,2]  # was elliptics_groups
    nodes: ["db1:1025:2"]  # was elliptics_nodes, from ELLIPTICS_NODES; now REGISTRY_STORAGE_ELLIPTICS_NODES overrides it
  delete:
    enabled: true  # as in the old registry
# Left out, because it means nothing to this registry:
#   bugsnag: watch the log instead
`, string(c.Text))

	// The environment of this registry counts in old files as well.
	t.Setenv("REGISTRY_STORAGE_ELLIPTICS_NODES", "db9:1025:2")
	s, err := registry.Load(file(t, "storage: elliptics\nelliptics_nodes: db1:1025:2\n"))
	require.NoError(t, err)
	require.Equal(t, []string{"db9:1025:2"}, s.Storage.Nodes)
}

func TestOldConfigurationsThatAreRefused(t *testing.T) {
	const old = "testdata/old/"
	endless := "dev: {storage: elliptics, include: [f0, f0]}\n"
	endless += "f60: {loglevel: info}\n"
	for i := range 60 { // each doubles the one before
		endless += fmt.Sprintf("f%d: {include: [f%d, f%d]}\n", i, i+1, i+1)
	}
	for name, c := range map[string]struct {
		path string
		env  []string
		want string
	}{
		"another storage": {old + "flavors.yml", nil,
			"storage: local in flavor dev: this registry keeps images in Elliptics and in nothing else; the flavor elliptics is on Elliptics: choose it with SETTINGS_FLAVOR=elliptics in the environment"},
		"another flavor's": {old + "flavors.yml", []string{"SETTINGS_FLAVOR", "s3"}, "storage: s3 in flavor s3"},
		"no such flavor":   {old + "flavors.yml", []string{"SETTINGS_FLAVOR", "production"}, "flavor production is not in the file; choose one with SETTINGS_FLAVOR in the environment: elliptics, prod, dev, local, s3"},
		"unset variable":   {old + "flavors.yml", []string{"SETTINGS_FLAVOR", "elliptics"}, "elliptics_nodes: ELLIPTICS_NODES is not set in the environment, and has no default"},
		"a typo":           {old + "before-merge-keys.yml", []string{"SETTINGS_FLAVOR", "prod"}, "elliptics_logfle: unknown key; did you mean elliptics_logfile?"},
		"a circle":         {old + "includes.yml", []string{"SETTINGS_FLAVOR", "circle"}, "flavor circle includes itself: circle, round, circle"},
		"bad values": {file(t, "storage: elliptics\nelliptics_nodes: db1:1025:2\nelliptics_wait_timeout: soon\nelliptics_groups: []\n"), nil,
			`elliptics_wait_timeout: bad value "soon"; expected a positive duration`},
		"no nodes":          {file(t, "storage: elliptics\nelliptics_groups: [1]\n"), nil, "elliptics_nodes: missing; expected a list of host:port:family"},
		"nodes of no type":  {file(t, "storage: elliptics\nelliptics_nodes: 1111111\n"), nil, `elliptics_nodes: bad value "1111111"; expected a list of host:port:family`},
		"numbers as nodes":  {file(t, "storage: elliptics\nelliptics_nodes: [5]\n"), nil, `elliptics_nodes: bad value "[5]"`},
		"a bad verbosity":   {file(t, "storage: elliptics\nelliptics_nodes: a:1:2\nelliptics_verbosity: blabla\n"), nil, `elliptics_verbosity: bad value "blabla"; expected data, error, warning, info, notice or debug`},
		"a bad flag":        {file(t, "storage: elliptics\nelliptics_nodes: a:1:2\nelliptics_node_flags: [mix_stats]\n"), nil, "elliptics_node_flags: unknown flag mix_stats; did you mean mix_states?"},
		"a bad family":      {file(t, "storage: elliptics\nelliptics_nodes: a:1\nelliptics_addr_family: 4\n"), nil, `elliptics_addr_family: bad value "4"`},
		"a contradiction":   {file(t, "storage: elliptics\nelliptics_nodes: a:1:2\nelliptics_verbosity: 1\nelliptics_loglevel: debug\n"), nil, "elliptics_loglevel and elliptics_verbosity contradict each other"},
		"a strange include": {file(t, "dev:\n  storage: elliptics\n  include: 5\n"), nil, `dev.include: bad value "5"; expected the name of a flavor`},
		"a lost include":    {file(t, "dev:\n  storage: elliptics\n  include: nowhere\nprod:\n  storage: elliptics\n"), nil, "flavor dev includes nowhere, which is not in the file"},
		"endless includes":  {file(t, endless), nil, "flavor dev includes more than 1000 others"},
		"a strange default": {file(t, "storage: elliptics\nelliptics_nodes: '_env:NODES:[a'\n"), nil, "elliptics_nodes: the value of NODES in the environment, or its default, is no YAML"},
		"no storage":        {file(t, "a:\n  storage: s3\ndev:\n  loglevel: info\n"), nil, "storage: missing in flavor dev; expected storage: elliptics"},
	} {
		t.Run(name, func(t *testing.T) {
			environment(t, c.env...)
			_, err := registry.Load(c.path)
			require.ErrorContains(t, err, c.path+": "+c.want)
			for line := range strings.Lines(err.Error()) {
				require.True(t, strings.HasPrefix(line, c.path+": "), line)
			}
		})
	}
	for _, storage := range []string{"file", "gcs", "swift", "glance", "azureblob", "oss", "dumb", "Elliptics"} {
		environment(t)
		_, err := registry.Load(file(t, "dev: {storage: "+storage+", elliptics_nodes: a:1:2}\n"))
		require.ErrorContains(t, err, "storage: "+storage+" in flavor dev: this registry keeps images in Elliptics")
	}
}

func TestOlderThanMergeKeys(t *testing.T) {
	text, err := os.ReadFile("testdata/old/before-merge-keys.yml")
	require.NoError(t, err)
	environment(t, "SETTINGS_FLAVOR", "prod")
	s, err := registry.Load(file(t, strings.ReplaceAll(string(text), "logfle", "logfile")))
	require.NoError(t, err)
	require.Equal(t, []string{"db1:1025:10", "db2:1026:10"}, s.Storage.Nodes)
	require.Equal(t, []uint32{4, 5, 6}, s.Storage.Groups)
	require.Equal(t, "/var/log/elliptics.log", s.Storage.LogFile)
	require.EqualValues(t, "debug", s.Config.Log.Level)
}

func TestNewFilesAreNotOld(t *testing.T) {
	for text, old := range map[string]bool{
		"version: 0.1\nstorage: {elliptics: {nodes: a:1:2}}\n": false,
		"version: 0.1\nstorage: elliptics\n":                   false,
		"storage: {elliptics: {nodes: a:1:2}}\n":               false,
		"":                                                     false,
		"[":                                                    false,
		"a list":                                               false,
		"storage: s3\n":                                        true,
		"dev: {storage: local}\n":                              true,
	} {
		require.Equal(t, old, registry.IsOld([]byte(text)), text)
	}
}

// A registry with an old file serves, and says once what it ignored.
func TestServeWithAnOldFile(t *testing.T) {
	c := ellipticstest.Start(t)
	environment(t)
	settings, err := registry.Load(file(t, "dev:\n  storage: elliptics\n  elliptics_nodes: "+strings.Join(c.Remotes(), " ")+
		"\n  loglevel: error\n  bugsnag: a-secret\n  cache: {host: redis}\n"))
	require.NoError(t, err)
	settings.Config.HTTP.Addr = "127.0.0.1:0"
	settings.Config.Log.Level = "warn"
	settings.Config.Log.AccessLog.Disabled = true
	var log syncBuffer
	logrus.SetOutput(&log)
	defer logrus.SetOutput(os.Stderr)
	address := run(t, settings).url
	resp, _ := request(t, "GET", address+"/v2/_catalog", nil)
	require.Equal(t, 200, resp.StatusCode)
	require.Equal(t, 1, strings.Count(log.String(), "ignored="), log.String())
	require.Contains(t, log.String(), "bugsnag: watch the log instead; cache: no cache is needed")
	require.NotContains(t, log.String(), "a-secret")
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
