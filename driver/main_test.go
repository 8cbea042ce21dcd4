package driver_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/elliptics-registry/elliptics-registry/driver"
	"github.com/elliptics-registry/elliptics-registry/elliptics/ellipticstest"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))                                                       // tests stop nodes all the time
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/docker/go-events.(*Broadcaster).run")) // of Distribution's app
}

// open makes a driver on a test cluster, as a configuration would.
func open(t testing.TB, c *ellipticstest.Cluster, parameters map[string]any) *driver.Driver {
	t.Helper()
	return openNodes(t, c.Remotes(), parameters)
}

func openNodes(t testing.TB, remotes []string, parameters map[string]any) *driver.Driver {
	t.Helper()
	m := map[string]any{"nodes": remotes, "waittimeout": "3s", "checktimeout": "1s"}
	for k, v := range parameters {
		m[k] = v
	}
	p, err := driver.ParseParameters(m)
	require.NoError(t, err)
	d, err := driver.New(context.Background(), p)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	require.Eventually(t, func() bool {
		_, err := d.Stat(context.Background(), "/")
		return err == nil
	}, 20*time.Second, 5*time.Millisecond, "the cluster was not reached")
	return d
}

// put writes small files whose content is their path.
func put(t testing.TB, d storagedriver.StorageDriver, paths ...string) {
	t.Helper()
	for _, p := range paths {
		require.NoError(t, d.PutContent(context.Background(), p, []byte(p)))
	}
}

// get is the content of a file.
func get(t testing.TB, d storagedriver.StorageDriver, path string) []byte {
	t.Helper()
	b, err := d.GetContent(context.Background(), path)
	require.NoError(t, err)
	return b
}

// random is content that is the same for the same seed.
func random(seed uint64, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return b
}

// missing is how Distribution is told that a path does not exist: it compares
// the type of the value, so that nothing may be wrapped around it.
func missing(path string) error {
	return storagedriver.PathNotFoundError{Path: path, DriverName: driver.Name}
}

// writer opens a writer.
func writer(t testing.TB, d storagedriver.StorageDriver, path string, appending bool) storagedriver.FileWriter {
	t.Helper()
	w, err := d.Writer(context.Background(), path, appending)
	require.NoError(t, err)
	return w
}

// write writes all of b.
func write(t testing.TB, w io.Writer, b []byte) {
	t.Helper()
	n, err := w.Write(b)
	require.NoError(t, err)
	require.Equal(t, len(b), n)
}

// upload is a path in which Distribution keeps an upload.
func upload(n int, file string) string {
	const uploads = "/docker/registry/v2/repositories/hello/_uploads/"
	path := uploads + fmt.Sprintf("01890a5d-ac96-774b-bcce-b302099a8%03d", n)
	if file == "" {
		return path
	}
	return path + "/" + file
}

// begin starts an upload as the registry does for a POST.
func begin(t testing.TB, d storagedriver.StorageDriver, n int) {
	t.Helper()
	ctx := context.Background()
	require.NoError(t, d.PutContent(ctx, upload(n, "startedat"), []byte(time.Now().Format(time.RFC3339))))
	w := writer(t, d, upload(n, "data"), false)
	require.NoError(t, d.PutContent(ctx, upload(n, "hashstates/sha256/0"), []byte("state of nothing")))
	require.NoError(t, w.Close())
}
