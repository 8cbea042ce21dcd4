package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3" // v2 lets an inherited value win over one that stands before it

	"github.com/elliptics-registry/elliptics-registry/driver"
	"github.com/elliptics-registry/elliptics-registry/internal/suggest"
)

// Configuration files of docker-registry 0.9 and before, the registry of the
// Python driver, are translated into those of this registry. Such a file holds
// flavors, of which SETTINGS_FLAVOR in the environment chooses one; a flavor
// takes over what it does not say itself from others, and a value can be taken
// from the environment (_env:VARIABLE:default).

// flavorVariable chooses the flavor; defaultFlavor is that without it.
const (
	flavorVariable = "SETTINGS_FLAVOR"
	defaultFlavor  = "dev"
	commonFlavor   = "common"
)

// Converted is what became of an old configuration file.
type Converted struct {
	Text    []byte   // a configuration file of this registry
	Flavor  string   // that was chosen; "" for a file without flavors
	Ignored []string // keys that mean nothing here, and why
}

// IsOld says whether a file is a configuration of docker-registry: it has no
// version, and a storage that is a name, in itself or in one of its flavors.
func IsOld(text []byte) bool {
	var m map[string]any
	if yaml.Unmarshal(text, &m) != nil {
		return false
	}
	if _, ok := m["version"]; ok {
		return false
	}
	if _, ok := m["storage"].(string); ok {
		return true
	}
	for _, v := range m {
		flavor, _ := v.(map[string]any)
		if _, ok := flavor["storage"].(string); ok {
			return true
		}
	}
	return false
}

// ConvertOld translates a configuration file of docker-registry, with the
// variables of the environment that the old registry would have read. The error
// names each key that cannot be translated as it stands in the file.
func ConvertOld(text []byte) (*Converted, error) {
	o := &oldFile{env: os.LookupEnv, variables: make(map[string]string)}
	if err := yaml.Unmarshal(text, &o.file); err != nil {
		return nil, errors.New(strings.ReplaceAll(strings.TrimPrefix(err.Error(), "yaml: "), "\n", " "))
	}
	settings, err := o.choose()
	if err != nil {
		return nil, err
	}
	if o.settings, err = o.evaluate("", settings); err != nil {
		return nil, err
	}
	elliptics, err := o.storage()
	if err != nil {
		return nil, err
	}
	c := &Converted{Flavor: o.flavor, Ignored: o.ignored()}
	c.Text = o.print(elliptics, c.Ignored)
	return c, nil
}

type oldFile struct {
	file      map[string]any
	flavor    string
	settings  map[string]any
	env       func(string) (string, bool)
	variables map[string]string // of the keys whose value is _env:…
	includes  int               // by the flavor that is being put together
}

// choose returns the settings of the chosen flavor.
func (o *oldFile) choose() (map[string]any, error) {
	name, set := o.env(flavorVariable)
	if !set {
		name = defaultFlavor
	}
	_, flat := o.file["storage"].(string)
	if set && name == "" || !set && flat {
		return o.file, nil
	}
	o.flavor = name
	flavor, err := o.inherit(name, nil)
	if err != nil || name == commonFlavor {
		return flavor, err
	}
	// Before 0.8 every flavor took over what was common without saying so.
	if _, ok := o.file[commonFlavor]; ok {
		common, err := o.inherit(commonFlavor, nil)
		return merged(flavor, common), err
	}
	return flavor, nil
}

// maxIncludes bounds the flavors that one flavor includes, directly or not.
const maxIncludes = 1000

