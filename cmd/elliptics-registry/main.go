// Command elliptics-registry is a Docker and OCI image registry that keeps its
// images in Elliptics. Each file of this package is one subcommand; the work
// is done by the packages below.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	// The second signal kills: somebody is impatient.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	if err := command().ExecuteContext(ctx); err != nil {
		for line := range strings.Lines(err.Error()) {
			fmt.Fprintln(os.Stderr, "elliptics-registry:", strings.TrimRight(line, "\n"))
		}
		os.Exit(1)
	}
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:   "elliptics-registry",
		Short: "An image registry that keeps its images in Elliptics",
		Long: `elliptics-registry is a Docker and OCI image registry that keeps its images in
Elliptics: in a cluster of dnet_ioserv servers, or in the node that it runs
itself. To try it: elliptics-registry serve`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.AddCommand(serveCommand(), nodeCommand(), garbageCollectCommand(), fsckCommand(), scrubCommand(), importV1Command(), checkConfigCommand(), convertConfigCommand(), versionCommand())
	root.AddCommand(ellipticsCommand())
	return root
}
