package layout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// MinContentGrace is how old content without a record must be before it is
// garbage for sure: no writer lives that long.
const MinContentGrace = 24 * time.Hour

// CheckOptions say how a Checker works.
type CheckOptions struct {
	// Repair mends what is found. Without it nothing is written.
	Repair bool
	// Grace is how long something must have been as it is before it counts as
	// left behind, and not as somebody's work in progress. It should be at
	// least MinContentGrace, unless nobody writes.
	Grace time.Duration
	// Throttle is called before n bytes are read, and may wait; nil: no limit.
	Throttle func(ctx context.Context, n int) error
	// Abandoned tells of an unfinished file whether nobody will ever clean it
	// up; nil: none is.
	Abandoned func(path string, attrs map[string][]byte) bool
	// Unique tells of a path that its name never comes back once it is
	// deleted; nil: every name may.
	Unique func(path string) bool
	// Incomplete says that some servers are away. What they hold may look
	// lost, so nothing is quarantined.
	Incomplete bool
}

// Checker looks for what crashes, lost disks and mistakes have left in a
// filesystem, one record or directory at a time, and mends it. It may work
// beside any number of registries: it looks again before each repair, and
// writes with the timestamps of what it mends, so that whoever writes meanwhile
// wins. Its methods may be called by several goroutines.
type Checker struct {
	fs    *FS
	store Scanner
	opt   CheckOptions

	mu       sync.Mutex
	trashed  map[contentID]bool // extents that the trash knows
	forgets  map[string]bool    // tombstones that the trash knows
	verdicts map[contentID]bool // extents: needed or not
	linked   map[string]bool    // directories that are linked
}

// maxRemembered bounds what a Checker remembers of each kind.
const maxRemembered = 100_000

// NewChecker makes a checker for a filesystem whose Store is a Scanner.
func NewChecker(fs *FS, opt CheckOptions) (*Checker, error) {
	store, ok := fs.cluster.store.(Scanner)
	if !ok {
		return nil, errors.New("these servers cannot be asked what they hold")
	}
	return &Checker{fs: fs, store: store, opt: opt}, nil
}

// Finding is something that is not as it should be.
type Finding struct {
	Problem  string   `json:"problem"` // what it is, always in the same words
	Path     string   `json:"path,omitempty"`
	Key      string   `json:"key,omitempty"`
	Groups   []uint32 `json:"groups,omitempty"` // those that are concerned, if not all
	Detail   string   `json:"detail,omitempty"`
	Remedy   string   `json:"remedy"`
	Repaired bool     `json:"repaired"`
	Error    string   `json:"error,omitempty"` // why a repair did not work
}

// String is the finding in a line.
func (f Finding) String() string {
	s := f.Problem
	for _, part := range []string{f.Path, f.Key} {
		if part != "" {
			s += " " + part
		}
	}
	if len(f.Groups) > 0 {
		s += fmt.Sprintf(" in group %v", f.Groups)
	}
	if f.Detail != "" {
		s += " (" + f.Detail + ")"
	}
	switch {
	case f.Repaired:
		return s + ": repaired"
	case f.Error != "":
		return s + ": could not be repaired: " + f.Error
	}
	return s + ": " + f.Remedy
}

const remedyRepair = "fsck --repair mends it"

// mend repairs a finding if that is wanted.
func (c *Checker) mend(f Finding, repair func() error) Finding {
	if !c.opt.Repair {
		return f
	}
	if err := repair(); err != nil {
		f.Error = err.Error()
		return f
	}
	f.Repaired = true
	return f
}

// old tells whether a timestamp is behind the grace period.
func (c *Checker) old(ts Timestamp) bool {
	return ts.Time().Before(c.fs.opt.Now().Add(-c.opt.Grace))
}

func (c *Checker) throttle(ctx context.Context, n int) error {
	if c.opt.Throttle == nil {
		return ctx.Err()
	}
	return c.opt.Throttle(ctx, n)
}

// Sighting is a record that some groups hold.
type Sighting struct {
	ID     wire.ID
	copies []Found // by group; zero where the group has none
}

// Kind is what the record claims to be.
func (s *Sighting) Kind() RecordKind {
	for _, f := range s.copies {
		if f.Flags != 0 {
			return f.Kind()
		}
	}
	return RecordForeign
}

