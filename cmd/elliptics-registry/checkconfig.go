package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/elliptics-registry/elliptics-registry/registry"
)

func checkConfigCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check-config FILE",
		Short: "Check a configuration file without starting anything",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := registry.Load(args[0])
			if err != nil {
				return err
			}
			where := "embedded node in " + s.Storage.Embedded
			if len(s.Storage.Nodes) > 0 {
				where = "nodes " + strings.Join(s.Storage.Nodes, " ")
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: ok: listens on %s; %s, groups %v, namespace %s\n",
				args[0], s.Config.HTTP.Addr, where, s.Storage.Groups, s.Storage.Namespace)
			for _, i := range s.Ignored {
				fmt.Fprintf(cmd.OutOrStdout(), "%s: ignored: %s\n", args[0], i)
			}
			return nil
		},
	}
}
