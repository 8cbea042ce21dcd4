package registry

import (
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/sirupsen/logrus"

	"github.com/elliptics-registry/elliptics-registry/driver"
)

// check finds what would otherwise fail later, or panic inside Distribution.
func check(c *configuration.Configuration) (*Settings, error) {
	if t := c.Storage.Type(); t != driver.Name {
		return nil, fmt.Errorf("storage.%s: this registry keeps images in Elliptics; give storage.%s with nodes, or with embedded", t, driver.Name)
	}
	if c.HTTP.Addr == "" {
		c.HTTP.Addr = DefaultListen
	}
	if c.HTTP.DrainTimeout == 0 {
		c.HTTP.DrainTimeout = defaultDrain
	}
	p, err := driver.ParseParameters(c.Storage.Parameters())
	k := &keyChecker{}
	if err != nil {
		k.errs = append(k.errs, err)
	}
	k.http(c)
	k.log(c)
	k.sections(c)
	k.auth(c.Auth)
	k.endpoints(c)
	k.durations(reflect.ValueOf(c).Elem(), "")
	if err := errors.Join(k.errs...); err != nil {
		return nil, err
	}
	return &Settings{Config: c, Storage: p}, nil
}

func (k *keyChecker) http(c *configuration.Configuration) {
	h := c.HTTP
	hostPort := func(key, addr string) {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			k.bad(key, addr, "host:port, as in "+DefaultListen)
		}
	}
	switch h.Net {
	case "", "tcp":
		hostPort("http.addr", h.Addr)
	case "unix":
	default:
		k.bad("http.net", h.Net, "tcp or unix")
	}
	if h.Debug.Addr != "" {
		hostPort("http.debug.addr", h.Debug.Addr)
	}
	if p := h.Debug.Prometheus.Path; p != "" && !strings.HasPrefix(p, "/") {
		k.bad("http.debug.prometheus.path", p, "a path, as in /metrics")
	}
	if h.Prefix != "" && !strings.HasPrefix(h.Prefix, "/") {
		k.bad("http.prefix", h.Prefix, "a path, as in /registry/")
	}
	if h.Host != "" && !isURL(h.Host) {
		k.bad("http.host", h.Host, "the registry's address as its users see it, as in https://registry.example.org")
	}
	k.tls(h.TLS)
}

func isURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https")
}

// tls checks what can be checked without the files.
func (k *keyChecker) tls(t configuration.TLS) {
	acme := t.LetsEncrypt.CacheFile != ""
	switch given := t.Certificate != "" || t.Key != ""; {
	case acme && given:
		k.errs = append(k.errs, errors.New("http.tls: certificate and letsencrypt are both given; give one of them"))
	case given && (t.Certificate == "" || t.Key == ""):
		k.errs = append(k.errs, errors.New("http.tls: certificate and key are both needed"))
	case !given && !acme && len(t.ClientCAs) > 0:
		k.errs = append(k.errs, errors.New("http.tls.clientcas is given without http.tls.certificate: nobody would be asked for a certificate"))
	}
	if _, ok := tlsVersions[t.MinimumTLS]; !ok {
		k.bad("http.tls.minimumtls", t.MinimumTLS, "tls1.2 or tls1.3")
	}
	if _, ok := clientAuth[t.ClientAuth]; !ok {
		k.bad("http.tls.clientauth", t.ClientAuth, strings.Join(clientAuths(), ", "))
	}
	for _, name := range t.CipherSuites {
		if !slices.ContainsFunc(tls.CipherSuites(), func(s *tls.CipherSuite) bool { return s.Name == name }) {
			k.bad("http.tls.ciphersuites", name, "names of secure cipher suites, as Go's package crypto/tls has them")
		}
	}
}

func clientAuths() (names []string) {
	for name := range clientAuth {
		if name != "" {
			names = append(names, string(name))
		}
	}
	slices.Sort(names)
	return names
}

func (k *keyChecker) log(c *configuration.Configuration) {
	if _, err := logrus.ParseLevel(string(c.Log.Level)); err != nil {
		k.bad("log.level", c.Log.Level, wanted(reflect.TypeOf(c.Log.Level)))
	}
	if f := c.Log.Formatter; !slices.Contains([]string{"", "text", "json", "logstash"}, f) {
		k.bad("log.formatter", f, "text, json or logstash")
	}
	for i, hook := range c.Log.Hooks {
		key := fmt.Sprintf("log.hooks[%d].", i)
		if hook.Type != "mail" {
			k.bad(key+"type", hook.Type, "mail")
		}
		for _, level := range hook.Levels {
			if _, err := logrus.ParseLevel(level); err != nil {
				k.bad(key+"levels", level, "levels as error, warn, info, debug")
			}
		}
	}
}

