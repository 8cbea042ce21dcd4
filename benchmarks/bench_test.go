package benchmarks

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// BenchmarkDriver measures every scenario on every store. Compare with
// benchstat -col /store.
func BenchmarkDriver(b *testing.B) {
	for _, s := range Scenarios {
		for _, k := range Kinds {
			name := fmt.Sprintf("scenario=%s/store=%s", strings.NewReplacer(" ", "-", ",", "").Replace(s.Name), k.Name)
			b.Run(name, func(b *testing.B) { run(b, s, k) })
		}
	}
}

func run(b *testing.B, s Scenario, k Kind) {
	store, err := k.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			b.Error(err)
		}
	}()
	var amount, seconds float64
	for i := 0; b.Loop(); i++ {
		n, took, err := s.Run(context.Background(), store, fmt.Sprintf("/bench/%d", i))
		if err != nil {
			b.Fatal(err)
		}
		amount += n
		seconds += took.Seconds()
	}
	b.ReportMetric(amount/seconds, s.Unit)
}
