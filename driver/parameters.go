package driver

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
	"github.com/elliptics-registry/elliptics-registry/internal/suggest"
)

// Parameters are what stands below storage.elliptics in a configuration.
// docs/configuration.md has a table of the keys.
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
	// NetThreads are the connections to each node. Default 2.
	NetThreads int
	// IOThreads bounds the chunks of content that are read from and written to
	// one group at the same time. Default 64.
	IOThreads int
	// NonblockingIOThreads bounds the other requests to one group: those for
	// records and directories. Default 256.
	NonblockingIOThreads int
	// LogLevel is from which level on the client's messages are kept; nil:
	// whatever the process logs, or warnings if there is a LogFile.
	LogLevel *slog.Level
	// LogFile gets the client's messages; "": the log of the process.
	LogFile string
	// NodeFlags change how the client works, see nodeFlags.
	NodeFlags []string
	// ChunkSize of large files, in bytes, 64 KiB to 16 MiB. Default: see
	// layout.Options.
	ChunkSize int
	// MaxThreads bounds the driver's operations at one time. Default 100.
	MaxThreads int
	// TrashGrace is how long deleted content stays readable for those who read
	// it already, and up to an hour more. Default: see layout.Options.
	TrashGrace time.Duration
	// Cluster is a client to use instead of an own one. It is not closed.
	Cluster *elliptics.Node
	// Collecting is set by who collects garbage, never by a configuration:
	// every operation needs all groups, and looking at something is no reason
	// to keep it.
	Collecting bool
	// Inspecting is set by tools that look at everything: that is no reason to
	// keep it.
	Inspecting bool
	// Now is the wall clock. Default: time.Now.
	Now func() time.Time
}

const (
	prefix                      = "storage." + Name + "."
	defaultNamespace            = "DOCKER"
	defaultGroup                = 1
	defaultThreads              = 100
	defaultIOThreads            = 64
	defaultNonblockingIOThreads = 256
	minChunkSize                = 64 << 10
	maxChunkSize                = 16 << 20
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
	"waittimeout":            {"a positive duration, as 5s or 5 (seconds)", func(p *Parameters, v any) bool { return setDuration(&p.WaitTimeout, v) }},
	"checktimeout":           {"a positive duration, as 20s or 20 (seconds)", func(p *Parameters, v any) bool { return setDuration(&p.CheckTimeout, v) }},
	"trashgrace":             {"a positive duration, as 24h or 86400 (seconds)", func(p *Parameters, v any) bool { return setDuration(&p.TrashGrace, v) }},
	"netthreadnum":           {"a number from 1 to 64", func(p *Parameters, v any) bool { return setInt(&p.NetThreads, v, 1, 64) }},
	"iothreadnum":            {"a number from 1 to 100000", func(p *Parameters, v any) bool { return setInt(&p.IOThreads, v, 1, 100_000) }},
	"nonblockingiothreadnum": {"a number from 1 to 100000", func(p *Parameters, v any) bool { return setInt(&p.NonblockingIOThreads, v, 1, 100_000) }},
	"maxthreads":             {"a number from 1 to 100000", func(p *Parameters, v any) bool { return setInt(&p.MaxThreads, v, 1, 100_000) }},
	"chunksize":              {"a size from 64KiB to 16MiB", func(p *Parameters, v any) bool { return setSize(&p.ChunkSize, v) }},
	"verbosity":              {wantLevel, func(p *Parameters, v any) bool { return setLevel(&p.LogLevel, v) }},
	"loglevel":               {wantLevel, func(p *Parameters, v any) bool { return setLevel(&p.LogLevel, v) }},
	"logfile": {"the path of a file, /dev/stderr or /dev/stdout", func(p *Parameters, v any) bool {
		s, ok := v.(string)
		p.LogFile = s
		return ok && s != ""
	}},
	"nodeflags": {"a list of " + strings.Join(flagNames(), ", "), func(p *Parameters, v any) bool {
		list, ok := stringList(v)
		p.NodeFlags = list
		return ok
	}},
	"cluster": {"a client made by this program", func(p *Parameters, v any) bool {
		c, ok := v.(*elliptics.Node)
		p.Cluster = c
		return ok && c != nil
	}},
}

