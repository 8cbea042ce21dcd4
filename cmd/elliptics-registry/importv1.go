package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/elliptics-registry/elliptics-registry/driver"
	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/registry"
	"github.com/elliptics-registry/elliptics-registry/v1"
	"github.com/elliptics-registry/elliptics-registry/v1/publish"
)

const importV1Help = `Publish the images of docker-registry 0.9 with the Elliptics driver as images of
today. Without arguments all of them, else the repositories or tags that are
named as docker pull names them: ubuntu, team/app:1.0.

The new registry may be serving, and the old one as well; nothing of the old one
is changed. What is done is remembered in the new one, so that the same command
goes on after an interruption, and brings what is new in the old registry
meanwhile. A tag that somebody pushed to the new one is left alone.

By default both are the same cluster, groups and namespace: those of --config.
--source-config, which may be the old registry's own file, or the other
--source- flags name another one.

An image is checked while it is read: its ancestry, its checksum, its sizes. One
that is damaged is reported with the reason and stops no other one; the command
then ends with an error.

Repositories of the namespace library get both of the names that pulled them:
ubuntu and library/ubuntu. Docker asks a private registry for the first; the
second is what it asks a mirror of Docker Hub for.`

const importV1Examples = `  elliptics-registry import-v1 --config config.yml --dry-run
  elliptics-registry import-v1 --config config.yml ubuntu team/app:1.0
  elliptics-registry import-v1 --config new.yml --source-config old.yml --rate 50MiB --report report.json`

// importV1Flags are what import-v1 is told.
type importV1Flags struct {
	settings settingsFlags

	sourceConfig    string
	sourceNodes     []string
	sourceGroups    []string
	sourceNamespace string

	format, library, rate, report string
	rename                        []string
	dryRun, overwrite, quiet      bool
	jobs                          int
}

func importV1Command() *cobra.Command {
	var f importV1Flags
	cmd := &cobra.Command{
		Use:     "import-v1 [REPOSITORY[:TAG] ...]",
		Short:   "Publish the images of the old Python registry as images of today",
		Long:    importV1Help,
		Example: importV1Examples,
		RunE:    func(cmd *cobra.Command, args []string) error { return f.run(cmd, args) },
	}
	f.settings.add(cmd)
	fs := cmd.Flags()
	fs.StringVar(&f.sourceConfig, "source-config", "", "configuration `file` of the old registry's storage")
	fs.StringSliceVar(&f.sourceNodes, "source-nodes", nil, "nodes of the old registry, `host:port:family`")
	fs.StringSliceVar(&f.sourceGroups, "source-groups", nil, "`groups` of the old registry")
	fs.StringVar(&f.sourceNamespace, "source-namespace", "", "`namespace` of the old registry")
	cmd.MarkFlagsMutuallyExclusive("source-config", "source-nodes")
	fs.StringVar(&f.format, "format", string(publish.Docker), "`kind` of manifests: docker (schema 2) or oci")
	fs.StringVar(&f.library, "library", string(publish.LibraryBoth), "`names` of library repositories: short (ubuntu), full (library/ubuntu) or both")
	fs.StringArrayVar(&f.rename, "rename", nil, "another name for a repository, as `OLD=NEW`; may be given several times")
	fs.BoolVar(&f.overwrite, "overwrite", false, "also replace tags that somebody pushed to the new registry")
	fs.BoolVarP(&f.dryRun, "dry-run", "d", false, "only say what would be done; reads no layers")
	fs.IntVar(&f.jobs, "jobs", 4, "`number` of layers to convert at once; 20 MiB of memory for each")
	fs.StringVar(&f.rate, "rate", "", "limit of what is read of the old registry in a second, as `50MiB`")
	fs.StringVar(&f.report, "report", "", "write a report in JSON to this `file`; - is the standard output")
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "no progress, and only what failed")
	return cmd
}

func (f *importV1Flags) run(cmd *cobra.Command, args []string) (err error) {
	opt, err := f.options()
	if err != nil {
		return err
	}
	var selected []publish.Selection
	for _, a := range args {
		s, err := publish.ParseSelection(a)
		if err != nil {
			return err
		}
		selected = append(selected, s)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	settings, err := f.settings.load()
	if err != nil {
		return err
	}
	return withDriver(cmd.Context(), settings.Storage, func(s *registry.Storage, d *driver.Driver) (err error) {
		target, err := publish.NewTarget(cmd.Context(), d)
		if err != nil {
			return err
		}
		source, closeSource, err := f.source(cmd.Context(), s)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, closeSource()) }()
		return f.runImport(cmd, publish.New(source, target, opt), selected)
	})
}

// runImport plans and runs, with progress and reports.
func (f *importV1Flags) runImport(cmd *cobra.Command, im *publish.Importer, selected []publish.Selection) error {
	stop := func() {}
	if !f.quiet {
		stop = showProgress(cmd.ErrOrStderr(), im.Progress)
	}
	plan, err := im.Plan(cmd.Context(), selected)
	if err != nil {
		stop()
		return err
	}
	report := plan.Report
	var ended error
	if !f.dryRun {
		report, ended = im.Run(cmd.Context(), plan)
	}
	stop()
	if errors.Is(ended, context.Canceled) {
		ended = errors.New("stopped; the same command goes on from here")
	}
	if f.report != "-" {
		printImport(cmd.OutOrStdout(), report, f.quiet)
	}
	if err := f.writeReport(cmd.OutOrStdout(), report); err != nil {
		return errors.Join(ended, err)
	}
	if n := report.Count(publish.Failed); n > 0 && ended == nil {
		ended = fmt.Errorf("%d of %d tags cannot be imported; the reasons are above", n, len(report.Tags))
	}
	return ended
}

