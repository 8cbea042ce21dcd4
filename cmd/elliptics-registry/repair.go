package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/elliptics-registry/elliptics-registry/driver"
	"github.com/elliptics-registry/elliptics-registry/driver/layout"
	"github.com/elliptics-registry/elliptics-registry/driver/repair"
	"github.com/elliptics-registry/elliptics-registry/registry"
)

// repairFlags are what fsck and scrub have in common.
type repairFlags struct {
	options repair.Options
	rate    string
	json    string
	quiet   bool
}

func (f *repairFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.rate, "rate", "", "read at most this `size` per second, as in 50MiB (default: no limit)")
	cmd.Flags().IntVar(&f.options.Parallel, "parallel", 4, "look at so many records at a time, 1 to 64")
	cmd.Flags().StringVar(&f.options.State, "state", "", "`file` that remembers where an interrupted run was; the same command then goes on there")
	cmd.Flags().StringVar(&f.json, "json", "", "write a report to this `file`")
	cmd.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "print findings only")
}

// repairTool is what goes over the storage.
type repairTool func(context.Context, *driver.Driver, repair.Options) (*repair.Report, error)

// run opens the storage and lets one of the tools go over it.
func (f *repairFlags) run(cmd *cobra.Command, flags *settingsFlags, tool repairTool) error {
	if f.options.Parallel < 1 || f.options.Parallel > 64 {
		return fmt.Errorf("--parallel %d: a number from 1 to 64 is expected", f.options.Parallel)
	}
	if f.rate != "" {
		n, err := humanize.ParseBytes(f.rate)
		if err != nil || n == 0 || n > 1<<50 {
			return fmt.Errorf("--rate %q: a size is expected, as in 50MiB", f.rate)
		}
		f.options.Rate = int64(n)
	}
	settings, err := flags.loadExisting()
	if err != nil {
		return err
	}
	settings.Storage.Inspecting = true
	return withDriver(cmd.Context(), settings.Storage, func(_ *registry.Storage, d *driver.Driver) error {
		return f.report(cmd, d, tool)
	})
}

// report runs a tool and tells what it finds.
func (f *repairFlags) report(cmd *cobra.Command, d *driver.Driver, tool repairTool) error {
	out := cmd.OutOrStdout()
	show := newProgress(cmd.ErrOrStderr(), cmd.Name(), f.quiet)
	f.options.Progress = show.update
	f.options.Found = func(finding layout.Finding) {
		show.clear()
		fmt.Fprintln(out, finding)
	}
	report, err := tool(cmd.Context(), d, f.options)
	show.clear()
	if report == nil {
		return fmt.Errorf("%s: %w", cmd.Name(), err)
	}
	if f.json != "" {
		err = errors.Join(err, writeReport(f.json, report))
	}
	if !f.quiet {
		summarize(out, report)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", cmd.Name(), err)
	}
	if len(report.Away) > 0 {
		return fmt.Errorf("%s: not everything was seen: no connection to %s; run it again when that is back", cmd.Name(), strings.Join(report.Away, " "))
	}
	if report.Left > 0 {
		return fmt.Errorf("%s: %d problems are left", cmd.Name(), report.Left)
	}
	return nil
}

func writeReport(file string, report *repair.Report) error {
	b, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if err := os.WriteFile(file, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

func summarize(w io.Writer, r *repair.Report) {
	fmt.Fprintf(w, "%s records, %s; read %s in %s\n", humanize.Comma(int64(r.Records)), humanize.IBytes(r.Bytes),
		humanize.IBytes(uint64(r.Read)), r.Ended.Sub(r.Begun).Round(1e7))
	switch {
	case len(r.Problems) == 0 && r.Complete:
		fmt.Fprintln(w, "nothing found")
		return
	case len(r.Problems) == 0:
		fmt.Fprintln(w, "nothing found yet, and not everything was looked at")
		return
	}
	var list []string
	for problem, n := range r.Problems {
		list = append(list, fmt.Sprintf("%d × %s", n, problem))
	}
	slices.Sort(list)
	fmt.Fprintf(w, "found: %s\nrepaired %d, left %d\n", strings.Join(list, ", "), r.Repaired, r.Left)
}