// sections checks what stands beside the driver below storage, and elsewhere,
// on which Distribution panics, or which it ignores when the type is wrong.
func (k *keyChecker) sections(c *configuration.Configuration) {
	boolean := func(section, key string) {
		if v, ok := c.Storage[section][key]; ok && !isBool(v) {
			k.bad("storage."+section+"."+key, v, "true or false")
		}
	}
	boolean("delete", "enabled")
	boolean("redirect", "disable")
	if r, ok := c.Storage["redirect"]; ok {
		if _, ok := r["disable"]; !ok {
			k.bad("storage.redirect", map[any]any{}, "the key disable with true or false")
		}
	}
	if v, ok := c.Storage["tag"]["concurrencylimit"]; ok {
		if n, ok := v.(int); !ok || n < 0 {
			k.bad("storage.tag.concurrencylimit", v, "a number from 0 on")
		}
	}
	k.cache(c)
	if v, ok := c.Storage["maintenance"]["readonly"]; ok {
		m, isMap := v.(map[any]any)
		if enabled, ok := m["enabled"]; !isMap || ok && !isBool(enabled) {
			k.bad("storage.maintenance.readonly", v, "the key enabled with true or false")
		}
		for _, name := range sorted(m) {
			if name != "enabled" {
				k.unknown("storage.maintenance.readonly.", fmt.Sprint(name), []string{"enabled"})
			}
		}
	}
	if v, ok := c.Storage["maintenance"]["uploadpurging"]; ok {
		k.purging(v)
	}
	for key, list := range map[string][]string{
		"validation.manifests.urls.allow": c.Validation.Manifests.URLs.Allow,
		"validation.manifests.urls.deny":  c.Validation.Manifests.URLs.Deny,
	} {
		for _, expr := range list {
			if _, err := regexp.Compile(expr); err != nil {
				k.bad(key, expr, "regular expressions")
			}
		}
	}
	for _, where := range sortedNames(c.Middleware) {
		if known := []string{"registry", "repository", "storage"}; !slices.Contains(known, where) {
			k.unknown("middleware.", where, known)
		}
		for i, m := range c.Middleware[where] {
			if m.Name == "" {
				k.errs = append(k.errs, fmt.Errorf("middleware.%s[%d].name: missing", where, i))
			}
		}
	}
}

func (k *keyChecker) cache(c *configuration.Configuration) {
	cache := c.Storage["cache"]
	for _, key := range []string{"blobdescriptor", "layerinfo"} {
		v, ok := cache[key]
		switch {
		case ok && v != "inmemory" && v != "redis":
			k.bad("storage.cache."+key, v, "inmemory or redis; without it nothing is ever stale")
		case v == "redis" && len(c.Redis.Options.Addrs) == 0:
			k.errs = append(k.errs, fmt.Errorf("redis.addrs: missing; storage.cache.%s is redis", key))
		}
	}
	if v, ok := cache["blobdescriptorsize"]; ok {
		if n, ok := v.(int); !ok || n < 0 {
			k.bad("storage.cache.blobdescriptorsize", v, "a number of descriptors")
		}
	}
}

func isBool(v any) bool { _, ok := v.(bool); return ok }

func (k *keyChecker) purging(v any) {
	const key = "storage.maintenance.uploadpurging"
	m, ok := v.(map[any]any)
	if !ok {
		k.bad(key, v, "the keys enabled, age, interval, dryrun")
		return
	}
	for _, name := range sorted(m) {
		full, v := fmt.Sprintf("%s.%v", key, name), m[name]
		switch name {
		case "enabled", "dryrun":
			if !isBool(v) {
				k.bad(full, v, "true or false")
			}
		case "age", "interval":
			s, _ := v.(string)
			if d, err := time.ParseDuration(s); err != nil || d <= 0 {
				k.bad(full, v, "a duration, as in 168h")
			}
		default:
			k.unknown(key+".", fmt.Sprint(name), []string{"age", "dryrun", "enabled", "interval"})
		}
	}
	// Distribution fails without one of them.
	for name, def := range map[string]any{"enabled": true, "age": "168h", "interval": "24h", "dryrun": false} {
		if _, ok := m[name]; !ok {
			m[name] = def
		}
	}
}

