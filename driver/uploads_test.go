package driver_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/registry/storage"
	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/driver"
	"github.com/elliptics-registry/elliptics-registry/elliptics/ellipticstest"
	"github.com/elliptics-registry/elliptics-registry/elliptics/node"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

const uploadsOfHello = "/docker/registry/v2/repositories/hello/_uploads"

func state(n int) string { return "hashstates/sha256/" + strconv.Itoa(n) }

// The registry works on an upload as if it were a directory.
func TestUploadLooksLikeADirectory(t *testing.T) {
	d := open(t, ellipticstest.Start(t), nil)
	ctx := context.Background()
	begin(t, d, 1)
	require.Equal(t, missing(upload(1, state(0))), func() error { _, err := d.GetContent(ctx, upload(1, state(0))); return err }(),
		"the state of nothing is worth nothing")
	w := writer(t, d, upload(1, "data"), true)
	write(t, w, []byte("hello"))
	require.NoError(t, d.PutContent(ctx, upload(1, state(5)), []byte("state of five")))
	require.NoError(t, w.Close())

	list, err := d.List(ctx, upload(1, ""))
	require.NoError(t, err)
	require.ElementsMatch(t, []string{upload(1, "startedat"), upload(1, "hashstates")}, list)
	got, err := walk(d, uploadsOfHello, "", nil)
	require.NoError(t, err)
	require.Equal(t, []string{upload(1, ""), upload(1, "hashstates"), upload(1, "hashstates/sha256"), upload(1, state(5)), upload(1, "startedat")}, got)
	require.Equal(t, "state of five", string(get(t, d, upload(1, state(5)))))
	require.NotEmpty(t, get(t, d, upload(1, "startedat")))
	fi, err := d.Stat(ctx, upload(1, state(5)))
	require.NoError(t, err)
	require.EqualValues(t, len("state of five"), fi.Size())
	for _, dir := range []string{"", "hashstates", "hashstates/sha256"} {
		fi, err := d.Stat(ctx, upload(1, dir))
		require.NoError(t, err)
		require.True(t, fi.IsDir(), dir)
	}

	w = writer(t, d, upload(1, "data"), true)
	require.EqualValues(t, 5, w.Size())
	require.NoError(t, w.Commit(ctx))
	require.NoError(t, w.Close())
	fi, err = d.Stat(ctx, upload(1, "data"))
	require.NoError(t, err)
	require.EqualValues(t, 5, fi.Size())
	require.Equal(t, "hello", string(get(t, d, upload(1, "data"))))
	require.NoError(t, d.Move(ctx, upload(1, "data"), "/blob"))
	require.Equal(t, "hello", string(get(t, d, "/blob")))
	_, err = d.Stat(ctx, upload(1, ""))
	require.Equal(t, missing(upload(1, "")), err)
}

