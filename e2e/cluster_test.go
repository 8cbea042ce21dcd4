//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// writeConfig makes a configuration file for a cluster, with lines of the test's
// own below http.
func writeConfig(t *testing.T, elliptics string, http ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yml")
	text := "version: 0.1\nlog: {level: warn, accesslog: {disabled: true}}\nhttp:\n  secret: of-the-test\n"
	for _, line := range http {
		text += "  " + line + "\n"
	}
	text += "storage:\n  delete: {enabled: true}\n  elliptics: {" + elliptics + "}\n"
	require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
	return file
}

// A registry on three nodes, one for each group: one may die during a push and
// come back with nothing of what it missed, then another one may.
func TestClusterLosesNodes(t *testing.T) {
	nodes, remotes, dirs := make([]*process, 3), make([]string, 3), make([]string, 3)
	run := func(i int, listen string) {
		nodes[i] = runNode(t, "--listen", listen, "--group", fmt.Sprint(i+1), "--data", dirs[i])
	}
	for i := range nodes {
		dirs[i] = t.TempDir()
		run(i, "127.0.0.1:0")
		remotes[i] = nodes[i].addr
	}
	config := writeConfig(t, "nodes: ["+strings.Join(remotes, ", ")+"], groups: [1, 2, 3], waittimeout: 3s, checktimeout: 1s")
	p := serve(t, "--config", config)
	first, err := pushBlob(p, "cluster", content(1, 30<<20))
	require.NoError(t, err)

	const size = 64 << 20
	body, killed := content(2, size), false
	second, err := pushBlob(p, "cluster", readerFunc(func(b []byte) (int, error) {
		n, err := body.Read(b)
		if !killed && n > 0 {
			killed = true
			nodes[1].kill()
		}
		return n, err
	}))
	require.NoError(t, err, "a push while one of three nodes dies")
	requireBlob(t, p, "cluster", first, 30<<20)
	requireBlob(t, p, "cluster", second, size)

	listen := func(remote string) string { return strings.TrimSuffix(remote, ":2") }
	run(1, listen(remotes[1]))
	third, err := pushBlob(p, "cluster", content(3, 10<<20))
	require.NoError(t, err)
	nodes[0].kill()
	require.Eventually(t, func() bool {
		_, _, err := pullBlob(p, "cluster", first)
		return err == nil
	}, 30*time.Second, 100*time.Millisecond, "the node that came back was not taken back")
	requireBlob(t, p, "cluster", first, 30<<20)
	requireBlob(t, p, "cluster", second, size)
	requireBlob(t, p, "cluster", third, 10<<20)

	// Without a majority nothing is acknowledged, and the client learns why.
	nodes[1].kill()
	_, err = pushBlob(p, "cluster", content(4, 1<<20))
	require.ErrorContains(t, err, "503")
	require.ErrorContains(t, err, "1 of 3 groups answered, 2 needed")
	run(0, listen(remotes[0]))
	require.Eventually(t, func() bool {
		_, err := pushBlob(p, "cluster", content(4, 1<<20))
		return err == nil
	}, 30*time.Second, 100*time.Millisecond, "the registry did not recover")
}

// Storage that cannot be reached at the start: the registry runs, answers 503
// with a reason, and recovers.
func TestUnreachableAtStart(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())

	p := serve(t, "--config", writeConfig(t, "nodes: "+address+":2, waittimeout: 2s, checktimeout: 1s"))
	status, body, h := get(t, p, "/v2/some/manifests/1")
	require.Equal(t, http.StatusServiceUnavailable, status, body)
	require.Contains(t, body, "UNAVAILABLE")
	require.Contains(t, body, "the storage cannot be reached (0 of 1 groups answered, 1 needed)")
	require.NotEmpty(t, h.Get("Retry-After"))
	requireLog(t, p, address)

	runNode(t, "--listen", address, "--data", t.TempDir())
	require.Eventually(t, func() bool {
		_, err := pushBlob(p, "some", content(1, 100_000))
		return err == nil
	}, 30*time.Second, 100*time.Millisecond, "the registry did not recover")
}

