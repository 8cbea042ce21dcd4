package registry_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics/ellipticstest"
	"github.com/elliptics-registry/elliptics-registry/elliptics/node"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

const testChunk = 64 << 10

// blobOf pushes a blob of many small chunks.
func blobOf(t *testing.T, c *ellipticstest.Cluster, content []byte) string {
	t.Helper()
	return pushBlob(t, run(t, config{elliptics: onCluster(c) + "chunksize: 64KiB"}.load(t)).url, content)
}

func TestServeBlob(t *testing.T) {
	content := random(10*testChunk + 77)
	blob := blobOf(t, ellipticstest.Start(t), content)
	dgst := blob[len(blob)-len("sha256:")-64:]

	for _, method := range []string{"GET", "HEAD"} {
		resp, b := request(t, method, blob, nil)
		require.Equal(t, http.StatusOK, resp.StatusCode)
		require.Equal(t, strconv.Itoa(len(content)), resp.Header.Get("Content-Length"))
		require.Equal(t, dgst, resp.Header.Get("Docker-Content-Digest"))
		require.Equal(t, `"`+dgst+`"`, resp.Header.Get("Etag"))
		require.Equal(t, "application/octet-stream", resp.Header.Get("Content-Type"))
		require.Equal(t, "bytes", resp.Header.Get("Accept-Ranges"))
		require.Contains(t, resp.Header.Get("Cache-Control"), "max-age=31536000")
		if method == "HEAD" {
			require.Empty(t, b)
		} else {
			require.True(t, bytes.Equal(content, b))
		}
	}

	n := len(content)
	for header, want := range map[string][2]int{
		"bytes=0-0":                  {0, 1},
		"bytes=5-14":                 {5, 15},
		"bytes=65535-65536":          {testChunk - 1, testChunk + 1}, // over a seam
		"bytes=1000-400000":          {1000, 400_001},
		"bytes=655360-":              {10 * testChunk, n}, // the last chunk
		"bytes=-1":                   {n - 1, n},
		"bytes=-100000000":           {0, n},
		"bytes=10-99999999":          {10, n},
		fmt.Sprintf("bytes=0-%d", n): {0, n},
	} {
		resp, b := request(t, "GET", blob, nil, "Range", header)
		require.Equal(t, http.StatusPartialContent, resp.StatusCode, header)
		require.Equal(t, fmt.Sprintf("bytes %d-%d/%d", want[0], want[1]-1, n), resp.Header.Get("Content-Range"), header)
		require.True(t, bytes.Equal(content[want[0]:want[1]], b), header)
	}
	for _, header := range []string{fmt.Sprintf("bytes=%d-", n), "bytes=9-5", "bytes=x", "lines=1-2"} {
		resp, _ := request(t, "GET", blob, nil, "Range", header)
		require.Equal(t, http.StatusRequestedRangeNotSatisfiable, resp.StatusCode, header)
	}

	resp, b := request(t, "GET", blob, nil, "If-None-Match", `"`+dgst+`"`)
	require.Equal(t, http.StatusNotModified, resp.StatusCode)
	require.Empty(t, b)
	resp, b = request(t, "GET", blob, nil, "If-None-Match", `"sha256:another"`)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Len(t, b, n)
	resp, b = request(t, "GET", blob, nil, "Range", "bytes=0-9", "If-Range", `"sha256:another"`)
	require.Equal(t, http.StatusOK, resp.StatusCode, "another content than the one of which the client has a part")
	require.Len(t, b, n)
}