// inherit returns a flavor with what it includes by name. What YAML itself
// merges (<<: *common) is there already.
func (o *oldFile) inherit(name string, within []string) (map[string]any, error) {
	flavor, ok := o.file[name].(map[string]any)
	switch {
	case ok:
	case len(within) > 0:
		return nil, fmt.Errorf("flavor %s includes %s, which is not in the file", within[len(within)-1], name)
	default:
		return nil, fmt.Errorf("flavor %s is not in the file; choose one with %s in the environment: %s", name, flavorVariable, strings.Join(o.flavors(), ", "))
	}
	if len(within) == 0 {
		o.includes = 0
	}
	if o.includes++; o.includes > maxIncludes { // a few lines can include each other for ever
		return nil, fmt.Errorf("flavor %s includes more than %d others", within[0], maxIncludes)
	}
	if slices.Contains(within, name) {
		return nil, fmt.Errorf("flavor %s includes itself: %s", name, strings.Join(append(within, name), ", "))
	}
	within = append(within, name)
	result := merged(flavor, nil)
	for _, key := range []string{"_include", "include"} {
		v, ok := result[key]
		if !ok {
			continue
		}
		delete(result, key)
		list, isList := v.([]any)
		if !isList {
			list = []any{v}
		}
		for _, e := range slices.Backward(list) { // of several, the last one wins
			switch e := e.(type) {
			case map[string]any: // include: *common
				result = merged(result, e)
			case string:
				below, err := o.inherit(e, within)
				if err != nil {
					return nil, err
				}
				result = merged(result, below)
			default:
				return nil, fmt.Errorf("%s.%s: bad value %q; expected the name of a flavor, or an alias as *common", name, key, fmt.Sprint(e))
			}
		}
	}
	return result, nil
}

// merged is what is in a, and in b where a has nothing.
func merged(a, b map[string]any) map[string]any {
	m := make(map[string]any, len(a)+len(b))
	for k, v := range b {
		m[k] = v
	}
	for k, v := range a {
		m[k] = v
	}
	return m
}

// flavors are those that can be chosen, the ones on Elliptics first.
func (o *oldFile) flavors() (names []string) {
	for _, name := range sortedNames(o.file) {
		if _, ok := o.file[name].(map[string]any); ok && name != commonFlavor {
			names = append(names, name)
		}
	}
	slices.SortStableFunc(names, func(a, b string) int { return o.rank(a) - o.rank(b) })
	return names
}

func (o *oldFile) rank(flavor string) int {
	if f, _ := o.inherit(flavor, nil); f["storage"] == driver.Name {
		return 0
	}
	return 1
}

// evaluate replaces values of the form _env:VARIABLE:default.
func (o *oldFile) evaluate(path string, m map[string]any) (map[string]any, error) {
	result := make(map[string]any, len(m))
	for _, key := range sortedNames(m) {
		v := m[key]
		if s, ok := v.(string); ok {
			rest, isEnv := strings.CutPrefix(s, "_env:")
			if isEnv {
				variable, value, _ := strings.Cut(rest, ":")
				o.variables[path+key] = variable
				if found, ok := o.env(variable); ok {
					value = found
				}
				v = nil
				if err := yaml.Unmarshal([]byte(value), &v); err != nil {
					return nil, fmt.Errorf("%s%s: the value of %s in the environment, or its default, is no YAML", path, key, variable)
				}
			}
		}
		if below, ok := v.(map[string]any); ok {
			var err error
			if v, err = o.evaluate(path+key+".", below); err != nil {
				return nil, err
			}
		}
		result[key] = v
	}
	return result, nil
}

const optionPrefix = "elliptics_"

