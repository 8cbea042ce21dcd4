package registry_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics/ellipticstest"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
	"github.com/elliptics-registry/elliptics-registry/registry"
)

// start runs a registry on a cluster and answers its address. More lines may
// stand below storage.elliptics.
func start(t *testing.T, c *ellipticstest.Cluster, more ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yml")
	require.NoError(t, os.WriteFile(file, []byte(`version: 0.1
log: {level: error, accesslog: {disabled: true}}
http: {addr: "127.0.0.1:0", secret: secret}
storage:
  elliptics:
    nodes: [`+strings.Join(c.Remotes(), ", ")+`]
`+strings.Join(more, "\n")+`
  maintenance: {uploadpurging: {enabled: false}}
`), 0o600))
	settings, err := registry.Load(file)
	require.NoError(t, err)
	return run(t, settings)
}

func run(t *testing.T, settings *registry.Settings) string {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	server, err := registry.New(ctx, settings)
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		stop()
		require.NoError(t, <-ended)
	})
	return "http://" + server.Addr().String()
}

// request sends a request and reads the whole answer.
func request(t *testing.T, method, url string, body []byte, header ...string) (*http.Response, []byte) {
	t.Helper()
	r, err := http.NewRequest(method, url, bytes.NewReader(body))
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp, b
}

// Distribution looks a blob up three times for each GET, and asks for its
// link before each: nine calls of the driver. Here it is the link, the blob's
// record, and the record once more for its content, and for a large blob no
// more reads than it has windows.
func TestRequestsForABlob(t *testing.T) {
	c := ellipticstest.Start(t)
	registry := start(t, c)
	reads := func(f func()) int {
		// What a push leaves to the background is to be over.
		require.Eventually(t, func() bool {
			before := c.Requests(0, wire.CmdWrite)
			time.Sleep(20 * time.Millisecond)
			return before == c.Requests(0, wire.CmdWrite)
		}, 10*time.Second, time.Millisecond)
		writes, before := c.Requests(0, wire.CmdWrite), c.Requests(0, wire.CmdRead)
		f()
		require.Equal(t, writes, c.Requests(0, wire.CmdWrite), "something was written")
		return c.Requests(0, wire.CmdRead) - before
	}
	for _, size := range []int{100, 10_000_000} {
		content := bytes.Repeat([]byte("0123456789"), size/10)
		dgst := digest.FromBytes(content).String()
		resp, _ := request(t, "POST", registry+"/v2/hello/blobs/uploads/", nil)
		require.Equal(t, http.StatusAccepted, resp.StatusCode)
		resp, _ = request(t, "PUT", resp.Header.Get("Location")+"&digest="+dgst, content)
		require.Equal(t, http.StatusCreated, resp.StatusCode)
		blob := registry + "/v2/hello/blobs/" + dgst
		windows := 0
		if size > 64<<10 {
			windows = size>>20 + 4 // a few more at the seams of chunks
		}

		require.LessOrEqual(t, reads(func() {
			resp, b := request(t, "GET", blob, nil)
			require.Equal(t, http.StatusOK, resp.StatusCode)
			require.True(t, bytes.Equal(content, b))
		}), 3+windows, "GET of %d bytes", size)
		require.LessOrEqual(t, reads(func() {
			resp, b := request(t, "HEAD", blob, nil)
			require.Equal(t, http.StatusOK, resp.StatusCode)
			require.Equal(t, fmt.Sprint(size), resp.Header.Get("Content-Length"))
			require.Empty(t, b)
		}), 2, "HEAD")
		require.LessOrEqual(t, reads(func() {
			resp, b := request(t, "GET", blob, nil, "Range", "bytes=10-29")
			require.Equal(t, http.StatusPartialContent, resp.StatusCode)
			require.Equal(t, content[10:30], b)
		}), 4, "range")
	}
}
