package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/elliptics-registry/elliptics-registry/driver/repair"
)

// progress shows how far a tool is: as a bar on a terminal, else as a line now
// and then.
type progress struct {
	w     io.Writer
	name  string
	bar   *progressbar.ProgressBar // nil: lines
	term  bool
	quiet bool

	phase string
	begun time.Time
	first int64 // done when the phase began
	told  time.Time
}

// progressEvery is how often a line is written that is no bar.
const progressEvery = 10 * time.Second

func newProgress(w io.Writer, name string, quiet bool) *progress {
	f, ok := w.(*os.File)
	return &progress{w: w, name: name, quiet: quiet, term: ok && term.IsTerminal(int(f.Fd()))}
}

func (p *progress) update(s repair.Progress) {
	if p.quiet {
		return
	}
	if s.Phase != p.phase {
		p.clear()
		p.phase, p.begun, p.first, p.told = s.Phase, time.Now(), s.Done, time.Now()
		if p.term {
			total := s.Total
			if total == 0 {
				total = -1
			}
			p.bar = progressbar.NewOptions64(total, progressbar.OptionSetWriter(p.w), progressbar.OptionSetDescription(p.name+": "+s.Phase),
				progressbar.OptionShowBytes(s.Unit == "bytes"), progressbar.OptionShowCount(), progressbar.OptionShowIts(),
				progressbar.OptionSetItsString(s.Unit), progressbar.OptionClearOnFinish(), progressbar.OptionSetWidth(20))
		}
	}
	if p.bar != nil {
		_ = p.bar.Set64(s.Done)
		return
	}
	if time.Since(p.told) >= progressEvery {
		p.told = time.Now()
		fmt.Fprintln(p.w, p.line(s))
	}
}

// line says what is done, how fast, and how long the rest will take.
func (p *progress) line(s repair.Progress) string {
	count := humanize.Comma
	if s.Unit == "bytes" {
		count = func(n int64) string { return humanize.IBytes(uint64(n)) }
	}
	elapsed := time.Since(p.begun).Seconds()
	rate := float64(s.Done-p.first) / elapsed
	line := fmt.Sprintf("%s: %s: %s", p.name, s.Phase, count(s.Done))
	if s.Total > 0 {
		line += fmt.Sprintf(" of %s (%d%%)", count(s.Total), 100*s.Done/s.Total)
	}
	if s.Unit != "bytes" {
		line += " " + s.Unit
	}
	line += fmt.Sprintf(", %s/s", count(int64(rate)))
	if s.Total > s.Done && rate > 0 {
		left := time.Duration(float64(s.Total-s.Done) / rate * float64(time.Second))
		line += fmt.Sprintf(", %s left", left.Round(time.Second))
	}
	return line
}

// clear makes room for other output.
func (p *progress) clear() {
	if p.bar != nil {
		_ = p.bar.Clear()
	}
}
