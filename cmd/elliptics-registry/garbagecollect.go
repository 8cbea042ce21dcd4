package main

import (
	"fmt"
	"io"

	"github.com/dustin/go-humanize"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/elliptics-registry/elliptics-registry/driver"
	"github.com/elliptics-registry/elliptics-registry/driver/gc"
	"github.com/elliptics-registry/elliptics-registry/registry"
)

func garbageCollectCommand() *cobra.Command {
	var flags settingsFlags
	var opts gc.Options
	var quiet bool
	cmd := &cobra.Command{
		Use:   "garbage-collect",
		Short: "Remove blobs that no manifest refers to",
		Long: `Remove blobs and layer links that no manifest refers to. This is safe beside
pushes: what was pushed, or found by a push, within --grace stays, and so does
what a push finds in this very moment. Nothing is removed unless all groups can
be read.

Space comes back after the grace period of deleted content,
storage.elliptics.trashgrace, for those who are reading it.

With --offline there is no grace: the registry is stopped, or read-only
(storage.maintenance.readonly), and you know that nobody pushes.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			settings, err := flags.loadExisting()
			if err != nil {
				return err
			}
			if cache := settings.Config.Storage["cache"]["blobdescriptor"]; cache != nil && !opts.Offline {
				return fmt.Errorf("storage.cache.blobdescriptor: with a cache, pushes refer to blobs without looking at them, which is not safe beside garbage collection; remove the cache, or stop all pushes and say --offline")
			}
			logrus.SetLevel(logrus.WarnLevel) // Distribution tells of deletions that it only asks for
			settings.Storage.Collecting = true
			return withDriver(cmd.Context(), settings.Storage, func(_ *registry.Storage, d *driver.Driver) error {
				out := cmd.OutOrStdout()
				if quiet {
					out = io.Discard
				}
				opts.Out = out
				r, err := gc.Run(cmd.Context(), d, opts)
				if err != nil {
					return fmt.Errorf("garbage collection: %w", err)
				}
				verb := "removed"
				if opts.DryRun {
					verb = "would remove"
				}
				fmt.Fprintf(out, "%s %d manifests, %d blobs (%s), %d layer links; kept %d that are too young\n",
					verb, r.Manifests, r.Blobs, humanize.IBytes(uint64(r.Bytes)), r.LayerLinks, r.Kept)
				if opts.DryRun {
					return nil
				}
				t, err := d.EmptyTrash(cmd.Context())
				if err != nil {
					return err
				}
				fmt.Fprintf(out, "removed %d chunks of content that was deleted earlier\n", t.Chunks)
				return nil
			})
		},
	}
	flags.add(cmd)
	cmd.Flags().DurationVar(&opts.Grace, "grace", gc.DefaultGrace, "keep what was pushed or found by a push since; at least "+gc.MinGrace.String())
	cmd.Flags().BoolVar(&opts.Offline, "offline", false, "nobody pushes: remove at once what is not referred to")
	cmd.Flags().BoolVarP(&opts.DryRun, "dry-run", "d", false, "only say what would be removed")
	cmd.Flags().BoolVarP(&opts.RemoveUntagged, "delete-untagged", "m", false, "remove manifests that no tag names as well")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print nothing")
	return cmd
}
