package layout

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// Whatever the wall clocks do and whoever talks to whom: a clock never goes
// back, is never behind what it was shown and followed, and two processes never
// make the same timestamp, nor one that belongs to the other's version.
func TestClock(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		walls := make([]time.Time, 3)
		clocks := make([]*Clock, len(walls))
		for i := range clocks {
			walls[i] = time.Unix(1_700_000_000, 0)
			clocks[i] = NewClock(func() time.Time { return walls[i] })
			clocks[i].tag = Timestamp(stamps * i)
		}
		last := make([]Timestamp, len(clocks))
		all := make(map[Timestamp]bool)
		t.Repeat(map[string]func(*rapid.T){
			"wall clock": func(t *rapid.T) {
				i := rapid.IntRange(0, len(walls)-1).Draw(t, "process")
				ms := rapid.IntRange(-900_000, 900_000).Draw(t, "ms")
				walls[i] = walls[i].Add(time.Duration(ms) * time.Millisecond)
			},
			"next": func(t *rapid.T) {
				i := rapid.IntRange(0, len(clocks)-1).Draw(t, "process")
				ts := clocks[i].Next()
				require.Greater(t, ts, last[i])
				require.False(t, ts.Time().Before(walls[i].Truncate(time.Microsecond)), "behind the wall clock")
				require.False(t, all[ts], "made twice")
				all[ts], last[i] = true, ts
			},
			"observe": func(t *rapid.T) {
				i := rapid.IntRange(0, len(clocks)-1).Draw(t, "process")
				from := rapid.IntRange(0, len(clocks)-1).Draw(t, "from")
				seen := last[from]
				if rapid.Bool().Draw(t, "the end of a version") {
					seen = seen.after()
				}
				followed := clocks[i].Observe(seen)
				ahead := seen.Time().Sub(walls[i])
				require.Equal(t, ahead <= maxAhead || seen <= last[i], followed || ahead == maxAhead)
				if followed {
					ts := clocks[i].Next()
					require.Greater(t, ts, seen)
					require.Greater(t, ts, last[i])
					require.False(t, all[ts], "made twice")
					all[ts], last[i] = true, ts
				}
			},
			"": func(t *rapid.T) {
				for ts := range all {
					require.GreaterOrEqual(t, ts.after(), ts)
					for i := range clocks {
						// Nobody's own timestamp lies within another version.
						require.False(t, ts < last[i] && last[i] <= ts.after())
					}
				}
			},
		})
	})
}

func TestSpreadStaysBelowItsLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ts := Timestamp(rapid.Uint64().Draw(t, "timestamp"))
		limit := time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(t, "limit"))
		pause := ts.spread(limit)
		require.GreaterOrEqual(t, pause, time.Duration(0))
		require.Less(t, pause, limit)
	})
}
