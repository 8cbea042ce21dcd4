package node

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// twoBackends has backend 1 in group 1 and backend 3 in group 2.
func twoBackends(t *testing.T) func(*Config) {
	dir := t.TempDir()
	return func(cfg *Config) {
		cfg.Backends = []Backend{
			{ID: 1, Group: 1, Dir: filepath.Join(dir, "1")},
			{ID: 3, Group: 2, Dir: filepath.Join(dir, "3")},
		}
	}
}

// control sends BACKEND_CONTROL and answers its status and the state that came
// with it.
func (c *client) control(ask wire.BackendControl) (wire.Status, *wire.BackendStatus) {
	c.t.Helper()
	trans := c.send(wire.Header{ID: ask.ControlID(), Command: wire.CmdBackendControl, Flags: wire.FlagNeedAck | wire.FlagDirect}, ask.Append(nil))
	var state *wire.BackendStatus
	for {
		r := c.receive()
		require.Equal(c.t, trans, r.Trans)
		require.EqualValues(c.t, -1, r.Backend)
		if r.Size > 0 {
			var list wire.BackendStatuses
			require.NoError(c.t, list.Decode(r.payload))
			require.Len(c.t, list.Backends, 1)
			state = &list.Backends[0]
		}
		if r.Flags&wire.FlagMore == 0 {
			return r.Status, state
		}
		require.Equal(c.t, wire.OK, r.Status)
	}
}

func (c *client) backends() wire.BackendStatuses {
	c.t.Helper()
	var list wire.BackendStatuses
	r := c.call(wire.Header{Command: wire.CmdBackendStatus, Flags: wire.FlagNeedAck | wire.FlagDirect})
	require.NoError(c.t, list.Decode(r.payload))
	return list
}

func (c *client) greet() {
	c.t.Helper()
	require.NotEmpty(c.t, c.call(wire.Header{ID: wire.Handshake{Version: wire.Version226}.ID(), Command: wire.CmdReverseLookup}).payload)
}

// pushed receives an UPDATE_IDS push.
func (c *client) pushed() wire.BackendIDs {
	c.t.Helper()
	r := c.receive()
	require.Equal(c.t, wire.Header{Command: wire.CmdUpdateIDs, Flags: wire.FlagDirect | wire.FlagNoLock, Size: r.Size}, r.Header)
	var u wire.UpdateIDs
	require.NoError(c.t, u.Decode(r.payload))
	require.Len(c.t, u.Backends, 1)
	return u.Backends[0]
}

func TestDisableAndEnable(t *testing.T) {
	both(t, func(t *testing.T, transport func(*Config)) {
		n := startNode(t, twoBackends(t), transport)
		c, watcher, stranger := dial(t, n), dial(t, n), dial(t, n)
		require.Equal(t, wire.OK, c.write("k", wire.IOAttr{}, "kept").Status)
		watcher.greet()

		status, state := c.control(wire.BackendControl{Backend: 1, Command: wire.BackendDisable})
		require.Equal(t, wire.OK, status)
		require.Equal(t, wire.BackendDisabled, state.State)
		require.Equal(t, wire.BackendIDs{Backend: 1, Disabled: true, IDs: []wire.ID{}}, watcher.pushed())
		require.Equal(t, wire.ErrNotSupported, c.write("k", wire.IOAttr{}, "lost").Status, "no backend for the group")
		r := c.call(wire.Header{ID: key("k"), Backend: 1, Command: wire.CmdLookup, Flags: wire.FlagDirectBackend | wire.FlagNeedAck})
		require.Equal(t, wire.ErrNotSupported, r.Status)
		list := c.backends()
		require.Len(t, list.Backends, 2)
		require.Equal(t, 2, list.Room, "the numbers 0 and 2")
		require.Equal(t, wire.BackendDisabled, list.Backends[0].State)
		require.Equal(t, wire.BackendEnabled, list.Backends[1].State)
		status, state = c.control(wire.BackendControl{Backend: 1, Command: wire.BackendDisable})
		require.Equal(t, wire.ErrAlready, status)
		require.Equal(t, wire.BackendDisabled, state.State)

		status, state = c.control(wire.BackendControl{Backend: 1, Command: wire.BackendEnable})
		require.Equal(t, wire.OK, status)
		require.Equal(t, wire.BackendEnabled, state.State)
		push := watcher.pushed()
		require.EqualValues(t, 1, push.Group)
		require.Len(t, push.IDs, 1)
		_, _, data := c.read("k", 0, 0, 0)
		require.Equal(t, "kept", data)
		status, _ = c.control(wire.BackendControl{Backend: 1, Command: wire.BackendEnable})
		require.Equal(t, wire.ErrAlready, status)
		// Who never asked for the ids is not told of changes.
		stranger.lookup("k", 0)
	})
}

