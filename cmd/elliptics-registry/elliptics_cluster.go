package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// categories of statistics, by the names that people use.
var categories = map[string]wire.MonitorCategories{
	"cache": wire.MonitorCache, "io": wire.MonitorIO, "commands": wire.MonitorCommands, "backend": wire.MonitorBackend,
	"stats": wire.MonitorStats, "procfs": wire.MonitorProcFS, "top": wire.MonitorTop, "all": wire.MonitorAll,
}

func (f *storeFlags) statCommand() *cobra.Command {
	var names []string
	cmd := &cobra.Command{
		Use:   "stat",
		Short: "Print the statistics of every server",
		Long: `Print the statistics of every server, as JSON: a document with the server's
address as "remote" and its statistics as "statistics".`,
		Args: cobra.NoArgs,
		RunE: f.run(func(cmd *cobra.Command, n *elliptics.Node, _ *elliptics.Session, _ []string) error {
			var wanted wire.MonitorCategories
			for _, name := range names {
				c, ok := categories[name]
				if !ok {
					return fmt.Errorf("--category: bad value %q; expected cache, io, commands, backend, stats, procfs, top or all", name)
				}
				wanted |= c
			}
			out := json.NewEncoder(cmd.OutOrStdout())
			if !f.json {
				out.SetIndent("", "  ")
			}
			return eachServer(n, func(r elliptics.RemoteStatus) error {
				var stats json.RawMessage
				if err := n.Monitor(cmd.Context(), r.Address, wanted, &stats); err != nil {
					return err
				}
				return out.Encode(map[string]any{"remote": r.Address, "statistics": stats})
			})
		}),
	}
	cmd.Flags().StringSliceVar(&names, "category", []string{"all"}, "`part` of the statistics: cache, io, commands, backend, stats, procfs, top or all; may be given several times")
	return cmd
}

// eachServer does something with every server that is connected. The error
// names the others, too.
func eachServer(n *elliptics.Node, do func(elliptics.RemoteStatus) error) error {
	var errs []error
	for _, r := range n.Remotes() {
		if r.Connections == 0 {
			errs = append(errs, fmt.Errorf("%s is not connected: %w", r.Address, r.Err))
			continue
		}
		errs = append(errs, do(r))
	}
	return errors.Join(errs...)
}

func (f *storeFlags) routesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "routes [KEY]",
		Short: "List servers and groups, or tell who owns a key",
		Long: `List the servers, their backends, and which share of the keys of its group each
backend owns. With a KEY: which backend owns it in each group.`,
		Args: cobra.MaximumNArgs(1),
		RunE: f.run(func(cmd *cobra.Command, n *elliptics.Node, s *elliptics.Session, args []string) error {
			if len(args) == 1 {
				key, err := f.key(s, args[0])
				if err != nil {
					return err
				}
				return f.owners(cmd, s, key)
			}
			shares := shareOfKeys(n.Remotes())
			t := f.table(cmd.OutOrStdout(), "SERVER\tPROTOCOL\tINDEX SHARDS\tBACKEND\tGROUP\tSHARE OF KEYS\tERROR")
			for _, r := range n.Remotes() {
				doc := struct {
					Remote      string  `json:"remote"`
					Connected   bool    `json:"connected"`
					Protocol    string  `json:"protocol,omitempty"`
					IndexShards int     `json:"index_shards"`
					Backend     *uint32 `json:"backend,omitempty"`
					Group       uint32  `json:"group,omitempty"`
					Share       float64 `json:"share"`
					Error       string  `json:"error,omitempty"`
				}{Remote: r.Address, Connected: r.Connections > 0, IndexShards: r.IndexShards, Error: failed(r.Err)}
				if r.Version != (wire.Version{}) {
					doc.Protocol = fmt.Sprintf("%d.%d.%d.%d", r.Version[0], r.Version[1], r.Version[2], r.Version[3])
				}
				if r.Connections == 0 || len(r.Backends) == 0 {
					if err := t.row(doc, "%s\t%s\t%d\t-\t-\t-\t%s", r.Address, doc.Protocol, r.IndexShards, oneLine(doc.Error)); err != nil {
						return err
					}
					continue
				}
				for _, b := range r.Backends {
					doc.Backend, doc.Group, doc.Share = &b.Backend, b.Group, shares[elliptics.BackendRef{Group: b.Group, Remote: r.Address, Backend: b.Backend}]
					if err := t.row(doc, "%s\t%s\t%d\t%d\t%d\t%.1f %%\t", r.Address, doc.Protocol, r.IndexShards, b.Backend, b.Group, 100*doc.Share); err != nil {
						return err
					}
				}
			}
			return t.end()
		}),
	}
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func (f *storeFlags) owners(cmd *cobra.Command, s *elliptics.Session, key elliptics.Key) error {
	var errs []error
	t := f.table(cmd.OutOrStdout(), "GROUP\tSERVER\tBACKEND")
	for _, g := range s.Groups() {
		b, err := s.Owner(g, key)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		doc := map[string]any{"id": key.String(), "group": g, "remote": b.Remote, "backend": b.Backend}
		errs = append(errs, t.row(doc, "%d\t%s\t%d", g, b.Remote, b.Backend))
	}
	return errors.Join(append(errs, t.end())...)
}

