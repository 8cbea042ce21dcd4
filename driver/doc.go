// Package driver is the storage driver "elliptics" for CNCF Distribution v3:
// Distribution's contract on top of package layout, which keeps the files, and
// package elliptics, which reaches the servers. Importing it registers it.
//
// The driver adds what only a registry's driver needs: an upload in progress
// is one record instead of a directory of small files (uploads.go), a walk
// that reads directories instead of asking for each entry (walk.go), a limit
// on concurrent operations that obeys contexts (limiter.go), and errors in the
// types that Distribution tells apart (errors.go). It knows nothing of
// connections, groups or replicas, and keeps nothing between requests but
// what package layout does.
package driver