func TestControlSettings(t *testing.T) {
	n := startNode(t, twoBackends(t))
	c, watcher := dial(t, n), dial(t, n)
	watcher.greet()
	for _, tt := range []struct {
		ask  wire.BackendControl
		want wire.Status
	}{
		{wire.BackendControl{Backend: 2}, wire.ErrInvalid},
		{wire.BackendControl{Backend: 1, Command: 8}, wire.ErrNotSupported},
		{wire.BackendControl{Backend: 1, Command: wire.BackendWritable}, wire.ErrAlready},
		{wire.BackendControl{Backend: 1, Command: wire.BackendSetIDs}, wire.ErrInvalid},
		{wire.BackendControl{Backend: 1, Command: wire.BackendStopDefrag}, wire.ErrAlready},
		{wire.BackendControl{Backend: 1, Command: wire.BackendSetDelay, Delay: 1 << 31}, wire.ErrInvalid},
	} {
		status, _ := c.control(tt.ask)
		require.Equal(t, tt.want, status, "%+v", tt.ask)
	}
	h := wire.Header{Command: wire.CmdBackendControl, Flags: wire.FlagNeedAck}
	require.Equal(t, wire.ErrInvalid, c.call(h, make([]byte, 71)).Status)

	status, state := c.control(wire.BackendControl{Backend: 1, Command: wire.BackendReadOnly})
	require.Equal(t, wire.OK, status)
	require.True(t, state.ReadOnly)
	require.Equal(t, wire.ErrReadOnly, c.write("k", wire.IOAttr{}, "x").Status)
	require.Equal(t, wire.ErrReadOnly, c.del("k"))
	status, _ = c.control(wire.BackendControl{Backend: 1, Command: wire.BackendWritable})
	require.Equal(t, wire.OK, status)
	require.Equal(t, wire.OK, c.write("k", wire.IOAttr{}, "x").Status)

	status, state = c.control(wire.BackendControl{Backend: 1, Command: wire.BackendSetDelay, Delay: 30})
	require.Equal(t, wire.OK, status)
	require.EqualValues(t, 30, state.Delay)
	begin := time.Now()
	c.lookup("k", 0)
	require.GreaterOrEqual(t, time.Since(begin), 30*time.Millisecond)

	ids := []wire.ID{{1}, {2}}
	status, _ = c.control(wire.BackendControl{Backend: 1, Command: wire.BackendSetIDs, IDs: ids})
	require.Equal(t, wire.OK, status)
	require.Equal(t, wire.BackendIDs{Backend: 1, Group: 1, IDs: ids}, watcher.pushed())
	stored, err := loadIDs(n.backend(1).dir)
	require.NoError(t, err)
	require.Equal(t, ids, stored)

	status, _ = c.control(wire.BackendControl{Backend: 1, Command: wire.BackendStartDefrag})
	require.Equal(t, wire.OK, status)
	require.Eventually(t, func() bool { return c.backends().Backends[0].Defrag == wire.DefragNone }, 10*time.Second, time.Millisecond)
	_, _, data := c.read("k", 0, 0, 0)
	require.Equal(t, "x", data)
}

