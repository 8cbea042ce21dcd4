package node

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// idsFile holds the ids of a backend one after the other, 64 bytes each, as
// the file of this name in a real backend's history directory. Losing it
// moves the backend on the ring of its group: harmless for the only backend
// of a group, but of several each would then be asked for the other's keys.
const idsFile = "ids"

// maxIDs bounds the ids of one backend.
const maxIDs = 1 << 14

// loadIDs reads the ids of the backend in dir, or makes one for a new backend.
func loadIDs(dir string) ([]wire.ID, error) {
	name := filepath.Join(dir, idsFile)
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		ids := make([]wire.ID, 1)
		rand.Read(ids[0][:])
		return ids, storeIDs(dir, ids)
	}
	if err != nil {
		return nil, fmt.Errorf("ids of a backend: %w", err)
	}
	if len(b) == 0 || len(b)%wire.IDSize != 0 || len(b) > maxIDs*wire.IDSize {
		return nil, fmt.Errorf("ids of a backend: %s has %d bytes, expected a multiple of %d: restore it, or remove it if the group has no other backend", name, len(b), wire.IDSize)
	}
	ids := make([]wire.ID, len(b)/wire.IDSize)
	for i := range ids {
		copy(ids[i][:], b[i*wire.IDSize:])
	}
	return ids, nil
}

func storeIDs(dir string, ids []wire.ID) error {
	var b []byte
	for i := range ids {
		b = append(b, ids[i][:]...)
	}
	if err := writeFile(filepath.Join(dir, idsFile), b); err != nil {
		return fmt.Errorf("ids of a backend: %w", err)
	}
	return nil
}

// writeFile replaces a small file so that after a crash it has its old or its
// new contents.
func writeFile(name string, b []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // fails when all went well
	_, err = tmp.Write(b)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), name); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
