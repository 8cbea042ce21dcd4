package wire

import "strconv"

// Status is the result of a command: 0 or a negative Linux errno number. A
// non-zero Status is an error; compare it with errors.Is and the Err
// constants below.
type Status int32

// The statuses that servers answer, and those that a client produces itself
// (marked so) in the same vocabulary.
const (
	OK                 Status = 0
	ErrPermission      Status = -1   // EPERM: plain write to a committed record; wrong cookie
	ErrNotFound        Status = -2   // ENOENT: missing, uncommitted, empty record looked up, plain write without prepare
	ErrIO              Status = -5   // EIO: disk error
	ErrNoRoute         Status = -6   // ENXIO: client side: no route to the group, or too few groups succeeded
	ErrTooBig          Status = -7   // E2BIG: read at or behind the end; plain write beyond the reservation
	ErrExec            Status = -8   // ENOEXEC: iteration cancelled
	ErrAgain           Status = -11  // EAGAIN: backend busy
	ErrNoMemory        Status = -12  // ENOMEM
	ErrInvalid         Status = -22  // EINVAL: bad sizes or flags
	ErrNoSpace         Status = -28  // ENOSPC
	ErrReadOnly        Status = -30  // EROFS: read-only backend or node
	ErrRange           Status = -34  // ERANGE: commit beyond the reservation; bad iterator range
	ErrProtocol        Status = -71  // EPROTO: handshake mismatch; malformed data
	ErrConflict        Status = -77  // EBADFD: compare-and-swap or timestamp refused
	ErrChecksum        Status = -84  // EILSEQ: stored checksum does not match
	ErrNotSupported    Status = -95  // ENOTSUP: unknown command; no backend for this group and id
	ErrConnectionReset Status = -104 // ECONNRESET: connection lost (client side, or a forwarding server)
	ErrTimeout         Status = -110 // ETIMEDOUT: no answer in time (client side, or a forwarding server)
	ErrRefused         Status = -111 // ECONNREFUSED: connection attempt
	ErrAlready         Status = -114 // EALREADY: backend is in that state
	ErrInProgress      Status = -115 // EINPROGRESS: backend is changing state
)

var statusText = map[Status]string{
	OK:                 "success",
	ErrPermission:      "not permitted",
	ErrNotFound:        "no such record",
	ErrIO:              "disk error",
	ErrNoRoute:         "no route to the group",
	ErrTooBig:          "offset behind the end of the record",
	ErrExec:            "cancelled",
	ErrAgain:           "backend is busy",
	ErrNoMemory:        "server is out of memory",
	ErrInvalid:         "invalid request",
	ErrNoSpace:         "no space left",
	ErrReadOnly:        "backend is read-only",
	ErrRange:           "out of range",
	ErrProtocol:        "protocol error",
	ErrConflict:        "record was changed by someone else",
	ErrChecksum:        "stored checksum does not match",
	ErrNotSupported:    "not supported, or no backend for this group",
	ErrConnectionReset: "connection lost",
	ErrTimeout:         "no answer in time",
	ErrRefused:         "connection refused",
	ErrAlready:         "already in that state",
	ErrInProgress:      "in progress",
}

// Error is the status in words, with its number.
func (s Status) Error() string {
	text, ok := statusText[s]
	if !ok {
		text = "server error"
	}
	return text + " (status " + strconv.Itoa(int(s)) + ")"
}

// Err is nil for OK and the status itself for everything else.
func (s Status) Err() error {
	if s == OK {
		return nil
	}
	return s
}

// Retry says what may be done after a status.
type Retry int

const (
	// RetryNever: the same request will fail the same way.
	RetryNever Retry = iota
	// RetrySafe: the server did not execute the request; sending it again
	// cannot apply it twice.
	RetrySafe
	// RetryIdempotent: the request may have been executed, or may still be.
	// Only a request that may be applied twice can be sent again.
	RetryIdempotent
)

// Retry tells whether sending the request again can help and is safe.
func (s Status) Retry() Retry {
	switch s {
	case ErrNoRoute, ErrAgain, ErrRefused, ErrInProgress:
		return RetrySafe
	case ErrTimeout, ErrConnectionReset, ErrNoMemory, ErrIO:
		return RetryIdempotent
	default:
		return RetryNever
	}
}
