package layout

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// Store is the cluster as this package sees it: one value for each key and
// group. Its errors satisfy errors.Is with the statuses of the protocol:
// wire.ErrNotFound (missing), wire.ErrConflict (a condition was refused),
// wire.ErrTooBig (a read at or behind the end). Every call ends in bounded
// time, whatever the context says.
type Store interface {
	// Groups lists the replicas, in the order in which they are asked.
	Groups() []uint32
	// Read returns up to size bytes from offset; size 0 means to the end.
	Read(ctx context.Context, group uint32, key string, offset, size uint64) (Value, error)
	// Write stores a value; it does not keep w.Data after it returned.
	Write(ctx context.Context, group uint32, key string, w Write) error
	// Remove deletes a key, unconditionally.
	Remove(ctx context.Context, group uint32, key string) error
}

// Value is what Read found.
type Value struct {
	Data    []byte
	Size    uint64 // of the whole value
	release func()
}

// NewValue makes a Value; release, if not nil, is called when Data is dead.
func NewValue(data []byte, size uint64, release func()) Value {
	return Value{Data: data, Size: size, release: release}
}

// Release gives Data back to its owner.
func (v Value) Release() {
	if v.release != nil {
		v.release()
	}
}

// Write is a value to store.
type Write struct {
	Data      [][]byte // written one after the other
	Timestamp Timestamp
	Flags     uint64 // user flags: the kind of the record
	Append    bool   // add to the end, without the server's checksum
	// IfNotNewer refuses the write with wire.ErrConflict when the group holds
	// a newer timestamp.
	IfNotNewer bool
	// IfSum refuses the write with wire.ErrConflict when the SHA-512 of the
	// group's value is another one.
	IfSum *[64]byte
}

// The user flags of a record tell its kind, so that a server-side iterator
// can sort records without reading their data.
const (
	flagsMagic   uint64 = 0x454c5247 << 32 // "ELRG"
	flagsFile           = flagsMagic | 1
	flagsChunk          = flagsMagic | 2
	flagsDirLog         = flagsMagic | 3
	flagsTrash          = flagsMagic | 4
	flagsOwner          = flagsMagic | 5
	flagsReaping        = flagsMagic | 6
)

// Errors of the filesystem. They arrive wrapped, with the path.
var (
	ErrNotExist   = errors.New("does not exist")
	ErrNotDir     = errors.New("is not a directory")
	ErrIsDir      = errors.New("is a directory")
	ErrUnfinished = errors.New("is an unfinished upload")
	// ErrConcurrent: somebody else changed the file between two steps and
	// went on doing so; nothing was acknowledged.
	ErrConcurrent = errors.New("was changed by someone else at the same time")
	// ErrCorrupt: what a group has is damaged.
	ErrCorrupt = errors.New("is damaged")
	// ErrQuarantined: every group answered, and none has all of the file. It
	// can be written again, or deleted.
	ErrQuarantined = errors.New("is quarantined: no group has an undamaged copy of all of it")
	// ErrClock: a record carries a timestamp far in the future.
	ErrClock  = errors.New("carries a timestamp far in the future: compare the clocks of the machines that run registries")
	errClosed = errors.New("the storage is closed")
)

// PathError says which operation on which path failed.
type PathError struct {
	Op   string
	Path string
	Err  error
}

func (e *PathError) Error() string { return e.Op + " " + e.Path + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *PathError) Unwrap() error { return e.Err }

// QuorumError says that too few groups answered or took a write. The operation
// was not acknowledged; it may have happened in some groups.
type QuorumError struct {
	Need   int
	OK     int
	Groups []uint32
	Errs   []error // one for each group, nil where it succeeded
}

func (e *QuorumError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d groups answered, %d needed", e.OK, len(e.Groups), e.Need)
	for i, err := range e.Errs {
		if err != nil {
			fmt.Fprintf(&b, "; group %d: %v", e.Groups[i], err)
		}
	}
	return b.String()
}

// Unwrap returns the errors of the groups.
func (e *QuorumError) Unwrap() []error {
	var errs []error
	for _, err := range e.Errs {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

func isNotFound(err error) bool  { return errors.Is(err, wire.ErrNotFound) }
func isConflict(err error) bool  { return errors.Is(err, wire.ErrConflict) }
func isBehindEnd(err error) bool { return errors.Is(err, wire.ErrTooBig) }
