package registry_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics/ellipticstest"
	"github.com/elliptics-registry/elliptics-registry/elliptics/node"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// requireUnavailable reads an answer as a client that wants to tell its user
// why, and when to come again.
func requireUnavailable(t *testing.T, resp *http.Response, body []byte, reason string) {
	t.Helper()
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode, "%s", body)
	require.Equal(t, "5", resp.Header.Get("Retry-After"))
	require.Contains(t, resp.Header.Get("Content-Type"), "application/json")
	var answer struct {
		Errors []struct{ Code, Message string }
	}
	require.NoError(t, json.Unmarshal(body, &answer), "%s", body)
	require.Len(t, answer.Errors, 1)
	require.Equal(t, "UNAVAILABLE", answer.Errors[0].Code)
	require.Equal(t, reason, answer.Errors[0].Message)
	require.NotContains(t, string(body), "127.0.0.1", "an address of the storage")
}

func TestStorageCannotBeReached(t *testing.T) {
	c := ellipticstest.Start(t, 1, 2, 3)
	r := run(t, config{elliptics: onCluster(c, 1, 2, 3)}.load(t))
	content := random(100_000)
	blob := pushBlob(t, r.url, content)

	c.Stop(0) // a minority: nobody notices
	_, b := request(t, "GET", blob, nil)
	require.True(t, bytes.Equal(content, b))
	pushBlob(t, r.url, random(100_000))

	c.Stop(1)
	const reason = "the storage cannot be reached (1 of 3 groups answered, 2 needed)"
	for _, q := range []struct{ method, url string }{
		{"GET", blob},
		{"GET", r.url + "/v2/hello/manifests/latest"},
		{"GET", r.url + "/v2/hello/tags/list"},
		{"POST", r.url + "/v2/hello/blobs/uploads/"},
		{"DELETE", blob},
	} {
		resp, b := request(t, q.method, q.url, nil)
		requireUnavailable(t, resp, b, reason)
	}
	resp, b := request(t, "HEAD", blob, nil)
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	require.Empty(t, b)
	resp, _ = request(t, "GET", r.url+"/", nil)
	require.Equal(t, http.StatusOK, resp.StatusCode, "the process lives")

	c.Restart(1)
	requireSoon(t, func() bool {
		resp, b, err := try("GET", blob, nil)
		return err == nil && resp.StatusCode == http.StatusOK && bytes.Equal(content, b)
	}, "the registry did not recover")
	pushBlob(t, r.url, random(100_000))
}

// What a client did wrong stays its own mistake, whatever the storage is like.
func TestMistakesAreNotUnavailable(t *testing.T) {
	r := start(t, ellipticstest.Start(t))
	for url, code := range map[string]string{
		"/v2/hello/manifests/nosuchtag":                   "MANIFEST_UNKNOWN",
		"/v2/no/such/tags/list":                           "NAME_UNKNOWN",
		"/v2/hello/blobs/sha256:" + "00" + "11":           "",
		"/v2/hello/blobs/uploads/0000-not-an-upload-0000": "",
	} {
		resp, b := request(t, "GET", r+url, nil)
		require.Less(t, resp.StatusCode, 500, "%s: %s", url, b)
		require.GreaterOrEqual(t, resp.StatusCode, 400, "%s: %s", url, b)
		require.Contains(t, string(b), code)
		require.Empty(t, resp.Header.Get("Retry-After"))
	}
}

// A storage that takes no writes, for different reasons: the client learns
// which, what was there is served, and pushes work again afterwards.
func TestStorageTakesNoWrites(t *testing.T) {
	c := ellipticstest.Start(t)
	r := run(t, config{elliptics: onCluster(c)}.load(t))
	content := random(100_000)
	blob := pushBlob(t, r.url, content)
	for status, reason := range map[wire.Status]string{
		wire.ErrNoSpace:  "the storage is full (0 of 1 groups answered, 1 needed)",
		wire.ErrReadOnly: "the storage is read-only (0 of 1 groups answered, 1 needed)",
		wire.ErrIO:       "the storage refuses (0 of 1 groups answered, 1 needed)",
	} {
		broken := c.Fail(0, wire.CmdWrite, -1, node.Fault{Status: status})
		resp, b := request(t, "POST", r.url+"/v2/hello/blobs/uploads/", nil)
		requireUnavailable(t, resp, b, reason)
		_, b = request(t, "GET", blob, nil)
		require.True(t, bytes.Equal(content, b))
		broken.Stop()
		pushBlob(t, r.url, random(1000))
	}
}

