package wire

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// AddrSize is the length of an address in bytes.
const AddrSize = 32

// Address families, with Linux' numbers.
const (
	FamilyIPv4 = 2
	FamilyIPv6 = 10
)

// Addr is the address of a node: a raw Linux socket address of 28 bytes, its
// length and its family. Two addresses are the same when their bytes are.
type Addr [AddrSize]byte

// AddrFrom converts an address and a port. IPv4-mapped IPv6 becomes IPv4.
func AddrFrom(ap netip.AddrPort) Addr {
	var a Addr
	ip := ap.Addr().Unmap()
	binary.BigEndian.PutUint16(a[2:], ap.Port())
	if ip.Is4() {
		le.PutUint16(a[0:], FamilyIPv4)
		b := ip.As4()
		copy(a[4:], b[:])
		le.PutUint16(a[28:], 16)
		le.PutUint16(a[30:], FamilyIPv4)
		return a
	}
	le.PutUint16(a[0:], FamilyIPv6)
	b := ip.As16()
	copy(a[8:], b[:])
	le.PutUint16(a[28:], 28)
	le.PutUint16(a[30:], FamilyIPv6)
	return a
}

// IsZero tells an all-zero address, which is an error wherever it appears.
func (a Addr) IsZero() bool { return a == Addr{} }

// AddrPort is the address in Go's form; ok is false when the family is
// neither IPv4 nor IPv6.
func (a Addr) AddrPort() (ap netip.AddrPort, ok bool) {
	port := binary.BigEndian.Uint16(a[2:])
	switch le.Uint16(a[30:]) {
	case FamilyIPv4:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(a[4:8])), port), true
	case FamilyIPv6:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(a[8:24])), port), true
	}
	return netip.AddrPort{}, false
}

// String is `host:port:family` as Elliptics writes addresses.
func (a Addr) String() string {
	ap, ok := a.AddrPort()
	if !ok {
		return fmt.Sprintf("address of family %d", le.Uint16(a[30:]))
	}
	return ap.Addr().String() + ":" + strconv.Itoa(int(ap.Port())) + ":" + strconv.Itoa(int(le.Uint16(a[30:])))
}

// Remote is an address as a user writes it, before names are resolved.
type Remote struct {
	Host   string
	Port   uint16
	Family int // FamilyIPv4 or FamilyIPv6
}

// ParseRemote reads `host:port:family` (family 2 is IPv4, 10 is IPv6). The
// string is cut at its last two colons, so that an IPv6 literal needs no
// brackets.
func ParseRemote(s string) (Remote, error) {
	fail := func(why string) (Remote, error) {
		return Remote{}, fmt.Errorf("remote %q: %s; expected host:port:family with family 2 (IPv4) or 10 (IPv6), as in 127.0.0.1:1025:2", s, why)
	}
	rest, family, ok := cutLast(s)
	if !ok {
		return fail("no family")
	}
	host, port, ok := cutLast(rest)
	if !ok || host == "" {
		return fail("no host or no port")
	}
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil || p == 0 {
		return fail("bad port " + strconv.Quote(port))
	}
	r := Remote{Host: host, Port: uint16(p)}
	switch family {
	case "2":
		r.Family = FamilyIPv4
	case "10":
		r.Family = FamilyIPv6
	default:
		return fail("bad family " + strconv.Quote(family))
	}
	return r, nil
}

func cutLast(s string) (before, after string, found bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// String is the form that ParseRemote reads.
func (r Remote) String() string {
	return r.Host + ":" + strconv.Itoa(int(r.Port)) + ":" + strconv.Itoa(r.Family)
}
