package driver_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/driver"
	"github.com/elliptics-registry/elliptics-registry/driver/layout"
	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/elliptics/ellipticstest"
	"github.com/elliptics-registry/elliptics-registry/elliptics/node"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// effects show, for each key, that its value changes what the driver does.
var effects = map[string]func(*testing.T){
	"nodes":                  nodesAreReached,
	"groups":                 groupsHoldReplicas,
	"namespace":              namespacesAreApart,
	"embedded":               embeddedNeedsANode, // see the tests of package registry
	"sync":                   embeddedNeedsANode,
	"waittimeout":            waitEnds,
	"checktimeout":           checksAreMade,
	"netthreadnum":           connectionsAreMade,
	"iothreadnum":            contentWaitsForItsTurn,
	"nonblockingiothreadnum": recordsWaitForTheirTurn,
	"maxthreads":             operationsWaitForTheirTurn,
	"chunksize":              contentIsCut,
	"trashgrace":             trashIsKept,
	"verbosity":              levelsFilter,
	"loglevel":               levelsFilter,
	"logfile":                logGoesToItsFile,
	"nodeflags": func(t *testing.T) {
		t.Run("no_csum", noChecksum)
		t.Run("no_route_list", noRouteList)
		t.Run("randomize_states", randomizeStates)
		t.Run("mix_states", mixStates)
	},
}

func TestEffects(t *testing.T) {
	require.ElementsMatch(t, driver.PublicKeys(), slices.Collect(maps.Keys(effects)), "every key has an effect that is tested")
	for _, key := range driver.PublicKeys() {
		t.Run(key, effects[key])
	}
}

