// Package wire holds every frame of the Elliptics protocol as a Go type with
// an Append method (type to bytes) and a Decode method (bytes to type), for
// both directions: the client and the server side use the same types.
//
// The package does no I/O, starts no goroutines and keeps no state. It never
// trusts a length, a count or a size that a peer sent: Decode answers an error
// that wraps [ErrMalformed] where the original would read past its buffer.
//
// All integers are little-endian, except the port and the IP address inside
// an [Addr]. Structures are packed. The protocol is that of Elliptics 2.26;
// 2.27 and 3.0 differ in the handshake version only (see [Version]).
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrMalformed is wrapped by every decoding error: the bytes are not the
// structure that they should be.
var ErrMalformed = errors.New("malformed elliptics packet")

func short(what string, have, want int) error {
	return fmt.Errorf("%w: %s has %d bytes, at least %d expected", ErrMalformed, what, have, want)
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

var le = binary.LittleEndian
