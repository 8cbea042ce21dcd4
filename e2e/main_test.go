//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// bin holds the programs that the tests build: the registry and its clients.
var bin string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "elliptics-registry-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	bin = dir
	builds := [][]string{
		{"build", "-o", dir + "/", "../cmd/elliptics-registry"},
		{"-C", "../tools", "build", "-o", dir + "/", "github.com/google/go-containerregistry/cmd/crane",
			"oras.land/oras/cmd/oras", "github.com/regclient/regclient/cmd/regctl",
			"github.com/opencontainers/distribution-spec/conformance"},
	}
	for _, args := range builds {
		if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go %v: %v\n%s", args, err, out)
			return 1
		}
	}
	return m.Run()
}

// program is the path of one of our programs, or of one on the PATH.
func program(t testing.TB, name string) string {
	t.Helper()
	own := filepath.Join(bin, name)
	if _, err := os.Stat(own); err == nil {
		return own
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is needed: %v", name, err)
	}
	return path
}

// commandPatience bounds every client.
const commandPatience = 3 * time.Minute

// command runs a program to its end, in an environment of its own.
func command(t testing.TB, env []string, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program(t, name), args...)
	cmd.Env = append(os.Environ(), env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("%s %v: %w\n%s", name, args, err, out.String())
	}
	return out.String(), err
}

func must(t testing.TB, env []string, name string, args ...string) string {
	t.Helper()
	out, err := command(t, env, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
