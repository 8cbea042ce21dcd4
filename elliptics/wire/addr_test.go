package wire_test

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

func TestAddr(t *testing.T) {
	for _, tt := range []struct{ ap, hex, s string }{
		{"127.0.0.1:1025", "020004017f000001" + strings.Repeat("00", 20) + "10000200", "127.0.0.1:1025:2"},
		{"[::1]:1025", "0a00040100000000" + strings.Repeat("00", 15) + "01" + "00000000" + "1c000a00", "::1:1025:10"},
		{"[::ffff:10.1.2.3]:65535", "0200ffff0a010203" + strings.Repeat("00", 20) + "10000200", "10.1.2.3:65535:2"},
	} {
		a := wire.AddrFrom(netip.MustParseAddrPort(tt.ap))
		require.Equal(t, tt.hex, hex.EncodeToString(a[:]), tt.ap)
		require.Equal(t, tt.s, a.String())
		require.False(t, a.IsZero())
		back, ok := a.AddrPort()
		require.True(t, ok)
		require.Equal(t, wire.AddrFrom(back), a)
		r, err := wire.ParseRemote(tt.s)
		require.NoError(t, err)
		require.Equal(t, tt.s, r.String())
	}
	var none wire.Addr
	require.True(t, none.IsZero())
	_, ok := none.AddrPort()
	require.False(t, ok)
	require.Equal(t, "address of family 0", none.String())
}

func TestParseRemote(t *testing.T) {
	r, err := wire.ParseRemote("storage1.example.org:1025:2")
	require.NoError(t, err)
	require.Equal(t, wire.Remote{Host: "storage1.example.org", Port: 1025, Family: wire.FamilyIPv4}, r)
	r, err = wire.ParseRemote("fe80::1:1025:10")
	require.NoError(t, err)
	require.Equal(t, wire.Remote{Host: "fe80::1", Port: 1025, Family: wire.FamilyIPv6}, r)
	for s, why := range map[string]string{
		"":                  "no family",
		"localhost":         "no family",
		"localhost:1025":    "no host or no port",
		":1025:2":           "no host or no port",
		"localhost:x:2":     `bad port "x"`,
		"localhost:0:2":     `bad port "0"`,
		"localhost:-1:2":    `bad port "-1"`,
		"localhost:65536:2": `bad port "65536"`,
		"localhost:1025:4":  `bad family "4"`,
		"localhost:1025:":   `bad family ""`,
	} {
		_, err := wire.ParseRemote(s)
		require.ErrorContains(t, err, why, s)
		require.ErrorContains(t, err, "expected host:port:family", "the way out is named")
	}
}
