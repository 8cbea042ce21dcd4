package registry_test

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics/ellipticstest"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// Distribution looks a blob up three times for each GET, and asks for its
// link before each: nine calls of the driver. Here it is the link, the blob's
// record, and the record once more for its content, and for a large blob no
// more reads than it has windows.
func TestRequestsForABlob(t *testing.T) {
	c := ellipticstest.Start(t)
	registry := start(t, c)
	reads := func(f func()) int {
		writes := settled(t, func() int { return c.Requests(0, wire.CmdWrite) }) // the push has some in the background
		before := c.Requests(0, wire.CmdRead)
		f()
		require.Equal(t, writes, c.Requests(0, wire.CmdWrite), "something was written")
		return c.Requests(0, wire.CmdRead) - before
	}
	for _, size := range []int{100, 10_000_000} {
		content := bytes.Repeat([]byte("0123456789"), size/10)
		blob := pushBlob(t, registry, content)
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