// client makes the client that parameters describe.
func client(t *testing.T, c *ellipticstest.Cluster, parameters map[string]any, change func(*elliptics.Config)) (*elliptics.Node, driver.Parameters) {
	t.Helper()
	m := map[string]any{"nodes": c.Remotes()}
	maps.Copy(m, parameters)
	p, err := driver.ParseParameters(m)
	require.NoError(t, err)
	config, err := p.ClientConfig()
	require.NoError(t, err)
	if change != nil {
		change(&config)
	}
	n, err := elliptics.NewNode(config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	require.Eventually(t, func() bool {
		for _, r := range n.Remotes() {
			if r.Connections == 0 {
				return false
			}
		}
		return true
	}, 20*time.Second, time.Millisecond)
	return n, p
}

func nodesAreReached(t *testing.T) {
	c := ellipticstest.Start(t, 1, 2)
	for _, nodes := range []any{c.Remotes(), strings.Join(c.Remotes(), " ")} {
		before := c.Requests(1, wire.CmdWrite)
		d := open(t, c, map[string]any{"nodes": nodes, "groups": "1 2"})
		put(t, d, "/f")
		require.Greater(t, c.Requests(1, wire.CmdWrite), before)
	}
}

func groupsHoldReplicas(t *testing.T) {
	c := ellipticstest.Start(t, 1, 2, 3)
	put(t, open(t, c, map[string]any{"groups": "[1, 3]"}), "/f")
	require.Positive(t, c.Requests(0, wire.CmdWrite))
	require.Zero(t, c.Requests(1, wire.CmdWrite))
	require.Positive(t, c.Requests(2, wire.CmdWrite))
}

func namespacesAreApart(t *testing.T) {
	c := ellipticstest.Start(t)
	byDefault, same, other := open(t, c, nil), open(t, c, map[string]any{"namespace": "DOCKER"}), open(t, c, map[string]any{"namespace": "OTHER"})
	put(t, byDefault, "/f")
	require.Equal(t, "/f", string(get(t, same, "/f")))
	_, err := other.Stat(context.Background(), "/f")
	require.Equal(t, missing("/f"), err)
}

func embeddedNeedsANode(t *testing.T) {
	p, err := driver.ParseParameters(map[string]any{"embedded": t.TempDir(), "sync": "none"})
	require.NoError(t, err)
	_, err = driver.New(context.Background(), p)
	require.ErrorContains(t, err, "storage.elliptics.embedded: this program has no embedded node")
}

func waitEnds(t *testing.T) {
	c := ellipticstest.Start(t)
	d := open(t, c, map[string]any{"waittimeout": "123ms"})
	_, stop := silence(c)
	defer stop()
	_, err := d.Stat(context.Background(), "/f")
	require.ErrorContains(t, err, "123ms")
}

func checksAreMade(t *testing.T) {
	c := ellipticstest.Start(t)
	open(t, c, map[string]any{"checktimeout": "5ms"})
	require.Eventually(t, func() bool { return c.Requests(0, wire.CmdRouteList) >= 10 }, 20*time.Second, time.Millisecond)
}

func connectionsAreMade(t *testing.T) {
	c := ellipticstest.Start(t)
	n, _ := client(t, c, map[string]any{"netthreadnum": 5}, nil)
	require.Eventually(t, func() bool { return n.Remotes()[0].Connections == 5 }, 20*time.Second, time.Millisecond)
}

const aChunk, aRecord = "chunk:00000000000000000000000000000000:0", "file:/f"

func contentWaitsForItsTurn(t *testing.T) { waitForTurns(t, "iothreadnum", aChunk, aRecord) }

func recordsWaitForTheirTurn(t *testing.T) {
	waitForTurns(t, "nonblockingiothreadnum", aRecord, aChunk)
}

// waitForTurns shows that a parameter bounds the requests for one kind of key,
// of reads and writes, for each group by itself, and leaves the others alone.
func waitForTurns(t *testing.T, key, limited, other string) {
	c := ellipticstest.Start(t, 1, 2)
	n, p := client(t, c, map[string]any{key: 3, "waittimeout": "1h", "groups": "1 2"}, nil)
	s := driver.NewClusterStore(n, p)
	frozen := c.FailIf(0, -1, node.Fault{Drop: true}, func(h wire.Header) bool {
		return h.Command == wire.CmdRead || h.Command == wire.CmdWrite || h.Command == wire.CmdDel
	})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	request := func(ctx context.Context, group uint32, i int, key string) error {
		switch i % 3 {
		case 0:
			_, err := s.Read(ctx, group, key, 0, 0)
			return err
		case 1:
			return s.Write(ctx, group, key, layout.Write{Data: [][]byte{{1}}})
		}
		return s.Remove(ctx, group, key)
	}
	for i := range 9 {
		wg.Go(func() { _ = request(ctx, 1, i, limited) })
	}
	require.Eventually(t, func() bool { return frozen.Hits() == 3 }, 10*time.Second, time.Millisecond)
	for i := range 9 { // neither the other group nor the other kind of key waits
		err := request(context.Background(), 2, 1, limited)
		require.NoError(t, err)
		wg.Go(func() { _ = request(ctx, 1, i, other) })
	}
	require.Eventually(t, func() bool { return frozen.Hits() == 3+9 }, 10*time.Second, time.Millisecond)
	hurry, stop := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer stop()
	require.ErrorIs(t, request(hurry, 1, 0, limited), context.DeadlineExceeded)
	require.Equal(t, 3+9, frozen.Hits(), "one did not wait for its turn")
}

func operationsWaitForTheirTurn(t *testing.T) {
	c := ellipticstest.Start(t)
	d := open(t, c, map[string]any{"maxthreads": 3, "waittimeout": "1h"})
	failure, stop := silence(c)
	defer stop()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for range 9 {
		wg.Go(func() { _, _ = d.GetContent(ctx, "/f") })
	}
	require.Eventually(t, func() bool { return failure.Hits() == 3 }, 10*time.Second, time.Millisecond)
	hurry, end := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer end()
	_, err := d.GetContent(hurry, "/f")
	require.ErrorContains(t, err, context.DeadlineExceeded.Error())
	require.Equal(t, 3, failure.Hits(), "one did not wait for its turn")
}

func contentIsCut(t *testing.T) {
	c := ellipticstest.Start(t)
	writes := func(size string) int {
		d := open(t, c, map[string]any{"chunksize": size})
		before := c.Requests(0, wire.CmdWrite)
		require.NoError(t, d.PutContent(context.Background(), "/f", random(1, 2<<20)))
		return c.Requests(0, wire.CmdWrite) - before
	}
	require.GreaterOrEqual(t, writes("64KiB"), 32)
	require.Less(t, writes("1MiB"), 16)
}

func trashIsKept(t *testing.T) {
	c := ellipticstest.Start(t)
	n, _ := client(t, c, nil, nil)
	ctx := context.Background()
	emptied := func(grace string, after time.Duration) int {
		p, err := driver.ParseParameters(map[string]any{"trashgrace": grace, "cluster": n})
		require.NoError(t, err)
		p.Now = func() time.Time { return time.Now().Add(after) }
		d, err := driver.New(ctx, p)
		require.NoError(t, err)
		defer d.Close()
		r, err := d.EmptyTrash(ctx)
		require.NoError(t, err)
		return r.Chunks
	}
	d := open(t, c, nil)
	require.NoError(t, d.PutContent(ctx, "/f", random(1, 200_000)))
	require.NoError(t, d.Delete(ctx, "/f"))
	require.Zero(t, emptied("1s", 0), "the hour is not over yet")
	require.Zero(t, emptied("5h", 5*time.Hour))
	require.Positive(t, emptied("3h", 5*time.Hour))
}

// clientLog is what the client writes about a node that is not there, and one
// that is.
func clientLog(t *testing.T, key, level string) string {
	c := ellipticstest.Start(t)
	file := filepath.Join(t.TempDir(), "client.log")
	lost := freePort(t)
	p, err := driver.ParseParameters(map[string]any{"nodes": c.Remote(0) + " " + lost, "logfile": file, key: level})
	require.NoError(t, err)
	config, err := p.ClientConfig()
	require.NoError(t, err)
	for name, l := range map[string]slog.Level{"error": slog.LevelError, "warning": slog.LevelWarn, "info": slog.LevelInfo, "notice": slog.LevelInfo - 1, "debug": slog.LevelDebug} {
		config.Logger.Log(context.Background(), l, "a message for "+name)
	}
	n, err := elliptics.NewNode(config)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		up, failed := false, false
		for _, r := range n.Remotes() {
			up = up || r.Connections > 0
			failed = failed || r.Err != nil
		}
		return up && failed
	}, 20*time.Second, time.Millisecond)
	require.NoError(t, n.Close())
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(b)
}

