package layout

import (
	"slices"
	"time"
)

// finish lets the cluster heal and looks at everything, with each group away
// that may be away.
func (m *model) finish() {
	s := m.sim
	m.settle()
	bad := s.faults.bad
	s.faults = faults{bad: -1}
	for _, g := range s.groups {
		g.down = false
	}
	s.calm()
	time.Sleep(10 * time.Second)
	m.drain()
	if s.chance(0.5) {
		s.calm()
		time.Sleep(3 * time.Hour)
		m.only(operation{name: "empty trash", do: doEmptyTrash, enter: enterNothing})
	}
	away := []int{-1}
	if bad >= 0 {
		away = append(away, bad)
	} else if len(s.groups) == 3 {
		away = append(away, 0, 1, 2)
	}
	for _, a := range away {
		if m.wrong != "" {
			return
		}
		if a >= 0 {
			s.groups[a].down = true
		}
		s.note("group %d is away", a+1)
		m.open(0)
		m.audit()
		if a >= 0 {
			s.groups[a].down = false
		}
	}
	if m.wrong == "" {
		m.enterListings()
		m.wrong = m.hist.check()
	}
}

// audit reads and lists everything.
func (m *model) audit() {
	for _, p := range modelFiles {
		m.only(operation{name: "get", to: p, do: doGet, enter: enterGet, must: true})
	}
	for _, d := range append(slices.Clone(modelDirs), "/") {
		m.only(operation{name: "list", to: d, do: doList, enter: enterList, must: true})
	}
	m.only(operation{name: "sessions", do: doSessions, enter: enterNothing, must: true})
}

// only runs one operation to its end.
func (m *model) only(o operation) {
	u := m.users[0]
	m.start(u, &call{operation: o, registry: m.registries[0]})
	for {
		switch waiting := m.settle(); {
		case u.running == nil:
			return
		case waiting:
			m.sim.step()
		default:
			m.sim.wait()
		}
	}
}

// drain executes what still runs in the background.
func (m *model) drain() {
	for m.settle() {
		m.sim.step()
	}
}
