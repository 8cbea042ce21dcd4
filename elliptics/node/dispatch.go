package node

import (
	"context"
	"errors"
	"time"

	"github.com/elliptics-registry/elliptics-registry/elliptics/node/engine"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// command is how one command is executed.
type command struct {
	// run executes the request and answers its status. It sends what the
	// answer consists of besides an acknowledge, which is sent for it.
	run func(*request) wire.Status
	// backend tells that the command works on the records of a backend.
	backend bool
	lock    lockMode
	acks    acks
}

// acks is when a command is acknowledged, if it has not answered otherwise.
type acks uint8

const (
	acksIfAsked  acks = iota // with NEED_ACK
	acksFailures             // failures always, success with NEED_ACK
	acksAlways
)

// commands is what a node executes. Everything else is answered -95.
var commands = map[wire.Command]*command{
	wire.CmdLookup:   {run: lookup, backend: true, lock: lockShared, acks: acksAlways},
	wire.CmdRead:     {run: read, backend: true, lock: lockShared, acks: acksAlways},
	wire.CmdWrite:    {run: write, backend: true, lock: lockExclusive, acks: acksAlways},
	wire.CmdDel:      {run: del, backend: true, lock: lockExclusive, acks: acksFailures},
	wire.CmdBulkRead: {run: bulkRead, backend: true, lock: lockShared, acks: acksAlways},
	wire.CmdIterator: {run: iterate, backend: true, acks: acksAlways},

	wire.CmdIndexesUpdate:   {run: indexesUpdate, backend: true, lock: lockExclusive, acks: acksAlways},
	wire.CmdIndexesInternal: {run: indexesInternal, backend: true, lock: lockExclusive, acks: acksAlways},
	wire.CmdIndexesFind:     {run: indexesFind, backend: true, lock: lockShared, acks: acksAlways},

	wire.CmdReverseLookup:  {run: reverseLookup},
	wire.CmdRouteList:      {run: routeList},
	wire.CmdAuth:           {run: auth},
	wire.CmdUpdateIDs:      {run: updateIDs},
	wire.CmdStatus:         {run: nodeStatus},
	wire.CmdMonitorStat:    {run: monitorStat},
	wire.CmdBackendStatus:  {run: backendStatus},
	wire.CmdBackendControl: {run: backendControl},
}

// hasIOAttr tells the commands whose payload is one io attribute and data.
func hasIOAttr(c wire.Command) bool {
	return c == wire.CmdWrite || c == wire.CmdRead || c == wire.CmdDel
}

// isIndexes tells the commands that servers of the 3.0 line do not know.
func isIndexes(c wire.Command) bool {
	return c == wire.CmdIndexesUpdate || c == wire.CmdIndexesInternal || c == wire.CmdIndexesFind
}

// dispatch finds out who executes r and queues it there. It never waits for
// another request.
func (n *Node) dispatch(r *request) {
	r.began = time.Now()
	r.cmd = commands[r.hdr.Command]
	r.hdr.Status = wire.OK
	needsBackend := r.cmd == nil || r.cmd.backend
	if needsBackend {
		r.backend, r.store = n.backendFor(&r.hdr)
	}
	r.hdr.Backend = -1
	if r.backend != nil {
		r.hdr.Backend = int32(r.backend.id)
	}
	if n.cfg.Intercept != nil && r.intercept(n.cfg.Intercept) {
		return
	}
	if r.cmd == nil || (needsBackend && r.backend == nil) || (r.conn.v3.Load() && isIndexes(r.hdr.Command)) {
		n.stats.count(r, wire.ErrNotSupported)
		if r.needAck() || r.backend != nil {
			r.ack(wire.ErrNotSupported)
		} else {
			r.end()
		}
		r.recycle()
		return
	}
	if r.lock = r.cmd.lock; r.lock != lockNone && r.hdr.Flags&wire.FlagNoLock == 0 {
		r.locked = true
		if !r.backend.queue.lock(r) {
			return
		}
	}
	n.start(r)
}

// start executes r, whose turn it is.
func (n *Node) start(r *request) { go n.execute(r) }

func (n *Node) execute(r *request) {
	if d := r.delay(); d > 0 {
		r.wait(d)
	}
	s := r.cmd.run(r)
	n.stats.count(r, s)
	if !r.answered {
		if r.cmd.acks == acksAlways || r.needAck() || (r.cmd.acks == acksFailures && s != wire.OK) {
			r.ack(s)
		} else {
			r.end()
		}
	}
	r.recycle()
}

// delay is what a test or BACKEND_CONTROL asks to wait before the execution.
func (r *request) delay() time.Duration {
	d := r.fault.Delay
	if r.backend != nil {
		d += time.Duration(r.backend.delay.Load())
	}
	return d
}

// wait waits for d, but not longer than anybody waits for the answer.
func (r *request) wait(d time.Duration) {
	ctx, cancel := context.WithTimeout(r.conn.reading, d)
	defer cancel()
	<-ctx.Done()
}

// pause waits for d, but not longer than the node runs.
func (n *Node) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-n.stopping:
	}
}

// statusOf is how an error of the store is told to a client.
func (n *Node) statusOf(r *request, err error) wire.Status {
	var s wire.Status
	switch {
	case err == nil:
		return wire.OK
	case errors.As(err, &s):
		return s
	case errors.Is(err, engine.ErrNotFound):
		return wire.ErrNotFound
	case errors.Is(err, engine.ErrCorrupt):
		s = wire.ErrChecksum
	case errors.Is(err, engine.ErrNoSpace):
		s = wire.ErrNoSpace
	case errors.Is(err, engine.ErrReadOnly):
		s = wire.ErrReadOnly
	case errors.Is(err, engine.ErrClosed), errors.Is(err, context.Canceled):
		return wire.ErrAgain // the node or the backend is going away
	default:
		s = wire.ErrIO
	}
	n.log.Error("request failed", "command", r.hdr.Command, "key", r.hdr.ID.Short(),
		"group", r.hdr.Group, "backend", r.hdr.Backend, "status", int(s), "error", err)
	return s
}