func TestWrongGroup(t *testing.T) {
	node := runNode(t, "--listen", "127.0.0.1:0", "--group", "1", "--data", t.TempDir())
	p := serve(t, "--config", writeConfig(t, "nodes: "+node.addr+", groups: [7]"))
	status, body, _ := get(t, p, "/v2/some/manifests/1")
	require.Equal(t, http.StatusServiceUnavailable, status, body)
	require.Contains(t, body, "0 of 1 groups answered, 1 needed")
	requireLog(t, p, "group 7")
	requireLog(t, p, "the connected nodes have groups [1]")
}

func TestBadConfiguration(t *testing.T) {
	for elliptics, want := range map[string]string{
		"nodes: 127.0.0.1:1025:2, grops: [1]": "storage.elliptics.grops: unknown key; did you mean groups?",
		"nodes: 127.0.0.1:1025":               "storage.elliptics.nodes: remote \"127.0.0.1:1025\"",
		"nodes: 127.0.0.1:1025:2, groups: []": "storage.elliptics.groups: bad value",
		"groups: [1]":                         "storage.elliptics.nodes: missing",
	} {
		_, err := command(t, nil, "elliptics-registry", "serve", "--config", writeConfig(t, elliptics))
		require.ErrorContains(t, err, want)
		_, err = command(t, nil, "elliptics-registry", "check-config", writeConfig(t, elliptics))
		require.ErrorContains(t, err, want)
	}
}

// What Prometheus reads is at an address of its own, and the registry ends in
// order with it.
func TestMetrics(t *testing.T) {
	node := runNode(t, "--listen", "127.0.0.1:0", "--data", t.TempDir())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	debug := l.Addr().String()
	require.NoError(t, l.Close())
	p := serve(t, "--config", writeConfig(t, "nodes: "+node.addr, "debug: {addr: '"+debug+"', prometheus: {enabled: true}}"))
	_, err = pushBlob(p, "some", content(1, 100_000))
	require.NoError(t, err)
	_, body, _ := get(t, &process{addr: debug}, "/metrics")
	require.Contains(t, body, `registry_storage_action_seconds_count{action="PutContent",driver="elliptics"}`)
	p.stop()
}

// A tool beside a registry talks to the registry's node.
func TestGarbageCollectBesideServe(t *testing.T) {
	data := t.TempDir()
	p := serve(t, "--data", data)
	orphan, err := pushBlob(p, "repo", content(9, 6<<20))
	require.NoError(t, err)
	image := imageTar(t)
	must(t, nil, "crane", "push", image, p.addr+"/repo:1")

	out := must(t, nil, "elliptics-registry", "garbage-collect", "--data", data)
	require.Contains(t, out, "removed 0 manifests, 0 blobs (0 B), 0 layer links; kept 2", "they are just pushed")
	requireBlob(t, p, "repo", orphan, 6<<20)
	out = must(t, nil, "elliptics-registry", "garbage-collect", "--data", data, "--offline")
	require.Contains(t, out, "removed 0 manifests, 1 blobs (6.0 MiB), 1 layer links; kept 0")
	must(t, nil, "crane", "validate", "--remote", p.addr+"/repo:1")
	_, _, err = pullBlob(p, "repo", orphan)
	require.ErrorContains(t, err, "404")

	_, err = command(t, nil, "elliptics-registry", "serve", "--data", data, "--listen", "127.0.0.1:0")
	require.ErrorContains(t, err, "in use by process")
	p.stop()
	must(t, nil, "elliptics-registry", "garbage-collect", "--data", data)
}

// SIGTERM lets a push that is under way end.
func TestDrain(t *testing.T) {
	data := t.TempDir()
	p := serve(t, "--data", data)
	const size = 32 << 20
	body, sent, signalled := content(5, size), 0, false
	u, err := beginUpload(p, "drain")
	require.NoError(t, err)
	require.NoError(t, u.patch(readerFunc(func(b []byte) (int, error) {
		n, err := body.Read(b)
		if sent += n; !signalled && sent > size/2 {
			signalled = true
			require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
		}
		return n, err
	})))
	err = <-p.done
	p.done <- err
	require.NoError(t, err)

	p = serve(t, "--data", data)
	_, _, h := get(t, p, u.path())
	require.Equal(t, fmt.Sprintf("0-%d", size-1), h.Get("Range"))
}
