package layout

import (
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// A sim is a cluster of which every request waits until the scheduler, driven
// by one seed, executes, loses, delays or repeats it. It lives in a bubble of
// testing/synctest: a step begins when every goroutine waits, and time passes
// only when the scheduler lets it.
type sim struct {
	rng    *rand.Rand
	faults faults
	groups []*simGroup

	mu      sync.Mutex
	arrived []*request
	pending []*request
	number  int
	late    []*request // nobody waits for them; they may be executed all the same
	wake    chan struct{}

	priority []int // of who sends, when the highest goes first; nil: anyone
	noting   sync.Mutex
	steps    int
	trace    func(format string, args ...any) // nil: not wanted
	hash     uint64                           // of all decisions
	onEnd    []func() error
	fellBack bool // a group has come back as it was earlier
}

// faults are the probabilities of what can go wrong with one request, and of
// what happens at one step.
type faults struct {
	lost, unanswered, late, twice float64
	crash, down, pass             float64
	// bad, if not negative, is the only group to which anything happens; it
	// may also lose keys, fall back to an older state, or rot.
	bad int
}

type simGroup struct {
	id   uint32
	data map[string]memValue
	down bool
	old  map[string]memValue // a state that it may fall back to
}

type request struct {
	client *simClient
	who    int // whose priority counts
	number int // in the order in which they were seen
	group  int
	op     string
	key    string
	run    func(m map[string]memValue) error
	read   bool
	done   chan error
}

var (
	errKilled   = errors.New("the registry was killed")
	errLost     = errors.New("connection reset")
	errTimedOut = errors.New("no answer in time")
)

const simTimeout = 5 * time.Second

func newSim(seed uint64, groups int, f faults) *sim {
	s := &sim{rng: rand.New(rand.NewPCG(seed, 2)), faults: f, wake: make(chan struct{}, 1)}
	for i := range groups {
		s.groups = append(s.groups, &simGroup{id: uint32(i + 1), data: make(map[string]memValue)})
	}
	return s
}

func (s *sim) note(format string, args ...any) {
	s.noting.Lock()
	defer s.noting.Unlock()
	h := fnv.New64a()
	fmt.Fprintf(h, "%d ", s.hash)
	fmt.Fprintf(h, format, args...)
	s.hash = h.Sum64()
	if s.trace != nil {
		s.trace("%5d %s", s.steps, fmt.Sprintf(format, args...))
	}
}

func (s *sim) chance(p float64) bool { return p > 0 && s.rng.Float64() < p }

// signal tells the scheduler that there is something to decide.
func (s *sim) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// settle waits until nobody can go on by himself. It reports whether there are
// requests to decide upon.
func (s *sim) settle() bool {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	// Goroutines that woke together send in any order; the seed alone shall
	// decide.
	sort.SliceStable(s.arrived, func(i, j int) bool { return s.arrived[i].less(s.arrived[j]) })
	for _, r := range s.arrived {
		s.number++
		r.number = s.number
	}
	sort.Slice(s.late, func(i, j int) bool { return s.late[i].number < s.late[j].number })
	s.pending = append(s.pending, s.arrived...)
	s.arrived = nil
	return len(s.pending) > 0
}

func (r *request) less(o *request) bool {
	switch {
	case r.who != o.who:
		return r.who < o.who
	case r.op != o.op:
		return r.op < o.op
	case r.key != o.key:
		return r.key < o.key
	}
	return r.group < o.group
}

// wait lets time pass until something happens.
func (s *sim) wait() { <-s.wake }

// step decides about one request. The answer comes last: whoever gets it goes
// on at once.
func (s *sim) step() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.steps++
	r := s.choose()
	g := s.groups[r.group]
	f := s.faults
	if f.bad >= 0 && r.group != f.bad {
		f = faults{}
	}
	err, what := error(nil), ""
	switch {
	case g.down:
		err, what = errDown, "down"
	case s.chance(f.lost):
		err, what = errLost, "lost"
	case s.chance(f.late):
		s.late = append(s.late, r)
		err, what = errTimedOut, "late"
	case s.chance(f.unanswered):
		_ = r.run(g.data)
		err, what = errLost, "answer lost"
	default:
		err = r.run(g.data)
		what = fmt.Sprint(err)
		if !r.read && s.chance(f.twice) {
			s.late = append(s.late, r)
		}
	}
	s.note("%d: %s %s in %d: %s", r.who, r.op, r.key, g.id, what)
	if len(s.late) > 0 && s.chance(0.1) {
		s.runLate(s.rng.IntN(len(s.late)))
	}
	r.answer(err)
}

