// Package layout keeps a small filesystem in Elliptics: files at absolute
// paths, directories that can be listed, a Move that copies nothing, a
// recursive Delete, and writers that can be closed and resumed, by another
// process as well.
//
// Three kinds of records carry it:
//
//   - a file record for each path (see record.go): state, size, modification
//     time, up to 64 KiB of content, and where the rest of the content is;
//   - chunks (see chunk.go): immutable pieces of content of at most 4 MiB,
//     keyed by a random id and a number, so that a Move touches none of them;
//   - a log for each directory (see dirlog.go), to which entries are only ever
//     appended; the newest entry of a name wins.
//
// Beside them, trash logs (see trash.go) remember content that nobody needs
// any more until its readers are gone.
//
// Every operation takes one timestamp from a hybrid logical clock and writes
// it into everything that it touches; whoever finds something newer starts
// over. Writes need a majority of the groups, reads ask a majority and repair
// what they find behind. docs/design.md argues why that is enough.
//
// The package knows a Store, not a network; it never caches a record, and a
// cached directory log is always brought up to date before it is believed.
package layout
