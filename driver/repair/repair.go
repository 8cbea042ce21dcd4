// Package repair goes over everything that a registry stores, beside the
// registry: Fsck looks for what crashes have left behind and for references to
// what is not there, Scrub compares the copies of all groups. What to look for
// in a single record, and how to mend it, is in package layout; this package
// knows the order, the pace, where it stopped, and what it found. It never
// decides that something can be removed.
package repair

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/elliptics-registry/elliptics-registry/driver"
	"github.com/elliptics-registry/elliptics-registry/driver/layout"
)

// Options say how to go over the storage; the zero value of each field means
// its default.
type Options struct {
	// DryRun only reports.
	DryRun bool
	// Grace is how long something must have been as it is before it counts as
	// left behind. Default: layout.MinContentGrace, which is also the least
	// unless Offline is set: then nobody writes, and there is no grace.
	Grace   time.Duration
	Offline bool
	// Digests makes Fsck read every blob and compare it with its digest.
	Digests bool
	// Parallel is how many records are looked at at a time; default 4. Each
	// takes the memory of two chunks at most.
	Parallel int
	// Rate bounds what is read, in bytes per second; 0: no bound.
	Rate int64
	// State is a file that remembers where an interrupted run was; "": none.
	State string
	// Found is called for each finding, one at a time.
	Found func(layout.Finding)
	// Progress is called now and then, one at a time.
	Progress func(Progress)
	// Now is the wall clock; default time.Now.
	Now func() time.Time

	// For tests: in how many slices to go (0: as many as it takes), and whether
	// to tell of every step.
	slices  int
	tellAll bool
}

// Progress is how far a run has come.
type Progress struct {
	Phase string
	Done  int64
	Total int64 // 0: nobody knows
	Unit  string
}

// Report is what a run came to.
type Report struct {
	Command  string           `json:"command"`
	DryRun   bool             `json:"dryRun"`
	Begun    time.Time        `json:"begun"`
	Ended    time.Time        `json:"ended"`
	Complete bool             `json:"complete"`
	Records  int              `json:"records"`
	Bytes    uint64           `json:"bytes"` // of the records, in one group
	Read     int64            `json:"read"`  // bytes that this run has read
	Away     []string         `json:"nodesAway,omitempty"`
	Problems map[string]int   `json:"problems"` // how often each was found
	Repaired int              `json:"repaired"`
	Left     int              `json:"left"`
	Findings []layout.Finding `json:"findings"` // the first maxFindings
}

const (
	maxFindings     = 10_000
	defaultParallel = 4
	// A slice is what is redone after an interruption, and held in memory.
	recordsInSlice = 20_000
	bytesInSlice   = 4 << 30
	maxSlices      = 1 << 16
)

// run is a walk over everything.
type run struct {
	opt     Options
	driver  *driver.Driver
	checker *layout.Checker
	limiter *rate.Limiter
	census  layout.Census
	state   *state

	mu       sync.Mutex
	report   Report
	progress Progress
	read     int64
	told     time.Time
}

func begin(d *driver.Driver, command string, opt Options) (*run, error) {
	if opt.Parallel == 0 {
		opt.Parallel = defaultParallel
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Grace == 0 {
		opt.Grace = layout.MinContentGrace
	}
	if opt.Offline {
		opt.Grace = 0
	} else if opt.Grace < layout.MinContentGrace {
		return nil, fmt.Errorf("a grace period of %s is too short beside a registry, at least %s is needed; if nobody pushes, say --offline", opt.Grace, layout.MinContentGrace)
	}
	r := &run{opt: opt, driver: d}
	r.report = Report{Command: command, DryRun: opt.DryRun, Begun: opt.Now().UTC(), Problems: make(map[string]int), Findings: []layout.Finding{}, Away: d.Away()}
	if opt.Rate > 0 {
		r.limiter = rate.NewLimiter(rate.Limit(opt.Rate), int(min(opt.Rate, burst)))
	}
	var err error
	r.checker, err = d.Checker(layout.CheckOptions{
		Repair: !opt.DryRun, Grace: opt.Grace, Throttle: r.throttle, Incomplete: len(r.report.Away) > 0,
	})
	if err != nil {
		return nil, err
	}
	r.state, err = loadState(opt.State, command)
	if err != nil {
		return nil, err
	}
	for _, f := range r.state.Findings {
		r.count(f)
	}
	return r, nil
}

// burst bounds what is read at once without waiting, bytes.
const burst = 8 << 20

func (r *run) throttle(ctx context.Context, n int) error {
	r.mu.Lock()
	r.read += int64(n)
	r.mu.Unlock()
	for r.limiter != nil && n > 0 {
		part := min(n, r.limiter.Burst())
		if err := r.limiter.WaitN(ctx, part); err != nil {
			return err
		}
		n -= part
	}
	return ctx.Err()
}

// found notes what was found.
func (r *run) found(findings ...layout.Finding) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range findings {
		r.count(f)
		if r.opt.Found != nil {
			r.opt.Found(f)
		}
	}
}

