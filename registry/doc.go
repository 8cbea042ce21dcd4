// Package registry is the HTTP registry: CNCF Distribution's handlers on the
// storage driver of package driver, with what a server needs around them:
// a checked configuration, TLS, logs, health, metrics, an orderly end.
//
// It also opens storage for the tools that work on it (Storage): the embedded
// node, or a cluster. It knows nothing of how files are kept; that is driver's.
package registry