// shareOfKeys is the part of its group's ring that each backend owns: from each
// of its ids up to the next one of anybody.
func shareOfKeys(remotes []elliptics.RemoteStatus) map[elliptics.BackendRef]float64 {
	type place struct {
		id    elliptics.Key
		owner elliptics.BackendRef
	}
	rings := make(map[uint32][]place)
	for _, r := range remotes {
		for _, b := range r.Backends {
			for _, id := range b.IDs {
				if r.Connections > 0 {
					rings[b.Group] = append(rings[b.Group], place{id, elliptics.BackendRef{Group: b.Group, Remote: r.Address, Backend: b.Backend}})
				}
			}
		}
	}
	shares := make(map[elliptics.BackendRef]float64)
	whole := new(big.Int).Lsh(big.NewInt(1), 8*wire.IDSize)
	for _, ring := range rings {
		slices.SortStableFunc(ring, func(a, b place) int { return a.id.Compare(b.id) })
		ring = slices.CompactFunc(ring, func(a, b place) bool { return a.id == b.id })
		for i, p := range ring {
			next := ring[(i+1)%len(ring)].id
			size := new(big.Int).Sub(new(big.Int).SetBytes(next[:]), new(big.Int).SetBytes(p.id[:]))
			if size.Sign() <= 0 { // round the ring
				size.Add(size, whole)
			}
			share, _ := new(big.Rat).SetFrac(size, whole).Float64()
			shares[p.owner] += share
		}
	}
	return shares
}

func (f *storeFlags) backendsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backends",
		Short: "List the backends of every server, or change one",
		Long:  `List the backends of every server, those that are disabled as well.`,
		Args:  cobra.NoArgs,
		RunE: f.run(func(cmd *cobra.Command, n *elliptics.Node, _ *elliptics.Session, _ []string) error {
			t := f.table(cmd.OutOrStdout(), backendHeader)
			err := eachServer(n, func(r elliptics.RemoteStatus) error {
				list, err := n.BackendStatus(cmd.Context(), r.Address)
				if err != nil {
					return err
				}
				for _, b := range list {
					if err := backendRow(t, r, b); err != nil {
						return err
					}
				}
				return nil
			})
			return errors.Join(t.end(), err)
		}),
	}
	for _, c := range []struct {
		use, short string
		command    wire.BackendCommand
	}{
		{"enable", "Enable a backend", wire.BackendEnable},
		{"disable", "Disable a backend: its keys go to the others of its group, its records do not", wire.BackendDisable},
		{"read-only", "Make a backend refuse writes", wire.BackendReadOnly},
		{"writable", "Make a backend take writes again", wire.BackendWritable},
		{"defrag", "Start to give back the space of removed records", wire.BackendStartDefrag},
		{"stop-defrag", "Stop that", wire.BackendStopDefrag},
	} {
		cmd.AddCommand(&cobra.Command{
			Use:   c.use + " SERVER BACKEND",
			Short: c.short,
			Long:  c.short + ". SERVER is the address, BACKEND the number that `backends` lists.",
			Args:  cobra.ExactArgs(2),
			RunE: f.run(func(cmd *cobra.Command, n *elliptics.Node, _ *elliptics.Session, args []string) error {
				number, err := strconv.ParseUint(args[1], 10, 32)
				if err != nil {
					return fmt.Errorf("BACKEND: bad value %q; expected a number", args[1])
				}
				got, err := n.ControlBackend(cmd.Context(), args[0], elliptics.BackendControl{Backend: uint32(number), Command: c.command})
				if err != nil {
					return err
				}
				t := f.table(cmd.OutOrStdout(), backendHeader)
				return errors.Join(backendRow(t, elliptics.RemoteStatus{Address: args[0]}, got), t.end())
			}),
		})
	}
	return cmd
}

const backendHeader = "SERVER\tBACKEND\tGROUP\tSTATE\tWRITES\tDEFRAGMENTATION\tLAST START\tSTART ERROR"

func backendRow(t *table, r elliptics.RemoteStatus, b elliptics.BackendStatus) error {
	group := "-" // not told for a backend that is disabled
	for _, a := range r.Backends {
		if a.Backend == b.Backend {
			group = strconv.Itoa(int(a.Group))
		}
	}
	writes := "yes"
	if b.ReadOnly {
		writes = "no"
	}
	defrag := map[wire.DefragState]string{wire.DefragNone: "no", wire.DefragRunning: "running", wire.DefragSorting: "sorting", wire.DefragCompacting: "compacting"}[b.Defrag]
	doc := map[string]any{
		"remote": r.Address, "backend": b.Backend, "state": b.State.String(), "read_only": b.ReadOnly,
		"defragmentation": defrag, "last_start": when(b.LastStart), "start_error": b.StartError, "delay_ms": b.Delay,
	}
	if group != "-" {
		doc["group"] = json.Number(group)
	}
	return t.row(doc, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t%d", r.Address, b.Backend, group, b.State, writes, defrag, when(b.LastStart), b.StartError)
}