// Size is that of the largest copy, in bytes.
func (s *Sighting) Size() (n uint64) {
	for _, f := range s.copies {
		n = max(n, f.Size)
	}
	return n
}

// newest is the newest timestamp of any copy.
func (s *Sighting) newest() (ts Timestamp) {
	for _, f := range s.copies {
		ts = max(ts, f.Timestamp)
	}
	return ts
}

// Census is how much there is, in the largest group.
type Census struct {
	Records int
	Bytes   uint64
}

// Count counts the records of this kind of filesystem in each group. seen is
// called now and then with the number so far.
func (c *Checker) Count(ctx context.Context, seen func(records int)) (Census, error) {
	counts := make([]Census, len(c.fs.cluster.groups))
	var mu sync.Mutex
	total := 0
	err := c.eachGroup(ctx, func(ctx context.Context, i int, g uint32) error {
		return c.store.Scan(ctx, g, wire.ID{}, maxID, func(f Found) error {
			if f.Kind() == RecordForeign {
				return nil
			}
			counts[i].Records++
			counts[i].Bytes += f.Size
			if counts[i].Records%1000 == 0 && seen != nil {
				mu.Lock()
				total += 1000
				seen(total)
				mu.Unlock()
			}
			return nil
		})
	})
	return slices.MaxFunc(counts, func(a, b Census) int { return a.Records - b.Records }), err
}

var maxID = wire.ID(slices.Repeat([]byte{0xff}, wire.IDSize))

func (c *Checker) eachGroup(ctx context.Context, f func(ctx context.Context, i int, g uint32) error) error {
	all, ctx := errgroup.WithContext(ctx)
	for i, g := range c.fs.cluster.groups {
		all.Go(func() error {
			if err := f(ctx, i, g); err != nil {
				return fmt.Errorf("group %d: %w", g, err)
			}
			return nil
		})
	}
	return all.Wait()
}

// Slice lists the records of one of a number of equal parts of the key space,
// in the order of their ids, with what each group has of them. Every group must
// answer.
func (c *Checker) Slice(ctx context.Context, slice, of int) ([]*Sighting, error) {
	first, last := sliceRange(slice, of)
	found := make([][]Found, len(c.fs.cluster.groups))
	err := c.eachGroup(ctx, func(ctx context.Context, i int, g uint32) error {
		return c.store.Scan(ctx, g, first, last, func(f Found) error {
			if f.Kind() != RecordForeign {
				found[i] = append(found[i], f)
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	byID := make(map[wire.ID]*Sighting)
	for i := range found {
		for _, f := range found[i] {
			s := byID[f.ID]
			if s == nil {
				s = &Sighting{ID: f.ID, copies: make([]Found, len(found))}
				byID[f.ID] = s
			}
			s.copies[i] = f
		}
	}
	list := make([]*Sighting, 0, len(byID))
	for _, s := range byID {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b *Sighting) int { return a.ID.Compare(b.ID) })
	return list, nil
}

// sliceRange cuts the key space by the first four bytes.
func sliceRange(slice, n int) (first, last wire.ID) {
	bound := func(i int) uint64 { return uint64(i) << 32 / uint64(n) }
	put := func(id *wire.ID, v uint64) {
		id[0], id[1], id[2], id[3] = byte(v>>24), byte(v>>16), byte(v>>8), byte(v)
	}
	last = maxID
	put(&first, bound(slice))
	put(&last, bound(slice+1)-1)
	return first, last
}

// name finds out what a record is from the first copy that tells.
func (c *Checker) name(ctx context.Context, s *Sighting) (n name, err error) {
	err = errDamaged
	for i, g := range c.fs.cluster.groups {
		if s.copies[i].Flags == 0 {
			continue
		}
		if n, err = c.fs.identify(ctx, c.store, g, s.copies[i]); err == nil || errors.Is(err, errForeign) {
			return n, err
		}
		if !isLost(err) {
			return n, fmt.Errorf("group %d: %w", g, err)
		}
	}
	return n, fmt.Errorf("%w: %w", errDamaged, err)
}

func remember[K comparable, V any](m *map[K]V, key K, v V) {
	if *m == nil || len(*m) >= maxRemembered {
		*m = make(map[K]V)
	}
	(*m)[key] = v
}
