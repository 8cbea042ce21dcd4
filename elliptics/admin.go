package elliptics

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// Names of package wire for administration.
type (
	// NodeStatus is the state of a server.
	NodeStatus = wire.NodeStatus
	// BackendStatus is the state of a backend.
	BackendStatus = wire.BackendStatus
	// BackendControl is a change to a backend.
	BackendControl = wire.BackendControl
	// MonitorCategories choose the parts of a server's statistics.
	MonitorCategories = wire.MonitorCategories
)

// Status asks a server, by its address as in RemoteStatus, how it is.
func (n *Node) Status(ctx context.Context, remote string) (NodeStatus, error) {
	return n.SetStatus(ctx, remote, wire.QueryNodeStatus)
}

// SetStatus changes a server's flags, state and log level: it can be made
// read-only, or told to exit. Fields as in wire.QueryNodeStatus stay as they
// are. It returns the state after that.
func (n *Node) SetStatus(ctx context.Context, remote string, status NodeStatus) (NodeStatus, error) {
	var got NodeStatus
	body, err := n.ask(ctx, "status", remote, wire.Header{Command: wire.CmdStatus, Flags: wire.FlagDirect}, status.Append(nil))
	if err == nil {
		err = bad("status", remote, got.Decode(body))
	}
	return got, err
}

// Monitor asks a server for its statistics and decodes their JSON into v, as
// json.Unmarshal does: a map, a structure, or a json.RawMessage. A server whose
// monitor is not configured answers {"monitor_status":"disabled"}.
func (n *Node) Monitor(ctx context.Context, remote string, categories MonitorCategories, v any) error {
	req := wire.MonitorRequest{Categories: categories}
	h := wire.Header{Command: wire.CmdMonitorStat, Flags: wire.FlagDirect | wire.FlagNoLock}
	body, err := n.ask(ctx, "monitor", remote, h, req.Append(nil))
	if err != nil {
		return err
	}
	var reply wire.MonitorReply
	if err := reply.Decode(body); err != nil {
		return bad("monitor", remote, err)
	}
	if err := json.Unmarshal(reply.JSON, v); err != nil {
		return bad("monitor", remote, fmt.Errorf("statistics: %w", err))
	}
	return nil
}

// BackendStatus lists the backends of a server, also those that are disabled.
func (n *Node) BackendStatus(ctx context.Context, remote string) ([]BackendStatus, error) {
	h := wire.Header{Command: wire.CmdBackendStatus, Flags: wire.FlagDirect}
	body, err := n.ask(ctx, "backend status", remote, h, nil)
	if err != nil {
		return nil, err
	}
	var list wire.BackendStatuses
	if err := list.Decode(body); err != nil {
		return nil, bad("backend status", remote, err)
	}
	return list.Backends, nil
}

// ControlBackend enables or disables a backend of a server, starts or stops its
// defragmentation, gives it other ids, makes it read-only or writable, or slows
// it down. It returns the state after that. Errors: wire.ErrAlready for a state
// that it has already, wire.ErrInProgress and ErrAgain while it changes,
// ErrInvalid for a backend that does not exist.
func (n *Node) ControlBackend(ctx context.Context, remote string, c BackendControl) (BackendStatus, error) {
	h := wire.Header{ID: c.ControlID(), Command: wire.CmdBackendControl, Flags: wire.FlagDirect}
	op := fmt.Sprintf("control of backend %d", c.Backend)
	body, err := n.ask(ctx, op, remote, h, c.Append(nil))
	if err != nil {
		return BackendStatus{}, err
	}
	var list wire.BackendStatuses
	err = list.Decode(body)
	switch {
	case err != nil:
	case len(list.Backends) != 1:
		err = fmt.Errorf("%w: an answer about %d backends", wire.ErrProtocol, len(list.Backends))
	case list.Backends[0].Backend != c.Backend:
		err = fmt.Errorf("%w: an answer about backend %d", wire.ErrProtocol, list.Backends[0].Backend)
	}
	if err != nil {
		return BackendStatus{}, bad(op, remote, err)
	}
	return list.Backends[0], nil
}

// ask sends a request about a server itself and returns the payload of the
// answer.
func (n *Node) ask(ctx context.Context, op, remote string, h wire.Header, payload []byte) ([]byte, error) {
	if n.ctx.Err() != nil {
		return nil, bad(op, remote, ErrClosed)
	}
	r := n.remote(remote)
	if r == nil {
		return nil, bad(op, remote, fmt.Errorf("%w: the node is not known", wire.ErrNoRoute))
	}
	c := r.conn(&h.ID)
	if c == nil {
		return nil, bad(op, remote, fmt.Errorf("%w: the node is not connected", wire.ErrNoRoute))
	}
	h.Flags |= wire.FlagNeedAck
	body, err := c.roundTrip(ctx, h, payload)
	return body, bad(op, remote, err)
}

// bad is the error of a request about a server itself; nil for none.
func bad(op, remote string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Op: op, Remote: remote, Err: err}
}
