//go:build e2e

package e2e

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// chaosTime is how long faults go on, for the small size; E2E_CHAOS=10m is the
// full one. E2E_CHAOS_SEED repeats the plan of an earlier run.
const chaosTime = 25 * time.Second

// chaosBytes bounds what the clients push together, and chaosRate how much in a
// second: the file systems that are to be filled up are in memory.
const (
	chaosBytes = 1 << 30
	chaosRate  = 8 << 20
)

// Three nodes, one for each group, and two registries. Clients push, pull, tag
// and delete, while nodes are killed, frozen and filled up and registries are
// killed. Afterwards every acknowledged image pulls byte for byte, and what was
// deleted is gone: from both registries, and from each of the groups alone.
func TestChaos(t *testing.T) {
	duration, seed := chaosTime, rand.Uint64()
	if s := os.Getenv("E2E_CHAOS"); s != "" {
		var err error
		duration, err = time.ParseDuration(s)
		require.NoError(t, err, "E2E_CHAOS")
	}
	if s := os.Getenv("E2E_CHAOS_SEED"); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		require.NoError(t, err, "E2E_CHAOS_SEED")
	}
	t.Logf("E2E_CHAOS=%v E2E_CHAOS_SEED=%d", duration, seed)
	rate := min(chaosRate, chaosBytes/duration.Seconds())
	c := startChaos(t, int64(rate*duration.Seconds()))

	clients := make([]*chaosClient, 4)
	done := make(chan error, len(clients))
	for i := range clients {
		clients[i] = newChaosClient(i, seed, c.listen[:], rate/float64(len(clients)), &c.fault)
		go func() { done <- clients[i].run(c.stop) }()
	}
	var broken error
	plan := rand.New(rand.NewPCG(seed, 0))
	for end := time.Now().Add(duration); time.Now().Before(end) && broken == nil; {
		c.breakSomething(plan)
		select {
		case broken = <-done:
			done <- broken
		default:
		}
	}
	close(c.stop)
	total := make(tally)
	for range clients {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	for _, client := range clients {
		for what, n := range client.tally {
			total.count(what, n.ok, n.refused)
		}
	}
	t.Logf("faults: %v", c.faults)
	for _, what := range slices.Sorted(maps.Keys(total)) {
		t.Logf("%s: %v", what, total[what])
	}
	require.False(t, t.Failed(), "seed %d", seed)
	for _, what := range []string{"push", "pull", "tag", "delete"} {
		require.NotNil(t, total[what], what)
		require.NotZero(t, total[what].ok, "no %s went through: this has shown nothing", what)
	}

	c.requireRecovered()
	for _, client := range clients {
		require.NoError(t, client.verify(), "seed %d", seed)
	}
	c.mend()
	// Each group has all of it, by itself.
	for g := range c.nodes {
		alone := serve(t, "--config", c.config([]int{g}))
		for _, client := range clients {
			require.NoError(t, client.on(alone).verify(), "group %d alone, seed %d", g+1, seed)
		}
		alone.stop()
	}
}

// chaos is the cluster under attack.
type chaos struct {
	t      *testing.T
	stop   chan struct{} // the clients may end
	nodes  [3]*process
	dirs   [3]string // each a small file system of its own
	front  [2]*process
	listen [2]string
	file   string // the configuration of both registries
	faults map[string]int
	fault  atomic.Pointer[string] // the present one
}

// startChaos makes room for bytes, and little more.
func startChaos(t *testing.T, bytes int64) *chaos {
	c := &chaos{t: t, stop: make(chan struct{}), faults: make(map[string]int)}
	c.fault.Store(new(string))
	size := fmt.Sprintf("size=%dm", 400+bytes*3/2>>20)
	for i := range c.nodes {
		c.dirs[i] = t.TempDir()
		require.NoError(t, syscall.Mount("tmpfs", c.dirs[i], "tmpfs", 0, size), "this test needs to mount small file systems")
		t.Cleanup(func() { require.NoError(t, syscall.Unmount(c.dirs[i], syscall.MNT_DETACH)) })
		c.nodes[i] = c.runNode(i, "127.0.0.1:0")
	}
	c.file = c.config([]int{0, 1, 2})
	for i := range c.front {
		c.front[i] = serve(t, "--config", c.file)
		c.listen[i] = strings.Replace(c.front[i].addr, "localhost", "127.0.0.1", 1)
	}
	return c
}

func (c *chaos) runNode(i int, listen string) *process {
	return runNode(c.t, "--listen", listen, "--group", fmt.Sprint(i+1), "--data", filepath.Join(c.dirs[i], "data"))
}

