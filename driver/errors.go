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
	case errors.Is(err, layout.ErrNotExist), errors.Is(err, layout.ErrUnfinished), errors.Is(err, layout.ErrQuarantined):
		return notFound(path)
	}
	return err
}

func notFound(path string) error {
	return storagedriver.PathNotFoundError{Path: path, DriverName: Name}
}

// insist makes an error of damage that nobody can take for "is not there", as
// clients shall: for who collects garbage the difference is what else goes.
func (d *fileDriver) insist(err error) error {
	if d.collecting && errors.Is(err, layout.ErrQuarantined) {
		return errors.New(err.Error() + "; push it again, or delete it")
	}
	return err
}
