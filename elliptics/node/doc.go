// Package node is the server side of the Elliptics protocol on a durable
// store of one machine: what a process embeds to have a cluster of one
// without running dnet_ioserv. Clients of the 2.26 and 3.0 lines, this
// repository's and the original ones, talk to it as to a real server.
//
// A [Node] holds one or several backends, each a directory that belongs to
// one group. It is reached over TCP (loopback unless told otherwise: the
// protocol authenticates nobody) and, inside the process, over [Node.Dial].
//
// Requests for one key are executed in the order in which they arrive, except
// those that ask not to be (flag NOLOCK). A write is answered when it is on
// stable storage as the backend's sync mode says; requests that wait behind it
// do not wait for the disk, so changes of one key share a sync.
//
// What a node never does: it never joins other servers, never forwards, never
// runs application code (EXEC), and it has no memory cache. Where a real
// server answers with remains of other data (gaps behind the old end of a
// record), accepts what makes a record unreadable (a commit beyond the
// reservation), or loses what others have changed (tags of objects), the node
// answers zeros or an error, and loses nothing; each such place says so. A
// prepare whose data does not fit changes nothing. Of the version before, a
// prepared record keeps the bytes but not the size: further writes to it answer
// size 0, where a real server repeats the old size, and an append to it begins
// at the start. What
// was captured from real servers it answers as they did: docs/vectors.md lists
// each operation.
//
// # Files
//
//   - listen.go, conn.go, outbox.go: connections, their reader and their writer
//   - dispatch.go, request.go, keyqueue.go, memory.go: who executes what, when, with how much memory
//   - ring.go, backend.go, ids.go: which backend a request is for
//   - iterators.go, index_table.go: what several commands have in common
//   - datadir.go: one directory for all backends, and how other processes find the node that runs on it
//   - one file for each command
package node
