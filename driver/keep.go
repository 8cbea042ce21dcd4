package driver

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/elliptics-registry/elliptics-registry/driver/layout"
)

// Garbage collection removes what no manifest refers to and what was written
// longer ago than a grace period. A push may find an old blob, rely on it, and
// refer to it a moment later: whatever a push finds is therefore as good as
// new. Distribution looks at every blob and link before it lets a manifest
// refer to it.

// RenewAfter is how old a blob or a link may be before a push that finds it
// gives it a new timestamp. The grace period of a garbage collection is longer,
// by more than a request takes and clocks differ.
const RenewAfter = time.Hour

// keep renews what a push has found, if need be. A push must not go on when
// that fails.
func (d *fileDriver) keep(ctx context.Context, p string, info layout.Info) error {
	if d.collecting || d.inspecting || !collectable(p) || d.now().Sub(info.Written.Time()) < RenewAfter {
		return nil
	}
	switch method(ctx) {
	case http.MethodGet, http.MethodDelete:
		return nil
	case http.MethodHead:
		// Clients ask so before they push a blob. That they only asked is no
		// reason to fail.
		if ctx.Value("vars.digest") == nil {
			return nil
		}
		if err := d.fs.Renew(ctx, p); err != nil {
			slog.Warn("could not renew a blob that a client asked for", "path", p, "error", err)
		}
		return nil
	}
	return d.fs.Renew(ctx, p)
}

func method(ctx context.Context) string {
	m, _ := ctx.Value("http.request.method").(string)
	return m
}

// collectable tells whether garbage collection may remove a file.
func collectable(p string) bool {
	switch {
	case strings.HasSuffix(p, "/data"):
		return strings.Contains(p, "/v2/blobs/")
	case strings.HasSuffix(p, "/link"):
		return strings.Contains(p, "/_layers/") || strings.Contains(p, "/_manifests/revisions/")
	}
	return false
}

// DeleteOlder is Delete for what was written before a time and not renewed
// since: everything newer stays. gone is false when something does.
func (d *Driver) DeleteOlder(ctx context.Context, p string, than time.Time) (gone bool, err error) {
	leave, err := d.files.limit.enter(ctx)
	if err != nil {
		return false, err
	}
	defer leave()
	gone, err = d.files.fs.DeleteOlder(ctx, p, layout.Timestamp(than.UnixNano()))
	return gone, distributionError(p, err)
}

// Written is when a file was written, or renewed.
func (d *Driver) Written(ctx context.Context, p string) (time.Time, error) {
	info, err := d.files.fs.Stat(ctx, p)
	return info.Written.Time(), distributionError(p, err)
}
