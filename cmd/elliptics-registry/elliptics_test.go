package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics/ellipticstest"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// tool runs `elliptics` commands on a cluster.
type tool struct {
	t       *testing.T
	cluster *ellipticstest.Cluster
}

func startTool(t *testing.T, groups ...uint32) *tool {
	return &tool{t, ellipticstest.Start(t, groups...)}
}

// try runs a command and answers what it prints.
func (c *tool) try(stdin string, args ...string) (string, error) {
	var out bytes.Buffer
	cmd := command()
	args = append([]string{"elliptics"}, args...)
	for _, r := range c.cluster.Remotes() {
		args = append(args, "--remote", r)
	}
	cmd.SetArgs(append(args, "--timeout", "5s"))
	cmd.SetIn(strings.NewReader(stdin))
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	err := cmd.ExecuteContext(c.t.Context())
	return out.String(), err
}

// run is try for a command that must succeed.
func (c *tool) run(stdin string, args ...string) string {
	c.t.Helper()
	out, err := c.try(stdin, args...)
	require.NoError(c.t, err)
	return out
}

// documents are the JSON documents that a command prints.
func (c *tool) documents(args ...string) (docs []map[string]any) {
	c.t.Helper()
	d := json.NewDecoder(strings.NewReader(c.run("", append(args, "--json")...)))
	for d.More() {
		var doc map[string]any
		require.NoError(c.t, d.Decode(&doc))
		docs = append(docs, doc)
	}
	return docs
}

func TestEllipticsRecords(t *testing.T) {
	c := startTool(t, 1, 2)
	out := c.run("hello", "write", "greeting", "--user-flags", "7")
	require.Contains(t, out, "GROUP")
	require.Equal(t, 3, strings.Count(out, "\n"))
	require.Equal(t, "hello", c.run("", "read", "greeting"))
	require.Equal(t, "ell", c.run("", "read", "greeting", "--offset", "1", "--size", "3"))
	c.run(", world", "write", "greeting", "--append", "--group", "2")
	require.Equal(t, "hello, world", c.run("", "read", "greeting", "--latest"))
	require.Equal(t, "hello", c.run("", "read", "greeting"))
	doc := c.documents("read", "greeting", "--group", "1")[0]
	require.Equal(t, "aGVsbG8=", doc["data"])
	require.EqualValues(t, 7, doc["user_flags"])
	id := doc["id"].(string)
	require.Equal(t, wire.HashID("", "greeting").String(), id)
	require.Equal(t, "hello", c.run("", "read", id, "--id"))

	looked := c.documents("lookup", "greeting", "--checksum")
	require.Len(t, looked, 2)
	require.EqualValues(t, 5, looked[0]["size"])
	require.EqualValues(t, 12, looked[1]["size"])
	require.Len(t, looked[0]["checksum"], 128)
	require.Contains(t, c.run("", "lookup", "greeting"), "id "+id)

	_, err := c.try("", "read", "greeting", "--namespace", "other")
	require.ErrorContains(t, err, "no such record")
	c.run("", "write", "empty")
	require.Empty(t, c.run("", "read", "empty"))
	c.run("", "remove", "greeting", "empty")
	_, err = c.try("", "read", "greeting")
	require.ErrorContains(t, err, "no such record")
	_, err = c.try("", "remove", "greeting")
	require.ErrorContains(t, err, "no such record")
	c.run("once", "write", "single", "--group", "2")
	require.Contains(t, c.run("", "remove", "single", "--json"), wire.HashID("", "single").String())
	_, err = c.try("", "lookup", "single")
	require.ErrorContains(t, err, "no such record")
}

// A file of any size comes back as it was.
func TestEllipticsFile(t *testing.T) {
	c := startTool(t, 1)
	data := bytes.Repeat([]byte("0123456789abcdef"), 9<<16)
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, data, 0o600))
	c.run("", "write", "large", file)
	require.True(t, string(data) == c.run("", "read", "large"))
	require.True(t, string(data[5<<20:]) == c.run("", "read", "large", "--offset", "5242880"))
	require.True(t, string(data[1:5<<20+1]) == c.run("", "read", "large", "--offset", "1", "--size", "5242880"))
	_, err := c.try("", "write", "large", filepath.Dir(file))
	require.ErrorContains(t, err, "not a regular file")
}

