package main

import (
	"github.com/spf13/cobra"

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
