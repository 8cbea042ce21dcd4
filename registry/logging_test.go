package registry_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics/ellipticstest"
)

// output is what the process writes to its log, and to its standard output.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// capture collects both until the end of the test.
func capture(t *testing.T) (log, stdout *output) {
	t.Helper()
	log, stdout = new(output), new(output)
	logrus.SetOutput(log)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	old := os.Stdout
	os.Stdout = w
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, _ = io.Copy(stdout, r)
		r.Close()
	}()
	t.Cleanup(func() {
		os.Stdout = old
		w.Close()
		<-copied
		logrus.SetOutput(io.Discard)
		slog.SetDefault(slog.New(slog.DiscardHandler))
	})
	return log, stdout
}

// Nothing that a client or an operator has to keep to themselves is in the
// logs, however much is logged: not the secret of the uploads, not the state of
// an upload that it signs, no password.
func TestSecretsAreNotLogged(t *testing.T) {
	log, stdout := capture(t)
	c := ellipticstest.Start(t)
	r := run(t, config{
		http:      "secret: s3cr3t-of-uploads",
		elliptics: onCluster(c),
		more:      "log: {level: debug}\nredis: {addrs: ['127.0.0.1:1'], password: s3cr3t-of-redis}",
	}.load(t))
	resp, _ := request(t, "POST", r.url+"/v2/hello/blobs/uploads/", nil)
	_, state, found := strings.Cut(resp.Header.Get("Location"), "_state=")
	require.True(t, found)
	request(t, "PATCH", resp.Header.Get("Location"), []byte("hello"))
	request(t, "PUT", resp.Header.Get("Location")+"&digest=sha256:bad", nil)
	request(t, "GET", r.url+"/v2/hello/tags/list", nil, "Authorization", "Basic YWxpY2U6czNjcjN0LW9mLWFsaWNl") // alice:s3cr3t-of-alice
	c.Stop(0)
	request(t, "GET", r.url+"/v2/hello/tags/list", nil)
	requireSoon(t, func() bool { return strings.Contains(stdout.String(), "alice") }, "no access log")
	r.end(t)()

	require.Contains(t, log.String(), "storage is unavailable")
	for name, text := range map[string]string{"log": log.String(), "access log": stdout.String()} {
		require.NotContains(t, text, "s3cr3t", name)
		require.NotContains(t, text, "YWxpY2U6", name)
		require.NotContains(t, text, state[:40], name)
		require.NotContains(t, text, "_state", name)
	}
}

func TestAccessLog(t *testing.T) {
	_, stdout := capture(t)
	r := run(t, config{elliptics: onCluster(ellipticstest.Start(t)), more: "log: {level: error}"}.load(t))
	resp, _ := request(t, "GET", r.url+"/v2/hello/tags/list?n=5", nil, "User-Agent", "a \"client\" of mine")
	require.Equal(t, http.StatusNotFound, resp.StatusCode)
	requireSoon(t, func() bool { return strings.Count(stdout.String(), "\n") == 1 }, "one line for one request")
	require.Regexp(t, `^127\.0\.0\.1 - - \[[^\]]+\] "GET /v2/hello/tags/list HTTP/1\.1" 404 \d+ "a \\"client\\" of mine"`, stdout.String())
}

// The log has a format and fields of the operator's, for what is logged with
// slog as well as for what Distribution logs; a 404 that every push causes is
// not an error.
func TestLogAsConfigured(t *testing.T) {
	log, _ := capture(t)
	c := ellipticstest.Start(t)
	r := run(t, config{
		elliptics: onCluster(c),
		more:      "log: {level: warn, formatter: json, fields: {service: images}, accesslog: {disabled: true}}",
	}.load(t))
	request(t, "HEAD", r.url+"/v2/hello/blobs/"+digestOf([]byte("nothing")), nil)
	require.Empty(t, log.String(), "a blob that is not there yet")
	c.Stop(0)
	request(t, "GET", r.url+"/v2/hello/tags/list", nil)
	r.end(t)()
	messages := make(map[string]map[string]any)
	for line := range strings.Lines(log.String()) {
		var entry map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &entry), line)
		require.Equal(t, "images", entry["service"], line)
		messages[entry["msg"].(string)] = entry
	}
	require.Contains(t, messages, "storage is unavailable")
	require.Equal(t, "error", messages["storage is unavailable"]["level"])
	require.Contains(t, messages["storage is unavailable"]["error"], "status -6", "the log has the details")
}
