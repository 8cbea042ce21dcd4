package main

import (
	"errors"
	"fmt"

	"github.com/distribution/distribution/v3/registry/storage"
	"github.com/spf13/cobra"

	"github.com/elliptics-registry/elliptics-registry/registry"
)

func garbageCollectCommand() *cobra.Command {
	var flags settingsFlags
	var opts storage.GCOpts
	cmd := &cobra.Command{
		Use:   "garbage-collect",
		Short: "Remove blobs that no manifest refers to",
		Long: `Remove blobs that no manifest refers to. A blob that is pushed while this runs
can be removed before its manifest arrives, so put the registry into read-only
mode (storage.maintenance.readonly) or be sure that nobody pushes. Space comes
back after the grace period of deleted content, storage.elliptics.trashgrace.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			settings, err := flags.load()
			if err != nil {
				return err
			}
			s, err := registry.OpenStorageBeside(settings.Storage)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, s.Close()) }()
			d, err := s.Driver(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, d.Close()) }()
			ns, err := storage.NewRegistry(cmd.Context(), d)
			if err != nil {
				return err
			}
			if err := storage.MarkAndSweep(cmd.Context(), d, ns, opts); err != nil {
				return fmt.Errorf("garbage collection: %w", err)
			}
			if opts.DryRun {
				return nil
			}
			r, err := d.EmptyTrash(cmd.Context())
			if err != nil {
				return err
			}
			if !opts.Quiet {
				fmt.Fprintf(cmd.OutOrStdout(), "%d chunks of content deleted earlier were removed\n", r.Chunks)
			}
			return nil
		},
	}
	flags.add(cmd)
	cmd.Flags().BoolVarP(&opts.DryRun, "dry-run", "d", false, "only say what would be removed")
	cmd.Flags().BoolVarP(&opts.RemoveUntagged, "delete-untagged", "m", false, "remove manifests that no tag names as well")
	cmd.Flags().BoolVarP(&opts.Quiet, "quiet", "q", false, "print nothing")
	return cmd
}
