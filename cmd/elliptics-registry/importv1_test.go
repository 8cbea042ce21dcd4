package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/v1/publish"
)

// A flag that is wrong is refused by its name, before anything is opened.
func TestImportV1RefusesBadFlags(t *testing.T) {
	for flag, want := range map[string]string{
		"--format=v2":        `--format: bad value "v2"; expected docker or oci`,
		"--library=none":     `--library: bad value "none"; expected short, full or both`,
		"--jobs=0":           "--jobs: bad value 0; expected a number from 1 to 64",
		"--rename=old":       `--rename: bad value "old"; expected OLD=NEW`,
		"--rate=fast":        `--rate: bad value "fast"; expected bytes in a second, as 50MiB`,
		"--rate=0":           `--rate: bad value "0"`,
		"team/app:not a tag": `"not a tag" is not a tag`,
	} {
		cmd := command()
		cmd.SetArgs([]string{"import-v1", "--data", "/nonexistent/data", flag})
		require.ErrorContains(t, cmd.Execute(), want, flag)
	}
}

func TestRates(t *testing.T) {
	for s, want := range map[string]int64{"": 0, "1000": 1000, "50MiB": 50 << 20, "50MiB/s": 50 << 20, "1 GiB": 1 << 30, "2MB": 2_000_000} {
		got, err := parseRate(s)
		require.NoError(t, err)
		require.Equal(t, want, got, s)
	}
}

func TestProgressLine(t *testing.T) {
	p := publish.Progress{Tags: 10, TagsDone: 3, Failed: 1, Bytes: 100 << 20, BytesDone: 25 << 20}
	require.Equal(t, "3 of 10 tags, 1 failed; 25 MiB of 100 MiB of layers, 5.0 MiB/s, about 15s left", progressLine(p, 5*time.Second))
	require.Equal(t, "0 of 10 tags", progressLine(publish.Progress{Tags: 10}, time.Second))
}
