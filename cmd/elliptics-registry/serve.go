package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/elliptics-registry/elliptics-registry/registry"
)

// memoryLimit is the size of the process from which on the garbage collector
// works harder, in bytes. GOMEMLIMIT overrides it.
const memoryLimit = 300 << 20

func serveCommand() *cobra.Command {
	var flags settingsFlags
	var listen string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the registry",
		Long: `Run the registry until it gets SIGTERM or SIGINT; requests that are under way may
then end. Without --config it keeps its images in the embedded node below --data.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			settings, err := flags.load()
			if err != nil {
				return err
			}
			if listen != "" {
				settings.Config.HTTP.Addr = listen
			}
			if os.Getenv("GOMEMLIMIT") == "" {
				debug.SetMemoryLimit(memoryLimit)
			}
			server, err := registry.New(cmd.Context(), settings)
			if err != nil {
				return err
			}
			greet(cmd.OutOrStdout(), settings, server)
			return server.Run(cmd.Context())
		},
	}
	flags.add(cmd)
	cmd.Flags().StringVar(&listen, "listen", "", "`address` to listen on (default "+registry.DefaultListen+", or http.addr of the configuration)")
	return cmd
}

// greet says in a few lines what a newcomer needs to know.
func greet(w io.Writer, s *registry.Settings, server *registry.Server) {
	where := "cluster of " + strings.Join(s.Storage.Nodes, " ")
	if n := server.Storage().Node; n != nil {
		where = fmt.Sprintf("%s (embedded node at %s)", s.Storage.Embedded, n.Remote())
	}
	push := pushAddress(server.Addr())
	fmt.Fprintf(w, "elliptics-registry %s\n", programVersion())
	fmt.Fprintf(w, "  images in  %s\n", where)
	fmt.Fprintf(w, "  push to    %s, as in: docker push %s/hello:1\n", push, push)
	fmt.Fprintf(w, "  stop with  Ctrl-C\n")
}

// pushAddress is how Docker on this machine names the registry: to localhost it
// speaks HTTP without being told.
func pushAddress(addr net.Addr) string {
	a, ok := addr.(*net.TCPAddr)
	if !ok {
		return addr.String()
	}
	if a.IP.IsLoopback() || a.IP.IsUnspecified() {
		return fmt.Sprintf("localhost:%d", a.Port)
	}
	return a.String()
}
