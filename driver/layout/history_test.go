package layout

import (
	"fmt"
	"slices"
	"sort"
	"strings"
)

// A history is what the users of some registries asked for and were told. It
// is judged path by path: a path is a variable that is written (put, moved to,
// deleted) and read, and every operation must seem to have happened at one
// moment between its call and its answer. That is linearizability, which holds
// for all paths together if it holds for each; only a Move is two operations
// (the new path, then the old one), and so is the deletion of a tree one for
// each path in it.
//
// An operation that was not acknowledged may have happened, or happen at any
// later time, or never. One that is still running may happen several times: it
// starts over when somebody else was faster.
type history struct {
	clock int
	paths map[string][]*access
}

// A value is the number of a content; 0: there is no file.
type value = int

type access struct {
	what    string
	call    int
	answer  int
	unknown bool // not acknowledged

	write   bool
	values  []value // that it may write, or may have read
	not     bool    // it read anything but values
	replace []value // it writes only if it finds one of these
	// optional: it may leave things as they are.
	optional bool
}

func newHistory() *history { return &history{paths: make(map[string][]*access)} }

func (h *history) now() int { h.clock++; return h.clock }

func (h *history) add(path string, a access) {
	h.paths[path] = append(h.paths[path], &a)
}

// linked tells whether a listing between two moments may show the path
// although no file is there: its name comes before its record and goes after.
func (h *history) linked(path string, from, to int) bool {
	return slices.ContainsFunc(h.paths[path], func(a *access) bool {
		return a.write && a.call <= to && (a.answer >= from || a.unknown)
	})
}

// state is one thing that may be true at one time.
type state struct {
	value   value
	applied uint64 // of the open accesses
}

// check returns why a history is impossible, or "".
func (h *history) check() string {
	paths := make([]string, 0, len(h.paths))
	for p := range h.paths {
		paths = append(paths, p)
	}
	sort.Strings(paths)
	for _, p := range paths {
		if at := checkPath(h.paths[p]); at != nil {
			return fmt.Sprintf("%s: nothing explains %s\n%s", p, at, describe(h.paths[p]))
		}
	}
	return ""
}

func (a *access) String() string {
	answer := fmt.Sprint(a.answer)
	if a.unknown {
		answer += "?"
	}
	verb := "reads"
	if a.write {
		verb = "writes"
	}
	if a.not {
		verb += " other than"
	}
	return fmt.Sprintf("[%d, %s] %s: %s %v %v", a.call, answer, a.what, verb, a.values, a.replace)
}

func describe(list []*access) string {
	var b strings.Builder
	for _, a := range list {
		fmt.Fprintln(&b, " ", a)
	}
	return b.String()
}

// checkPath follows all the states that are possible, from event to event.
func checkPath(list []*access) *access {
	list = slices.Clone(list)
	sort.SliceStable(list, func(i, j int) bool { return list[i].call < list[j].call })
	var (
		states = map[state]bool{{}: true}
		open   []*access // at most 64; the index is the bit
		once   uint64    // of them, those that were answered without acknowledgement
	)
	slot := func(a *access) int {
		if i := slices.Index(open, nil); i >= 0 {
			open[i] = a
			return i
		}
		open = append(open, a)
		return len(open) - 1
	}
	for len(list) > 0 || len(open) > 0 {
		// The next event: a call, or the answer of an open access.
		next := -1
		for i, a := range open {
			if a != nil && once&(1<<i) == 0 && (next < 0 || a.answer < open[next].answer) {
				next = i
			}
		}
		if len(list) > 0 && (next < 0 || list[0].call < open[next].answer) {
			if i := slot(list[0]); i >= 64 {
				panic("too many open accesses of one path")
			}
			list = list[1:]
			continue
		}
		if next < 0 {
			return nil
		}
		a, bit := open[next], uint64(1)<<next
		spread(states, open, once)
		after := make(map[state]bool, len(states))
		for s := range states {
			if a.unknown || s.applied&bit != 0 {
				after[state{s.value, s.applied &^ bit}] = true
			}
		}
		if len(after) == 0 {
			return a
		}
		states = after
		if a.unknown {
			once |= bit
		} else {
			open[next] = nil
		}
	}
	return nil
}

// spread adds the states that open accesses can lead to.
func spread(states map[state]bool, open []*access, once uint64) {
	queue := make([]state, 0, len(states))
	for s := range states {
		queue = append(queue, s)
	}
	for len(queue) > 0 {
		s := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		for i, a := range open {
			bit := uint64(1) << i
			if a == nil || once&bit != 0 && s.applied&bit != 0 {
				continue
			}
			for _, v := range a.results(s.value) {
				n := state{v, s.applied | bit}
				if !states[n] {
					states[n] = true
					queue = append(queue, n)
				}
			}
		}
	}
}

// results are the values after an access that finds v; none if it cannot have
// found that.
func (a *access) results(v value) []value {
	switch {
	case !a.write && slices.Contains(a.values, v) == a.not:
		return nil
	case !a.write:
		return []value{v}
	case a.replace != nil && !slices.Contains(a.replace, v):
		return []value{v}
	case a.optional:
		return append([]value{v}, a.values...)
	}
	return a.values
}
