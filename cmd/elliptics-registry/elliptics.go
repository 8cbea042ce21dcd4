package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
)

// storeFlags say which servers, groups and keys the commands below `elliptics`
// are about.
type storeFlags struct {
	remotes   []string
	groups    []uint
	namespace string
	checker   string
	rawID     bool
	json      bool
	timeout   time.Duration
}

func ellipticsCommand() *cobra.Command {
	var f storeFlags
	cmd := &cobra.Command{
		Use:   "elliptics",
		Short: "Look into an Elliptics store, and change records by hand",
		Long: `Look into an Elliptics store, and change records by hand. This is for operators:
it works on records below the registry, which has its own names and formats for
them. Writing or removing what the registry wrote can make images unreadable.

Any server of the cluster will do for --remote; the others are found through it.
A KEY is a name, hashed with --namespace, or with --id a raw id of 128
hexadecimal digits, as lookup and iterate print it.`,
		Example: `  elliptics-registry elliptics routes --remote storage1:1025:2
  elliptics-registry elliptics read --remote storage1:1025:2 --namespace DOCKER images/abc/json
  elliptics-registry elliptics iterate --remote storage1:1025:2 --group 2 --json`,
	}
	p := cmd.PersistentFlags()
	p.StringSliceVar(&f.remotes, "remote", []string{"127.0.0.1:1025:2"}, "`host:port:family` of a server (family 2: IPv4, 10: IPv6); may be given several times")
	p.UintSliceVar(&f.groups, "group", nil, "`number` of a group, in the order in which to ask; may be given several times (default: all that the servers have)")
	p.StringVar(&f.namespace, "namespace", "", "`name` that is mixed into the keys")
	p.StringVar(&f.checker, "checker", "quorum", "how many groups must succeed: one, `quorum` or all")
	p.BoolVar(&f.rawID, "id", false, "KEY is a raw id of 128 hexadecimal digits")
	p.BoolVar(&f.json, "json", false, "print JSON, one document for each line of a list")
	p.DurationVar(&f.timeout, "timeout", 10*time.Second, "`time` to wait for a server")
	cmd.AddCommand(f.readCommand(), f.writeCommand(), f.lookupCommand(), f.removeCommand(),
		f.statCommand(), f.routesCommand(), f.backendsCommand(), f.iterateCommand())
	return cmd
}

// everyNode is a group that nobody has: who waits for it waits until every
// node was tried.
const everyNode = 0

// open connects to the cluster. The groups of the session are those of --group,
// or all there are.
func (f *storeFlags) open(ctx context.Context) (n *elliptics.Node, s *elliptics.Session, err error) {
	checkers := map[string]elliptics.Checker{"one": elliptics.One, "quorum": elliptics.Quorum, "all": elliptics.All}
	checker, ok := checkers[f.checker]
	if !ok {
		return nil, nil, fmt.Errorf("--checker: bad value %q; expected one, quorum or all", f.checker)
	}
	if f.timeout <= 0 {
		return nil, nil, fmt.Errorf("--timeout: bad value %v; expected more than zero", f.timeout)
	}
	groups := make([]uint32, 0, len(f.groups))
	for _, g := range f.groups {
		if g == 0 || uint(uint32(g)) != g {
			return nil, nil, fmt.Errorf("--group: bad value %d; expected a number from 1 to 4294967295", g)
		}
		if !slices.Contains(groups, uint32(g)) {
			groups = append(groups, uint32(g))
		}
	}
	n, err = elliptics.NewNode(elliptics.Config{Remotes: f.remotes, WaitTimeout: f.timeout, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, nil, err
	}
	wait, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	wanted := groups
	if len(wanted) == 0 {
		wanted = []uint32{everyNode}
	}
	if err := n.Wait(wait, wanted...); err != nil {
		err = errors.Join(err, n.Close())
		return nil, nil, err
	}
	if len(groups) == 0 {
		for _, r := range n.Remotes() {
			for _, b := range r.Backends {
				if r.Connections > 0 && !slices.Contains(groups, b.Group) {
					groups = append(groups, b.Group)
				}
			}
		}
		slices.Sort(groups)
	}
	return n, n.NewSession(groups...).WithNamespace(f.namespace).WithChecker(checker), nil
}

// run makes a command of what needs a connected client.
func (f *storeFlags) run(do func(cmd *cobra.Command, n *elliptics.Node, s *elliptics.Session, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		n, s, err := f.open(cmd.Context())
		if err != nil {
			return err
		}
		return errors.Join(do(cmd, n, s, args), n.Close())
	}
}

// key is a KEY argument.
func (f *storeFlags) key(s *elliptics.Session, arg string) (elliptics.Key, error) {
	if f.rawID {
		return elliptics.ParseKey(arg)
	}
	return s.Key(arg), nil
}

// table prints rows below a header, or each of them as JSON.
type table struct {
	json *json.Encoder
	text *tabwriter.Writer
}

func (f *storeFlags) table(w io.Writer, header string) *table {
	if f.json {
		return &table{json: json.NewEncoder(w)}
	}
	t := &table{text: tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)}
	fmt.Fprintln(t.text, header)
	return t
}

// row prints document, or the cells of its text, which are separated by tabs.
func (t *table) row(document any, format string, cells ...any) error {
	if t.json != nil {
		return t.json.Encode(document)
	}
	_, err := fmt.Fprintf(t.text, format+"\n", cells...)
	return err
}

func (t *table) end() error {
	if t.text == nil {
		return nil
	}
	return t.text.Flush()
}

// when is a timestamp for people.
func when(t elliptics.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Time().Format("2006-01-02T15:04:05.000000Z")
}

// failed is an error as text, for JSON.
func failed(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
