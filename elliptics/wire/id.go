package wire

import (
	"bytes"
	"crypto/sha512"
	"encoding/hex"
)

// IDSize is the length of an object id in bytes.
const IDSize = 64

// ID names an object. The same id is used in every group.
type ID [IDSize]byte

// HashID derives the id of a key: SHA-512 of the key or, within a namespace,
// of the namespace, one zero byte and the key. An empty namespace counts as
// none.
func HashID(namespace, key string) ID {
	buf := make([]byte, 0, 128)
	if namespace != "" {
		buf = append(buf, namespace...)
		buf = append(buf, 0)
	}
	buf = append(buf, key...)
	return sha512.Sum512(buf)
}

// Compare orders ids bytewise, as the routing ring does.
func (id ID) Compare(other ID) int { return bytes.Compare(id[:], other[:]) }

// String is the whole id in hexadecimal.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Short is the first six bytes in hexadecimal, as Elliptics' logs show ids.
func (id ID) Short() string { return hex.EncodeToString(id[:6]) }

// ParseID reads an id of 128 hexadecimal digits.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 2*IDSize {
		return id, malformed("id %q has %d hexadecimal digits, %d expected", s, len(s), 2*IDSize)
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return id, malformed("id %q: %v", s, err)
	}
	return id, nil
}