func TestEllipticsCluster(t *testing.T) {
	c := startTool(t, 1, 2, 2)
	routes := c.documents("routes")
	require.Len(t, routes, 3)
	share := 0.0
	for _, r := range routes {
		require.Equal(t, "2.26.11.1", r["protocol"])
		share += r["share"].(float64)
	}
	require.InDelta(t, 2, share, 1e-9, "one for each group")
	require.Contains(t, c.run("", "routes"), c.cluster.Remote(0))
	owners := c.documents("routes", "some key")
	require.Len(t, owners, 2)
	require.Equal(t, c.cluster.Remote(0), owners[0]["remote"])

	backends := c.documents("backends")
	require.Len(t, backends, 3)
	require.Equal(t, "enabled", backends[0]["state"])
	number := strings.TrimSpace(strings.Fields(strings.Split(c.run("", "backends"), "\n")[1])[1])
	require.Contains(t, c.run("", "backends", "read-only", c.cluster.Remote(0), number), "enabled")
	_, err := c.try("data", "write", "k", "--group", "1")
	require.ErrorContains(t, err, "read-only")
	c.run("", "backends", "writable", c.cluster.Remote(0), number)
	c.run("data", "write", "k", "--group", "1")
	_, err = c.try("", "backends", "writable", c.cluster.Remote(0), number)
	require.ErrorContains(t, err, "already in that state")

	stats := c.documents("stat", "--category", "commands")
	require.Len(t, stats, 3)
	require.NotEmpty(t, stats[0]["statistics"])
	require.Contains(t, c.run("", "stat"), "\n  \"statistics\": {")

	c.cluster.Stop(0)
	out := c.run("", "routes")
	require.Contains(t, out, "refused")
	_, err = c.try("", "stat")
	require.ErrorContains(t, err, c.cluster.Remote(0)+" is not connected")
}

func TestEllipticsIterate(t *testing.T) {
	c := startTool(t, 1, 2)
	for _, name := range []string{"a", "b", "c"} {
		c.run("record "+name, "write", name)
	}
	all := c.documents("iterate", "--data")
	require.Len(t, all, 6)
	require.EqualValues(t, 1, all[0]["group"])
	require.EqualValues(t, 2, all[5]["group"])
	require.EqualValues(t, 8, all[0]["size"])
	require.NotEmpty(t, all[0]["data"])
	require.Len(t, c.documents("iterate", "--group", "2"), 3)
	require.Len(t, c.documents("iterate", "--limit", "4"), 4)
	require.Len(t, c.documents("iterate", "--range", "00-ff"), 6)
	first := all[0]["id"].(string)
	require.Len(t, c.documents("iterate", "--range", first+"-"+first), 2)
	require.Empty(t, c.documents("iterate", "--to", "2001-02-03T04:05:06Z"))
	require.Empty(t, c.documents("iterate", "--from", time.Now().Add(time.Hour).Format(time.RFC3339)))
	require.Len(t, c.documents("iterate", "--from", "1000"), 6)
	require.Contains(t, c.run("", "iterate"), first)
}

// Bad input is refused with what was expected.
func TestEllipticsUsage(t *testing.T) {
	c := startTool(t, 1)
	for want, args := range map[string][]string{
		"--group: bad value 0":                    {"lookup", "k", "--group", "0"},
		"--group: bad value 4294967296":           {"lookup", "k", "--group", "4294967296"},
		"--checker: bad value \"most\"":           {"lookup", "k", "--checker", "most"},
		"--timeout: bad value 0s":                 {"lookup", "k", "--timeout", "0s"},
		"has 1 hexadecimal digits, 128 expected":  {"lookup", "k", "--id"},
		"--from: bad value \"yesterday\"":         {"iterate", "--from", "yesterday"},
		"--range: bad value \"x\"":                {"iterate", "--range", "x"},
		"--range: bad value \"ff-00\"":            {"iterate", "--range", "ff-00"},
		"--data: needs --json":                    {"iterate", "--data"},
		"--category: bad value \"x\"":             {"stat", "--category", "x"},
		"BACKEND: bad value \"x\"":                {"backends", "enable", "127.0.0.1:1:2", "x"},
		"the node is not known":                   {"backends", "enable", "127.0.0.1:1:2", "1"},
		"the connected nodes have groups [1]":     {"read", "k", "--group", "7"},
		"remote \"nonsense\": no family":          {"routes", "--remote", "nonsense"},
		"accepts 1 arg(s), received 0":            {"read"},
		"open /nonexistent: no such file or dire": {"write", "k", "/nonexistent"},
	} {
		args := args
		if want == "--timeout: bad value 0s" { // try has its own
			_, err := output(append([]string{"elliptics"}, args...)...)
			require.ErrorContains(t, err, want)
			continue
		}
		_, err := c.try("", args...)
		require.ErrorContains(t, err, want)
	}
	c.cluster.Stop(0)
	_, err := c.try("", "routes")
	require.ErrorContains(t, err, "no node can be reached: "+c.cluster.Remote(0))
}
