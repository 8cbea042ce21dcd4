//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// process is a running elliptics-registry.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	addr string // host:port of a registry, host:port:family of a node
	done chan error

	mu  sync.Mutex
	out bytes.Buffer
}

const startPatience = 30 * time.Second

var (
	registryLine = regexp.MustCompile(`push to +(\S+),`)
	nodeLine     = regexp.MustCompile(`elliptics node of groups \S+ at (\S+),`)
)

// serve starts a registry on a free port, unless args say where.
func serve(t *testing.T, args ...string) *process {
	t.Helper()
	if !strings.Contains(strings.Join(args, " "), "--listen") {
		args = append(args, "--listen", "127.0.0.1:0")
	}
	return start(t, registryLine, append([]string{"serve"}, args...)...)
}

// runNode starts a node alone.
func runNode(t *testing.T, args ...string) *process {
	t.Helper()
	return start(t, nodeLine, append([]string{"node"}, args...)...)
}

func start(t *testing.T, ready *regexp.Regexp, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(program(t, "elliptics-registry"), args...), done: make(chan error, 1)}
	r, w, err := os.Pipe()
	require.NoError(t, err)
	p.cmd.Stdout, p.cmd.Stderr = w, w
	require.NoError(t, p.cmd.Start())
	w.Close()
	found := make(chan string, 1)
	go func() {
		defer r.Close()
		lines := bufio.NewReader(r)
		for {
			line, err := lines.ReadString('\n')
			p.mu.Lock()
			p.out.WriteString(line)
			p.mu.Unlock()
			if m := ready.FindStringSubmatch(line); m != nil {
				found <- m[1]
			}
			if err != nil {
				break
			}
		}
		p.done <- p.cmd.Wait()
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%v:\n%s", args, tail(p.output(), 8000))
		}
	})
	select {
	case p.addr = <-found:
	case err := <-p.done:
		p.done <- err
		t.Fatalf("%v ended: %v\n%s", args, err, p.output())
	case <-time.After(startPatience):
		t.Fatalf("%v did not start in %v:\n%s", args, startPatience, p.output())
	}
	return p
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// requireLog waits for a text in the log, which may come after the answer.
func requireLog(t *testing.T, p *process, text string) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(p.output(), text) }, startPatience, 10*time.Millisecond, "%q in the log", text)
}

// kill ends the process without a chance to put things in order.
func (p *process) kill() {
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	err := <-p.done
	p.done <- err
}

// stop ends the process in order; it must succeed.
func (p *process) stop() {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case err := <-p.done:
		p.done <- err
		require.NoError(p.t, err, "%s", p.output())
	case <-time.After(startPatience):
		p.t.Fatalf("SIGTERM did not end the process in %v:\n%s", startPatience, p.output())
	}
}

// peakMemory is the largest resident size that the process has had, in bytes.
func (p *process) peakMemory() int64 {
	p.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	require.NoError(p.t, err)
	for line := range strings.Lines(string(b)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	p.t.Fatal("no VmHWM in /proc")
	return 0
}

func (p *process) url(path string) string { return "http://" + p.addr + path }

// drain reads the rest of a body and closes it.
func drain(r io.ReadCloser) {
	_, _ = io.Copy(io.Discard, r)
	r.Close()
}
