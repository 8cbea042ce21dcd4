// Package elliptics is a client of Elliptics, a distributed store of records
// under 512-bit keys, in pure Go. It talks to dnet_ioserv servers of the lines
// 2.26, 2.27 and 3.0, and to the node that this repository embeds
// (package elliptics/node).
//
// # Overview
//
// A [Node] is the client's side of a cluster: it connects to some servers,
// finds the others through them, keeps the table that says which server owns a
// key, and connects again to whoever goes away. One is enough for a process. A
// [Session], made by [Node.NewSession], says where and how operations are done:
// in which groups, with which namespace, time-out and checker. It is cheap and
// immutable; its With methods return changed copies. Both may be used by any
// number of goroutines.
//
// A group is a complete replica. Nothing but clients keeps the groups alike:
// a write goes to all groups of the session at once, a read asks them one
// after the other, in the session's order, until one has an answer. The session's
// [Checker] says how many groups must succeed: [One], [Quorum] (more than half;
// the default) or [All].
//
// A record has a key ([Session.Key] hashes a name), data, a timestamp that the
// writer's clock gives it, and 64 bits of the user's. The name is stored
// nowhere. There are no directories and no listing by name: [Session.Iterate]
// walks over everything, and secondary indexes find what was tagged
// ([Session.UpdateIndexes], [Session.FindAllIndexes]; not on servers of 3.0).
//
// What this package never does: it writes nothing that it was not asked to
// write (a read repairs nothing unless [Session.WithWriteBack] says so), it
// retries no request by itself, and it joins no cluster as a server.
//
// # Which error means what
//
// Compare with errors.Is. A request to one group fails with an [Error], which
// names the operation, the key, the group and the server; several groups, with
// a [GroupsError], which has every group's error.
//
//   - [ErrNotFound]: a group does not have the record, or it is not committed,
//     or it is empty and was looked up. Of several groups it is enough that one
//     says so; [Missing] tells whether all of them do and every one was reached.
//   - [ErrNoRoute]: no server of the group is connected. It says which groups
//     the connected servers have: perhaps the group's number is wrong.
//   - [ErrTimeout]: no packet of an answer came within the time-out. The request
//     may have been executed, or still be.
//   - [ErrConnectionReset]: the connection ended before the answer came. The
//     request may have been executed.
//   - [ErrConflict]: a condition of the write does not hold: somebody else was
//     faster.
//   - [ErrNoSpace], [ErrReadOnly]: a backend takes no writes. Reads go on.
//   - [ErrChecksum]: the record is damaged in this group. Others may have it.
//   - [ErrTooBig]: a read at or behind the end of the record, or a plain write
//     beyond the reservation.
//   - [ErrTooLarge]: an answer that is larger than Config.MaxReply.
//   - [ErrNotSupported]: the server does not know the command, or has no
//     backend for the group; [ErrNoIndexes]: it has no secondary indexes.
//   - [ErrClosed]: the Node was closed.
//   - the context's error, or its cause, when that ended first.
//
// A write that fails in too few groups for the checker is not undone in the
// others.
//
// # What is safe to retry
//
// [Retry] tells by the error. Reads, lookups, and writes and removals with the
// same contents and timestamp can be sent again whenever it is not
// [wire.RetryNever]. A write that is not idempotent (an append, a
// compare-and-swap) only after [wire.RetrySafe]; after
// [wire.RetryIdempotent] look at the record first, or use [Session.Update],
// which does that.
//
// # Tuning
//
// Requests of all goroutines share Config.Connections connections to each
// server and are pipelined, so more goroutines mean more throughput, and a
// second connection helps where one core is not enough for the socket.
// Requests for one key take one connection, and a server executes them in
// order.
//
// Config.MaxQueued bounds what waits for each connection, and with it the
// memory of writes; who comes later waits, up to the time-out. Payloads are
// sent from where they are, without a copy, and must not change before the
// call returns. Config.MaxReply bounds what a server can make the client
// allocate for one answer. Read large records in parts of a few MiB, and
// give the buffers back with [Record.Release]; write them with
// [Session.WriteChunked].
//
// Config.WaitTimeout is the patience with each packet of an answer, not with
// the whole operation: a read over three groups that hang takes three times as
// long. Bound the whole by the context. Config.CheckTimeout is how soon a
// frozen server is noticed and a new one is found.
package elliptics