func TestServeSeveralRanges(t *testing.T) {
	content := random(10*testChunk + 77)
	blob := blobOf(t, ellipticstest.Start(t), content)
	resp, b := request(t, "GET", blob, nil, "Range", "bytes=0-9,65530-200000,-5")
	require.Equal(t, http.StatusPartialContent, resp.StatusCode)
	typ, params, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	require.NoError(t, err)
	require.Equal(t, "multipart/byteranges", typ)
	parts := multipart.NewReader(bytes.NewReader(b), params["boundary"])
	n := len(content)
	for _, want := range [][2]int{{0, 10}, {65530, 200_001}, {n - 5, n}} {
		p, err := parts.NextPart()
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("bytes %d-%d/%d", want[0], want[1]-1, n), p.Header.Get("Content-Range"))
		got, err := io.ReadAll(p)
		require.NoError(t, err)
		require.True(t, bytes.Equal(content[want[0]:want[1]], got))
	}
	_, err = parts.NextPart()
	require.ErrorIs(t, err, io.EOF)
}

func TestServeEmptyBlob(t *testing.T) {
	blob := blobOf(t, ellipticstest.Start(t), nil)
	resp, b := request(t, "GET", blob, nil)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, "0", resp.Header.Get("Content-Length"))
	require.Empty(t, b)
}

// Content that cannot be read to its end breaks the connection: no client may
// take what it has got for the blob.
func TestContentThatCannotBeRead(t *testing.T) {
	c := ellipticstest.Start(t)
	content := random(64 * testChunk)
	blob := blobOf(t, c, content)
	for name, header := range map[string][]string{
		"whole":          nil,
		"range":          {"Range", "bytes=100-4000000"},
		"several ranges": {"Range", "bytes=0-9,100-4000000"},
	} {
		for _, status := range []wire.Status{wire.ErrIO, wire.ErrTimeout} {
			var reads atomic.Int64
			damage := c.FailIf(0, -1, node.Fault{Status: status}, func(h wire.Header) bool {
				// The link, the record twice, and then chunks.
				return h.Command == wire.CmdRead && reads.Add(1) > 30
			})
			resp, b, err := try("GET", blob, nil, header...)
			require.ErrorIs(t, err, io.ErrUnexpectedEOF, "%s, status %d", name, status)
			require.Less(t, resp.StatusCode, 300)
			require.Less(t, len(b), len(content)-100)
			if name != "several ranges" {
				begin := 0
				if header != nil {
					begin = 100
				}
				require.True(t, bytes.Equal(content[begin:begin+len(b)], b), "wrong bytes were served")
			}
			damage.Stop()
			resp, b = request(t, "GET", blob, nil)
			require.Equal(t, http.StatusOK, resp.StatusCode)
			require.True(t, bytes.Equal(content, b), "it is read again when the storage is well")
		}
	}
}

// Nothing is read any more for a client that has gone.
func TestClientThatLeaves(t *testing.T) {
	c := ellipticstest.Start(t)
	content := random(600 * testChunk)
	blob := blobOf(t, c, content)
	for _, header := range []string{"", "bytes=0-9,10-39000000"} {
		before := c.Requests(0, wire.CmdRead)
		ctx, leave := context.WithCancel(context.Background())
		r, err := http.NewRequestWithContext(ctx, "GET", blob, nil)
		require.NoError(t, err)
		r.Header.Set("Range", header)
		resp, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		part := make([]byte, 100)
		_, err = io.ReadFull(resp.Body, part)
		require.NoError(t, err)
		leave()
		resp.Body.Close()
		// The others are served, as before.
		_, b := request(t, "GET", blob, nil, "Range", "bytes=0-9")
		require.Equal(t, content[:10], b)
		read := settled(t, func() int { return c.Requests(0, wire.CmdRead) }) - before
		require.Less(t, read, 500, "the whole blob was read")
	}
}

func TestDeletedBlob(t *testing.T) {
	blob := blobOf(t, ellipticstest.Start(t), random(1000))
	resp, _ := request(t, "DELETE", blob, nil)
	require.Equal(t, http.StatusAccepted, resp.StatusCode)
	resp, b := request(t, "GET", blob, nil)
	require.Equal(t, http.StatusNotFound, resp.StatusCode)
	require.Contains(t, string(b), "BLOB_UNKNOWN")
}
