//go:build e2e

package e2e

import (
	"archive/tar"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// startDocker runs an engine of its own, which touches nothing of another one,
// and answers the environment for its client.
func startDocker(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	log, err := os.Create(in("log"))
	require.NoError(t, err)
	defer log.Close()
	cmd := exec.Command(program(t, "dockerd"),
		"--data-root", in("data"), "--exec-root", in("exec"), "--pidfile", in("pid"), "-H", "unix://"+in("sock"),
		"--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs")
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
			// The engine had no time to end its containerd.
			if b, err := os.ReadFile(in("exec/containerd/containerd.pid")); err == nil {
				if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
					_ = syscall.Kill(pid, syscall.SIGKILL)
				}
			}
		}
	})
	env := []string{"DOCKER_HOST=unix://" + in("sock"), "DOCKER_CONFIG=" + in("client")}
	for end := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		if _, err := command(t, env, "docker", "version"); err == nil {
			return env
		}
		select {
		case err := <-ended:
			ended <- err
		default:
			if time.Now().Before(end) {
				continue
			}
		}
		b, _ := os.ReadFile(in("log"))
		t.Fatalf("dockerd does not run here:\n%s", tail(string(b), 4000))
	}
}

// helloText is what the test image prints.
const helloText = "hello from elliptics-registry"

// helloProgram is a program that prints it, and needs nothing else to run.
func helloProgram(t *testing.T) []byte {
	t.Helper()
	dir := t.TempDir()
	source, program := filepath.Join(dir, "main.go"), filepath.Join(dir, "hello")
	require.NoError(t, os.WriteFile(source, []byte("package main\n\nfunc main() { println(\""+helloText+"\") }\n"), 0o644))
	must(t, []string{"CGO_ENABLED=0"}, "go", "build", "-o", program, source)
	b, err := os.ReadFile(program)
	require.NoError(t, err)
	return b
}

// helloImage makes an image in the engine: a program and some layers' worth of
// data. It cannot be built on another image, since none can be had here.
func helloImage(t *testing.T, env []string, name string, size int64) {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root.tar")
	f, err := os.Create(root)
	require.NoError(t, err)
	w := tar.NewWriter(f)
	b := helloProgram(t)
	require.NoError(t, w.WriteHeader(&tar.Header{Name: "hello", Mode: 0o755, Size: int64(len(b))}))
	_, err = w.Write(b)
	require.NoError(t, err)
	require.NoError(t, w.WriteHeader(&tar.Header{Name: "data", Mode: 0o644, Size: size}))
	_, err = io.Copy(w, content(7, size))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.NoError(t, f.Close())
	must(t, env, "docker", "import", "-c", `CMD ["/hello"]`, root, name)
}

// What a newcomer does: serve without a word of configuration, docker push,
// docker pull, docker run.
func TestDocker(t *testing.T) {
	env := startDocker(t)
	data := filepath.Join(t.TempDir(), "registry-data")
	p := serve(t, "--data", data)
	image := p.addr + "/hello:1"
	helloImage(t, env, image, 40<<20)

	id := must(t, env, "docker", "image", "inspect", "-f", "{{.Id}}", image)
	must(t, env, "docker", "push", image)
	must(t, env, "docker", "rmi", image)
	must(t, env, "docker", "pull", image)
	require.Equal(t, id, must(t, env, "docker", "image", "inspect", "-f", "{{.Id}}", image))
	require.Contains(t, must(t, env, "docker", "run", "--rm", "--network=none", image), helloText)

	// The same after a restart: the images are in the directory.
	p.stop()
	must(t, env, "docker", "rmi", image)
	serve(t, "--data", data, "--listen", strings.Replace(p.addr, "localhost", "127.0.0.1", 1))
	must(t, env, "docker", "pull", image)
	require.Equal(t, id, must(t, env, "docker", "image", "inspect", "-f", "{{.Id}}", image))
}