// storage checks that images are in Elliptics, and returns the options of the
// old driver that have a value, by their old names.
func (o *oldFile) storage() (map[string]any, error) {
	switch s := o.settings["storage"].(type) {
	case nil:
		return nil, fmt.Errorf("storage: missing%s; expected storage: %s", o.inFlavor(), driver.Name)
	case string:
		if s == driver.Name {
			break
		}
		hint := ""
		if names := o.flavors(); len(names) > 0 && o.rank(names[0]) == 0 && names[0] != o.flavor {
			hint = fmt.Sprintf("; the flavor %s is on Elliptics: choose it with %s=%s in the environment", names[0], flavorVariable, names[0])
		}
		return nil, fmt.Errorf("storage: %s%s: this registry keeps images in Elliptics and in nothing else%s", s, o.inFlavor(), hint)
	default:
		return nil, fmt.Errorf("storage: bad value %q%s; expected the name of a storage", fmt.Sprint(s), o.inFlavor())
	}
	options := make(map[string]any)
	for _, key := range sortedNames(o.settings) {
		if v := o.settings[key]; strings.HasPrefix(key, optionPrefix) && key != familyOption && !driver.OldDefault(key, v) {
			options[key] = v
		}
	}
	nodes, err := o.nodes(options["elliptics_nodes"])
	if err != nil {
		return nil, err
	}
	if nodes != nil {
		options["elliptics_nodes"] = nodes
	} else if variable, ok := o.variables["elliptics_nodes"]; ok {
		return nil, fmt.Errorf("elliptics_nodes: %s is not set in the environment, and has no default", variable)
	} else {
		return nil, errors.New("elliptics_nodes: missing; expected a list of host:port:family")
	}
	if _, err := driver.ParseParameters(options); err != nil {
		return nil, errors.New(strings.ReplaceAll(err.Error(), "storage."+driver.Name+".", ""))
	}
	return options, nil
}

// familyOption is how the driver was told the address family of all nodes
// before it was a part of each.
const familyOption = "elliptics_addr_family"

// nodes adds the family to nodes that have none, as in files of drivers before
// 0.1: a list of host:port, or host: port as keys and values.
func (o *oldFile) nodes(v any) (any, error) {
	family := "2"
	if f, ok := o.settings[familyOption]; ok && f != nil {
		if family = fmt.Sprint(f); family != "2" && family != "10" {
			return nil, fmt.Errorf("%s: bad value %q; expected 2 (IPv4) or 10 (IPv6)", familyOption, family)
		}
	}
	var list []string
	switch v := v.(type) {
	case map[string]any:
		for _, host := range sortedNames(v) {
			list = append(list, fmt.Sprint(host, ":", v[host]))
		}
	case string:
		list = strings.Fields(v)
	case []any:
		for _, e := range v {
			s, ok := e.(string)
			if !ok {
				return v, nil // for the driver to refuse
			}
			list = append(list, strings.Fields(s)...)
		}
	default:
		return v, nil
	}
	for i, n := range list {
		if strings.Count(n, ":") == 1 {
			list[i] = n + ":" + family
		}
	}
	if len(list) == 0 {
		return nil, nil
	}
	return list, nil
}

func (o *oldFile) inFlavor() string {
	if o.flavor == "" {
		return ""
	}
	return " in flavor " + o.flavor
}

// known are the other keys of docker-registry 0.9, and why they mean nothing
// here. Keys that are translated, or that say what is the case anyhow, have no
// reason and are not reported.
var known = map[string]string{
	"storage": "", "flavor": "", "loglevel": "", "secret_key": "", familyOption: "", "issue": "",
	"debug":                     "see log.level",
	"standalone":                "this registry never asks an index",
	"index_endpoint":            "this registry never asks an index",
	"disable_token_auth":        "see auth.token",
	"privileged_key":            "see auth.htpasswd and auth.token",
	"storage_redirect":          "blobs always come from the registry",
	"storage_path":              "of another storage; the images are below elliptics_namespace",
	"storage_alternate":         "of another storage",
	"search_backend":            "there is no search; the catalog lists what is there",
	"sqlalchemy_index_database": "there is no search; the catalog lists what is there",
	"mirroring":                 "see proxy.remoteurl",
	"cache":                     "no cache is needed",
	"cache_lru":                 "no cache is needed",
	"email_exceptions":          "watch the log instead",
	"bugsnag":                   "watch the log instead",
	"cors":                      "see http.headers",
	"cloudfront":                "of another storage",
	"oauth2":                    "of another storage",
}

// switches are the keys without which a section did nothing.
var switches = map[string]string{
	"cache": "host", "cache_lru": "host", "cors": "origins", "email_exceptions": "smtp_host", "mirroring": "source",
}