// oldNames are the names that the Python driver had for its options, which are
// taken as well.
var oldNames = map[string]string{
	"elliptics_nodes":                     "nodes",
	"elliptics_groups":                    "groups",
	"elliptics_wait_timeout":              "waittimeout",
	"elliptics_check_timeout":             "checktimeout",
	"elliptics_io_thread_num":             "iothreadnum",
	"elliptics_net_thread_num":            "netthreadnum",
	"elliptics_nonblocking_io_thread_num": "nonblockingiothreadnum",
	"elliptics_verbosity":                 "verbosity",
	"elliptics_loglevel":                  "loglevel",
	"elliptics_logfile":                   "logfile",
	"elliptics_namespace":                 "namespace",
	"elliptics_node_flags":                "nodeflags",
}

// OldName returns the name without underscores of an option of the Python
// driver.
func OldName(old string) (name string, ok bool) {
	name, ok = oldNames[old]
	return name, ok
}

// OldDefault says whether the Python driver took its default instead of a value
// of an option, given by its old name.
func OldDefault(old string, v any) bool { return unset(oldNames[old], v) }

// unset is OldDefault for a name without underscores.
func unset(name string, v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case bool:
		return !v
	case string:
		return v == ""
	case int:
		return v == 0 && name != "verbosity" && name != "loglevel" // of which 0 is one
	}
	return false
}

// ParseParameters reads what stands below storage.elliptics. The error names
// each key that is unknown or has a bad value, and what was expected.
func ParseParameters(m map[string]any) (Parameters, error) {
	p := Parameters{
		Groups: []uint32{defaultGroup}, Namespace: defaultNamespace, MaxThreads: defaultThreads,
		IOThreads: defaultIOThreads, NonblockingIOThreads: defaultNonblockingIOThreads,
	}
	var errs []error
	given := make(map[string]string)       // the key that gave a parameter
	values := make(map[string]*Parameters) // nothing but that parameter
	for _, key := range sortedKeys(m) {
		name, old := oldNames[key]
		if !old {
			name = key
		} else if unset(name, m[key]) {
			continue
		}
		param, ok := parameters[name]
		if !ok {
			known := publicKeys()
			if strings.Contains(key, "_") {
				known = append(known, sortedKeys(oldNames)...)
			}
			errs = append(errs, fmt.Errorf("%s%s: unknown key%s", prefix, key, suggest.DidYouMean(key, known)))
			continue
		}
		alone := new(Parameters)
		if !param.set(alone, m[key]) {
			errs = append(errs, fmt.Errorf("%s%s: bad value %q; expected %s", prefix, key, fmt.Sprint(m[key]), param.want))
			continue
		}
		if name == "verbosity" {
			name = "loglevel" // the same by another name
		}
		if other, twice := given[name]; twice && !reflect.DeepEqual(alone, values[name]) {
			errs = append(errs, fmt.Errorf("%s%s and %s%s contradict each other; give one of them", prefix, other, prefix, key))
		}
		given[name], values[name] = key, alone
		param.set(&p, m[key])
	}
	for _, n := range p.Nodes {
		if _, err := wire.ParseRemote(n); err != nil {
			errs = append(errs, fmt.Errorf("%s%s: %w", prefix, given["nodes"], err))
		}
	}
	for _, f := range p.NodeFlags {
		if err := checkFlag(f); err != nil {
			errs = append(errs, fmt.Errorf("%s%s: %w", prefix, given["nodeflags"], err))
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

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func publicKeys() []string {
	var keys []string
	for k := range parameters {
		if k != "cluster" {
			keys = append(keys, k)
		}
	}
	return keys
}