func (r *request) answer(err error) { r.done <- err }

// choose takes one of the pending requests.
func (s *sim) choose() *request {
	at := s.rng.IntN(len(s.pending))
	if s.priority != nil {
		if s.chance(0.03) {
			s.priority[s.rng.IntN(len(s.priority))] = s.rng.IntN(100)
		}
		for i, r := range s.pending {
			if s.priority[r.who] > s.priority[s.pending[at].who] {
				at = i
			}
		}
	}
	r := s.pending[at]
	s.pending = slices.Delete(s.pending, at, at+1)
	return r
}

func (s *sim) runLate(i int) {
	r := s.late[i]
	s.late = slices.Delete(s.late, i, i+1)
	if g := s.groups[r.group]; !g.down && !r.read {
		err := r.run(g.data)
		s.note("%d: %s %s in %d, late: %v", r.who, r.op, r.key, g.id, err)
	}
}

// calm executes or forgets whatever is still on its way.
func (s *sim) calm() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.late) > 0 {
		i := s.rng.IntN(len(s.late))
		if s.chance(0.5) {
			s.runLate(i)
		} else {
			s.late = slices.Delete(s.late, i, i+1)
		}
	}
}

// disturb may change the state of a group.
func (s *sim) disturb() {
	if !s.chance(s.faults.down) {
		return
	}
	g := s.groups[s.rng.IntN(len(s.groups))]
	if s.faults.bad >= 0 {
		g = s.groups[s.faults.bad]
		s.spoil(g)
		return
	}
	down := 0
	for _, o := range s.groups {
		if o.down {
			down++
		}
	}
	switch {
	case g.down:
		g.down = false
		s.note("group %d is back", g.id)
	case down < (len(s.groups)-1)/2 || s.chance(0.1):
		g.down = true
		s.note("group %d is down", g.id)
	}
}

// spoil does to the bad group what no minority of groups may do harm with.
func (s *sim) spoil(g *simGroup) {
	keys := make([]string, 0, len(g.data))
	for k := range g.data {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	switch s.rng.IntN(5) {
	case 0, 1:
		g.down = !g.down
		s.note("group %d down: %v", g.id, g.down)
	case 2:
		s.note("group %d loses keys", g.id)
		for _, k := range keys {
			if s.chance(0.5) {
				delete(g.data, k)
			}
		}
	case 3:
		if g.old != nil {
			s.note("group %d falls back", g.id)
			g.data, g.old = g.old, nil
			s.fellBack = true
			return
		}
		g.old = make(map[string]memValue)
		for k, v := range g.data {
			g.old[k] = v
		}
	case 4:
		if len(keys) == 0 {
			return
		}
		k := keys[s.rng.IntN(len(keys))]
		v := g.data[k]
		v.data = slices.Clone(v.data)
		if len(v.data) > 0 {
			v.data[s.rng.IntN(len(v.data))] ^= 1 << s.rng.IntN(8)
		}
		g.data[k] = v
		s.note("group %d rots at %s", g.id, k)
	}
}

// onlyBad tells that whoever waits does so for the bad group.
func (s *sim) onlyBad() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.faults.bad < 0 || !slices.ContainsFunc(s.pending, func(r *request) bool { return r.group != s.faults.bad })
}

// simClient is the Store of one registry in a sim.
type simClient struct {
	sim  *sim
	id   int
	dead bool
	// onWrite sees every write before it is sent.
	onWrite func(ctx context.Context, key string, w Write)
}

type whoKey struct{}