// The disk fills up in the middle of a layer: its client learns why, although
// the part that it sent was taken before.
func TestStorageFullDuringPush(t *testing.T) {
	c := ellipticstest.Start(t)
	r := run(t, config{elliptics: onCluster(c) + "chunksize: 64KiB"}.load(t))
	resp, _ := request(t, "POST", r.url+"/v2/hello/blobs/uploads/", nil)
	location := resp.Header.Get("Location")
	full := c.FailIf(0, -1, node.Fault{Status: wire.ErrNoSpace}, func(h wire.Header) bool {
		return h.Command == wire.CmdWrite && h.Size > 64<<10
	})
	resp, b := request(t, "PATCH", location, random(1<<20))
	requireUnavailable(t, resp, b, "the storage is full (0 of 1 groups answered, 1 needed)")
	require.NotZero(t, full.Hits())
	full.Stop()
	pushBlob(t, r.url, random(1<<20))
}

// A part of an upload that fits into the writer's memory is stored when the
// handler closes the writer. It must not be acknowledged if that fails.
func TestStorageFullAtTheEndOfAPart(t *testing.T) {
	c := ellipticstest.Start(t)
	r := run(t, config{elliptics: onCluster(c)}.load(t))
	for _, size := range []int{10_000, 500_000} {
		resp, _ := request(t, "POST", r.url+"/v2/hello/blobs/uploads/", nil)
		location := resp.Header.Get("Location")
		full := c.Fail(0, wire.CmdWrite, -1, node.Fault{Status: wire.ErrNoSpace})
		resp, b := request(t, "PATCH", location, random(size))
		requireUnavailable(t, resp, b, "the storage is full (0 of 1 groups answered, 1 needed)")
		full.Stop()
		resp, _ = request(t, "GET", location, nil)
		require.Equal(t, "0-0", resp.Header.Get("Range"), "nothing was stored, and nothing was said to be")
		resp, _ = request(t, "PATCH", resp.Header.Get("Location"), random(size))
		require.Equal(t, http.StatusAccepted, resp.StatusCode)
	}
}

// Of two clients that write into the same upload at the same time one is told
// that its part does not count.
func TestTwoWritersOfAnUpload(t *testing.T) {
	c := ellipticstest.Start(t)
	r := run(t, config{elliptics: onCluster(c)}.load(t))
	resp, _ := request(t, "POST", r.url+"/v2/hello/blobs/uploads/", nil)
	location := resp.Header.Get("Location")
	before := settled(t, func() int { return c.Requests(0, wire.CmdRead) })
	body, feed := io.Pipe()
	slow := make(chan *http.Response, 1)
	go func() {
		q, _ := http.NewRequest("PATCH", location, body)
		resp, err := http.DefaultClient.Do(q)
		if err == nil {
			resp.Body.Close()
		}
		slow <- resp
	}()
	_, err := feed.Write(random(1000))
	require.NoError(t, err)
	// It reads when the upload began, and how far it is.
	requireSoon(t, func() bool { return c.Requests(0, wire.CmdRead) >= before+2 }, "the upload is not opened")
	resp, _ = request(t, "PATCH", location, []byte("another"))
	require.Equal(t, http.StatusAccepted, resp.StatusCode)
	require.NoError(t, feed.Close())
	late := <-slow
	require.NotNil(t, late)
	require.Equal(t, http.StatusServiceUnavailable, late.StatusCode)
	resp, _ = request(t, "GET", location, nil)
	require.Equal(t, "0-6", resp.Header.Get("Range"))
}

// A storage that is there but never answers costs the time-out, no more.
func TestStorageDoesNotAnswer(t *testing.T) {
	c := ellipticstest.Start(t)
	r := run(t, config{elliptics: "nodes: " + c.Remote(0) + "\nwaittimeout: 200ms"}.load(t))
	blob := pushBlob(t, r.url, []byte("hello"))
	silent := c.Fail(0, wire.CmdRead, -1, node.Fault{DropAnswer: true})
	resp, b := request(t, "GET", blob, nil)
	requireUnavailable(t, resp, b, "the storage does not answer in time (0 of 1 groups answered, 1 needed)")
	silent.Stop()
	_, b = request(t, "GET", blob, nil)
	require.Equal(t, "hello", string(b))
}

// A registry starts without its storage.
func TestStartsWithoutStorage(t *testing.T) {
	c := ellipticstest.Start(t)
	c.Stop(0)
	r := run(t, config{elliptics: onCluster(c)}.load(t))
	resp, b := request(t, "GET", r.url+"/v2/hello/tags/list", nil)
	requireUnavailable(t, resp, b, "the storage cannot be reached (0 of 1 groups answered, 1 needed)")
	c.Restart(0)
	requireSoon(t, func() bool {
		resp, _, err := try("GET", r.url+"/v2/hello/tags/list", nil)
		return err == nil && resp.StatusCode == http.StatusNotFound
	}, "the registry did not recover")
	pushBlob(t, r.url, []byte("hello"))
}