// otherStorages are how the keys of other storages begin.
var otherStorages = []string{"s3_", "boto_", "gs_", "swift_", "glance_", "azure_", "oss_"}

// ignored are the keys that had an effect, and have none any more.
func (o *oldFile) ignored() (list []string) {
	for _, key := range sortedNames(o.settings) {
		why, isKnown := known[key]
		if strings.HasPrefix(key, optionPrefix) || isKnown && why == "" || !o.works(key) {
			continue
		}
		if slices.ContainsFunc(otherStorages, func(p string) bool { return strings.HasPrefix(key, p) }) {
			why = "of another storage"
		} else if !isKnown {
			why = "unknown key" + suggest.DidYouMean(key, append(sortedNames(known), "elliptics_nodes"))
		}
		list = append(list, key+": "+why)
	}
	return list
}

// works says whether a key had any effect: samples have all of them.
func (o *oldFile) works(key string) bool {
	v := o.settings[key]
	switch key {
	case "standalone":
		return v == false
	case "index_endpoint":
		return o.settings["standalone"] == false
	case "sqlalchemy_index_database":
		return !empty(o.settings["search_backend"])
	}
	if section, ok := v.(map[string]any); ok && switches[key] != "" {
		v = section[switches[key]]
	}
	return v != false && !empty(v)
}

// empty says whether there is nothing in a value, however deep.
func empty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case map[string]any:
		for _, below := range v {
			if !empty(below) {
				return false
			}
		}
		return true
	}
	return false
}

// oldAddress is where the old registry listened.
func (o *oldFile) oldAddress() string {
	host, port := "0.0.0.0", "5000"
	if v, _ := o.env("REGISTRY_HOST"); v != "" {
		host = v
	}
	if v, _ := o.env("REGISTRY_PORT"); v != "" {
		port = v
	}
	return host + ":" + port
}

// oldLevels are the names of Python's levels.
var oldLevels = map[string]string{"debug": "debug", "info": "info", "warning": "warn", "warn": "warn", "error": "error", "critical": "error", "fatal": "error"}

// print writes the new file.
func (o *oldFile) print(options map[string]any, ignored []string) []byte {
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Made from a configuration of docker-registry%s.", comment(o.inFlavor()))
	line("version: 0.1")
	level := oldLevels[strings.ToLower(fmt.Sprint(o.settings["loglevel"]))]
	if level == "" {
		level = "info" // as there
	}
	line("log:\n  level: %s", level)
	line("http:\n  addr: %s  # where the old registry listened", inline(o.oldAddress()))
	if s := o.settings["secret_key"]; !empty(s) {
		line("  secret: %s", inline(fmt.Sprint(s)))
	} else {
		line("  # secret: a long random text, the same in all registries on the cluster")
	}
	line("storage:\n  %s:", driver.Name)
	for _, old := range sortedNames(options) {
		name, _ := driver.OldName(old)
		was := "was " + old
		if variable, ok := o.variables[old]; ok {
			was += fmt.Sprintf(", from %s; now REGISTRY_STORAGE_ELLIPTICS_%s overrides it", variable, strings.ToUpper(name))
		}
		line("    %s: %s  # %s", name, inline(options[old]), comment(was))
	}
	line("  delete:\n    enabled: true  # as in the old registry")
	if len(ignored) > 0 {
		line("# Left out, because it means nothing to this registry:")
		for _, i := range ignored {
			line("#   %s", comment(i))
		}
	}
	return b.Bytes()
}

// comment stays on its line, whatever the old file calls things.
func comment(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x85 || r == 0x2028 || r == 0x2029 {
			return ' '
		}
		return r
	}, s)
}

// inline is a value in one line of YAML, of which JSON is a part.
func inline(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(v) != nil {
		return fmt.Sprintf("%q", fmt.Sprint(v))
	}
	return strings.TrimSpace(b.String())
}

func sortedNames[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