// freePort is the address of a node that is not there.
func freePort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String() + ":2"
}

func levelsFilter(t *testing.T) {
	names := []string{"error", "warning", "info", "notice", "debug"}
	for _, key := range []string{"loglevel", "verbosity"} {
		for i, level := range names {
			log := clientLog(t, key, level)
			for j, message := range names {
				require.Equal(t, j <= i, strings.Contains(log, "a message for "+message), "%s %s", level, message)
			}
			require.Equal(t, i >= 1, strings.Contains(log, "cannot reach"), level)
			require.Equal(t, i >= 4, strings.Contains(log, "connected to an elliptics node"), level)
		}
	}
}

func logGoesToItsFile(t *testing.T) {
	p, err := driver.ParseParameters(map[string]any{"nodes": "a:1:2", "logfile": t.TempDir() + "/no/such/dir/log"})
	require.NoError(t, err)
	_, err = driver.New(context.Background(), p)
	require.ErrorContains(t, err, "storage.elliptics.logfile: ")

	p.LogFile = filepath.Join(t.TempDir(), "log")
	config, err := p.ClientConfig()
	require.NoError(t, err)
	config.Logger.Warn("one")
	config.Logger.Info("too quiet for a log without a level")
	require.NoError(t, os.Rename(p.LogFile, p.LogFile+".1")) // as a rotation does
	config.Logger.Warn("two")
	for file, want := range map[string]string{p.LogFile + ".1": "msg=one\n", p.LogFile: "msg=two\n"} {
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Contains(t, string(b), want)
		require.Equal(t, 1, bytes.Count(b, []byte("\n")))
	}

	// The client writes to stderr by either name, and to the log of the
	// process without one.
	for _, name := range []string{"/dev/stderr", "dev/stderr"} {
		old := os.Stderr
		r, w, err := os.Pipe()
		require.NoError(t, err)
		os.Stderr = w
		p.LogFile = name
		config, err := p.ClientConfig()
		os.Stderr = old
		require.NoError(t, err)
		config.Logger.Warn("here")
		require.NoError(t, w.Close())
		b, err := io.ReadAll(r)
		require.NoError(t, err)
		require.Contains(t, string(b), "here")
	}
	p.LogFile = ""
	config, err = p.ClientConfig()
	require.NoError(t, err)
	require.Nil(t, config.Logger)
}

// recorded is a connection that keeps what is sent.
type recorded struct {
	net.Conn
	mu   *sync.Mutex
	sent *bytes.Buffer
}

func (r recorded) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent.Write(b)
	return r.Conn.Write(b)
}

