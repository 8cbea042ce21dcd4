package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/driver/repair"
)

// The tools that look after a registry's data say what is wrong with what they
// were told, and leave nothing behind.
func TestToolsRefuseMistakes(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"fsck", "--data", dir, "--rate", "fast"}, `--rate "fast": a size is expected, as in 50MiB`},
		{[]string{"scrub", "--data", dir, "--parallel", "0"}, "--parallel 0: a number from 1 to 64 is expected"},
		{[]string{"fsck", "--data", dir, "--repair", "--dry-run"}, "exclude each other"},
		{[]string{"fsck", "--data", dir, "--grace", "1h"}, "at least 24h0m0s is needed"},
		{[]string{"garbage-collect", "--data", dir, "--grace", "1h"}, "at least 2h0m0s is needed"},
		{[]string{"scrub", "--data", filepath.Join(dir, "other")}, "no registry keeps its data there"},
		{[]string{"garbage-collect", "--data", filepath.Join(dir, "other")}, "no registry keeps its data there"},
	} {
		_, err := output(c.args...)
		require.ErrorContains(t, err, c.want, c.args)
	}
	require.NoDirExists(t, filepath.Join(dir, "other"))
}

func TestToolsOnAnEmptyRegistry(t *testing.T) {
	dir := t.TempDir()
	report := filepath.Join(t.TempDir(), "report.json")
	for _, tool := range []string{"fsck", "scrub"} {
		out, err := output(tool, "--data", dir, "--json", report)
		require.NoError(t, err)
		require.Contains(t, out, "nothing found")
		b, err := os.ReadFile(report)
		require.NoError(t, err)
		var r repair.Report
		require.NoError(t, json.Unmarshal(b, &r))
		require.Equal(t, tool, r.Command)
		require.True(t, r.Complete)
	}
	out, err := output("garbage-collect", "--data", dir)
	require.NoError(t, err)
	require.Contains(t, out, "removed 0 manifests, 0 blobs")
}
