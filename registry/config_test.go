package registry_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/registry"
)

// embedded is a configuration to which sections can be added.
const embedded = "version: 0.1\nstorage: {elliptics: {embedded: /data}}\n"

// inStorage is one with more sections below storage.
func inStorage(sections string) string {
	return "version: 0.1\nstorage:\n  elliptics: {embedded: /data}\n" + sections
}

// Every mistake is refused before anything starts, with the name of the key and
// what was expected.
func TestBadConfigurations(t *testing.T) {
	exists := file(t, "x")
	for text, want := range map[string]string{
		"":               "the file is empty; at least version: 0.1 and storage.elliptics are needed",
		"storage: [":     "line 1: did not find expected node content",
		"just a text":    "cannot unmarshal",
		"version: 0.1\n": "storage",
		"storage: {elliptics: {embedded: /data}}\n":                                                                     "version: missing; expected version: 0.1",
		"version: 0.2\nstorage: {elliptics: {embedded: /data}}\n":                                                       `version: bad value "0.2"; expected 0.1`,
		embedded + "version: 0.1\n":                                                                                     `line 3: key "version" already set in map`,
		"version: 0.1\nstorage: elliptics\n":                                                                            `storage: bad value "elliptics"; expected storage: {elliptics: {...}}`,
		"version: 0.1\nstorage: {}\n":                                                                                   "storage.elliptics: missing",
		"version: 0.1\nstorage: {delete: {enabled: true}}\n":                                                            "storage.elliptics: missing",
		"version: 0.1\nstorage: {elliptics: }\n":                                                                        "storage.elliptics.nodes: missing",
		"version: 0.1\nstorage: {elliptics: [db1]}\n":                                                                   "storage.elliptics: bad value; expected the keys nodes or embedded",
		"version: 0.1\nstorage: {elliptics: {nodes: db1}}\n":                                                            "storage.elliptics.nodes: ",
		"version: 0.1\nstorage: {elliptics: {node: a:1:2}}\n":                                                           "storage.elliptics.node: unknown key; did you mean nodes?",
		"version: 0.1\nstorage: {filesystem: {rootdirectory: /x}}\n":                                                    "storage.filesystem: this registry keeps images in Elliptics; give storage.elliptics",
		"version: 0.1\nstorage: {elliptics: {embedded: /data}, filesystem: {}}\n":                                       "storage.filesystem: unknown key",
		"version: 0.1\nstorage: {elliptics: {embedded: /data}, delet: {enabled: true}}\n":                               "storage.delet: unknown key; did you mean delete?",
		inStorage("  delete: true\n"):                                                                                   `storage.delete: bad value "true"; expected the keys enabled`,
		inStorage("  delete: {enable: true}\n"):                                                                         "storage.delete.enable: unknown key; did you mean enabled?",
		inStorage("  delete: {enabled: maybe}\n"):                                                                       `storage.delete.enabled: bad value "maybe"; expected true or false`,
		inStorage("  redirect: {}\n"):                                                                                   "storage.redirect: bad value; expected the key disable with true or false",
		inStorage("  redirect: {disable: 1}\n"):                                                                         `storage.redirect.disable: bad value "1"; expected true or false`,
		inStorage("  tag: {concurrencylimit: many}\n"):                                                                  `storage.tag.concurrencylimit: bad value "many"; expected a number from 0 on`,
		inStorage("  cache: {blobdescriptor: memory}\n"):                                                                `storage.cache.blobdescriptor: bad value "memory"; expected inmemory or redis`,
		inStorage("  cache: {blobdescriptor: redis}\n"):                                                                 "redis.addrs: missing; storage.cache.blobdescriptor is redis",
		inStorage("  cache: {blobdescriptor: inmemory, blobdescriptorsize: x}\n"):                                       `storage.cache.blobdescriptorsize: bad value "x"; expected a number`,
		inStorage("  maintenance: {readonly: true}\n"):                                                                  `storage.maintenance.readonly: bad value "true"; expected the key enabled`,
		inStorage("  maintenance: {readonly: {enabled: 1}}\n"):                                                          "storage.maintenance.readonly: bad value; expected the key enabled",
		inStorage("  maintenance: {readonly: {enable: true}}\n"):                                                        "storage.maintenance.readonly.enable: unknown key; did you mean enabled?",
		inStorage("  maintenance: {uploadpurging: false}\n"):                                                            `storage.maintenance.uploadpurging: bad value "false"; expected the keys enabled`,
		inStorage("  maintenance: {uploadpurging: {age: 168}}\n"):                                                       `storage.maintenance.uploadpurging.age: bad value "168"; expected a duration, as in 168h`,
		inStorage("  maintenance: {uploadpurging: {every: 1h}}\n"):                                                      "storage.maintenance.uploadpurging.every: unknown key",
		embedded + "htpp: {addr: ':5000'}\n":                                                                            "htpp: unknown key; did you mean http?",
		embedded + "http: {adr: ':5000'}\n":                                                                             "http.adr: unknown key; did you mean addr?",
		embedded + "http: ':5000'\n":                                                                                    `http: bad value ":5000"; expected the keys addr,`,
		embedded + "http: {addr: 5000}\n":                                                                               `http.addr: bad value "5000"; expected host:port`,
		embedded + "http: {addr: [a]}\n":                                                                                "http.addr: bad value; expected a text",
		embedded + "http: {net: udp}\n":                                                                                 `http.net: bad value "udp"; expected tcp or unix`,
		embedded + "http: {host: registry.example.org}\n":                                                               `http.host: bad value "registry.example.org"; expected the registry's address`,
		embedded + "http: {prefix: registry/}\n":                                                                        `http.prefix: bad value "registry/"; expected a path`,
		embedded + "http: {relativeurls: maybe}\n":                                                                      `http.relativeurls: bad value "maybe"; expected true or false`,
		embedded + "http: {draintimeout: soon}\n":                                                                       `http.draintimeout: bad value "soon"; expected a duration, as in 30s`,
		embedded + "http: {draintimeout: 60}\n":                                                                         `http.draintimeout: bad value "60"; expected a duration with its unit, as in 30s`,
		embedded + "http: {draintimeout: -5s}\n":                                                                        `http.draintimeout: bad value`,
		embedded + "http: {headers: {X-Name: value}}\n":                                                                 "http.headers: bad value; expected names with a list each",
		embedded + "http: {debug: {addr: '5001'}}\n":                                                                    `http.debug.addr: bad value "5001"; expected host:port`,
		embedded + "http: {debug: {prometheus: {path: metrics}}}\n":                                                     `http.debug.prometheus.path: bad value "metrics"; expected a path`,
		embedded + "http: {debug: {prometeus: {}}}\n":                                                                   "http.debug.prometeus: unknown key; did you mean prometheus?",
		embedded + "http: {tls: {certificate: a.pem}}\n":                                                                "http.tls: certificate and key are both needed",
		embedded + "http: {tls: {certificate: a, key: b, letsencrypt: {cachefile: c}}}\n":                               "http.tls: certificate and letsencrypt are both given",
		embedded + "http: {tls: {clientcas: [a]}}\n":                                                                    "http.tls.clientcas is given without http.tls.certificate",
		embedded + "http: {tls: {certificate: a, key: b, minimumtls: tls1.1}}\n":                                        `http.tls.minimumtls: bad value "tls1.1"; expected tls1.2 or tls1.3`,
		embedded + "http: {tls: {certificate: a, key: b, clientauth: always}}\n":                                        `http.tls.clientauth: bad value "always"; expected request-client-cert,`,
		embedded + "http: {tls: {certificate: a, key: b, ciphersuites: [TLS_RSA_WITH_RC4_128_SHA]}}\n":                  `http.tls.ciphersuites: bad value "TLS_RSA_WITH_RC4_128_SHA"`,
		embedded + "log: {level: loud}\n":                                                                               `log.level: bad value "loud"; expected error, warn, info or debug`,
		embedded + "log: {formatter: xml}\n":                                                                            `log.formatter: bad value "xml"; expected text, json or logstash`,
		embedded + "log: {accesslog: {disable: true}}\n":                                                                "log.accesslog.disable: unknown key; did you mean disabled?",
		embedded + "log: {hooks: [{type: pager}]}\n":                                                                    `log.hooks[0].type: bad value "pager"; expected mail`,
		embedded + "log: {hooks: [{type: mail, levels: [loud]}]}\n":                                                     `log.hooks[0].levels: bad value "loud"`,
		embedded + "log: {hooks: [{type: mail, options: {smpt: {}}}]}\n":                                                "log.hooks[0].options.smpt: unknown key; did you mean smtp?",
		embedded + "log: {hooks: {type: mail}}\n":                                                                       "log.hooks: bad value; expected a list",
		embedded + "auth: {silly: {realm: x, service: s}}\n":                                                            "auth.silly: unknown; known are htpasswd and token",
		embedded + "auth: {htpasswd: {realm: x}, token: {}}\n":                                                          "auth: bad value; expected one of htpasswd and token",
		embedded + "auth: {htpasswd: {realm: x}}\n":                                                                     "auth.htpasswd.path: missing",
		embedded + "auth: {htpasswd: {realm: x, path: /no/such/file}}\n":                                                "auth.htpasswd.path: stat /no/such/file: no such file or directory",
		embedded + "auth: {htpasswd: {realm: 5, path: " + exists + "}}\n":                                               `auth.htpasswd.realm: bad value "5"; expected a text`,
		embedded + "auth: {htpasswd: {realm: x, relm: x, path: " + exists + "}}\n":                                      "auth.htpasswd.relm: unknown key; did you mean realm?",
		embedded + "auth: {token: {realm: x, service: s, issuer: z}}\n":                                                 "auth.token.rootcertbundle: missing; it, or jwks,",
		embedded + "auth: {token: {realm: x, service: s, issuer: z, jwks: " + exists + ", autoredirect: 1}}\n":          `auth.token.autoredirect: bad value "1"; expected true or false`,
		embedded + "auth: {token: {realm: x, service: s, issuer: z, jwks: " + exists + ", signingalgorithms: RS256}}\n": `auth.token.signingalgorithms: bad value "RS256"; expected a list`,
		embedded + "middleware: {storge: []}\n":                                                                         "middleware.storge: unknown key; did you mean storage?",
		embedded + "middleware: {storage: [{nam: x}]}\n":                                                                "middleware.storage[0].nam: unknown key; did you mean name?",
		embedded + "middleware: {storage: [{options: {}}]}\n":                                                           "middleware.storage[0].name: missing",
		embedded + "notifications: {endpoints: [{name: a, url: x}]}\n":                                                  `notifications.endpoints[0].url: bad value "x"; expected an address`,
		embedded + "notifications: {endpoints: [{url: 'http://x'}]}\n":                                                  "notifications.endpoints[0].name: missing",
		embedded + "notifications: {endpoints: [{name: a, url: 'http://x', timeout: 500}]}\n":                           `notifications.endpoints[0].timeout: bad value "500"; expected a duration with its unit`,
		embedded + "notifications: {endpoints: [{name: a, url: 'http://x', treshold: 5}]}\n":                            "notifications.endpoints[0].treshold: unknown key; did you mean threshold?",
		embedded + "proxy: {remoteurl: registry-1.docker.io}\n":                                                         `proxy.remoteurl: bad value "registry-1.docker.io"; expected an address`,
		embedded + "proxy: {remoteurl: 'https://x', ttl: 7}\n":                                                          `proxy.ttl: bad value "7"; expected a duration with its unit`,
		embedded + "health: {storagedriver: {interval: 10}}\n":                                                          `health.storagedriver.interval: bad value "10"; expected a duration with its unit`,
		embedded + "health: {storagedriver: {treshold: 3}}\n":                                                           "health.storagedriver.treshold: unknown key; did you mean threshold?",
		embedded + "health: {http: [{uri: x}]}\n":                                                                       `health.http[0].uri: bad value "x"; expected an address`,
		embedded + "health: {tcp: [{addr: x}]}\n":                                                                       `health.tcp[0].addr: bad value "x"; expected host:port`,
		embedded + "health: {file: [{interval: 5s}]}\n":                                                                 "health.file[0].file: missing",
		embedded + "validation: {manifests: {urls: {allow: ['(']}}}\n":                                                  `validation.manifests.urls.allow: bad value "("; expected regular expressions`,
		embedded + "validation: {manifests: {indexes: {platforms: some}}}\n":                                            `validation.manifests.indexes.platforms: bad value "some"; expected all, none or list`,
		embedded + "catalog: {maxentries: lots}\n":                                                                      `catalog.maxentries: bad value "lots"; expected a number`,
		embedded + "redis: {adrs: [a]}\n":                                                                               "redis.adrs: unknown key; did you mean addrs?",
		embedded + "redis: {addrs: a}\n":                                                                                `redis.addrs: bad value "a"; expected a list, as in [a, b]`,
		embedded + "redis: {dialtimeout: 5}\n":                                                                          `redis.dialtimeout: bad value "5"; expected a duration with its unit`,
	} {
		path := file(t, text)
		_, err := registry.Load(path)
		require.ErrorContains(t, err, path+": ", text)
		require.ErrorContains(t, err, want, text)
		require.NotContains(t, err.Error(), "\n", "one mistake, one line: %s", text)
	}
	_, err := registry.Load("/no/such/config.yml")
	require.ErrorContains(t, err, "configuration: open /no/such/config.yml: no such file or directory")
}