// After the end of an upload the registry stores the hash state once more, in a
// directory that it has just removed. Without startedat nobody would purge it.
func TestHashStatesOfWhatIsOverAreDropped(t *testing.T) {
	ctx := context.Background()
	for name, end := range map[string]func(t *testing.T, d *driver.Driver, w storagedriver.FileWriter){
		"cancelled": func(t *testing.T, _ *driver.Driver, w storagedriver.FileWriter) {
			require.NoError(t, w.Cancel(ctx))
		},
		"removed": func(t *testing.T, d *driver.Driver, w storagedriver.FileWriter) {
			require.NoError(t, w.Close())
			require.NoError(t, d.Delete(ctx, upload(1, "")))
		},
		"removed while it is written": func(t *testing.T, d *driver.Driver, _ storagedriver.FileWriter) {
			require.NoError(t, d.Delete(ctx, upload(1, "")))
		},
		"finished": func(t *testing.T, d *driver.Driver, w storagedriver.FileWriter) {
			require.NoError(t, w.Commit(ctx))
			require.NoError(t, w.Close())
			require.NoError(t, d.Move(ctx, upload(1, "data"), "/blob"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := ellipticstest.Start(t)
			d, other := open(t, c, nil), open(t, c, nil)
			begin(t, d, 1)
			w := writer(t, d, upload(1, "data"), true)
			write(t, w, []byte("hello"))
			end(t, d, w)
			for _, d := range []*driver.Driver{d, other} {
				for range 2 {
					require.NoError(t, d.PutContent(ctx, upload(1, state(5)), []byte("late")))
				}
			}
			_ = w.Close() // fails, perhaps: there is nothing to write to
			for _, d := range []*driver.Driver{d, other} {
				// A status poll that has read startedat before the end.
				_, err := d.Writer(ctx, upload(1, "data"), true)
				require.Equal(t, missing(upload(1, "data")), err)
				list, err := d.List(ctx, uploadsOfHello)
				require.NoError(t, err)
				require.Empty(t, list)
			}
		})
	}
}

func TestPurgeFindsEveryUpload(t *testing.T) {
	d := open(t, ellipticstest.Start(t), smallChunks)
	ctx := context.Background()
	begin(t, d, 1)
	for n := range 2 { // old ones: only begun, and with content
		begin(t, d, n+2)
		old := time.Now().Add(-200 * time.Hour).Format(time.RFC3339)
		require.NoError(t, d.PutContent(ctx, upload(n+2, "startedat"), []byte(old)))
	}
	w := writer(t, d, upload(3, "data"), true)
	write(t, w, random(1, 300_000))
	require.NoError(t, d.PutContent(ctx, upload(3, state(300_000)), []byte("state")))
	require.NoError(t, w.Close())
	purged, errs := storage.PurgeUploads(ctx, d, time.Now().Add(-168*time.Hour), true)
	require.Empty(t, errs)
	require.ElementsMatch(t, []string{upload(2, ""), upload(3, "")}, purged)
	list, err := d.List(ctx, uploadsOfHello)
	require.NoError(t, err)
	require.Equal(t, []string{upload(1, "")}, list)
}

// A client hangs up: the context of its request ends, and the registry stores
// the hash state with that context, and may never close the writer.
func TestClientHangsUp(t *testing.T) {
	c := ellipticstest.Start(t)
	d, other := open(t, c, smallChunks), open(t, c, smallChunks)
	ctx := context.Background()
	content := random(1, 300_000)
	begin(t, d, 1)
	request, hangUp := context.WithCancel(ctx)
	w, err := d.Writer(request, upload(1, "data"), true)
	require.NoError(t, err)
	write(t, w, content[:200_000])
	hangUp()
	require.NoError(t, d.PutContent(request, upload(1, state(200_000)), []byte("state")))

	require.Eventually(t, func() bool {
		w, err := other.Writer(ctx, upload(1, "data"), true)
		require.NoError(t, err)
		defer w.Close()
		return w.Size() == 200_000
	}, 10*time.Second, time.Millisecond, "what the client sent is lost")
	require.Equal(t, "state", string(get(t, other, upload(1, state(200_000)))))
	_, err = w.Write(content[200_000:])
	require.Error(t, err, "the writer is given up")

	resumed := writer(t, other, upload(1, "data"), true)
	write(t, resumed, content[200_000:])
	require.NoError(t, resumed.Commit(ctx))
	require.NoError(t, resumed.Close())
	require.NoError(t, w.Close())
	require.Equal(t, content, get(t, d, upload(1, "data")))
}

func TestPutContentIgnoresThatTheClientHungUp(t *testing.T) {
	d := open(t, ellipticstest.Start(t), map[string]any{"maxthreads": 1})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.NoError(t, d.PutContent(ctx, "/link", []byte("x")))
	require.NoError(t, d.PutContent(ctx, upload(1, "startedat"), []byte("now")))
	require.Equal(t, "x", string(get(t, d, "/link")))
	require.Equal(t, "now", string(get(t, d, upload(1, "startedat"))))
}

// A status poll opens the upload for appending and closes it, on any registry,
// while a PATCH writes into it.
func TestPollsDoNotDisturb(t *testing.T) {
	c := ellipticstest.Start(t)
	d, other := open(t, c, smallChunks), open(t, c, smallChunks)
	ctx := context.Background()
	content := random(1, 300_000)
	begin(t, d, 1)
	for part := range 3 {
		w := writer(t, d, upload(1, "data"), true)
		for i := range 10 {
			at := part*100_000 + i*10_000
			write(t, w, content[at:at+10_000])
			for _, d := range []*driver.Driver{d, other} {
				poll := writer(t, d, upload(1, "data"), true)
				require.EqualValues(t, part*100_000, poll.Size(), "a poll sees what is durable")
				require.NoError(t, d.PutContent(ctx, upload(1, state(0)), []byte("state of nothing")))
				require.NoError(t, poll.Close())
			}
		}
		require.NoError(t, d.PutContent(ctx, upload(1, state((part+1)*100_000)), []byte{byte(part)}))
		require.NoError(t, w.Close())
		require.NoError(t, d.PutContent(ctx, upload(1, state((part+1)*100_000)), []byte{byte(part)}))
		require.NoError(t, w.Close())
		require.Equal(t, []byte{byte(part)}, get(t, other, upload(1, state((part+1)*100_000))))
	}
	w := writer(t, other, upload(1, "data"), true)
	require.NoError(t, w.Commit(ctx))
	require.NoError(t, w.Close())
	require.Equal(t, content, get(t, d, upload(1, "data")))
}

// The state comes while the writer stores what the client sent.
func TestHashStateOfAWriterThatCloses(t *testing.T) {
	c := ellipticstest.Start(t)
	d := open(t, c, nil)
	ctx := context.Background()
	begin(t, d, 1)
	request, hangUp := context.WithCancel(ctx)
	w, err := d.Writer(request, upload(1, "data"), true)
	require.NoError(t, err)
	write(t, w, []byte("hello"))
	slow := c.Fail(0, wire.CmdWrite, 1, node.Fault{Delay: 200 * time.Millisecond})
	hangUp()
	require.Eventually(t, func() bool { return slow.Hits() > 0 }, 10*time.Second, time.Millisecond)
	require.NoError(t, d.PutContent(request, upload(1, state(5)), []byte("state")))
	require.Equal(t, "state", string(get(t, d, upload(1, state(5)))))
	w = writer(t, d, upload(1, "data"), true)
	require.EqualValues(t, 5, w.Size())
	require.NoError(t, w.Close())
}