// kill ends a registry: what it has sent is executed or not.
func (s *sim) kill(c *simClient) {
	if c.dead {
		return
	}
	s.note("registry %d is killed", c.id)
	s.mu.Lock()
	c.dead = true
	var rest []*request
	for _, r := range s.pending {
		if r.client != c {
			rest = append(rest, r)
			continue
		}
		if !r.read && s.chance(0.5) {
			s.late = append(s.late, r)
		}
		r.answer(errKilled)
	}
	s.pending = rest
	s.mu.Unlock()
}

func (c *simClient) Groups() (ids []uint32) {
	for _, g := range c.sim.groups {
		ids = append(ids, g.id)
	}
	return ids
}

func (c *simClient) do(ctx context.Context, group uint32, op, key string, run func(m map[string]memValue) error) error {
	s := c.sim
	r := &request{client: c, who: c.id, group: int(group) - 1, op: op, key: key, run: run, read: op == "read", done: make(chan error, 1)}
	if who, ok := ctx.Value(whoKey{}).(int); ok {
		r.who = who
	}
	s.mu.Lock()
	if c.dead {
		s.mu.Unlock()
		return errKilled
	}
	s.arrived = append(s.arrived, r)
	s.mu.Unlock()
	s.signal()
	timeout := time.NewTimer(simTimeout)
	defer timeout.Stop()
	var err error
	select {
	case err := <-r.done:
		return err
	case <-timeout.C:
		err = errTimedOut
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.pending, r); i >= 0 {
		s.pending = slices.Delete(s.pending, i, i+1)
		if !r.read {
			s.late = append(s.late, r)
		}
	}
	s.arrived = slices.DeleteFunc(s.arrived, func(o *request) bool { return o == r })
	return err
}

func (c *simClient) Read(ctx context.Context, group uint32, key string, offset, size uint64) (v Value, err error) {
	err = c.do(ctx, group, "read", key, func(m map[string]memValue) error {
		r, ok := m[key]
		switch {
		case !ok:
			return wire.ErrNotFound
		case offset >= uint64(len(r.data)):
			return wire.ErrTooBig
		}
		data := r.data[offset:]
		if size > 0 && size < uint64(len(data)) {
			data = data[:size]
		}
		v = NewValue(data, uint64(len(r.data)), nil) // stored bytes never change
		return nil
	})
	return v, err
}

func (c *simClient) Write(ctx context.Context, group uint32, key string, w Write) error {
	op := "write"
	if w.Append {
		op = "append"
	}
	c.sim.mu.Lock()
	c.onWrite(ctx, key, w)
	c.sim.mu.Unlock()
	data := slices.Concat(w.Data...)
	if strings.HasPrefix(key, "file:") && c.sim.trace != nil {
		if rec, err := decodeFile(strings.TrimPrefix(key, "file:"), data); err == nil {
			op = fmt.Sprintf("write state %d @%d", rec.state, rec.ts)
		}
	}
	if strings.HasPrefix(key, "dir:") && c.sim.trace != nil {
		eachEntry(data, func(e logEntry, _ []byte) {
			op += fmt.Sprintf(" %s %s @%d", [...]string{"", "LINK", "UNLINK", "FENCE", "CLEAR", "UP"}[e.typ], e.name, e.ts)
		})
	}
	return c.do(ctx, group, op, key, func(m map[string]memValue) error {
		old, ok := m[key]
		if ok && w.IfNotNewer && old.ts > w.Timestamp {
			return wire.ErrConflict
		}
		if ok && w.IfSum != nil && sha512.Sum512(old.data) != *w.IfSum {
			return wire.ErrConflict
		}
		value := data
		if w.Append {
			value = slices.Concat(old.data, data)
		}
		m[key] = memValue{value, w.Timestamp, w.Flags}
		return nil
	})
}

func (c *simClient) Remove(ctx context.Context, group uint32, key string) error {
	return c.do(ctx, group, "remove", key, func(m map[string]memValue) error {
		if _, ok := m[key]; !ok {
			return wire.ErrNotFound
		}
		delete(m, key)
		return nil
	})
}