func TestEveryMistakeIsNamed(t *testing.T) {
	_, err := registry.Load(file(t, "version: 0.1\nstorage: {elliptics: {grops: 1}, delte: {}}\nhttp: {adr: x, host: [1]}\nlog: {level: loud}\n"))
	require.Len(t, strings.Split(err.Error(), "\n"), 4)
	_, err = registry.Load(file(t, "version: 0.1\nstorage: {elliptics: {grops: 1, waittimeout: x}}\nhttp: {addr: x, host: x}\nlog: {formatter: x}\n"))
	require.Len(t, strings.Split(err.Error(), "\n"), 5)
}

func TestSecretsAreNotShown(t *testing.T) {
	for _, text := range []string{
		"http: {secret: [hidden]}\n", "http: {secret: {hidden: 1}}\n", "redis: {password: [hidden]}\n", "redis: [hidden]\n",
		"proxy: {password: {hidden: hidden}}\n", "log: {hooks: [{type: x, options: {smtp: {password: [hidden]}}}]}\n",
		"auth: {htpasswd: hidden, token: hidden}\n",
	} {
		_, err := registry.Load(file(t, embedded+text))
		require.Error(t, err, text)
		require.NotContains(t, err.Error(), "hidden", text)
	}
}

// What Distribution documents is taken.
func TestGoodConfiguration(t *testing.T) {
	exists := file(t, "x")
	s, err := registry.Load(file(t, `version: 0.1
log:
  accesslog: {disabled: true}
  level: debug
  formatter: json
  fields: {service: registry, environment: staging}
  hooks:
    - {type: mail, disabled: true, levels: [panic], options: {smtp: {addr: "mail:25", username: u, password: p, insecure: true}, from: a@b, to: [c@d]}}
storage:
  elliptics: {embedded: /data, groups: [1]}
  delete: {enabled: false}
  redirect: {disable: true}
  cache: {blobdescriptor: redis, blobdescriptorsize: 10000}
  tag: {concurrencylimit: 8}
  maintenance: {uploadpurging: {enabled: true, age: 24h}, readonly: {enabled: false}}
auth:
  htpasswd: {realm: basic, path: `+exists+`}
http:
  addr: localhost:5000
  net: tcp
  prefix: /my/
  host: https://registry.example.org:5000
  secret: 12345
  relativeurls: false
  draintimeout: 60s
  headers: {X-Content-Type-Options: [nosniff]}
  debug: {addr: "localhost:5001", prometheus: {enabled: true, path: /metrics}}
  http2: {disabled: false}
  h2c: {enabled: false}
  tls: {certificate: /x.pem, key: /x.key, clientcas: [/ca.pem], clientauth: verify-client-cert-if-given, minimumtls: tls1.3, ciphersuites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]}
notifications:
  events: {includereferences: true}
  endpoints:
    - {name: alistener, disabled: false, url: "https://my.listener.com/event", headers: {Authorization: [x]}, timeout: 1s, threshold: 10, backoff: 1s, ignoredmediatypes: [application/octet-stream], ignore: {mediatypes: [a], actions: [pull]}}
redis: {addrs: ["localhost:6379"], password: x, db: 0, dialtimeout: 10ms, maxidleconns: 16, tls: {certificate: a, key: b, rootcas: [c]}}
health:
  storagedriver: {enabled: true, interval: 10s, threshold: 3}
  file: [{file: /path, interval: 10s}]
  http: [{uri: "http://server.to.check", headers: {A: [b]}, statuscode: 200, timeout: 3s, interval: 10s, threshold: 3}]
  tcp: [{addr: "redis:6379", timeout: 3s, interval: 10s, threshold: 3}]
proxy: {remoteurl: "https://registry-1.docker.io", username: u, password: p, ttl: 168h}
validation: {manifests: {urls: {allow: ["^https?://"], deny: []}, indexes: {platforms: list, platformlist: [{architecture: amd64, os: linux}]}}}
middleware: {repository: [{name: x, disabled: true, options: {a: b}}]}
catalog: {maxentries: 100}
tags: {maxtags: 100}
policy: {repository: {classes: [image, plugin]}}
`))
	require.NoError(t, err)
	require.Equal(t, "12345", s.Config.HTTP.Secret)
	require.Equal(t, "/data", s.Storage.Embedded)
	purging := s.Config.Storage["maintenance"]["uploadpurging"].(map[any]any)
	require.Equal(t, map[any]any{"enabled": true, "age": "24h", "interval": "24h", "dryrun": false}, purging)
}

