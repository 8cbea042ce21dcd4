package layout

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A registry whose clock differs by minutes is followed: whoever writes later
// wins, whatever their clocks say. One whose clock is an hour ahead is read, but
// what it wrote is not overwritten with a timestamp that would lose: that is an
// error until the clocks agree.
func TestClocksThatDiffer(t *testing.T) {
	eachSetup(t, func(t *testing.T, s *memStore) {
		ctx := context.Background()
		began := time.Now()
		ahead := 5 * time.Minute
		fast := newTestFS(t, s, Options{Now: func() time.Time { return time.Now().Add(ahead) }})
		later := time.Duration(0)
		slow := newTestFS(t, s, Options{Now: func() time.Time { return time.Now().Add(later) }})

		for i := range 5 {
			mine, theirs := randomBytes(100+i, 1), randomBytes(200_000+i, 2)
			must(t, fast.Put(ctx, "/dir/file", mine))
			mustGet(t, slow, "/dir/file", mine)
			must(t, slow.Put(ctx, "/dir/file", theirs))
			mustGet(t, fast, "/dir/file", theirs)
			must(t, fast.Put(ctx, "/dir/other", mine))
			must(t, slow.Delete(ctx, "/dir"))
			mustNotExist(t, fast, "/dir/file")
			mustNotExist(t, fast, "/dir/other")
		}

		ahead = time.Hour
		data := randomBytes(1000, 3)
		must(t, fast.Put(ctx, "/dir/file", data))
		mustGet(t, slow, "/dir/file", data)
		require.Error(t, slow.Put(ctx, "/dir/file", []byte("lost")))
		require.Error(t, slow.Delete(ctx, "/dir/file"))
		mustGet(t, fast, "/dir/file", data)
		mustGet(t, slow, "/dir/file", data)
		must(t, slow.Put(ctx, "/dir/new", data))

		later = 55 * time.Minute // by now the two are near enough
		must(t, slow.Put(ctx, "/dir/file", []byte("not lost")))
		mustGet(t, fast, "/dir/file", []byte("not lost"))
		require.Less(t, time.Since(began), time.Minute)
	})
}