func (f *importV1Flags) options() (publish.Options, error) {
	opt := publish.Options{
		Format: publish.Format(f.format), Library: publish.LibraryNames(f.library),
		Overwrite: f.overwrite, Jobs: f.jobs, Rename: make(map[string]string),
	}
	switch opt.Format {
	case publish.Docker, publish.OCI:
	default:
		return opt, fmt.Errorf("--format: bad value %q; expected docker or oci", f.format)
	}
	switch opt.Library {
	case publish.LibraryBoth, publish.LibraryShort, publish.LibraryFull:
	default:
		return opt, fmt.Errorf("--library: bad value %q; expected short, full or both", f.library)
	}
	if f.jobs < 1 || f.jobs > 64 {
		return opt, fmt.Errorf("--jobs: bad value %d; expected a number from 1 to 64", f.jobs)
	}
	for _, r := range f.rename {
		from, to, ok := strings.Cut(r, "=")
		old, err := v1.ParseRepository(from)
		if !ok || to == "" || err != nil {
			return opt, fmt.Errorf("--rename: bad value %q; expected OLD=NEW, as team/App=team/app", r)
		}
		opt.Rename[old.String()] = to
	}
	var err error
	opt.Rate, err = parseRate(f.rate)
	return opt, err
}

// parseRate reads bytes per second, in any of the usual units.
func parseRate(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := humanize.ParseBytes(strings.TrimSuffix(s, "/s"))
	if err != nil || n == 0 || n > math.MaxInt64 {
		return 0, fmt.Errorf("--rate: bad value %q; expected bytes in a second, as 50MiB", s)
	}
	return int64(n), nil
}

// source opens the old registry's files. Where no flag says otherwise they are
// in the target's cluster.
func (f *importV1Flags) source(ctx context.Context, s *registry.Storage) (store *v1.Store, closeIt func() error, err error) {
	client, p, closeIt := s.Client, s.Parameters, func() error { return nil }
	if f.sourceConfig != "" || len(f.sourceNodes) > 0 {
		if p, err = f.sourceParameters(); err != nil {
			return nil, nil, err
		}
		other, err := registry.OpenStorageBeside(p)
		if err != nil {
			return nil, nil, fmt.Errorf("old registry: %w", err)
		}
		client, closeIt = other.Client, other.Close
	}
	if err := f.narrow(&p, client); err != nil {
		return nil, nil, errors.Join(err, closeIt())
	}
	wait, cancel := context.WithTimeout(ctx, sourcePatience)
	defer cancel()
	if err := client.Wait(wait, p.Groups...); err != nil {
		slog.Warn("not every group of the old registry can be reached", "error", err)
	}
	return v1.New(client.NewSession(p.Groups...).WithNamespace(p.Namespace)), closeIt, nil
}

// sourcePatience bounds the wait for all groups of the old registry. What only
// some of them have can be read without the others.
const sourcePatience = 30 * time.Second

// narrow sets the groups and the namespace that flags give.
func (f *importV1Flags) narrow(p *driver.Parameters, client *elliptics.Node) error {
	if len(f.sourceGroups) > 0 {
		given, err := driver.ParseParameters(map[string]any{"cluster": client, "groups": strings.Join(f.sourceGroups, " ")})
		if err != nil {
			return fmt.Errorf("--source-groups: %w", err)
		}
		p.Groups = given.Groups
	}
	if f.sourceNamespace != "" {
		p.Namespace = f.sourceNamespace
	}
	return nil
}

func (f *importV1Flags) sourceParameters() (driver.Parameters, error) {
	if f.sourceConfig != "" {
		settings, err := registry.Load(f.sourceConfig)
		if err != nil {
			return driver.Parameters{}, err
		}
		return settings.Storage, nil
	}
	p, err := driver.ParseParameters(map[string]any{"nodes": f.sourceNodes})
	if err != nil {
		return p, fmt.Errorf("--source-nodes: %w", err)
	}
	return p, nil
}

// writeReport replaces the file of the report at once, or not at all.
func (f *importV1Flags) writeReport(out io.Writer, r *publish.Report) error {
	if f.report == "" {
		return nil
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	b = append(b, '\n')
	if f.report == "-" {
		_, err := out.Write(b)
		return err
	}
	temporary, err := os.CreateTemp(filepath.Dir(f.report), ".report-*")
	if err != nil {
		return fmt.Errorf("--report: %w", err)
	}
	_, err = temporary.Write(b)
	if err = errors.Join(err, temporary.Close()); err == nil {
		err = os.Rename(temporary.Name(), f.report)
	}
	if err != nil {
		return fmt.Errorf("--report: %w", errors.Join(err, os.Remove(temporary.Name())))
	}
	return nil
}
