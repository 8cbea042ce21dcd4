package layout

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"
)

// A model is one run: some users of some registries on one simulated cluster,
// their history, and what went wrong.
type model struct {
	sim        *sim
	rng        *rand.Rand // of what the users do
	hist       *history
	registries []*registry
	users      []*user
	wrong      string // the first violation
	mutate     func(m *model, s Store) Store

	working  sync.WaitGroup
	values   value
	contents map[contentID]value // by extent
	sessions []*session
	listings []listing
	opened   Timestamp // registries so far
	uploads  bool      // the run is mostly about them
	tidy     bool      // it is much about compaction
	trash    float64   // how often time passes, so that it can be emptied
	draining bool      // no operation begins, so that much time can pass
}

type registry struct {
	client *simClient
	fs     *FS
	skew   time.Duration
}

type user struct {
	id      int
	script  []operation
	running *call
}

// call is an operation under way.
type call struct {
	operation
	registry *registry
	begin    int
	result   any
	moved    []value // the contents that a Move has placed
	answer   chan outcome
}

// outcome is what an operation answered.
type outcome struct {
	result any
	err    error
}

// session is an upload.
type session struct {
	path      string
	committed bool // the upload was acknowledged
	contested bool // somebody else removed it
	failed    bool // one of its steps, or its registry: what it wrote last may not be listed
}

type callKey struct{}

var (
	modelFiles = []string{"/a/x", "/a/y", "/a/d/z", "/b/w"}
	modelDirs  = []string{"/a", "/a/d", "/b"}
)

const uploads = "/u"

// newModel makes the cluster that a seed stands for.
func newModel(seed uint64) *model {
	rng := rand.New(rand.NewPCG(seed, 1))
	groups := []int{1, 2, 3, 3, 3}[rng.IntN(5)]
	f := faults{bad: -1}
	switch rng.IntN(4) {
	case 0: // nothing but concurrency
		f.pass = 0.01
	case 1, 2:
		f.lost, f.unanswered, f.late, f.twice = 0.02, 0.02, 0.02, 0.03
		f.crash, f.down, f.pass = 0.003, 0.01, 0.02
	case 3:
		f.twice, f.pass = 0.01, 0.02
		f.crash = 0.003
		if groups == 3 {
			f.bad = rng.IntN(groups)
			f.lost, f.unanswered, f.late = 0.2, 0.1, 0.1
			f.down = 0.03
		}
	}
	m := &model{
		sim: newSim(seed, groups, f), rng: rng, hist: newHistory(),
		contents: make(map[contentID]value),
		uploads:  rng.IntN(3) == 0,
		tidy:     rng.IntN(4) == 0,
		trash:    []float64{0, 0.003, 0.01}[rng.IntN(3)],
	}
	for _, g := range m.sim.groups { // or 40 days of trash are looked at
		hour := time.Now().Unix() / 3600
		g.data[reapingKey] = memValue{data: endFrame(binary.AppendUvarint(beginFrame(cursorMagic), uint64(hour))), ts: 1}
	}
	users := 2 + rng.IntN(2)
	if rng.IntN(2) == 0 {
		for range users + 3 {
			m.sim.priority = append(m.sim.priority, m.sim.rng.IntN(100))
		}
	}
	for range 2 {
		r := &registry{}
		if rng.IntN(2) == 0 {
			r.skew = time.Duration(rng.IntN(4*60)-2*60) * time.Second
		}
		m.registries = append(m.registries, r)
	}
	for i := range users {
		u := &user{id: i}
		for range 3 + rng.IntN(6) {
			u.script = append(u.script, m.invent())
		}
		m.users = append(m.users, u)
	}
	return m
}

// open starts a registry, or starts it again.
func (m *model) open(i int) *registry {
	r := m.registries[i]
	if r.fs != nil {
		m.sim.kill(r.client)
		m.sim.onEnd = append(m.sim.onEnd, r.fs.Close)
	}
	m.opened++
	r.client = &simClient{sim: m.sim, id: len(m.users) + i, onWrite: m.look}
	var store Store = r.client
	if m.mutate != nil {
		store = m.mutate(m, store)
	}
	skew := r.skew
	fs, err := New(store, Options{
		ChunkSize: inlineLimit, Logger: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return time.Now().Add(skew) },
	})
	if err != nil {
		panic(err)
	}
	fs.clock.tag = stamps * m.opened
	r.fs = fs
	return r
}

