package elliptics_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

func TestAdminErrors(t *testing.T) {
	one := wire.BackendStatuses{Backends: []wire.BackendStatus{{Backend: 1}}}
	junk := wire.MonitorReply{JSON: []byte("{no JSON")}
	var payloads sync.Map // by command
	f := startFake(t, func(f *fake) {
		f.handle = func(c *fakeConn, h wire.Header, _ []byte) {
			payload, _ := payloads.Load(h.Command)
			c.reply(h, 0, 0, payload.([]byte))
		}
	})
	n := connect(t, []string{f.remote()}, func(c *elliptics.Config) { c.CheckTimeout = 1 << 40 })
	for _, c := range []struct {
		payload []byte
		cmd     wire.Command
		do      func(remote string) error
		want    string
	}{
		{nil, wire.CmdStatus, func(r string) error { _, err := n.Status(t.Context(), r); return err }, "status at REMOTE: malformed"},
		{nil, wire.CmdMonitorStat, func(r string) error { return n.Monitor(t.Context(), r, wire.MonitorAll, nil) }, "monitor at REMOTE: malformed"},
		{junk.Append(nil), wire.CmdMonitorStat, func(r string) error {
			var v any
			return n.Monitor(t.Context(), r, wire.MonitorAll, &v)
		}, "monitor at REMOTE: statistics: invalid character"},
		{nil, wire.CmdBackendStatus, func(r string) error { _, err := n.BackendStatus(t.Context(), r); return err }, "backend status at REMOTE: malformed"},
		{one.Append(nil), wire.CmdBackendControl, func(r string) error {
			_, err := n.ControlBackend(t.Context(), r, elliptics.BackendControl{Backend: 2})
			return err
		}, "control of backend 2 at REMOTE: protocol error (status -71): an answer about backend 1"},
		{nil, wire.CmdBackendControl, func(r string) error {
			_, err := n.ControlBackend(t.Context(), r, elliptics.BackendControl{Backend: 2})
			return err
		}, "control of backend 2 at REMOTE: malformed"},
	} {
		payloads.Store(c.cmd, c.payload)
		require.ErrorContains(t, c.do(f.remote()), strings.ReplaceAll(c.want, "REMOTE", f.remote()))
		err := c.do("192.0.2.1:1025:2")
		require.ErrorIs(t, err, elliptics.ErrNoRoute)
		require.ErrorContains(t, err, "at 192.0.2.1:1025:2: no route to the group (status -6): the node is not known")
	}
	n.Close()
	_, err := n.Status(t.Context(), f.remote())
	require.ErrorIs(t, err, elliptics.ErrClosed)
}
