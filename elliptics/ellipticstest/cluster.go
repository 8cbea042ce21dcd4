// Package ellipticstest runs clusters of embedded nodes for tests of clients:
// on real loopback ports, with data in a temporary directory, and with faults
// on demand for each kind of request.
//
//	c := ellipticstest.Start(t, 1, 2, 3) // a node for each of three groups
//	client := elliptics.NewNode(elliptics.Config{Remotes: c.Remotes()})
//	c.Stop(0)                            // node 0 goes away
//	c.Fail(1, wire.CmdWrite, 1, node.Fault{DropAnswer: true})
//	c.Restart(0)                         // back on the same port with the same data
//
// The nodes do not sync to the disk: they survive Stop and Restart, not a crash
// of the machine. They know nothing of each other, as the nodes of different
// groups need not.
package ellipticstest

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/elliptics-registry/elliptics-registry/elliptics/node"
	"github.com/elliptics-registry/elliptics-registry/elliptics/node/engine"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// Cluster is a set of nodes. Its methods may be used by several goroutines;
// they fail the test when something goes wrong.
type Cluster struct {
	t       testing.TB
	members []*member
}

// member is one node, running or stopped.
type member struct {
	dir    string
	groups []uint32
	log    *slog.Logger

	mu     sync.Mutex
	listen string // from the first start on with the port
	remote string
	node   *node.Node // nil: stopped

	troubles troubles
}

// Start runs one node for each group (one of group 1 if none is given) and
// stops all of them at the end of the test.
func Start(t testing.TB, groups ...uint32) *Cluster {
	t.Helper()
	if len(groups) == 0 {
		groups = []uint32{1}
	}
	perNode := make([][]uint32, len(groups))
	for i, g := range groups {
		perNode[i] = []uint32{g}
	}
	return StartNodes(t, perNode...)
}

// StartNodes runs one node for each list of groups.
func StartNodes(t testing.TB, groups ...[]uint32) *Cluster {
	t.Helper()
	c := &Cluster{t: t}
	dir := t.TempDir()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	for i, g := range groups {
		c.members = append(c.members, &member{
			dir:    filepath.Join(dir, fmt.Sprintf("node-%d", i)),
			groups: g,
			listen: "127.0.0.1:0",
			log:    log.With("node", i),
		})
	}
	t.Cleanup(func() {
		for i := range c.members {
			c.Stop(i)
		}
	})
	for i := range c.members {
		c.Restart(i)
	}
	return c
}

// Len is the number of nodes.
func (c *Cluster) Len() int { return len(c.members) }

// Remotes are the addresses of all nodes, running or not, as `host:port:family`.
func (c *Cluster) Remotes() []string {
	remotes := make([]string, len(c.members))
	for i := range c.members {
		remotes[i] = c.Remote(i)
	}
	return remotes
}

// Remote is the address of node i.
func (c *Cluster) Remote(i int) string {
	m := c.members[i]
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.remote
}

// Node is node i, nil while it is stopped.
func (c *Cluster) Node(i int) *node.Node {
	m := c.members[i]
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.node
}

// Stop cuts all connections to node i and closes it. A stopped node stays so.
func (c *Cluster) Stop(i int) {
	c.t.Helper()
	m := c.members[i]
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.node == nil {
		return
	}
	if err := m.node.Close(); err != nil {
		c.t.Errorf("ellipticstest: node %d: %v", i, err)
	}
	m.node = nil
}

// restartPatience is how long Restart waits for its port: a connection of
// somebody else may have got it meanwhile.
const restartPatience = 10 * time.Second

// Restart stops node i, if it runs, and starts it with the same data on the
// same port. Faults and counts stay as they are.
func (c *Cluster) Restart(i int) {
	c.t.Helper()
	c.Stop(i)
	m := c.members[i]
	m.mu.Lock()
	defer m.mu.Unlock()
	var err error
	for end := time.Now().Add(restartPatience); ; time.Sleep(10 * time.Millisecond) {
		m.node, err = node.OpenDir(m.dir, m.groups, node.Config{
			Listen:    m.listen,
			Sync:      engine.SyncNone,
			Logger:    m.log,
			Intercept: m.troubles.intercept,
		})
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(end) {
			c.t.Fatalf("ellipticstest: cannot start node %d: %v", i, err)
		}
	}
	addr := m.node.Addr()
	m.listen = net.JoinHostPort(addr.Addr().String(), fmt.Sprint(addr.Port()))
	m.remote = m.node.Remote()
}

// Fail spoils the next n requests of command cmd to node i (AnyCommand: of
// every command; n < 0: all of them). Of several failures for a request the
// oldest counts.
func (c *Cluster) Fail(i int, cmd wire.Command, n int, f node.Fault) *Failure {
	return c.FailIf(i, n, f, func(h wire.Header) bool { return cmd == AnyCommand || h.Command == cmd })
}

// FailIf is Fail for the requests that match accepts. It is called by the
// node's goroutines.
func (c *Cluster) FailIf(i, n int, f node.Fault, match func(wire.Header) bool) *Failure {
	return c.members[i].troubles.add(n, f, match)
}

// Requests is how many requests of command cmd (AnyCommand: of every command)
// node i has got since the cluster was started.
func (c *Cluster) Requests(i int, cmd wire.Command) int {
	return c.members[i].troubles.count(cmd)
}
