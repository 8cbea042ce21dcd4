package registry_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics/ellipticstest"
	"github.com/elliptics-registry/elliptics-registry/elliptics/node"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
	"github.com/elliptics-registry/elliptics-registry/registry"
)

func TestStopLetsRequestsEnd(t *testing.T) {
	c := ellipticstest.Start(t)
	r := run(t, config{elliptics: onCluster(c)}.load(t))
	resp, _ := request(t, "POST", r.url+"/v2/hello/blobs/uploads/", nil)
	before := c.Requests(0, wire.CmdRead)
	body, feed := io.Pipe()
	req, err := http.NewRequest("PATCH", resp.Header.Get("Location"), body)
	require.NoError(t, err)
	answered := make(chan error, 1)
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode != http.StatusAccepted || resp.Header.Get("Range") != "0-100999" {
				err = errors.New(resp.Status + " " + resp.Header.Get("Range"))
			}
		}
		answered <- err
	}()
	_, err = feed.Write(make([]byte, 100_000))
	require.NoError(t, err)
	requireSoon(t, func() bool { return c.Requests(0, wire.CmdRead) > before }, "the request has not begun")
	r.stop()
	requireSoon(t, func() bool {
		c, err := net.Dial("tcp", r.Addr().String())
		if err == nil {
			c.Close()
		}
		return err != nil
	}, "new connections are still taken")
	_, err = feed.Write(make([]byte, 1000))
	require.NoError(t, err)
	require.NoError(t, feed.Close())
	require.NoError(t, <-answered)
}

func TestStopLosesPatience(t *testing.T) {
	r := run(t, config{http: "draintimeout: 200ms", elliptics: onCluster(ellipticstest.Start(t))}.load(t))
	resp, _ := request(t, "POST", r.url+"/v2/hello/blobs/uploads/", nil)
	body, feed := io.Pipe()
	req, err := http.NewRequest("PATCH", resp.Header.Get("Location"), body)
	require.NoError(t, err)
	answered := make(chan error, 1)
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			resp.Body.Close()
		}
		answered <- err
	}()
	_, err = feed.Write(make([]byte, 1000))
	require.NoError(t, err)
	r.end(t)() // although the request never ends
	require.NoError(t, feed.Close())
	require.Error(t, <-answered)
}

func TestAddressInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	data := t.TempDir()
	s := config{http: "addr: " + l.Addr().String(), elliptics: "embedded: " + data}.load(t)
	_, err = registry.New(context.Background(), s)
	require.ErrorContains(t, err, "http.addr: cannot listen on "+l.Addr().String())
	require.ErrorContains(t, err, "--listen")
	// It has let go of everything.
	run(t, config{elliptics: "embedded: " + data}.load(t))
}

func TestDataDirectoryInUse(t *testing.T) {
	data := t.TempDir()
	first := run(t, config{elliptics: "embedded: " + data}.load(t))
	blob := pushBlob(t, first.url, []byte("hello"))
	_, err := registry.New(context.Background(), config{elliptics: "embedded: " + data}.load(t))
	var inUse *node.ErrInUse
	require.ErrorAs(t, err, &inUse)
	require.Equal(t, os.Getpid(), inUse.PID)
	require.ErrorContains(t, err, data)
	require.ErrorContains(t, err, first.Storage().Node.Remote())
	_, b := request(t, "GET", blob, nil)
	require.Equal(t, "hello", string(b))
}

// A tool beside a registry talks to the registry's node; without one it opens
// the directory itself.
func TestOpenStorageBeside(t *testing.T) {
	data := t.TempDir()
	s := config{elliptics: "embedded: " + data}.load(t)
	links := func(beside bool) []string {
		st, err := registry.OpenStorageBeside(s.Storage)
		require.NoError(t, err)
		defer func() { require.NoError(t, st.Close()) }()
		require.Equal(t, beside, st.Node == nil)
		d, err := st.Driver(context.Background())
		require.NoError(t, err)
		defer func() { require.NoError(t, d.Close()) }()
		list, err := d.List(context.Background(), "/docker/registry/v2/repositories")
		require.NoError(t, err)
		return list
	}
	r := run(t, s)
	blob := pushBlob(t, r.url, []byte("hello"))
	require.Equal(t, []string{"/docker/registry/v2/repositories/hello"}, links(true))
	_, b := request(t, "GET", blob, nil)
	require.Equal(t, "hello", string(b), "the registry goes on")
	r.end(t)()
	require.Equal(t, []string{"/docker/registry/v2/repositories/hello"}, links(false))
}

