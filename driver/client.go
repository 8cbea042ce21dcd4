package driver

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
	"github.com/elliptics-registry/elliptics-registry/internal/suggest"
)

// The flags of the old client's node that make sense for a client, by their
// old names.
const (
	// flagMixStates reads content from the groups that answer fast more often
	// than from the others.
	flagMixStates = "mix_states"
	// flagRandomizeStates reads content from any group.
	flagRandomizeStates = "randomize_states"
	// flagNoChecksum spares the servers their checksums. The files have their
	// own, which are checked all the same.
	flagNoChecksum = "no_csum"
	// flagNoRouteList keeps to the configured nodes.
	flagNoRouteList = "no_route_list"
)

// serverFlags are those that only a server can have.
var serverFlags = []string{"join", "join_network", "keeps_ids_in_cluster"}

func flagNames() []string {
	return []string{flagMixStates, flagNoChecksum, flagNoRouteList, flagRandomizeStates}
}

func checkFlag(name string) error {
	switch {
	case slices.Contains(flagNames(), name):
		return nil
	case slices.Contains(serverFlags, name):
		return fmt.Errorf("the flag %s is for servers; a client can have %s", name, strings.Join(flagNames(), ", "))
	}
	return fmt.Errorf("unknown flag %s%s", name, suggest.DidYouMean(name, flagNames()))
}

func (p *Parameters) flag(name string) bool { return slices.Contains(p.NodeFlags, name) }

// ClientConfig is the configuration of the client for these parameters. The
// error is that of a log file which cannot be written.
func (p *Parameters) ClientConfig() (elliptics.Config, error) {
	logger, err := p.clientLogger()
	return elliptics.Config{
		Remotes:      p.Nodes,
		WaitTimeout:  p.WaitTimeout,
		CheckTimeout: p.CheckTimeout,
		Connections:  p.NetThreads,
		KnownOnly:    p.flag(flagNoRouteList),
		Logger:       logger,
	}, err
}

// clientLogger is nil without loglevel and logfile: the client then writes to
// the log of the process.
func (p *Parameters) clientLogger() (*slog.Logger, error) {
	if p.LogLevel == nil && p.LogFile == "" {
		return nil, nil
	}
	level := slog.LevelWarn
	if p.LogLevel != nil {
		level = *p.LogLevel
	}
	var out io.Writer
	switch p.LogFile {
	case "", "/dev/stderr", "dev/stderr": // the last was in the old driver's guide
		out = os.Stderr
	case "/dev/stdout", "dev/stdout":
		out = os.Stdout
	default:
		out = logFile(p.LogFile)
		if _, err := out.Write(nil); err != nil {
			return nil, fmt.Errorf("%slogfile: %w", prefix, err)
		}
	}
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: level})), nil
}

// logFile is a file that is opened for each message: there are few of them, and
// whoever rotates it need not tell us.
type logFile string

func (f logFile) Write(b []byte) (int, error) {
	file, err := os.OpenFile(string(f), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	return file.Write(b)
}

// ioFlags are those of every read and write.
func (p *Parameters) ioFlags() wire.IOFlags {
	if p.flag(flagNoChecksum) {
		return wire.IONoChecksum
	}
	return 0
}