func (r *run) count(f layout.Finding) {
	r.report.Problems[f.Problem]++
	if f.Repaired {
		r.report.Repaired++
	} else {
		r.report.Left++
	}
	if len(r.report.Findings) < maxFindings {
		r.report.Findings = append(r.report.Findings, f)
	}
}

// tellEvery is how often the caller hears of progress.
const tellEvery = 200 * time.Millisecond

func (r *run) phase(name, unit string, done, total int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress = Progress{Phase: name, Unit: unit, Done: done, Total: total}
	r.tell(true)
}

func (r *run) advance(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress.Done += n
	r.tell(false)
}

// tell is called with r.mu held.
func (r *run) tell(now bool) {
	if r.opt.Progress == nil || !now && !r.opt.tellAll && time.Since(r.told) < tellEvery {
		return
	}
	r.told = time.Now()
	r.opt.Progress(r.progress)
}

// step is a part of a run that can be begun in its middle.
type step struct {
	name string
	// Either slices of records, one after the other,
	record func(ctx context.Context, s *layout.Sighting) ([]layout.Finding, error)
	weight func(s *layout.Sighting) int64 // what a record adds to the progress
	total  func(r *run) int64
	unit   string
	// or a walk that begins behind a path.
	walk func(ctx context.Context) error
	// before prepares the step, also in its middle.
	before func(ctx context.Context) error
}

func one(*layout.Sighting) int64 { return 1 }

var errInterrupted = errors.New("interrupted")

// do goes through the steps from where the state says.
func (r *run) do(ctx context.Context, steps []step) (*Report, error) {
	err := r.steps(ctx, steps)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		r.report.Complete = true
		err = r.state.remove()
	} else {
		if errors.Is(err, context.Canceled) {
			err = errInterrupted
		}
		r.state.Findings = r.report.Findings
		err = errors.Join(err, r.state.save())
		if r.opt.State != "" {
			err = fmt.Errorf("%w; the same command goes on where this ended", err)
		}
	}
	r.report.Ended = r.opt.Now().UTC()
	r.report.Records, r.report.Bytes, r.report.Read = r.census.Records, r.census.Bytes, r.read
	return &r.report, err
}

func (r *run) steps(ctx context.Context, steps []step) (err error) {
	r.phase("counting", "records", 0, 0)
	r.census, err = r.checker.Count(ctx, func(n int) { r.phase("counting", "records", int64(n), 0) })
	if err != nil {
		return fmt.Errorf("every group must answer: %w", err)
	}
	if r.state.Slices == 0 {
		r.state.Slices = r.opt.slices
	}
	if r.state.Slices == 0 {
		r.state.Slices = min(maxSlices, 1+max(r.census.Records/recordsInSlice, int(r.census.Bytes/bytesInSlice)))
	}
	at := slices.IndexFunc(steps, func(s step) bool { return s.name == r.state.Step })
	for i := max(at, 0); i < len(steps); i++ {
		s := steps[i]
		if r.state.Step != s.name {
			r.state.Step, r.state.Slice, r.state.Path = s.name, 0, ""
		}
		if s.before != nil {
			if err := s.before(ctx); err != nil {
				return err
			}
		}
		if s.walk != nil {
			r.phase(s.name, s.unit, 0, 0)
			err = s.walk(ctx)
		} else {
			err = r.slices(ctx, s)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *run) slices(ctx context.Context, s step) error {
	total := s.total(r)
	r.phase(s.name, s.unit, total*int64(r.state.Slice)/int64(r.state.Slices), total)
	for ; r.state.Slice < r.state.Slices; r.state.Slice++ {
		if err := r.save(); err != nil {
			return err
		}
		list, err := r.checker.Slice(ctx, r.state.Slice, r.state.Slices)
		if err != nil {
			return err
		}
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(r.opt.Parallel)
		for _, sighting := range list {
			if gctx.Err() != nil {
				break
			}
			g.Go(func() error {
				findings, err := s.record(gctx, sighting)
				r.found(findings...)
				r.advance(s.weight(sighting))
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

// save remembers where the run is, now and then.
func (r *run) save() error {
	r.mu.Lock()
	r.state.Findings = r.report.Findings
	r.mu.Unlock()
	return r.state.saveSometimes()
}
