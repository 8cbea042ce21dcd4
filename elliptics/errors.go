package elliptics

import (
	"errors"
	"fmt"
	"strings"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// The errors of servers, and those that the client produces in the same
// vocabulary. Compare with errors.Is: what methods return wraps them.
const (
	ErrPermission      = wire.ErrPermission      // plain write to a committed record
	ErrNotFound        = wire.ErrNotFound        // the group has no such record
	ErrIO              = wire.ErrIO              // disk error of the server
	ErrNoRoute         = wire.ErrNoRoute         // no connected node of the group, or too few groups succeeded
	ErrTooBig          = wire.ErrTooBig          // read at or behind the end
	ErrAgain           = wire.ErrAgain           // backend is busy
	ErrInvalid         = wire.ErrInvalid         // bad sizes or flags
	ErrNoSpace         = wire.ErrNoSpace         // backend is full
	ErrReadOnly        = wire.ErrReadOnly        // backend is read-only
	ErrRange           = wire.ErrRange           // commit beyond the reservation
	ErrProtocol        = wire.ErrProtocol        // the peer does not speak the protocol
	ErrConflict        = wire.ErrConflict        // compare-and-swap or timestamp refused
	ErrChecksum        = wire.ErrChecksum        // the record is damaged on the server
	ErrNotSupported    = wire.ErrNotSupported    // unknown command, or no backend for the group
	ErrConnectionReset = wire.ErrConnectionReset // connection lost in the middle
	ErrTimeout         = wire.ErrTimeout         // no answer in time
)

// ErrClosed: the Node was closed.
var ErrClosed = errors.New("elliptics client is closed")

// ErrTooLarge: an answer is larger than Config.MaxReply. Read large records in
// parts.
var ErrTooLarge = errors.New("answer is too large for the client")

// Error is what a single request to one group, or to one server, came to.
type Error struct {
	Op     string // read, write, lookup, …
	Group  uint32 // zero: the request was about the server itself
	Remote string // host:port:family; empty when no server was asked
	Key    Key    // zero: the request was about no record
	Err    error
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Key != (Key{}) {
		b.WriteString(" " + e.Key.Short())
	}
	if e.Group != 0 {
		fmt.Fprintf(&b, " in group %d", e.Group)
	}
	if e.Remote != "" {
		b.WriteString(" at " + e.Remote)
	}
	return b.String() + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Retry tells whether the same request may be sent again, see wire.Retry. An
// error that is not from this package is never safe. Of several groups, as many
// must be worth another attempt as the checker misses; where one of them, or of
// those that succeeded, would see the request twice it is RetryIdempotent.
func Retry(err error) wire.Retry {
	var all *GroupsError
	if errors.As(err, &all) {
		return all.retry()
	}
	var s wire.Status
	if errors.As(err, &s) {
		return s.Retry()
	}
	return wire.RetryNever
}

func (e *GroupsError) retry() wire.Retry {
	hopeful := e.OK
	verdict := wire.RetrySafe
	if e.OK > 0 {
		verdict = wire.RetryIdempotent
	}
	for _, g := range e.Groups {
		if g.Err == nil {
			continue
		}
		if r := Retry(g.Err); r != wire.RetryNever {
			hopeful++
			verdict = max(verdict, r)
		}
	}
	if hopeful < e.Need {
		return wire.RetryNever
	}
	return verdict
}

// Missing tells that a record is nowhere: every group that was asked answered,
// and none has it. With errors.Is(err, ErrNotFound) it is enough that one
// group says so, whatever is wrong with the others.
func Missing(err error) bool {
	var all *GroupsError
	if !errors.As(err, &all) {
		return errors.Is(err, ErrNotFound)
	}
	for _, g := range all.Groups {
		if !errors.Is(g.Err, ErrNotFound) {
			return false
		}
	}
	return len(all.Groups) > 0
}

// GroupsError is returned when several groups were asked and too few of them
// succeeded for the session's checker, or for an operation that asks one after
// the other. errors.Is finds the errors of all groups.
type GroupsError struct {
	Op     string
	Key    Key
	Need   int
	OK     int
	Groups []GroupResult
}

func (e *GroupsError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: %d of %d groups succeeded, %d needed", e.Op, e.Key.Short(), e.OK, len(e.Groups), e.Need)
	for _, g := range e.Groups {
		if g.Err != nil {
			b.WriteString("; ")
			b.WriteString(g.Err.Error())
		}
	}
	return b.String()
}

// Unwrap returns the errors of the groups that failed.
func (e *GroupsError) Unwrap() []error {
	var errs []error
	for _, g := range e.Groups {
		if g.Err != nil {
			errs = append(errs, g.Err)
		}
	}
	return errs
}
