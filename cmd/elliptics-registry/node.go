package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/elliptics-registry/elliptics-registry/elliptics/node"
	"github.com/elliptics-registry/elliptics-registry/elliptics/node/engine"
)

// nodePatience bounds how long a stopping node may take to answer what it has
// read.
const nodePatience = 8 * time.Second

func nodeCommand() *cobra.Command {
	var (
		listen, data, sync string
		groups             []uint
		remote             bool
	)
	cmd := &cobra.Command{
		Use:   "node",
		Short: "Run the embedded Elliptics node alone",
		Long: `Run the embedded Elliptics node alone, for registries and other clients of the
Elliptics protocol. It keeps one replica of each --group below --data. It is a
store of a single machine: it never joins a cluster.

The protocol does not authenticate clients. Whoever reaches the address can
read, write and remove everything, so that addresses other than loopback need
--allow-remote.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			mode, err := engine.ParseSyncMode(sync)
			if err != nil {
				return fmt.Errorf("--sync: %w", err)
			}
			var list []uint32
			for _, g := range groups {
				if g == 0 || uint(uint32(g)) != g {
					return fmt.Errorf("--group: bad value %d; expected a number from 1 to 4294967295", g)
				}
				list = append(list, uint32(g))
			}
			n, err := node.OpenDir(data, list, node.Config{
				Listen:      listen,
				AllowRemote: remote,
				Sync:        mode,
				Logger:      slog.New(slog.NewTextHandler(os.Stderr, nil)),
			})
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "elliptics node of groups %v at %s, data in %s\n", list, n.Remote(), data)
			<-cmd.Context().Done()
			ctx, cancel := context.WithTimeout(context.Background(), nodePatience)
			defer cancel()
			return n.Shutdown(ctx)
		},
	}
	f := cmd.Flags()
	f.StringVar(&listen, "listen", "127.0.0.1:1025", "`address` to listen on")
	f.UintSliceVar(&groups, "group", []uint{1}, "`number` of a group; may be given several times")
	f.StringVar(&data, "data", "./node-data", "`directory` of the data")
	f.StringVar(&sync, "sync", "always", "when a write counts as stored: `always`, interval or none")
	f.BoolVar(&remote, "allow-remote", false, "allow an address that other machines can reach")
	return cmd
}
