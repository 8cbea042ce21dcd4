package registry_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/elliptics-registry/elliptics-registry/elliptics/ellipticstest"
	"github.com/elliptics-registry/elliptics-registry/registry"
)

func TestMain(m *testing.M) {
	logrus.SetOutput(io.Discard)
	slog.SetDefault(slog.New(slog.DiscardHandler))
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/docker/go-events.(*Broadcaster).run")) // of Distribution's app
}

// config is a configuration file with lines of the test's own: below http, below
// storage.elliptics, and at the end.
type config struct{ http, elliptics, more string }

// load writes the file and reads it as serve does.
func (c config) load(t *testing.T) *registry.Settings {
	t.Helper()
	s, err := registry.Load(c.write(t))
	require.NoError(t, err)
	return s
}

func (c config) write(t *testing.T) string {
	t.Helper()
	if !strings.Contains(c.http, "addr:") {
		c.http += "\naddr: 127.0.0.1:0"
	}
	if !strings.Contains(c.http, "secret:") {
		c.http += "\nsecret: of-the-test"
	}
	if !strings.Contains(c.more, "log:") {
		c.more += "\nlog: {level: error, accesslog: {disabled: true}}"
	}
	text := "version: 0.1\nhttp:\n" + indent(2, c.http) + "storage:\n" +
		"  delete: {enabled: true}\n  maintenance: {uploadpurging: {enabled: false}}\n" +
		"  elliptics:\n" + indent(4, c.elliptics) + c.more + "\n"
	file := filepath.Join(t.TempDir(), "config.yml")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

func indent(n int, text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) != "" {
			b.WriteString(strings.Repeat(" ", n) + strings.TrimRight(line, "\n") + "\n")
		}
	}
	return b.String()
}

// onCluster are the lines of storage.elliptics for a test cluster.
func onCluster(c *ellipticstest.Cluster, groups ...uint32) string {
	if len(groups) == 0 {
		groups = []uint32{1}
	}
	return fmt.Sprintf("nodes: [%s]\ngroups: %s\nwaittimeout: 2s\nchecktimeout: 500ms\n",
		strings.Join(c.Remotes(), ", "), strings.ReplaceAll(fmt.Sprint(groups), " ", ", "))
}

// running is a registry that runs.
type running struct {
	*registry.Server
	url   string
	stop  context.CancelFunc // as SIGTERM does
	ended chan error         // what Run answered
}

// run starts a registry, which must end in order with the test.
func run(t *testing.T, s *registry.Settings) *running {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	server, err := registry.New(ctx, s)
	require.NoError(t, err)
	r := &running{Server: server, url: "http://" + server.Addr().String(), stop: stop, ended: make(chan error, 1)}
	go func() { r.ended <- server.Run(ctx) }()
	t.Cleanup(r.end(t))
	return r
}

// end stops the registry and waits for it.
func (r *running) end(t *testing.T) func() {
	return func() {
		t.Helper()
		http.DefaultClient.CloseIdleConnections()
		r.stop()
		err := <-r.ended
		r.ended <- err
		require.NoError(t, err)
	}
}

// start runs a registry on groups of a cluster (1, if none are given) and
// answers its address.
func start(t *testing.T, c *ellipticstest.Cluster, groups ...uint32) string {
	t.Helper()
	return run(t, config{elliptics: onCluster(c, groups...)}.load(t)).url
}

// request sends a request and reads the whole answer.
func request(t *testing.T, method, url string, body []byte, header ...string) (*http.Response, []byte) {
	t.Helper()
	resp, b, err := try(method, url, body, header...)
	require.NoError(t, err)
	return resp, b
}

// try is request with the error of sending, or of the middle of the answer.
func try(method, url string, body []byte, header ...string) (*http.Response, []byte, error) {
	r, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp, b, err
}

// pushBlob stores a blob in the repository hello and answers its address.
func pushBlob(t *testing.T, registry string, content []byte) (blob string) {
	t.Helper()
	dgst := digestOf(content)
	resp, b := request(t, "POST", registry+"/v2/hello/blobs/uploads/", nil)
	require.Equal(t, http.StatusAccepted, resp.StatusCode, "%s", b)
	resp, b = request(t, "PUT", resp.Header.Get("Location")+"&digest="+dgst, content)
	require.Equal(t, http.StatusCreated, resp.StatusCode, "%s", b)
	return registry + "/v2/hello/blobs/" + dgst
}

func digestOf(content []byte) string { return digest.FromBytes(content).String() }

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// requireSoon waits for what happens by itself.
func requireSoon(t *testing.T, f func() bool, message string) {
	t.Helper()
	require.Eventually(t, f, 30*time.Second, 10*time.Millisecond, message)
}

// settled is a count that has stopped growing.
func settled(t *testing.T, count func() int) (n int) {
	t.Helper()
	same := 0
	requireSoon(t, func() bool {
		last := n
		if n = count(); n != last {
			same = 0
		}
		same++
		return same > 5
	}, "it goes on")
	return n
}

// freeAddress is a port that was free a moment ago.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}
