package gc

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/factory"
	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/elliptics-registry/elliptics-registry/driver"
	"github.com/elliptics-registry/elliptics-registry/elliptics/ellipticstest"
)

func TestMain(m *testing.M) {
	logrus.SetOutput(io.Discard)
	slog.SetDefault(slog.New(slog.DiscardHandler))
	factory.Register("given", given{})
	// Distribution never ends what it passes its notifications through.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/docker/go-events.(*Broadcaster).run"))
}

// given is a driver that the test has made.
type given struct{}

func (given) Create(_ context.Context, p map[string]any) (storagedriver.StorageDriver, error) {
	return p["driver"].(storagedriver.StorageDriver), nil
}

// clock is a wall clock that the test turns. No operation may last longer than
// half an hour of it, as no request does in life.
type clock struct {
	mu     sync.Mutex
	now    time.Time
	begun  map[int]time.Time
	number int
}

func newClock() *clock {
	return &clock{now: time.Now(), begun: make(map[int]time.Time)}
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) operation() (end func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.number++
	n := c.number
	c.begun[n] = c.now
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.begun, n)
	}
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := c.now.Add(d)
	for _, begun := range c.begun {
		if latest := begun.Add(30 * time.Minute); next.After(latest) {
			next = latest
		}
	}
	if next.After(c.now) {
		c.now = next
	}
}

func newDriver(t *testing.T, c *ellipticstest.Cluster, groups string, now func() time.Time, collecting bool) *driver.Driver {
	t.Helper()
	p, err := driver.ParseParameters(map[string]any{"nodes": c.Remotes(), "groups": groups, "waittimeout": "5s"})
	require.NoError(t, err)
	p.Now, p.Collecting = now, collecting
	d, err := driver.New(context.Background(), p)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	require.Eventually(t, func() bool {
		_, err := d.Stat(context.Background(), "/")
		return err == nil
	}, 20*time.Second, 5*time.Millisecond)
	return d
}

// registry is Distribution's application on a driver of its own.
type registry struct {
	http.Handler
	clock *clock
}

func newRegistry(t *testing.T, d *driver.Driver, c *clock) *registry {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	config := &configuration.Configuration{Storage: configuration.Storage{
		"given": {"driver": d}, "delete": {"enabled": true},
		"maintenance": {"uploadpurging": map[any]any{"enabled": false}},
	}}
	config.HTTP.Secret = "secret"
	app := handlers.NewApp(ctx, config)
	t.Cleanup(func() {
		require.NoError(t, app.Shutdown())
		cancel()
	})
	return &registry{app, c}
}

func (r *registry) do(method, url, mediaType string, body []byte) *http.Response {
	defer r.clock.operation()()
	req := httptest.NewRequest(method, url, bytes.NewReader(body))
	if mediaType != "" {
		req.Header.Set("Content-Type", mediaType)
	}
	for _, accepted := range []string{manifestType, indexType} {
		req.Header.Add("Accept", accepted)
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	return w.Result()
}

const (
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	indexType    = "application/vnd.oci.image.index.v1+json"
	configType   = "application/vnd.oci.image.config.v1+json"
	layerType    = "application/vnd.oci.image.layer.v1.tar"
)

func failed(what string, resp *http.Response) error {
	b, _ := io.ReadAll(resp.Body)
	return fmt.Errorf("%s: %s: %s", what, resp.Status, b)
}

// pushBlob pushes as clients do: it asks first.
func (r *registry) pushBlob(repo string, content []byte) error {
	dgst := digest.FromBytes(content)
	if r.do("HEAD", "/v2/"+repo+"/blobs/"+dgst.String(), "", nil).StatusCode == http.StatusOK {
		return nil
	}
	resp := r.do("POST", "/v2/"+repo+"/blobs/uploads/", "", nil)
	if resp.StatusCode != http.StatusAccepted {
		return failed("begin upload", resp)
	}
	resp = r.do("PUT", resp.Header.Get("Location")+"&digest="+dgst.String(), "application/octet-stream", content)
	if resp.StatusCode != http.StatusCreated {
		return failed("upload", resp)
	}
	return nil
}

// mount takes a blob from another repository if it is there.
func (r *registry) mount(repo, from string, content []byte) error {
	dgst := digest.FromBytes(content)
	resp := r.do("POST", "/v2/"+repo+"/blobs/uploads/?mount="+dgst.String()+"&from="+from, "", nil)
	switch resp.StatusCode {
	case http.StatusCreated:
		return nil
	case http.StatusAccepted:
		return r.pushBlob(repo, content)
	}
	return failed("mount", resp)
}

func (r *registry) pushManifest(repo, reference, mediaType string, manifest []byte) error {
	resp := r.do("PUT", "/v2/"+repo+"/manifests/"+reference, mediaType, manifest)
	if resp.StatusCode != http.StatusCreated {
		return failed("push manifest "+repo+":"+reference, resp)
	}
	return nil
}

func (r *registry) get(url string) ([]byte, error) {
	resp := r.do("GET", url, "", nil)
	if resp.StatusCode != http.StatusOK {
		return nil, failed("get "+url, resp)
	}
	return io.ReadAll(resp.Body)
}

type descriptor struct {
	MediaType string        `json:"mediaType"`
	Digest    digest.Digest `json:"digest"`
	Size      int           `json:"size"`
}

func describe(mediaType string, content []byte) descriptor {
	return descriptor{mediaType, digest.FromBytes(content), len(content)}
}

// image is an image's config and layers.
type image struct {
	config []byte
	layers [][]byte
}

func (i image) manifest() []byte {
	m := map[string]any{"schemaVersion": 2, "mediaType": manifestType, "config": describe(configType, i.config)}
	var layers []descriptor
	for _, l := range i.layers {
		layers = append(layers, describe(layerType, l))
	}
	m["layers"] = layers
	b, _ := json.Marshal(m)
	return b
}

func index(images ...image) []byte {
	var list []descriptor
	for _, i := range images {
		list = append(list, describe(manifestType, i.manifest()))
	}
	b, _ := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": indexType, "manifests": list})
	return b
}

// pullImage reads everything that a manifest refers to, and checks every byte.
func (r *registry) pullImage(repo, reference string, i image) error {
	m, err := r.get("/v2/" + repo + "/manifests/" + reference)
	if err == nil && !bytes.Equal(m, i.manifest()) {
		err = fmt.Errorf("%s:%s is another manifest", repo, reference)
	}
	for _, content := range append([][]byte{i.config}, i.layers...) {
		if err != nil {
			break
		}
		var got []byte
		got, err = r.get("/v2/" + repo + "/blobs/" + digest.FromBytes(content).String())
		if err == nil && !bytes.Equal(got, content) {
			err = fmt.Errorf("a blob of %s:%s has other bytes", repo, reference)
		}
	}
	return err
}
