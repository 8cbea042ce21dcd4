package elliptics

import "context"

// Checker decides how many of the groups that were asked must succeed.
type Checker int

// The checkers of Elliptics' sessions.
const (
	One    Checker = iota // at least one
	Quorum                // more than half
	All                   // every one
)

func (c Checker) String() string {
	return map[Checker]string{One: "one", Quorum: "quorum", All: "all"}[c]
}

// Need is the number of successes among total groups.
func (c Checker) Need(total int) int {
	switch c {
	case One:
		return 1
	case All:
		return total
	}
	return total/2 + 1
}

// GroupResult is the outcome in one group.
type GroupResult struct {
	Group uint32
	Info  FileInfo // of writes and lookups that succeeded
	Err   error
}

// everywhere runs a request in all groups at once and waits for every one of
// them, each of which ends with the session's time-out at the latest. A single
// group is asked without a goroutine.
func (s *Session) everywhere(ctx context.Context, op string, key Key, request func(group uint32) (FileInfo, error)) ([]GroupResult, error) {
	if len(s.groups) == 0 {
		return nil, s.noGroups(op, key)
	}
	results := make([]GroupResult, len(s.groups))
	if len(s.groups) == 1 {
		g := s.groups[0]
		info, err := request(g)
		results[0] = GroupResult{g, info, err}
		return results, err
	}
	done := make(chan struct{}, len(s.groups))
	for i, g := range s.groups {
		go func() {
			info, err := request(g)
			results[i] = GroupResult{g, info, err}
			done <- struct{}{}
		}()
	}
	for range s.groups {
		<-done // bounded: every request obeys ctx and the time-out
	}
	return results, s.verdict(op, key, results)
}

// verdict is the checker's.
func (s *Session) verdict(op string, key Key, results []GroupResult) error {
	ok := 0
	for _, r := range results {
		if r.Err == nil {
			ok++
		}
	}
	need := s.checker.Need(len(results))
	if ok >= need {
		return nil
	}
	return &GroupsError{Op: op, Key: key, Need: need, OK: ok, Groups: results}
}

// inTurn asks one group after the other until one succeeds. The error tells
// what each of them said.
func inTurn[T any](ctx context.Context, s *Session, op string, key Key, request func(group uint32) (T, error)) (v T, err error) {
	if len(s.groups) == 0 {
		return v, s.noGroups(op, key)
	}
	var failed []GroupResult
	for _, g := range s.groups {
		if v, err = request(g); err == nil || ctx.Err() != nil {
			return v, err
		}
		failed = append(failed, GroupResult{Group: g, Err: err})
	}
	if len(failed) > 1 {
		err = &GroupsError{Op: op, Key: key, Need: 1, Groups: failed}
	}
	return v, err
}
