package elliptics_test

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// FuzzAnswers has a server say anything at all instead of an answer, and then
// hang up. Whatever it is, requests end, and the client closes.
func FuzzAnswers(f *testing.F) {
	h := wire.Header{ID: id(1), Group: 1, Command: wire.CmdRead, Trans: 1}
	push := wire.UpdateIDs{Backends: []wire.BackendIDs{{Backend: 1, Group: 1, IDs: []wire.ID{id(7)}}}}
	pushed := push.Append(nil)
	ph := wire.Header{Command: wire.CmdUpdateIDs, Size: uint64(len(pushed))}
	f.Add([]byte{})
	f.Add(readAnswer(h, 0, "data"))
	f.Add(append(readAnswer(h, wire.FlagMore, "data"), answer(h, 0, 0)...))
	f.Add(append(append(ph.Append(nil), pushed...), answer(h, 0, wire.ErrNotFound)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		server := newFake(t, nil, func(f *fake) {
			f.handle = func(c *fakeConn, h wire.Header, _ []byte) {
				if len(b) >= wire.HeaderSize && b[0]&1 == 1 { // for a known transaction
					head := h
					_ = head.Decode(b)
					head.Trans = h.Trans
					_, _ = c.Write(append(head.Append(nil), b[wire.HeaderSize:]...))
				} else {
					_, _ = c.Write(b)
				}
				c.Close()
			}
		})
		n, err := elliptics.NewNode(elliptics.Config{
			Remotes: []string{server.remote()}, KnownOnly: true, Connections: 1, MaxReply: 64 << 10,
			CheckTimeout: time.Hour, Logger: slog.New(slog.DiscardHandler),
			Dial: func(context.Context, string, string) (net.Conn, error) {
				ours, theirs := net.Pipe()
				server.take(theirs)
				return ours, nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := n.Wait(ctx); err != nil {
			t.Fatal(err)
		}
		if r, err := n.NewSession(1).Read(ctx, id(1), 0, 0); err == nil {
			r.Release()
		}
		for range n.NewSession().Iterate(ctx, 1, elliptics.Iteration{}) {
		}
		if ctx.Err() != nil {
			t.Fatal("a request did not end")
		}
	})
}