// look learns from the writes of a registry which content a Move has moved.
func (m *model) look(ctx context.Context, key string, w Write) {
	if id, ok := strings.CutPrefix(key, "chunk:"); ok {
		b := w.Data[0]
		mid := string(b[len(b)/2 : len(b)/2+16])
		i := strings.IndexByte(mid, 'v')
		var v value
		fmt.Sscanf(mid[i:i+8], "v%07d", &v)
		var cid contentID
		copy(cid[:], unhex(id[:32]))
		m.contents[cid] = v
		return
	}
	c, _ := ctx.Value(callKey{}).(*call)
	if c == nil || key != fileKey(c.to) {
		return
	}
	if rec, err := decodeFile(c.to, w.Data[0]); err == nil && rec.state == stateFile {
		v := contentOf(rec.inline)
		if !rec.data.empty() {
			v = m.contents[rec.data.extents[0].id]
		}
		if !slices.Contains(c.moved, v) {
			c.moved = append(c.moved, v)
		}
	}
}

// run plays all scripts to their ends.
func (m *model) run() {
	for i := range m.registries {
		m.open(i)
	}
	s := m.sim
	for m.wrong == "" {
		waiting := m.settle()
		var idle []*user
		working := false
		for _, u := range m.users {
			if u.running == nil && len(u.script) > 0 {
				idle = append(idle, u)
			}
			working = working || u.running != nil
		}
		if !working && m.draining {
			m.draining = false
			m.passHours()
			continue
		}
		if !working && len(idle) == 0 {
			return
		}
		if len(idle) > 0 && !m.draining && (!waiting || m.starts(idle)) {
			m.begin(idle[s.rng.IntN(len(idle))])
			continue
		}
		if s.chance(s.faults.crash) {
			m.crash(s.rng.IntN(len(m.registries)))
			continue
		}
		s.disturb()
		if s.chance(m.trash) {
			m.draining = true
		}
		if s.chance(s.faults.pass) && s.onlyBad() {
			s.note("time passes")
			time.Sleep([]time.Duration{time.Millisecond, 200 * time.Millisecond, 3 * time.Second, 7 * time.Second}[s.rng.IntN(4)])
			continue
		}
		if waiting {
			s.step()
		} else {
			s.wait()
		}
		if s.steps > 20_000 {
			m.fail("no end after %d steps", s.steps)
		}
	}
}