// noChecksum shows that all that is read and written carries NOCSUM with the
// flag, and without it only appends do.
func noChecksum(t *testing.T) {
	for _, flags := range []string{"", "no_csum"} {
		c := ellipticstest.Start(t)
		var mu sync.Mutex
		var sent bytes.Buffer
		n, p := client(t, c, map[string]any{"nodeflags": flags, "netthreadnum": 1}, func(config *elliptics.Config) {
			config.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := new(net.Dialer).DialContext(ctx, network, address)
				return recorded{conn, &mu, &sent}, err
			}
		})
		p.Cluster = n
		d, err := driver.New(context.Background(), p)
		require.NoError(t, err)
		put(t, d, "/f")
		require.NoError(t, d.PutContent(context.Background(), "/large", random(1, 200_000)))
		require.Len(t, get(t, d, "/large"), 200_000)
		require.NoError(t, d.Close())
		mu.Lock()
		defer mu.Unlock()
		seen := make(map[wire.Command]int)
		for b := sent.Bytes(); len(b) > 0; {
			var h wire.Header
			require.NoError(t, h.Decode(b))
			var attr wire.IOAttr
			if h.Command == wire.CmdRead || h.Command == wire.CmdWrite {
				require.NoError(t, attr.Decode(b[wire.HeaderSize:]))
				seen[h.Command]++
				require.Equal(t, flags != "" || attr.Flags&wire.IOAppend != 0, attr.Flags&wire.IONoChecksum != 0, "%v with %v", h.Command, attr.Flags)
			}
			b = b[wire.HeaderSize+int(h.Size):]
		}
		require.Positive(t, seen[wire.CmdRead])
		require.Positive(t, seen[wire.CmdWrite])
	}
}

func noRouteList(t *testing.T) {
	c := ellipticstest.Start(t, 1, 2)
	d := open(t, c, map[string]any{"nodeflags": "no_route_list", "nodes": c.Remote(0), "checktimeout": "5ms"})
	open(t, c, map[string]any{"nodes": c.Remote(1), "groups": 2, "checktimeout": "5ms"})
	require.Eventually(t, func() bool { return c.Requests(1, wire.CmdRouteList) > 5 }, 20*time.Second, time.Millisecond)
	put(t, d, "/f")
	require.Zero(t, c.Requests(0, wire.CmdRouteList))
}

// shares is how many of n reads of one chunk each of two groups gets; the
// second one is slow.
func shares(t *testing.T, flags string, n int) (fast, slow int) {
	c := ellipticstest.Start(t, 1, 2)
	client, p := client(t, c, map[string]any{"nodeflags": flags, "groups": "1 2"}, nil)
	p.Cluster = client
	d, err := driver.New(context.Background(), p)
	require.NoError(t, err)
	defer d.Close()
	require.NoError(t, d.PutContent(context.Background(), "/f", random(1, 70_000)))
	for i, f := range []*int{&fast, &slow} {
		// A record of the file is asked for everywhere, a chunk in one group.
		*f = -n - c.Requests(i, wire.CmdRead)
	}
	c.Fail(1, wire.CmdRead, -1, node.Fault{Delay: 3 * time.Millisecond})
	for range n {
		require.Len(t, get(t, d, "/f"), 70_000)
	}
	fast += c.Requests(0, wire.CmdRead)
	slow += c.Requests(1, wire.CmdRead)
	require.GreaterOrEqual(t, fast+slow, n)
	return fast, slow
}

func randomizeStates(t *testing.T) {
	fast, slow := shares(t, "randomize_states", 60)
	require.Greater(t, fast, 10)
	require.Greater(t, slow, 10)
	fast, slow = shares(t, "", 20)
	require.Equal(t, 20, fast, "without the flag the chunk chooses")
	require.Zero(t, slow)
}

func mixStates(t *testing.T) {
	fast, slow := shares(t, "mix_states", 60)
	require.Greater(t, fast, 2*slow, "the fast group does most of the work")

	// Every group is asked some time, also one that failed: it may be better by
	// now. Here nobody measures, so that all are equal again in the end.
	c := ellipticstest.Start(t, 1, 2, 3)
	n, p := client(t, c, map[string]any{"nodeflags": "mix_states", "groups": "1 2 3"}, nil)
	s := driver.NewClusterStore(n, p)
	for group, fault := range map[uint32]node.Fault{1: {}, 2: {}, 3: {Status: wire.ErrIO}} {
		require.NoError(t, s.Write(context.Background(), group, aChunk, layout.Write{Data: [][]byte{random(1, 1000)}}))
		c.Fail(int(group)-1, wire.CmdRead, 1, fault)
		_, err := s.Read(context.Background(), group, aChunk, 0, 0)
		require.Equal(t, group == 3, err != nil)
	}
	first := func(n int) map[uint32]int {
		first := make(map[uint32]int)
		for range n {
			order := s.Order()
			require.ElementsMatch(t, []uint32{1, 2, 3}, order)
			first[order[0]]++
		}
		return first
	}
	soon := first(50)
	require.Less(t, soon[3], 25, fmt.Sprint(soon))
	first(2000)
	late := first(3000)
	for group, n := range late {
		require.Greater(t, n, 500, "group %d of %v", group, late)
	}
}