// TestNodeStatus sets a whole node read-only and back. A client can neither
// end the process nor change what it logs.
func TestNodeStatus(t *testing.T) {
	c := dial(t, startNode(t, twoBackends(t)))
	ask := func(s wire.NodeStatus) (wire.Status, wire.NodeStatus) {
		t.Helper()
		c.send(wire.Header{Command: wire.CmdStatus, Flags: wire.FlagNeedAck | wire.FlagDirect}, s.Append(nil))
		r := c.receive()
		if r.Flags&wire.FlagMore == 0 {
			return r.Status, wire.NodeStatus{}
		}
		var now wire.NodeStatus
		require.NoError(t, now.Decode(r.payload))
		return c.receive().Status, now
	}
	query := wire.QueryNodeStatus
	for _, refused := range []wire.NodeStatus{
		{Flags: query.Flags, Status: wire.NodeExiting, LogLevel: query.LogLevel},
		{Flags: query.Flags, Status: query.Status, LogLevel: 0},
		{Flags: 32, Status: query.Status, LogLevel: query.LogLevel},
		{},
	} {
		status, _ := ask(refused)
		require.Equal(t, wire.ErrNotSupported, status, "%+v", refused)
	}
	require.Equal(t, wire.ErrInvalid, c.call(wire.Header{Command: wire.CmdStatus, Flags: wire.FlagNeedAck}, make([]byte, 11)).Status)

	readOnly := query
	readOnly.Status = wire.NodeReadOnly
	status, now := ask(readOnly)
	require.Equal(t, wire.OK, status)
	require.Equal(t, wire.NodeReadOnly, now.Status)
	require.Equal(t, wire.ErrReadOnly, c.write("k", wire.IOAttr{}, "x").Status)
	_, now = ask(query)
	require.Equal(t, wire.NodeReadOnly, now.Status)
	writable := query
	writable.Status = 0
	_, now = ask(writable)
	require.Zero(t, now.Status)
	require.Equal(t, wire.OK, c.write("k", wire.IOAttr{}, "x").Status)
}

func TestMonitor(t *testing.T) {
	n := startNode(t, twoBackends(t), listening)
	c := dial(t, n)
	require.Equal(t, wire.OK, c.write("k", wire.IOAttr{}, strings.Repeat("x", 100_000)).Status)
	c.lookup("missing", 0)
	monitor := func(categories wire.MonitorCategories) (doc struct {
		Status   string `json:"monitor_status"`
		Backends map[string]struct {
			Status struct {
				State string `json:"string_state"`
			} `json:"status"`
			Backend struct {
				Summary struct {
					Records int64 `json:"records_total"`
					Size    int64 `json:"base_size"`
				} `json:"summary_stats"`
				Config struct {
					Group uint32 `json:"group"`
				} `json:"config"`
				VFS struct {
					FragmentSize int64 `json:"frsize"`
					Avail        int64 `json:"bavail"`
				} `json:"vfs"`
			} `json:"backend"`
		} `json:"backends"`
		IO *struct {
			States map[string]struct{} `json:"states"`
		} `json:"io"`
		Commands map[string]struct {
			Disk struct {
				Outside struct{ Successes, Failures, Size uint64 } `json:"outside"`
			} `json:"disk"`
		} `json:"commands"`
	}) {
		t.Helper()
		ask := wire.MonitorRequest{Categories: categories}
		h := wire.Header{Command: wire.CmdMonitorStat, Flags: wire.FlagDirect | wire.FlagNoLock}
		var told wire.MonitorReply
		require.NoError(t, told.Decode(c.call(h, ask.Append(nil)).payload), "one packet without NEED_ACK")
		require.NoError(t, json.Unmarshal(told.JSON, &doc))
		return doc
	}
	require.Eventually(t, func() bool { return monitor(wire.MonitorAll).Backends["1"].Backend.Summary.Records == 1 }, 10*time.Second, time.Millisecond)
	doc := monitor(wire.MonitorAll)
	require.Equal(t, "enabled", doc.Status)
	require.Len(t, doc.Backends, 2)
	one := doc.Backends["1"]
	require.Equal(t, "enabled", one.Status.State)
	require.Greater(t, one.Backend.Summary.Size, int64(100_000))
	require.EqualValues(t, 1, one.Backend.Config.Group)
	require.Positive(t, one.Backend.VFS.Avail*one.Backend.VFS.FragmentSize)
	require.Contains(t, doc.IO.States, c.nc.LocalAddr().String())
	require.EqualValues(t, 1, doc.Commands["WRITE"].Disk.Outside.Successes)
	require.Greater(t, doc.Commands["WRITE"].Disk.Outside.Size, uint64(100_000))
	require.EqualValues(t, 1, doc.Commands["LOOKUP"].Disk.Outside.Failures)

	doc = monitor(wire.MonitorCommands)
	require.Nil(t, doc.IO)
	require.Empty(t, doc.Backends)
	require.NotEmpty(t, doc.Commands)
	h := wire.Header{Command: wire.CmdMonitorStat, Flags: wire.FlagNeedAck}
	require.Equal(t, wire.ErrInvalid, c.call(h, make([]byte, 12)).Status)
}
