package driver

import (
	"errors"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"

	"github.com/elliptics-registry/elliptics-registry/driver/layout"
)

// distributionError turns an error of package layout into the type that
// Distribution switches on. Those are values, compared by type: they are never
// wrapped.
func distributionError(path string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, layout.ErrNotExist), errors.Is(err, layout.ErrUnfinished):
		return notFound(path)
	}
	return err
}

func notFound(path string) error {
	return storagedriver.PathNotFoundError{Path: path, DriverName: Name}
}
