package driver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics/ellipticstest"
)

// app is Distribution's registry on the driver, and a client of it.
type app struct {
	t *testing.T
	*httptest.Server
}

func serve(t *testing.T, c *ellipticstest.Cluster, parameters map[string]any) *app {
	t.Helper()
	logrus.SetOutput(io.Discard)
	elliptics := configuration.Parameters{"nodes": c.Remotes()}
	for k, v := range parameters {
		elliptics[k] = v
	}
	config := &configuration.Configuration{
		Storage: configuration.Storage{
			"elliptics":   elliptics,
			"delete":      {"enabled": true},
			"maintenance": {"uploadpurging": map[any]any{"enabled": false}},
		},
		Catalog: configuration.Catalog{MaxEntries: 1000},
		Tags:    configuration.Tags{MaxTags: 1000},
	}
	config.HTTP.Secret = "the same in all registries of a test"
	handler := handlers.NewApp(context.Background(), config)
	a := &app{t, httptest.NewServer(handler)}
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		a.Close()
		require.NoError(t, handler.Shutdown())
	})
	require.Eventually(t, func() bool { return a.do("GET", "/v2/_catalog", nil).StatusCode == http.StatusOK },
		20*time.Second, 5*time.Millisecond, "the cluster was not reached")
	return a
}