func TestToolWithoutStorage(t *testing.T) {
	c := ellipticstest.Start(t)
	remote := c.Remote(0)
	c.Stop(0)
	st, err := registry.OpenStorageBeside(config{elliptics: onCluster(c)}.load(t).Storage)
	require.NoError(t, err)
	defer func() { require.NoError(t, st.Close()) }()
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_, err = st.Driver(ctx)
	require.ErrorContains(t, err, "no node can be reached")
	require.ErrorContains(t, err, remote)
}

// The secret that signs uploads outlives the process, is nobody else's to
// read, and is made anew when it is not one.
func TestSecretOfUploads(t *testing.T) {
	data := t.TempDir()
	file := filepath.Join(data, "http.secret")
	secret := func() string {
		s, err := registry.Default(data)
		require.NoError(t, err)
		s.Config.HTTP.Addr = "127.0.0.1:0"
		s.Config.Log.AccessLog.Disabled = true
		s.Config.Storage["maintenance"] = map[string]any{"uploadpurging": map[any]any{"enabled": false, "age": "1h", "interval": "1h", "dryrun": false}}
		run(t, s).end(t)()
		info, err := os.Stat(file)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode())
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, s.Config.HTTP.Secret, strings.TrimSpace(string(b)))
		return s.Config.HTTP.Secret
	}
	first := secret()
	require.Len(t, first, 64)
	require.Equal(t, first, secret())
	require.NoError(t, os.WriteFile(file, []byte("torn"), 0o600))
	require.Len(t, secret(), 64)
}

func TestUnknownKeysAreRefused(t *testing.T) {
	file := config{elliptics: "embedded: x\nchunksise: 1MiB", more: "helth: {}"}.write(t)
	_, err := registry.Load(file)
	require.ErrorContains(t, err, file+": helth: unknown key; did you mean health?")
	require.NotContains(t, err.Error(), "of-the-test", "a secret of the file")
	file = config{elliptics: "embedded: x\nchunksise: 1MiB"}.write(t)
	_, err = registry.Load(file)
	require.ErrorContains(t, err, file+": storage.elliptics.chunksise: unknown key; did you mean chunksize?")
}

// An upload that was begun on one registry goes on on another one.
func TestUploadOnSeveralRegistries(t *testing.T) {
	c := ellipticstest.Start(t, 1, 2, 3)
	one := run(t, config{elliptics: onCluster(c, 1, 2, 3)}.load(t))
	two := run(t, config{elliptics: onCluster(c, 1, 2, 3)}.load(t))
	content := random(300_000)
	resp, _ := request(t, "POST", one.url+"/v2/hello/blobs/uploads/", nil)
	location := resp.Header.Get("Location")
	for i, r := range []*running{two, one, two} {
		location = strings.Replace(location, one.url, r.url, 1)
		resp, b := request(t, "PATCH", location, content[i*100_000:(i+1)*100_000])
		require.Equal(t, http.StatusAccepted, resp.StatusCode, "%s", b)
		location = strings.Replace(resp.Header.Get("Location"), r.url, one.url, 1)
	}
	dgst := digestOf(content)
	resp, b := request(t, "PUT", location+"&digest="+dgst, nil)
	require.Equal(t, http.StatusCreated, resp.StatusCode, "%s", b)
	_, b = request(t, "GET", two.url+"/v2/hello/blobs/"+dgst, nil)
	require.True(t, bytes.Equal(content, b))
}
