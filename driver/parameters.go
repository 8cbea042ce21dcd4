package driver

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
	"github.com/elliptics-registry/elliptics-registry/internal/suggest"
)

// Parameters are what stands below storage.elliptics in a configuration.
type Parameters struct {
	// Nodes are some of the cluster's nodes, as host:port:family. Exactly one
	// of Nodes, Embedded and Cluster is given.
	Nodes []string
	// Embedded is the data directory of the node that the program runs itself.
	// The driver cannot do that: its caller gives a Cluster.
	Embedded string
	// Sync says when the embedded node's writes are stored: always (default),
	// interval or none.
	Sync string
	// Groups hold a replica each. Default: 1. Their order and number must not
	// change without care: a majority of them is what makes a write durable.
	Groups []uint32
	// Namespace of all keys. Default: DOCKER.
	Namespace string
	// WaitTimeout bounds the wait for an answer of a node. Default 5 s.
	WaitTimeout time.Duration
	// CheckTimeout is how often connections are checked and routes refreshed.
	// Default 20 s.
	CheckTimeout time.Duration
	// Connections to each node. Default 2.
	Connections int
	// ChunkSize of large files, in bytes, 64 KiB to 16 MiB. Default: see
	// layout.Options.
	ChunkSize int
	// MaxThreads bounds the driver's operations at one time. Default 100.
	MaxThreads int
	// TrashGrace is how long deleted content stays readable for those who read
	// it already. Default: see layout.Options.
	TrashGrace time.Duration
	// Cluster is a client to use instead of an own one. It is not closed.
	Cluster *elliptics.Node
	// Collecting is set by who collects garbage, never by a configuration:
	// every operation needs all groups, and looking at something is no reason
	// to keep it.
	Collecting bool
	// Now is the wall clock. Default: time.Now.
	Now func() time.Time
}

const (
	prefix           = "storage." + Name + "."
	defaultNamespace = "DOCKER"
	defaultGroup     = 1
	defaultThreads   = 100
	minChunkSize     = 64 << 10
	maxChunkSize     = 16 << 20
)

// parameter is one key: how its value is read, and what a good one looks like.
type parameter struct {
	want string
	set  func(p *Parameters, v any) bool
}

// parameters are the keys of storage.elliptics, in lower case as Distribution's
// environment variables (REGISTRY_STORAGE_ELLIPTICS_NODES) have it.
var parameters = map[string]parameter{
	"nodes": {"a list of host:port:family, as [db1:1025:2, db2:1025:2] or separated by spaces", func(p *Parameters, v any) bool {
		list, ok := stringList(v)
		p.Nodes = list
		return ok && len(list) > 0
	}},
	"embedded": {"the path of a data directory", func(p *Parameters, v any) bool {
		s, ok := v.(string)
		p.Embedded = s
		return ok && s != ""
	}},
	"sync": {"always, interval or none", func(p *Parameters, v any) bool {
		s, ok := v.(string)
		p.Sync = s
		return ok && slices.Contains([]string{"always", "interval", "none"}, s)
	}},
	"groups": {"a list of group numbers from 1 on, as [1, 2, 3] or separated by spaces", func(p *Parameters, v any) bool {
		groups, ok := groupList(v)
		p.Groups = groups
		return ok
	}},
	"namespace": {"a name without NUL bytes", func(p *Parameters, v any) bool {
		s, ok := v.(string)
		p.Namespace = s
		return ok && s != "" && !strings.Contains(s, "\x00")
	}},
	"waittimeout":  {"a positive duration, as 5s or 5 (seconds)", func(p *Parameters, v any) bool { return setDuration(&p.WaitTimeout, v) }},
	"checktimeout": {"a positive duration, as 20s or 20 (seconds)", func(p *Parameters, v any) bool { return setDuration(&p.CheckTimeout, v) }},
	"trashgrace":   {"a positive duration, as 24h or 86400 (seconds)", func(p *Parameters, v any) bool { return setDuration(&p.TrashGrace, v) }},
	"connections":  {"a number from 1 to 64", func(p *Parameters, v any) bool { return setInt(&p.Connections, v, 1, 64) }},
	"maxthreads":   {"a number from 1 to 100000", func(p *Parameters, v any) bool { return setInt(&p.MaxThreads, v, 1, 100_000) }},
	"chunksize":    {"a size from 64KiB to 16MiB", func(p *Parameters, v any) bool { return setSize(&p.ChunkSize, v) }},
	"cluster": {"a client made by this program", func(p *Parameters, v any) bool {
		c, ok := v.(*elliptics.Node)
		p.Cluster = c
		return ok && c != nil
	}},
}

// ParseParameters reads what stands below storage.elliptics. The error names
// each key that is unknown or has a bad value, and what was expected.
func ParseParameters(m map[string]any) (Parameters, error) {
	p := Parameters{Groups: []uint32{defaultGroup}, Namespace: defaultNamespace, MaxThreads: defaultThreads}
	var errs []error
	for _, key := range sortedKeys(m) {
		param, ok := parameters[key]
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("%s%s: unknown key%s", prefix, key, suggest.DidYouMean(key, publicKeys())))
		case !param.set(&p, m[key]):
			errs = append(errs, fmt.Errorf("%s%s: bad value %q; expected %s", prefix, key, fmt.Sprint(m[key]), param.want))
		}
	}
	for _, n := range p.Nodes {
		if _, err := wire.ParseRemote(n); err != nil {
			errs = append(errs, fmt.Errorf("%snodes: %w", prefix, err))
		}
	}
	if len(errs) == 0 {
		errs = append(errs, p.checkTogether())
	}
	return p, errors.Join(errs...)
}

// checkTogether finds values that do not go together.
func (p *Parameters) checkTogether() error {
	switch {
	case p.Cluster == nil && len(p.Nodes) == 0 && p.Embedded == "":
		return fmt.Errorf("%snodes: missing; give the nodes of a cluster (host:port:family), or %sembedded, the path of a data directory", prefix, prefix)
	case len(p.Nodes) > 0 && p.Embedded != "":
		return fmt.Errorf("%snodes and %sembedded are both given; the embedded node is never part of a cluster, so give one of them", prefix, prefix)
	case p.Sync != "" && p.Embedded == "":
		return fmt.Errorf("%ssync is given without %sembedded; the servers of a cluster decide themselves when they sync", prefix, prefix)
	}
	return nil
}

// ClientConfig is the configuration of the client for these parameters.
func (p *Parameters) ClientConfig() elliptics.Config {
	return elliptics.Config{
		Remotes:      p.Nodes,
		WaitTimeout:  p.WaitTimeout,
		CheckTimeout: p.CheckTimeout,
		Connections:  p.Connections,
	}
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func publicKeys() []string {
	var keys []string
	for k := range parameters {
		if k != "cluster" {
			keys = append(keys, k)
		}
	}
	return keys
}

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
