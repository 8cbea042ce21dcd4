package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/elliptics-registry/elliptics-registry/driver"
	"github.com/elliptics-registry/elliptics-registry/registry"
)

// settingsFlags are the two ways in which every subcommand that touches storage
// is told where it is.
type settingsFlags struct {
	config string
	data   string
}

func (f *settingsFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.config, "config", "", "configuration `file`, in the YAML of CNCF Distribution")
	cmd.Flags().StringVar(&f.data, "data", registry.DefaultData, "`directory` of the embedded node, without --config")
	cmd.MarkFlagsMutuallyExclusive("config", "data")
}

func (f *settingsFlags) load() (*registry.Settings, error) {
	if f.config != "" {
		return registry.Load(f.config)
	}
	return registry.Default(f.data)
}

// loadExisting is load for tools that look after what is there: a new, empty
// store would be in the best of order, and a mistake.
func (f *settingsFlags) loadExisting() (*registry.Settings, error) {
	settings, err := f.load()
	if err != nil {
		return nil, err
	}
	if dir := settings.Storage.Embedded; dir != "" {
		if _, err := os.Stat(dir); err != nil {
			return nil, fmt.Errorf("no registry keeps its data there: %w; give its --data or --config", err)
		}
	}
	return settings, nil
}

// withDriver lets a tool work on the storage, beside a registry that runs on it.
func withDriver(ctx context.Context, p driver.Parameters, tool func(*registry.Storage, *driver.Driver) error) (err error) {
	s, err := registry.OpenStorageBeside(p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	d, err := s.Driver(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return tool(s, d)
}
