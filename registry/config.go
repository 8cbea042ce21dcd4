package registry

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/sirupsen/logrus"

	"github.com/elliptics-registry/elliptics-registry/driver"
)

const (
	// DefaultListen is the address of a registry without a configuration.
	DefaultListen = "127.0.0.1:5000"
	// DefaultData is its data directory.
	DefaultData = "./registry-data"

	// defaultDrain is how long requests may go on after a stop signal. It is
	// below the ten seconds after which `docker stop` kills.
	defaultDrain = 8 * time.Second
)

// Settings are a checked configuration.
type Settings struct {
	Config  *configuration.Configuration
	Storage driver.Parameters
	Version string // of the program, for its first lines

	// Ignored are the keys of an old configuration file that mean nothing
	// here, and why.
	Ignored []string
}

// Default is a registry on the embedded node below dataDir.
func Default(dataDir string) (*Settings, error) {
	text := "version: 0.1\nlog:\n  level: warn\nhttp:\n  addr: " + DefaultListen + "\nstorage:\n  " + driver.Name + ": {}\n  delete:\n    enabled: true\n"
	config, err := configuration.Parse(strings.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("environment: %w", err)
	}
	p := config.Storage[driver.Name]
	if p == nil {
		p = configuration.Parameters{}
		config.Storage[driver.Name] = p
	}
	if _, cluster := p["nodes"]; !cluster { // as of REGISTRY_STORAGE_ELLIPTICS_NODES
		p["embedded"] = dataDir
	}
	return check(config)
}

// Load reads and checks a configuration file in Distribution's YAML, or in that
// of docker-registry 0.9. The error names every key that is unknown or has a
// bad value, a line for each.
func Load(path string) (*Settings, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	var ignored []string
	if IsOld(text) {
		c, err := ConvertOld(text)
		if err != nil {
			return nil, inFile(path, err)
		}
		text, ignored = c.Text, c.Ignored
	}
	s, err := parse(text)
	if err != nil {
		return nil, inFile(path, err)
	}
	s.Ignored = ignored
	return s, nil
}

func parse(text []byte) (*Settings, error) {
	if err := unknownKeys(text); err != nil {
		return nil, err
	}
	config, err := configuration.Parse(bytes.NewReader(text))
	if err != nil {
		return nil, errors.New(strings.ReplaceAll(err.Error(), "\n", " "))
	}
	return check(config)
}

// inFile begins each line of a list of errors with the name of the file.
func inFile(path string, err error) error {
	lines := strings.Split(err.Error(), "\n")
	for i := range lines {
		lines[i] = path + ": " + lines[i]
	}
	return errors.New(strings.Join(lines, "\n"))
}

// check finds what would otherwise fail later, or panic inside Distribution.
func check(c *configuration.Configuration) (*Settings, error) {
	var errs []error
	bad := func(key string, value any, want string) {
		errs = append(errs, fmt.Errorf("%s: bad value %q; expected %s", key, fmt.Sprint(value), want))
	}
	if t := c.Storage.Type(); t != driver.Name {
		return nil, fmt.Errorf("storage.%s: this registry keeps images in Elliptics; give storage.%s with nodes, or with embedded", t, driver.Name)
	}
	p, err := driver.ParseParameters(c.Storage.Parameters())
	if err != nil {
		errs = append(errs, err)
	}
	if c.HTTP.Addr == "" {
		c.HTTP.Addr = DefaultListen
	}
	if c.HTTP.Net != "unix" {
		if _, _, err := net.SplitHostPort(c.HTTP.Addr); err != nil {
			bad("http.addr", c.HTTP.Addr, "host:port, as in "+DefaultListen)
		}
	}
	if c.HTTP.DrainTimeout == 0 {
		c.HTTP.DrainTimeout = defaultDrain
	}
	if u, err := url.Parse(c.HTTP.Host); err != nil || c.HTTP.Host != "" && u.Host == "" {
		bad("http.host", c.HTTP.Host, "the registry's address as its users see it, as in https://registry.example.org")
	}
	if _, err := logrus.ParseLevel(string(c.Log.Level)); err != nil {
		bad("log.level", c.Log.Level, "error, warn, info, debug or trace")
	}
	switch c.Log.Formatter {
	case "", "text", "json", "logstash":
	default:
		bad("log.formatter", c.Log.Formatter, "text, json or logstash")
	}
	for key, list := range map[string][]string{
		"validation.manifests.urls.allow": c.Validation.Manifests.URLs.Allow,
		"validation.manifests.urls.deny":  c.Validation.Manifests.URLs.Deny,
	} {
		for _, expr := range list {
			if _, err := regexp.Compile(expr); err != nil {
				bad(key, expr, "regular expressions")
			}
		}
	}
	errs = append(errs, checkStorage(c)...)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &Settings{Config: c, Storage: p}, nil
}