// starts tells whether an idle user begins, although others wait for answers.
func (m *model) starts(idle []*user) bool {
	s := m.sim
	if s.priority == nil {
		return s.chance(0.2)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range idle {
		if !slices.ContainsFunc(s.pending, func(r *request) bool { return s.priority[r.who] > s.priority[u.id] }) {
			return true
		}
	}
	return s.chance(0.01)
}

func (m *model) begin(u *user) {
	o := u.script[0]
	u.script = u.script[1:]
	c := &call{operation: o, registry: m.registries[m.sim.rng.IntN(len(m.registries))]}
	m.start(u, c)
}

func (m *model) start(u *user, c *call) {
	c.begin = m.hist.now()
	c.answer = make(chan outcome, 1)
	u.running = c
	m.sim.note("user %d: %s begins at registry %d", u.id, c.operation, c.registry.client.id)
	ctx := context.WithValue(context.WithValue(context.Background(), whoKey{}, u.id), callKey{}, c)
	fs := c.registry.fs
	m.working.Go(func() {
		result, err := c.do(ctx, m, fs, c)
		c.answer <- outcome{result, err}
		m.sim.signal()
	})
}

// end enters an operation into the history.
func (m *model) end(u *user, c *call, a outcome) {
	err := a.err
	u.running = nil
	how := "done"
	if err != nil {
		how, _, _ = strings.Cut(err.Error(), ";") // which group was last to fail is chance
	}
	m.sim.note("user %d: %s: %s", u.id, c.operation, how)
	for _, s := range m.sessions {
		s.failed = s.failed || m.sim.fellBack
		s.contested = s.contested || m.sim.fellBack
	}
	if errors.Is(err, ErrCorrupt) && m.sim.faults.bad < 0 {
		m.fail("%s: %v", c.operation, err)
	}
	c.result = a.result
	c.enter(m, c, err)
}

// settle waits until nobody can go on, and sees who has finished.
func (m *model) settle() (waiting bool) {
	waiting = m.sim.settle()
	for _, u := range m.users {
		if u.running == nil {
			continue
		}
		select {
		case a := <-u.running.answer:
			m.end(u, u.running, a)
		default:
		}
	}
	return waiting
}

// crash kills a registry between any two requests, and starts it again.
func (m *model) crash(i int) {
	r := m.registries[i]
	m.sim.kill(r.client)
	for _, u := range m.users {
		if u.running != nil && u.running.registry == r {
			m.end(u, u.running, outcome{err: errKilled})
		}
	}
	for _, s := range m.sessions {
		s.failed = true
	}
	m.open(i)
}

// passHours happens while nobody does anything: more than the grace period of
// the trash, and now and then more than that of forgetting.
func (m *model) passHours() {
	s := m.sim
	time.Sleep(2 * simTimeout) // nobody waits any more, so that nothing is late by hours
	synctest.Wait()
	s.calm()
	d := 3 * time.Hour
	if s.chance(0.3) {
		d = 30 * time.Hour
	}
	s.note("%s pass", d)
	time.Sleep(d)
	for _, u := range m.users {
		if s.chance(0.5) {
			o := operation{name: "empty trash", do: doEmptyTrash, enter: enterNothing}
			if s.chance(0.3) {
				o = operation{name: "compact", to: modelDirs[s.rng.IntN(len(modelDirs))], do: doCompact, enter: enterNothing}
			}
			u.script = append([]operation{o}, u.script...)
		}
	}
}

func (m *model) fail(format string, args ...any) {
	if m.wrong == "" {
		m.wrong = fmt.Sprintf(format, args...)
		m.sim.note("WRONG: %s", m.wrong)
	}
}

// close ends every goroutine.
func (m *model) close() {
	s := m.sim
	for _, r := range m.registries {
		if r.client != nil {
			s.kill(r.client)
		}
	}
	m.working.Wait()
	for _, r := range m.registries {
		if r.fs != nil {
			r.fs.Close()
		}
	}
	for _, end := range s.onEnd {
		_ = end()
	}
}

// play runs a seed. It returns what went wrong, or "", and a hash of all
// decisions.
func play(t *testing.T, seed uint64, mutate func(m *model, s Store) Store, trace func(string, ...any)) (wrong string, m *model) {
	cryptotest.SetGlobalRandom(t, seed) // the ids of contents
	synctest.Test(t, func(t *testing.T) {
		m = newModel(seed)
		m.mutate = mutate
		m.sim.trace = trace
		m.run()
		if m.wrong == "" {
			m.finish()
		}
		m.close()
	})
	return m.wrong, m
}

var (
	modelRuns  = flag.Uint64("model.runs", 1000, "how many seeds TestModel plays; a tenth with -short")
	modelSeed  = flag.Uint64("model.seed", 1, "the first seed that TestModel plays")
	modelTrace = flag.Bool("model.trace", false, "print every step of the seeds that TestModel plays")
)

func TestModel(t *testing.T) {
	runs, steps := *modelRuns, 0
	if testing.Short() {
		runs = max(runs/10, 1)
	}
	for seed := *modelSeed; seed < *modelSeed+runs; seed++ {
		trace := t.Logf
		if !*modelTrace {
			trace = nil
		}
		wrong, m := play(t, seed, nil, trace)
		if wrong != "" {
			t.Errorf("seed %d (again: go test ./driver/layout -run 'TestModel$' -model.runs=1 -model.trace -model.seed=%d): %s", seed, seed, wrong)
		}
		steps += m.sim.steps
	}
	t.Logf("%d runs, %d steps", runs, steps)
}

// A seed that fails is of use only if it fails again.
func TestModelIsDeterministic(t *testing.T) {
	for seed := uint64(1); seed <= 40; seed++ {
		var hashes [2]uint64
		for i := range hashes {
			_, m := play(t, seed, nil, nil)
			hashes[i] = m.sim.hash
		}
		if hashes[0] != hashes[1] {
			t.Errorf("seed %d took two courses", seed)
		}
	}
}
