package driver

import (
	"context"

	"github.com/elliptics-registry/elliptics-registry/driver/layout"
	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

var _ layout.Scanner = (*clusterStore)(nil)

// ID implements layout.Scanner. All groups know a key by the same id.
func (s *clusterStore) ID(key string) wire.ID { return s.sessions[s.groups[0]].Key(key) }

// Scan implements layout.Scanner. Records on nodes that are not connected are
// not seen.
func (s *clusterStore) Scan(ctx context.Context, group uint32, first, last wire.ID, f func(layout.Found) error) error {
	it := elliptics.Iteration{Keys: []elliptics.KeyRange{{First: first, Last: last}}}
	for e, err := range s.sessions[group].Iterate(ctx, group, it) {
		if err != nil {
			return err
		}
		if e.RecordFlags&wire.RecordUncommitted != 0 {
			continue
		}
		found := layout.Found{ID: e.Key, Timestamp: layout.Timestamp(e.Timestamp.Sec*1e9 + e.Timestamp.Nsec), Flags: e.UserFlags, Size: e.Size}
		if err := f(found); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// ReadID implements layout.Scanner.
func (s *clusterStore) ReadID(ctx context.Context, group uint32, id wire.ID, offset, size uint64) (layout.Value, error) {
	rec, err := s.sessions[group].Read(ctx, id, offset, size)
	if err != nil {
		return layout.Value{}, err
	}
	return layout.NewValue(rec.Data, rec.TotalSize, rec.Release), nil
}

// Checker makes a checker for what this driver stores.
func (d *Driver) Checker(opt layout.CheckOptions) (*layout.Checker, error) {
	// Distribution removes uploads that were begun long ago. It does not know
	// when one was begun that has lost that note, and waits for ever.
	opt.Abandoned = func(p string, attrs map[string][]byte) bool {
		u, ok := parseUpload(p)
		_, begun := attrs[startedAtName]
		return ok && u.rest == "" && !begun
	}
	opt.Unique = func(p string) bool {
		u, ok := parseUpload(p)
		return ok && u.rest == ""
	}
	return layout.NewChecker(d.files.fs, opt)
}

// Away lists the nodes that are known and cannot be reached: what they hold is
// seen by nobody.
func (d *Driver) Away() (nodes []string) {
	for _, r := range d.cluster.Remotes() {
		if r.Connections == 0 {
			nodes = append(nodes, r.Address)
		}
	}
	return nodes
}
