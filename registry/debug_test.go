package registry_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics/ellipticstest"
)

func TestDebugEndpoints(t *testing.T) {
	c := ellipticstest.Start(t)
	debug := freeAddress(t)
	r := run(t, config{
		http:      "debug: {addr: " + debug + "}",
		elliptics: onCluster(c),
		more:      "health: {storagedriver: {enabled: true, interval: 50ms, threshold: 1}}",
	}.load(t))
	pushBlob(t, r.url, []byte("hello"))

	for path, want := range map[string]string{
		"/debug/health":             "{}",
		"/debug/vars":               "memstats",
		"/debug/pprof/":             "goroutine",
		"/debug/pprof/heap?debug=1": "heap profile",
	} {
		resp, b := request(t, "GET", "http://"+debug+path, nil)
		require.Equal(t, http.StatusOK, resp.StatusCode, path)
		require.Contains(t, string(b), want, path)
		resp, _ = request(t, "GET", r.url+path, nil)
		require.Equal(t, http.StatusNotFound, resp.StatusCode, "%s for everybody", path)
	}

	// A load balancer sees that the storage is gone, and that it is back.
	c.Stop(0)
	requireSoon(t, func() bool {
		resp, b, err := try("GET", "http://"+debug+"/debug/health", nil)
		return err == nil && resp.StatusCode == http.StatusServiceUnavailable && len(b) > len("{}\n")
	}, "the health check does not fail")
	_, b := request(t, "GET", "http://"+debug+"/debug/health", nil)
	require.Contains(t, string(b), "storagedriver_elliptics")
	resp, b := request(t, "GET", r.url+"/v2/", nil)
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	require.Contains(t, string(b), "a health check fails")
	require.Contains(t, string(b), "storagedriver_elliptics")
	require.NotEmpty(t, resp.Header.Get("Retry-After"))
	c.Restart(0)
	requireSoon(t, func() bool {
		resp, _, err := try("GET", r.url+"/v2/", nil)
		return err == nil && resp.StatusCode == http.StatusOK
	}, "the health check does not recover")
}
