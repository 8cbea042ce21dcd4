package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/elliptics-registry/elliptics-registry/v1/publish"
)

// How often progress is shown, on a terminal and elsewhere.
const (
	drawEvery = 200 * time.Millisecond
	lineEvery = 10 * time.Second
)

// showProgress shows how far an import is until the returned function is
// called: a bar on a terminal, else a line every now and then.
func showProgress(w io.Writer, progress func() publish.Progress) (stop func()) {
	begin, done, ended := time.Now(), make(chan struct{}), make(chan struct{})
	every, show := lineEvery, func(p publish.Progress) {
		fmt.Fprintln(w, progressLine(p, time.Since(begin)))
	}
	clear := func() {}
	if file, ok := w.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		bar := progressbar.NewOptions64(1,
			progressbar.OptionSetWriter(w), progressbar.OptionShowBytes(true), progressbar.OptionUseIECUnits(true),
			progressbar.OptionSetPredictTime(true), progressbar.OptionFullWidth(), progressbar.OptionThrottle(0))
		every, show = drawEvery, func(p publish.Progress) {
			bar.Describe(tagsDone(p))
			bar.ChangeMax64(max(p.Bytes, 1))         // known when all tags were looked at
			_ = bar.Set64(min(p.BytesDone, p.Bytes)) // a bar that cannot be drawn is no reason to stop
		}
		clear = func() { _ = bar.Clear() }
	}
	go func() {
		defer close(ended)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				show(progress())
			case <-done:
				clear()
				return
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

func tagsDone(p publish.Progress) string {
	s := fmt.Sprintf("%d of %d tags", p.TagsDone, p.Tags)
	if p.Failed > 0 {
		s += fmt.Sprintf(", %d failed", p.Failed)
	}
	return s
}

// progressLine is progress in words, with the rate so far and what it lets
// expect.
func progressLine(p publish.Progress, passed time.Duration) string {
	rate := float64(p.BytesDone) / passed.Seconds()
	if p.Bytes == 0 {
		return tagsDone(p)
	}
	line := fmt.Sprintf("%s; %s of %s of layers, %s/s", tagsDone(p), size(p.BytesDone), size(p.Bytes), size(int64(rate)))
	if left := p.Bytes - p.BytesDone; left > 0 && rate > 0 {
		line += fmt.Sprintf(", about %s left", (time.Duration(float64(left) / rate * float64(time.Second))).Round(time.Second))
	}
	return line
}

// size is bytes for people.
func size(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

// printImport says what became of the tags.
func printImport(w io.Writer, r *publish.Report, quiet bool) {
	for _, t := range r.Tags {
		if quiet && t.Status != publish.Failed {
			continue
		}
		line := fmt.Sprintf("%-9s %s", t.Status, t.To)
		if t.From != t.To {
			line += " (" + t.From + ")"
		}
		if t.Reason != "" {
			line += ": " + t.Reason
		}
		fmt.Fprintln(w, line)
		for _, warning := range t.Warnings {
			fmt.Fprintln(w, "          warning:", warning)
		}
	}
	if quiet {
		return
	}
	var counts []string
	for _, s := range []publish.Status{publish.Imported, publish.Planned, publish.Unchanged, publish.Kept, publish.Failed, publish.NotDone} {
		if n := r.Count(s); n > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", n, s))
		}
	}
	if len(counts) == 0 {
		counts = []string{"there are none"}
	}
	fmt.Fprintf(w, "tags: %s\n", strings.Join(counts, ", "))
	l := r.Layers
	if r.DryRun {
		fmt.Fprintf(w, "layers: %d to convert (%s), %d known\n", l.Converted, size(l.Remaining), l.Known)
	} else {
		fmt.Fprintf(w, "layers: %d converted (%s read, %s written), %d known, %d failed\n", l.Converted, size(l.Read), size(l.Written), l.Known, l.Failed)
	}
	if private := r.PrivateRepositories(); len(private) > 0 {
		fmt.Fprintf(w, "private in the old registry: %s; whoever may read the new one can pull them (see auth in its configuration)\n", strings.Join(private, ", "))
	}
}