// do sends a request and reads the whole answer.
func (a *app) do(method, path string, body io.Reader) *http.Response {
	a.t.Helper()
	if strings.HasPrefix(path, "/") {
		path = a.URL + path
	}
	r, err := http.NewRequest(method, path, body)
	require.NoError(a.t, err)
	resp, err := http.DefaultClient.Do(r)
	require.NoError(a.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(a.t, err)
	resp.Body = io.NopCloser(bytes.NewReader(b))
	return resp
}

// begin starts an upload and answers its location.
func (a *app) begin(repository string) string {
	a.t.Helper()
	resp := a.do("POST", "/v2/"+repository+"/blobs/uploads/", nil)
	require.Equal(a.t, http.StatusAccepted, resp.StatusCode)
	return resp.Header.Get("Location")
}

// finish ends an upload and answers the status.
func (a *app) finish(location string, d digest.Digest) int {
	a.t.Helper()
	u, err := url.Parse(location)
	require.NoError(a.t, err)
	q := u.Query()
	q.Set("digest", d.String())
	u.RawQuery = q.Encode()
	return a.do("PUT", u.String(), nil).StatusCode
}

// pages follows a listing from page to page.
func (a *app) pages(path, field string) (pages [][]string) {
	a.t.Helper()
	for path != "" {
		resp := a.do("GET", path, nil)
		require.Equal(a.t, http.StatusOK, resp.StatusCode)
		var page map[string]any
		require.NoError(a.t, json.NewDecoder(resp.Body).Decode(&page))
		var names []string
		list, _ := page[field].([]any)
		for _, name := range list {
			names = append(names, name.(string))
		}
		pages = append(pages, names)
		require.Less(a.t, len(pages), 100, "pages without end")
		path, _, _ = strings.Cut(strings.TrimPrefix(resp.Header.Get("Link"), "<"), ">")
	}
	return pages
}

// A catalog in pages of any size holds each repository once. With another
// driver, repositories below one another make it panic, or turn in circles.
func TestCatalogInPages(t *testing.T) {
	c := ellipticstest.Start(t)
	d := open(t, c, nil)
	a := serve(t, c, nil)
	require.Equal(t, [][]string{nil}, a.pages("/v2/_catalog?n=5", "repositories"), "an empty registry")

	repositories := []string{"a", "a/x", "a/y", "a/z", "a/0", "a/x/deep/er", "a-b", "a-b/c", "a.b", "b", "foo", "x/y/z"}
	for _, r := range repositories {
		dir := "/docker/registry/v2/repositories/" + r
		put(t, d, dir+"/_manifests/revisions/sha256/"+strings.Repeat("0", 64)+"/link", dir+"/_manifests/tags/1/current/link",
			dir+"/_layers/sha256/"+strings.Repeat("1", 64)+"/link", dir+"/_uploads/01890a5d-ac96-774b-bcce-b302099a8001/startedat")
	}
	put(t, d, "/docker/registry/v2/repositories/empty/_layers/x") // has no manifests: is none
	all := slices.Concat(a.pages("/v2/_catalog", "repositories")...)
	require.ElementsMatch(t, repositories, all)
	for n := 1; n <= len(all)+1; n++ {
		pages := a.pages(fmt.Sprintf("/v2/_catalog?n=%d", n), "repositories")
		require.Equal(t, all, slices.Concat(pages...), "pages of %d", n)
	}
	for i, last := range all {
		path := "/v2/_catalog?n=1000&last=" + url.QueryEscape(last)
		require.Equal(t, all[i+1:], append([]string{}, slices.Concat(a.pages(path, "repositories")...)...), "after %s", last)
		// The page goes on there even when the repository has gone meanwhile.
		require.NoError(t, d.Delete(context.Background(), "/docker/registry/v2/repositories/"+last+"/_manifests"))
		require.Equal(t, all[i+1:], append([]string{}, slices.Concat(a.pages(path, "repositories")...)...), "after %s, which is gone", last)
		put(t, d, "/docker/registry/v2/repositories/"+last+"/_manifests/tags/1/current/link")
	}
	for _, last := range []string{"zzz", "a/zz", "../../../x", "a//b", "/"} { // nonsense ends, and does not panic
		a.pages("/v2/_catalog?n=2&last="+url.QueryEscape(last), "repositories")
	}
}

func TestTagsInPages(t *testing.T) {
	c := ellipticstest.Start(t)
	d := open(t, c, nil)
	a := serve(t, c, nil)
	require.Equal(t, http.StatusNotFound, a.do("GET", "/v2/unknown/tags/list", nil).StatusCode)
	tags := []string{"1.0", "1.0-rc", "1.0.1", "10", "A", "_", "a", "latest"}
	for _, tag := range tags {
		put(t, d, "/docker/registry/v2/repositories/hello/_manifests/tags/"+tag+"/current/link",
			"/docker/registry/v2/repositories/hello/_manifests/tags/"+tag+"/index/sha256/"+strings.Repeat("0", 64)+"/link")
	}
	slices.Sort(tags)
	for n := 1; n <= len(tags)+1; n++ {
		require.Equal(t, tags, slices.Concat(a.pages(fmt.Sprintf("/v2/hello/tags/list?n=%d", n), "tags")...), "pages of %d", n)
	}
}

// A client goes away in the middle of a PATCH, asks where it was, and goes on:
// with another registry of the same cluster.
func TestResumeAfterHangUp(t *testing.T) {
	c := ellipticstest.Start(t)
	first, second := serve(t, c, smallChunks), serve(t, c, smallChunks)
	content := random(1, 1_000_000)
	location, err := url.Parse(first.begin("hello"))
	require.NoError(t, err)
	conn, err := net.Dial("tcp", location.Host)
	require.NoError(t, err)
	_, err = fmt.Fprintf(conn, "PATCH %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n", location.RequestURI(), location.Host, len(content))
	require.NoError(t, err)
	const sent = 300_000
	write(t, conn, content[:sent])
	require.NoError(t, conn.Close())

	status := second.URL + location.Path
	var resp *http.Response
	require.Eventually(t, func() bool {
		resp = second.do("GET", status, nil)
		require.Equal(t, http.StatusNoContent, resp.StatusCode)
		return resp.Header.Get("Range") == fmt.Sprintf("0-%d", sent-1)
	}, 20*time.Second, 5*time.Millisecond, "what the client sent is lost")
	resp = second.do("PATCH", resp.Header.Get("Location"), bytes.NewReader(content[sent:]))
	require.Equal(t, http.StatusAccepted, resp.StatusCode)
	require.Equal(t, http.StatusCreated, second.finish(resp.Header.Get("Location"), digest.FromBytes(content)))
	resp = first.do("GET", "/v2/hello/blobs/"+digest.FromBytes(content).String(), nil)
	got, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.True(t, bytes.Equal(content, got))
}

func TestPollsWhileAPatchRuns(t *testing.T) {
	c := ellipticstest.Start(t)
	first, second := serve(t, c, smallChunks), serve(t, c, smallChunks)
	content := random(1, 1_000_000)
	location := first.begin("hello")
	body, feed := io.Pipe()
	patched := make(chan *http.Response, 1)
	go func() { patched <- first.do("PATCH", location, body) }()
	for i := range 10 {
		write(t, feed, content[i*100_000:(i+1)*100_000])
		for _, a := range []*app{first, second} {
			u, err := url.Parse(location)
			require.NoError(t, err)
			resp := a.do("GET", a.URL+u.Path, nil)
			require.Equal(t, http.StatusNoContent, resp.StatusCode)
			require.Equal(t, "0-0", resp.Header.Get("Range"))
		}
	}
	require.NoError(t, feed.Close())
	resp := <-patched
	require.Equal(t, http.StatusAccepted, resp.StatusCode)
	require.Equal(t, http.StatusCreated, first.finish(resp.Header.Get("Location"), digest.FromBytes(content)))
}

// However an upload ends, nothing of it stays: not even what the registry
// writes after the end.
func TestNothingStaysOfAnUpload(t *testing.T) {
	c := ellipticstest.Start(t)
	d := open(t, c, nil)
	a := serve(t, c, smallChunks)
	content := random(1, 200_000)
	for name, end := range map[string]func(location string){
		"finished": func(location string) {
			require.Equal(t, http.StatusCreated, a.finish(location, digest.FromBytes(content)))
		},
		"finished twice": func(location string) { // the blob is there already
			require.Equal(t, http.StatusCreated, a.finish(location, digest.FromBytes(content)))
		},
		"wrong digest": func(location string) {
			require.Equal(t, http.StatusBadRequest, a.finish(location, digest.FromString("something else")))
		},
		"cancelled": func(location string) {
			require.Equal(t, http.StatusNoContent, a.do("DELETE", location, nil).StatusCode)
			require.Equal(t, http.StatusNotFound, a.do("DELETE", location, nil).StatusCode)
			require.Equal(t, http.StatusNotFound, a.finish(location, digest.FromBytes(content)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			resp := a.do("PATCH", a.begin("hello"), bytes.NewReader(content))
			require.Equal(t, http.StatusAccepted, resp.StatusCode)
			end(resp.Header.Get("Location"))
			list, err := d.List(context.Background(), uploadsOfHello)
			require.NoError(t, err)
			require.Empty(t, list)
		})
	}
}
