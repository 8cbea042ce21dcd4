// Command compare prints a table of our storage driver beside Distribution's
// filesystem driver: as it ships, and as durable as ours. The rounds of all
// three are interleaved, and medians are shown.
//
//	go run ./benchmarks/compare [-rounds 3] [-only text] [-dir .]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/elliptics-registry/elliptics-registry/benchmarks"
)

func main() {
	rounds := flag.Int("rounds", 3, "rounds of each measurement; the median counts")
	only := flag.String("only", "", "only rows whose name has this in it")
	dir := flag.String("dir", ".", "directory on the disk to measure; a temporary one is made in it")
	flag.Parse()
	if err := run(*rounds, *only, *dir); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func run(rounds int, only, dir string) error {
	tmp, err := os.MkdirTemp(dir, "compare-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 1, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "|  |")
	for _, k := range benchmarks.Kinds {
		fmt.Fprintf(w, "\t %s |", k.Name)
	}
	for _, k := range benchmarks.Kinds[1:] {
		fmt.Fprintf(w, "\t ours / %s |", k.Name)
	}
	fmt.Fprintln(w)
	fmt.Fprintln(w, "| --- |"+strings.Repeat("\t --: |", 2*len(benchmarks.Kinds)-1))
	for _, s := range benchmarks.Scenarios {
		if !strings.Contains(s.Name, only) {
			continue
		}
		medians, err := measure(tmp, s, rounds)
		if err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
		fmt.Fprintf(w, "| %s, %s |", s.Name, s.Unit)
		for _, m := range medians {
			fmt.Fprintf(w, "\t %.0f |", m)
		}
		for _, m := range medians[1:] {
			fmt.Fprintf(w, "\t %.2f |", medians[0]/m)
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

// measure runs one scenario on new stores, one after the other, several times.
// Who comes first changes with the rounds.
func measure(tmp string, s benchmarks.Scenario, rounds int) ([]float64, error) {
	rates := make([][]float64, len(benchmarks.Kinds))
	for round := range rounds {
		for j := range benchmarks.Kinds {
			i := (round + j) % len(benchmarks.Kinds)
			k := benchmarks.Kinds[i]
			dir := filepath.Join(tmp, fmt.Sprintf("%s-%d", k.Name, round))
			rate, err := once(k, s, dir)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", k.Name, err)
			}
			rates[i] = append(rates[i], rate)
		}
	}
	medians := make([]float64, len(rates))
	for i, r := range rates {
		slices.Sort(r)
		medians[i] = r[len(r)/2]
	}
	return medians, nil
}

// warmUp makes the kernel touch as much memory as a scenario needs for its
// files. On a virtual machine, memory that was free for a while is slow when it
// is touched again, which would punish whoever comes after a pause.
func warmUp(dir string) error {
	f, err := os.CreateTemp(dir, "warm-")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	b := make([]byte, 1<<20)
	for range 600 {
		if _, err := f.Write(b); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return errors.Join(f.Sync(), f.Close())
}

func once(k benchmarks.Kind, s benchmarks.Scenario, dir string) (float64, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	store, err := k.Open(dir)
	if err != nil {
		return 0, err
	}
	if err := warmUp(dir); err != nil {
		return 0, errors.Join(err, store.Close())
	}
	runtime.GC() // what earlier measurements left is not this one's
	amount, took, err := s.Run(context.Background(), store, "/bench")
	if closeErr := store.Close(); err == nil {
		err = closeErr
	}
	return amount / took.Seconds(), err
}
