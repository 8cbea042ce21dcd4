package wire

// AuthCookieSize is the length of a cookie, with zeros behind it, in bytes.
// One byte is always zero.
const AuthCookieSize = 32

// Auth is the payload of AUTH, which servers of a cluster send each other. It
// protects nothing.
type Auth struct {
	Cookie [AuthCookieSize]byte
	Flags  uint64
}

const authSize = 64

// Append writes the 64 bytes of a to dst.
func (a *Auth) Append(dst []byte) []byte {
	dst = append(dst, a.Cookie[:]...)
	dst = le.AppendUint64(dst, a.Flags)
	return append(dst, make([]byte, 24)...)
}

// Decode reads a from the whole of src.
func (a *Auth) Decode(src []byte) error {
	if len(src) != authSize {
		return malformed("cookie has %d bytes, %d expected", len(src), authSize)
	}
	copy(a.Cookie[:], src)
	a.Flags = le.Uint64(src[AuthCookieSize:])
	return nil
}
