package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/elliptics-registry/elliptics-registry/driver/layout"
	"github.com/elliptics-registry/elliptics-registry/driver/repair"
)

func fsckCommand() *cobra.Command {
	var flags settingsFlags
	var tool repairFlags
	var mend, dryRun bool
	cmd := &cobra.Command{
		Use:   "fsck",
		Short: "Find, and mend, what crashes have left behind",
		Long: `Look for what crashes have left behind (files that no listing shows, entries
without a file, content that belongs to nothing, moves half done, uploads that
nobody will ever purge, damaged logs) and for tags and manifests that refer to
something that is not there. --repair mends what can be mended without losing
anything; for the rest it says what to do.

It runs beside a registry: nothing younger than --grace is touched. Every group
must answer. The exit status is 0 when nothing is left.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if mend && dryRun {
				return errors.New("--repair and --dry-run exclude each other")
			}
			tool.options.DryRun = !mend
			return tool.run(cmd, &flags, repair.Fsck)
		},
	}
	flags.add(cmd)
	tool.add(cmd)
	cmd.Flags().BoolVar(&mend, "repair", false, "mend what is found; without it, only report")
	cmd.Flags().BoolVarP(&dryRun, "dry-run", "d", false, "only report, as without --repair")
	cmd.Flags().BoolVar(&tool.options.Digests, "digests", false, "read every blob as well, and compare it with its digest")
	cmd.Flags().DurationVar(&tool.options.Grace, "grace", layout.MinContentGrace, "leave alone what is younger; at least "+layout.MinContentGrace.String())
	cmd.Flags().BoolVar(&tool.options.Offline, "offline", false, "nobody pushes: leave alone nothing, however young it is")
	return cmd
}
