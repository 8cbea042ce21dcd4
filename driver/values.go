package driver

import (
	"log/slog"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// items splits a list in one of the forms that people use: a YAML list, or a
// string with brackets or without, separated by commas or spaces.
func items(v any) []any {
	switch v := v.(type) {
	case []any:
		return v
	case []string:
		list := make([]any, len(v))
		for i, s := range v {
			list[i] = s
		}
		return list
	case string:
		v = strings.TrimSpace(v)
		if strings.HasPrefix(v, "[") && strings.HasSuffix(v, "]") {
			v = v[1 : len(v)-1]
		}
		var list []any
		for _, s := range strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' }) {
			list = append(list, strings.Trim(s, `"'`))
		}
		return list
	case nil:
		return nil
	}
	return []any{v}
}

func stringList(v any) (list []string, ok bool) {
	for _, e := range items(v) {
		s, isString := e.(string)
		if !isString || s == "" {
			return nil, false
		}
		list = append(list, strings.Fields(s)...)
	}
	return list, true
}

func groupList(v any) (groups []uint32, ok bool) {
	for _, e := range items(v) {
		n, ok := integer(e)
		if !ok || n < 1 || n > math.MaxUint32 || slices.Contains(groups, uint32(n)) {
			return nil, false
		}
		groups = append(groups, uint32(n))
	}
	return groups, len(groups) > 0
}

// integer reads a whole number of any type that YAML and the environment make.
func integer(v any) (int64, bool) {
	switch v := v.(type) {
	case int:
		return int64(v), true
	case int64:
		return v, true
	case uint32:
		return int64(v), true
	case uint64:
		return int64(v), v <= math.MaxInt64
	case float64:
		return int64(v), v == math.Trunc(v) && math.Abs(v) < 1<<53
	case string:
		n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
		return n, err == nil
	}
	return 0, false
}

func setInt(to *int, v any, low, high int64) bool {
	n, ok := integer(v)
	*to = int(n)
	return ok && low <= n && n <= high
}

// setDuration reads whole seconds, as the old driver had them, or Go's form.
func setDuration(to *time.Duration, v any) bool {
	if n, ok := integer(v); ok {
		*to = time.Duration(n) * time.Second
		return n > 0 && n < math.MaxInt64/int64(time.Second)
	}
	switch v := v.(type) {
	case time.Duration:
		*to = v
	case string:
		d, err := time.ParseDuration(strings.TrimSpace(v))
		if err != nil {
			return false
		}
		*to = d
	default:
		return false
	}
	return *to > 0
}

// setSize reads bytes, or a number with the unit KiB or MiB.
func setSize(to *int, v any) bool {
	unit := int64(1)
	if s, ok := v.(string); ok {
		for suffix, u := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20} {
			if rest, found := strings.CutSuffix(strings.TrimSpace(s), suffix); found {
				unit, v = u, rest
			}
		}
	}
	n, ok := integer(v)
	*to = int(n * unit)
	return ok && n <= maxChunkSize && minChunkSize <= n*unit && n*unit <= maxChunkSize
}

// levels are the names of the old client's log levels, in the order of their
// old numbers. warning came later, and has none.
var levels = []struct {
	name  string
	level slog.Level
}{
	{"data", slog.LevelError},
	{"error", slog.LevelError},
	{"info", slog.LevelInfo},
	{"notice", slog.LevelInfo - 1},
	{"debug", slog.LevelDebug},
	{"warning", slog.LevelWarn},
}

const wantLevel = "data, error, warning, info, notice or debug, or the old numbers 0 (data), 1 (error), 2 (info), 3 (notice), 4 (debug)"

func setLevel(to **slog.Level, v any) bool {
	if n, ok := integer(v); ok {
		if n < 0 || n > 4 {
			return false
		}
		*to = &levels[n].level
		return true
	}
	s, _ := v.(string)
	for i, l := range levels {
		if strings.EqualFold(strings.TrimSpace(s), l.name) {
			*to = &levels[i].level
			return true
		}
	}
	return false
}
