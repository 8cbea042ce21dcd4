package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// output runs the program.
func output(args ...string) (string, error) {
	var out bytes.Buffer
	cmd := command()
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	err := cmd.Execute()
	return out.String(), err
}

func TestConvertAndCheck(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	t.Setenv("SETTINGS_FLAVOR", "prod")
	old := write("old.yml", "prod: {storage: elliptics, elliptics_nodes: 'db1:1025:2 db2:1025:2', elliptics_groups: '[1, 2]', bugsnag: x}\n")
	out, err := output("check-config", old)
	require.NoError(t, err)
	const ok = ": ok: listens on 0.0.0.0:5000; nodes db1:1025:2 db2:1025:2, groups [1 2], namespace DOCKER\n"
	require.Equal(t, old+ok+old+": ignored: bugsnag: watch the log instead\n", out)

	out, err = output("convert-config", old)
	require.NoError(t, err)
	converted := write("new.yml", out)
	out, err = output("check-config", converted)
	require.NoError(t, err)
	require.Equal(t, converted+ok, out)

	_, err = output("convert-config", converted)
	require.ErrorContains(t, err, converted+" is no configuration file of docker-registry")
	_, err = output("convert-config", write("typo.yml", "prod: {storage: elliptics, elliptics_node: a, elliptics_nodes: a:1:2, elliptics_grups: 1}\n"))
	require.ErrorContains(t, err, "typo.yml: elliptics_grups: unknown key; did you mean elliptics_groups?\n")
	require.ErrorContains(t, err, "typo.yml: elliptics_node: unknown key; did you mean elliptics_nodes?")
	_, err = output("check-config", write("empty.yml", ""))
	require.ErrorContains(t, err, "the file is empty")
	_, err = output("convert-config", filepath.Join(dir, "none.yml"))
	require.ErrorIs(t, err, os.ErrNotExist)
}
