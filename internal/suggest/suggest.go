// Package suggest finds what a mistyped name was meant to be, for error
// messages. It never corrects anything by itself.
package suggest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
)

// DidYouMean is the end of a message about an unknown name: the known name
// that is like it, or all of them.
func DidYouMean(name string, known []string) string {
	if len(known) == 0 {
		return ""
	}
	best := slices.MinFunc(known, func(a, b string) int { return distance(name, a) - distance(name, b) })
	if distance(name, best) <= max(2, len(name)/3) {
		return fmt.Sprintf("; did you mean %s?", best)
	}
	sorted := slices.Sorted(slices.Values(known))
	return "; known are " + strings.Join(sorted, ", ")
}

func distance(a, b string) int {
	return levenshtein.ComputeDistance(strings.ToLower(a), strings.ToLower(b))
}