func TestBadEnvironment(t *testing.T) {
	for name, c := range map[string]struct{ value, want string }{
		"REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": {"/x", "multiple storage drivers specified in configuration or environment"},
		"REGISTRY_STORAGE":                          {"inmemory", "storage.inmemory: this registry keeps images in Elliptics"},
		"REGISTRY_STORAGE_ELLIPTICS_GROPS":          {"1", "storage.elliptics.grops: unknown key; did you mean groups?"},
		"REGISTRY_STORAGE_ELLIPTICS_GROUPS":         {"one", `storage.elliptics.groups: bad value "one"`},
		"REGISTRY_HTTP_DRAINTIMEOUT":                {"60", "http.draintimeout: bad value"},
		"REGISTRY_LOG_LEVEL":                        {"loud", "REGISTRY_LOG_LEVEL: invalid loglevel loud"},
		"REGISTRY_AUTH":                             {"silly", "auth.silly: unknown"},
		"REGISTRY_HTTP_ADDR":                        {"5000", `http.addr: bad value "5000"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, c.value)
			_, err := registry.Load(file(t, embedded))
			require.ErrorContains(t, err, c.want)
			_, err = registry.Default(t.TempDir())
			require.ErrorContains(t, err, c.want)
		})
	}
}

// Files that a configuration names are looked at before the storage is opened.
func TestFilesComeFirst(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	text := "version: 0.1\nlog: {level: error}\nstorage: {elliptics: {embedded: " + data + "}}\nhttp: {addr: '127.0.0.1:0', tls: {certificate: /no/such.pem, key: /no/such.key}}\n"
	s, err := registry.Load(file(t, text))
	require.NoError(t, err)
	_, err = registry.New(t.Context(), s)
	require.ErrorContains(t, err, "http.tls.certificate, http.tls.key: open /no/such.pem")
	_, err = os.Stat(data)
	require.ErrorIs(t, err, os.ErrNotExist)
}