// authKeys are the keys of the ways to check who asks that this registry has;
// true: required.
var authKeys = map[string]map[string]bool{
	"htpasswd": {"realm": true, "path": true},
	"token": {
		"realm": true, "service": true, "issuer": true, "rootcertbundle": false, "jwks": false,
		"autoredirect": false, "autoredirectpath": false, "signingalgorithms": false,
	},
}

func (k *keyChecker) auth(a configuration.Auth) {
	if len(a) == 0 {
		return
	}
	kind := a.Type()
	keys, ok := authKeys[kind]
	if !ok {
		k.errs = append(k.errs, fmt.Errorf("auth.%s: unknown; known are htpasswd and token", kind))
		return
	}
	p := a.Parameters()
	key := func(name string) string { return "auth." + kind + "." + name }
	for _, name := range sortedNames(p) {
		v := p[name]
		_, known := keys[name]
		_, isText := v.(string)
		switch {
		case !known:
			k.unknown("auth."+kind+".", name, slices.Collect(maps.Keys(keys)))
		case name == "autoredirect":
			if !isBool(v) {
				k.bad(key(name), v, "true or false")
			}
		case name == "signingalgorithms":
			if _, ok := v.([]any); !ok {
				k.bad(key(name), v, "a list, as in [RS256]")
			}
		case !isText:
			k.bad(key(name), v, "a text")
		case name == "path" || name == "rootcertbundle" || name == "jwks":
			// Without the file, Distribution would make up a password and
			// write it into the log.
			if _, err := os.Stat(v.(string)); err != nil {
				k.errs = append(k.errs, fmt.Errorf("%s: %w", key(name), err))
			}
		}
	}
	for _, name := range sortedNames(keys) {
		if _, ok := p[name]; keys[name] && !ok {
			k.errs = append(k.errs, fmt.Errorf("%s: missing", key(name)))
		}
	}
	if kind == "token" && p["rootcertbundle"] == nil && p["jwks"] == nil {
		k.errs = append(k.errs, fmt.Errorf("%s: missing; it, or jwks, holds the keys that tokens are signed with", key("rootcertbundle")))
	}
}

// endpoints checks the addresses of others that the registry talks to.
func (k *keyChecker) endpoints(c *configuration.Configuration) {
	for i, e := range c.Notifications.Endpoints {
		key := fmt.Sprintf("notifications.endpoints[%d].", i)
		if e.Name == "" {
			k.errs = append(k.errs, fmt.Errorf("%sname: missing", key))
		}
		if !isURL(e.URL) {
			k.bad(key+"url", e.URL, "an address, as in https://listener.example.org/event")
		}
	}
	if u := c.Proxy.RemoteURL; u != "" && !isURL(u) {
		k.bad("proxy.remoteurl", u, "an address, as in https://registry-1.docker.io")
	}
	for i, h := range c.Health.HTTPCheckers {
		if !isURL(h.URI) {
			k.bad(fmt.Sprintf("health.http[%d].uri", i), h.URI, "an address, as in http://127.0.0.1:5001")
		}
	}
	for i, f := range c.Health.FileCheckers {
		if f.File == "" {
			k.errs = append(k.errs, fmt.Errorf("health.file[%d].file: missing", i))
		}
	}
	for i, t := range c.Health.TCPCheckers {
		if _, _, err := net.SplitHostPort(t.Addr); err != nil {
			k.bad(fmt.Sprintf("health.tcp[%d].addr", i), t.Addr, "host:port, as in 127.0.0.1:5001")
		}
	}
}

// durations finds those without a unit, which count as nanoseconds, and
// negative ones.
func (k *keyChecker) durations(v reflect.Value, key string) {
	switch {
	case v.Type() == reflect.TypeFor[time.Duration]():
		if d := time.Duration(v.Int()); d < 0 || d > 0 && d < time.Microsecond {
			k.bad(strings.TrimSuffix(key, "."), v.Int(), "a duration with its unit, as in 30s")
		}
	case v.Kind() == reflect.Pointer && !v.IsNil():
		k.durations(v.Elem(), key)
	case v.Kind() == reflect.Slice && holdsStructs(v.Type()):
		for i := range v.Len() {
			k.durations(v.Index(i), fmt.Sprintf("%s[%d].", strings.TrimSuffix(key, "."), i))
		}
	case v.Kind() == reflect.Struct:
		for f, value := range v.Fields() {
			name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			switch {
			case !f.IsExported() || name == "-":
			case strings.Contains(options, "inline"):
				k.durations(value, key)
			default:
				k.durations(value, key+name+".")
			}
		}
	}
}
