package elliptics_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/elliptics/internal/vectors"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

const captures = "wire/testdata/vectors"

// replay is a set of servers that answer with captured packets, each of which
// checks that the requests are the captured ones.
type replay struct {
	t    *testing.T
	name string

	mu      sync.Mutex
	packets []vectors.Packet // not seen or sent yet
	mask    func(h *wire.Header, payload []byte)
}

// replayed starts the servers of a capture; client connects to them.
func replayed(t *testing.T, name string, mask func(h *wire.Header, payload []byte)) *elliptics.Node {
	t.Helper()
	r := &replay{t: t, name: name, packets: vectors.Load(t, captures, name), mask: mask}
	version := wire.Version226
	if strings.HasPrefix(name, "v30-") {
		version = wire.Version300
	}
	servers := make(map[string]*fake)
	var remotes []string
	for i, p := range r.packets {
		if servers[p.Node] != nil {
			continue
		}
		f := startFake(t, func(f *fake) {
			f.version = version
			if version == wire.Version226 {
				f.shards = 2
			}
			f.backends = nil
			f.handle = func(c *fakeConn, h wire.Header, payload []byte) { r.answer(p.Node, c, h, payload) }
			seen := make(map[uint32]bool)
			for _, q := range r.packets[i:] {
				if g := q.Header.Group; q.Node == p.Node && !seen[g] {
					seen[g] = true
					backend := q.Header.Backend
					for _, o := range r.packets { // what the server says, where it does
						if o.Node == p.Node && o.Header.Group == g && o.Direction == vectors.Reply && o.Header.Backend > 0 {
							backend = o.Header.Backend
						}
					}
					f.backends = append(f.backends, wire.BackendIDs{Backend: uint32(backend), Group: g, IDs: []wire.ID{{}}})
				}
			}
		})
		servers[p.Node] = f
		remotes = append(remotes, f.remote())
	}
	n := connect(t, remotes, oneConnection, func(c *elliptics.Config) { c.KnownOnly = true })
	require.Eventually(t, func() bool { return connected(n) == len(remotes) }, patience, instant)
	t.Cleanup(func() { // whatever was not asked for fails the test
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, p := range r.packets {
			t.Errorf("%s: never seen: %s %s", name, p.Op, p.Direction)
		}
	})
	return n
}

// answer finds the captured request that a server got and sends what belongs
// to it.
func (r *replay) answer(node string, c *fakeConn, h wire.Header, payload []byte) {
	if h.Command == wire.CmdBackendStatus && h.ID == (wire.ID{}) && !strings.Contains(r.name, "backend-status") {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	got := append(r.masked(h, payload), payload...)
	var near []byte
	for i, p := range r.packets {
		if p.Direction != vectors.Request || p.Node != node || p.Header.Command != h.Command {
			continue
		}
		body := append([]byte(nil), p.Payload()...)
		near = append(r.masked(p.Header, body), body...)
		if string(near) != string(got) {
			continue
		}
		trans := p.Header.Trans
		rest := r.packets[:0:0]
		for j, q := range r.packets {
			switch {
			case j == i:
			case q.Direction == vectors.Reply && q.Header.Trans == trans && q.Conn == p.Conn && q.Node == node:
				q.Header.Trans = h.Trans
				_, _ = c.Write(append(q.Header.Append(nil), q.Payload()...))
			default:
				rest = append(rest, q)
			}
		}
		r.packets = rest
		return
	}
	if near == nil {
		r.t.Errorf("%s: %s was not captured", r.name, h.Command)
	} else if !assertBytes(r.t, near, got) {
		r.t.Errorf("%s: another %s than the captured one", r.name, h.Command)
	}
	c.Close()
}

// masked is a header without what cannot be equal: the number of the
// transaction, and the number of the backend, which a server ignores unless
// the header says DIRECT_BACKEND and which clients fill in or not.
func (r *replay) masked(h wire.Header, payload []byte) []byte {
	h.Trans = 0
	if h.Flags&wire.FlagDirectBackend == 0 {
		h.Backend = 0
	}
	if r.mask != nil {
		r.mask(&h, payload)
	}
	return h.Append(nil)
}

func assertBytes(t *testing.T, want, got []byte) bool {
	if len(want) != len(got) {
		t.Errorf("%d bytes, %d expected", len(got), len(want))
		return false
	}
	for i := range want {
		if want[i] != got[i] {
			t.Errorf("byte %d is %#x, %#x expected", i, got[i], want[i])
			return false
		}
	}
	return true
}