// checkStorage checks what stands beside the driver below storage, on which
// Distribution panics, or which it ignores when the type is wrong.
func checkStorage(c *configuration.Configuration) (errs []error) {
	bad := func(key string, value any, want string) {
		errs = append(errs, fmt.Errorf("storage.%s: bad value %q; expected %s", key, fmt.Sprint(value), want))
	}
	boolean := func(section, key string) {
		if v, ok := c.Storage[section][key]; ok {
			if _, ok := v.(bool); !ok {
				bad(section+"."+key, v, "true or false")
			}
		}
	}
	boolean("delete", "enabled")
	boolean("redirect", "disable")
	if r, ok := c.Storage["redirect"]; ok {
		if _, ok := r["disable"]; !ok {
			bad("redirect", r, "the key disable with true or false")
		}
	}
	if v, ok := c.Storage["tag"]["concurrencylimit"]; ok {
		if n, ok := v.(int); !ok || n < 0 {
			bad("tag.concurrencylimit", v, "a number from 0 on")
		}
	}
	if v, ok := c.Storage["cache"]["blobdescriptor"]; ok && v != "inmemory" && v != "redis" {
		bad("cache.blobdescriptor", v, "inmemory or redis; without it nothing is ever stale")
	}
	if v, ok := c.Storage["maintenance"]["readonly"]; ok {
		m, isMap := v.(map[any]any)
		if enabled, ok := m["enabled"]; !isMap || ok && !isBool(enabled) {
			bad("maintenance.readonly", v, "the key enabled with true or false")
		}
	}
	if v, ok := c.Storage["maintenance"]["uploadpurging"]; ok {
		errs = append(errs, checkPurging(v)...)
	}
	return errs
}

func isBool(v any) bool { _, ok := v.(bool); return ok }

func checkPurging(v any) (errs []error) {
	const key = "storage.maintenance.uploadpurging"
	m, ok := v.(map[any]any)
	if !ok {
		return []error{fmt.Errorf("%s: bad value %q; expected the keys enabled, age, interval, dryrun", key, fmt.Sprint(v))}
	}
	for k, v := range m {
		switch k {
		case "enabled", "dryrun":
			if !isBool(v) {
				errs = append(errs, fmt.Errorf("%s.%v: bad value %q; expected true or false", key, k, fmt.Sprint(v)))
			}
		case "age", "interval":
			s, _ := v.(string)
			if d, err := time.ParseDuration(s); err != nil || d <= 0 {
				errs = append(errs, fmt.Errorf("%s.%v: bad value %q; expected a duration, as in 168h", key, k, fmt.Sprint(v)))
			}
		default:
			errs = append(errs, fmt.Errorf("%s.%v: unknown key; known are age, dryrun, enabled, interval", key, k))
		}
	}
	// Distribution fails without one of them.
	for k, def := range map[string]any{"enabled": true, "age": "168h", "interval": "24h", "dryrun": false} {
		if _, ok := m[k]; !ok {
			m[k] = def
		}
	}
	return errs
}
