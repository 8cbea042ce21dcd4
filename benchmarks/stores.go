// Package benchmarks measures the storage driver beside Distribution's own
// filesystem driver, on the same disk and in the same run: as Go benchmarks
// (go test -bench . ./benchmarks) and as a table (go run ./benchmarks/compare).
// What it prints is explained in docs/performance.md. Nothing else uses it.
package benchmarks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/filesystem"

	"github.com/elliptics-registry/elliptics-registry/driver"
	"github.com/elliptics-registry/elliptics-registry/registry"
)

// Store is a driver under test.
type Store struct {
	storagedriver.StorageDriver
	Close func() error
}

// Kind opens a store in an empty directory.
type Kind struct {
	Name string
	Open func(dir string) (*Store, error)
}

// Kinds are what is compared; the first is ours.
var Kinds = []Kind{
	{"elliptics", openElliptics},
	{"filesystem", openFilesystem},
	{"filesystem-durable", openDurableFilesystem},
}

// openElliptics opens the driver on the embedded node, as serve does: with
// sync: always.
func openElliptics(dir string) (*Store, error) {
	p, err := driver.ParseParameters(map[string]any{"embedded": dir})
	if err != nil {
		return nil, err
	}
	s, err := registry.OpenStorage(p)
	if err != nil {
		return nil, err
	}
	d, err := s.Driver(context.Background())
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return &Store{d, func() error { return errors.Join(d.Close(), s.Close()) }}, nil
}

func openFilesystem(dir string) (*Store, error) {
	d, err := filesystem.FromParameters(map[string]any{"rootdirectory": dir})
	if err != nil {
		return nil, err
	}
	return &Store{d, func() error { return nil }}, nil
}

// openDurableFilesystem is the filesystem driver as durable as ours: it syncs
// the folders that a new name stands in, without which a file that was synced
// is gone after a power failure.
func openDurableFilesystem(dir string) (*Store, error) {
	s, err := openFilesystem(dir)
	if err != nil {
		return nil, err
	}
	s.StorageDriver = durable{s.StorageDriver, dir}
	return s, nil
}

type durable struct {
	storagedriver.StorageDriver
	root string
}

// syncing does op and then syncs the folder of path, and the folders above it
// that op has made.
func (d durable) syncing(path string, op func() error) error {
	dir := filepath.Dir(filepath.Join(d.root, path))
	exists := dir
	for exists != d.root {
		if _, err := os.Stat(exists); err == nil {
			break
		}
		exists = filepath.Dir(exists)
	}
	if err := op(); err != nil {
		return err
	}
	for {
		if err := syncDir(dir); err != nil {
			return err
		}
		if dir == exists {
			return nil
		}
		dir = filepath.Dir(dir)
	}
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = f.Sync()
	if errors.Is(err, syscall.EINVAL) { // this file system has no such thing
		err = nil
	}
	return errors.Join(err, f.Close())
}

func (d durable) PutContent(ctx context.Context, path string, content []byte) error {
	return d.syncing(path, func() error { return d.StorageDriver.PutContent(ctx, path, content) })
}

func (d durable) Move(ctx context.Context, from, to string) error {
	return d.syncing(to, func() error { return d.StorageDriver.Move(ctx, from, to) })
}

func (d durable) Writer(ctx context.Context, path string, appending bool) (w storagedriver.FileWriter, err error) {
	err = d.syncing(path, func() error {
		w, err = d.StorageDriver.Writer(ctx, path, appending)
		return err
	})
	return w, err
}

// Fill puts n small files below dir, a hundred in each of its folders.
func Fill(ctx context.Context, s *Store, dir string, n int) error {
	return parallel(8, n, func(i int) error {
		return s.PutContent(ctx, fmt.Sprintf("%s/d%03d/f%03d", dir, i/100, i%100), small)
	})
}
