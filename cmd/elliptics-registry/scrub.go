package main

import (
	"github.com/spf13/cobra"

	"github.com/elliptics-registry/elliptics-registry/driver/repair"
)

func scrubCommand() *cobra.Command {
	var flags settingsFlags
	var tool repairFlags
	cmd := &cobra.Command{
		Use:   "scrub",
		Short: "Compare all copies in all groups, and restore what is missing or damaged",
		Long: `Read every copy of everything in every group, and restore what is missing,
outdated or damaged from a good copy: after a disk was lost, to fill a new group,
or every now and then. What no group has is reported, and its file reads as
missing from then on, so that the next push of it repairs it.

It runs beside a registry, as slowly as --rate says. Every group must answer.
The exit status is 0 when nothing is left.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return tool.run(cmd, &flags, repair.Scrub)
		},
	}
	flags.add(cmd)
	tool.add(cmd)
	cmd.Flags().BoolVarP(&tool.options.DryRun, "dry-run", "d", false, "only report")
	return cmd
}
