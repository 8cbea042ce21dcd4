package repair

import (
	"context"

	"github.com/elliptics-registry/elliptics-registry/driver"
	"github.com/elliptics-registry/elliptics-registry/driver/layout"
)

// Scrub reads every copy in every group and restores what is missing or
// damaged. An error means that it did not come to its end; what was found until
// then is in the report all the same.
func Scrub(ctx context.Context, d *driver.Driver, opt Options) (*Report, error) {
	opt.Offline = true // a copy is good or not, however old it is
	r, err := begin(d, "scrub", opt)
	if err != nil {
		return nil, err
	}
	return r.do(ctx, []step{{
		name: "copies", unit: "bytes",
		before: r.checker.LoadTrash,
		record: r.checker.Sync,
		weight: func(s *layout.Sighting) int64 { return int64(s.Size()) },
		total:  func(r *run) int64 { return int64(r.census.Bytes) },
	}})
}
