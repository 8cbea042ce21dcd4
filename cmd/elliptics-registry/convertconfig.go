package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/elliptics-registry/elliptics-registry/registry"
)

func convertConfigCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "convert-config FILE",
		Short: "Translate a configuration file of docker-registry 0.9",
		Long: `Translate a configuration file of docker-registry 0.9, the registry of the Python
driver for Elliptics, and print it. As there, SETTINGS_FLAVOR in the environment
chooses a flavor (default dev), and values of the form _env:VARIABLE:default are
taken from the environment. serve --config understands such a file as it is.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			if !registry.IsOld(text) {
				return fmt.Errorf("%s is no configuration file of docker-registry: it has a version, or no flavor with a storage", args[0])
			}
			c, err := registry.ConvertOld(text)
			if err != nil {
				return fmt.Errorf("%s: %s", args[0], strings.ReplaceAll(err.Error(), "\n", "\n"+args[0]+": "))
			}
			_, err = cmd.OutOrStdout().Write(c.Text)
			return err
		},
	}
}