// config is a configuration for some of the groups.
func (c *chaos) config(nodes []int) string {
	var remotes, groups []string
	for _, i := range nodes {
		remotes = append(remotes, c.nodes[i].addr)
		groups = append(groups, fmt.Sprint(i+1))
	}
	return writeConfig(c.t, fmt.Sprintf("nodes: [%s], groups: [%s], waittimeout: 2s, checktimeout: 1s", strings.Join(remotes, ", "), strings.Join(groups, ", ")))
}

// breakSomething does one thing that goes wrong, and makes it good again. The other
// nodes are well meanwhile, except in the last case: then nothing can be
// acknowledged for a while.
func (c *chaos) breakSomething(plan *rand.Rand) {
	i, j, pause := plan.IntN(len(c.nodes)), plan.IntN(len(c.front)), time.Duration(500+plan.IntN(3000))*time.Millisecond
	kind := []string{"node killed", "node frozen", "node full", "registry killed", "node and registry killed", "two nodes killed"}[plan.IntN(6)]
	c.faults[kind]++
	c.fault.Store(&kind)
	rest := time.Duration(plan.IntN(700)) * time.Millisecond
	switch kind {
	case "node killed":
		c.t.Logf("node %d is killed for %v", i+1, pause)
		c.kill(pause, i)
	case "node frozen":
		c.t.Logf("node %d is frozen for %v", i+1, pause)
		c.signal(i, syscall.SIGSTOP)
		time.Sleep(pause)
		c.signal(i, syscall.SIGCONT)
	case "node full":
		c.t.Logf("the disk of node %d is full for %v", i+1, pause)
		filler := filepath.Join(c.dirs[i], "filler")
		c.fill(filler)
		time.Sleep(pause)
		require.NoError(c.t, os.Remove(filler))
	case "registry killed":
		c.t.Logf("registry %d is killed for %v", j+1, pause)
		c.front[j].kill()
		time.Sleep(pause)
		c.serve(j)
	case "node and registry killed":
		c.t.Logf("node %d and registry %d are killed for %v", i+1, j+1, pause)
		c.front[j].kill()
		c.kill(pause, i)
		c.serve(j)
	case "two nodes killed":
		c.t.Logf("all nodes but %d are killed for %v", i+1, pause)
		c.kill(pause, (i+1)%3, (i+2)%3)
	}
	none := "no fault, or none any more"
	c.fault.Store(&none)
	time.Sleep(rest)
}

// kill kills nodes and starts them again.
func (c *chaos) kill(pause time.Duration, nodes ...int) {
	for _, i := range nodes {
		c.nodes[i].kill()
	}
	time.Sleep(pause)
	for _, i := range nodes {
		c.nodes[i] = c.runNode(i, strings.TrimSuffix(c.nodes[i].addr, ":2"))
	}
}

func (c *chaos) serve(j int) { c.front[j] = serve(c.t, "--config", c.file, "--listen", c.listen[j]) }

func (c *chaos) signal(i int, s syscall.Signal) {
	require.NoError(c.t, c.nodes[i].cmd.Process.Signal(s))
}

// fill takes all the space that is left.
func (c *chaos) fill(path string) {
	f, err := os.Create(path)
	require.NoError(c.t, err)
	defer f.Close()
	for chunk := int64(64 << 20); chunk > 0; {
		info, err := f.Stat()
		require.NoError(c.t, err)
		if err := syscall.Fallocate(int(f.Fd()), 0, info.Size(), chunk); err != nil {
			require.ErrorIs(c.t, err, syscall.ENOSPC)
			chunk /= 4
		}
		if chunk < 4096 {
			return
		}
	}
}

// requireRecovered waits until both registries serve again.
func (c *chaos) requireRecovered() {
	c.t.Helper()
	for _, p := range c.front {
		require.Eventually(c.t, func() bool {
			_, err := pushBlob(p, "recovered", content(1, 100_000))
			return err == nil
		}, 30*time.Second, 100*time.Millisecond, "a registry did not recover")
	}
}

// mend is what an operator does afterwards: beside the registries fsck finds
// nothing wrong, and scrub makes the groups equal; without them, fsck finds
// what was begun and never finished.
func (c *chaos) mend() {
	c.t.Helper()
	tool := func(args ...string) string {
		out := must(c.t, nil, "elliptics-registry", append(args, "--config", c.file)...)
		c.t.Logf("%v: %s", args, tail(strings.TrimSpace(out), 300))
		return out
	}
	require.Contains(c.t, tool("fsck", "--digests"), "nothing found")
	tool("scrub")
	for _, p := range c.front {
		p.stop()
	}
	tool("fsck", "--offline", "--repair")
	require.Contains(c.t, tool("fsck", "--offline", "--digests"), "nothing found")
	require.Contains(c.t, tool("scrub", "--dry-run"), "nothing found")
}
