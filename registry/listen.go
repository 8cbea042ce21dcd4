package registry

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/listener"
	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

var tlsVersions = map[string]uint16{"": tls.VersionTLS12, "tls1.2": tls.VersionTLS12, "tls1.3": tls.VersionTLS13}

var clientAuth = map[configuration.ClientAuth]tls.ClientAuthType{
	"": tls.RequireAndVerifyClientCert,
	configuration.ClientAuthRequestClientCert:          tls.RequestClientCert,
	configuration.ClientAuthRequireAnyClientCert:       tls.RequireAnyClientCert,
	configuration.ClientAuthVerifyClientCertIfGiven:    tls.VerifyClientCertIfGiven,
	configuration.ClientAuthRequireAndVerifyClientCert: tls.RequireAndVerifyClientCert,
}

// protocols are the versions of HTTP that are spoken; nil: Go's own choice.
func protocols(c *configuration.Configuration) *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetHTTP2(!c.HTTP.HTTP2.Disabled)
	p.SetUnencryptedHTTP2(c.HTTP.H2C.Enabled)
	return p
}

// listen opens http.addr, with TLS unless conf is nil.
func listen(c *configuration.Configuration, conf *tls.Config) (net.Listener, error) {
	ln, err := listener.NewListener(c.HTTP.Net, c.HTTP.Addr)
	if err != nil {
		return nil, fmt.Errorf("http.addr: cannot listen on %s: %w; give another address with --listen or http.addr", c.HTTP.Addr, err)
	}
	if conf != nil {
		ln = tls.NewListener(ln, conf)
	}
	return ln, nil
}

// tlsConfig reads the files that section http.tls of a checked configuration
// names. It is nil for a registry without TLS.
func tlsConfig(c *configuration.Configuration) (*tls.Config, error) {
	t := c.HTTP.TLS
	acmeCache := t.LetsEncrypt.CacheFile
	if t.Certificate == "" && acmeCache == "" {
		return nil, nil
	}
	conf := &tls.Config{MinVersion: tlsVersions[t.MinimumTLS], NextProtos: []string{"h2", "http/1.1"}}
	if c.HTTP.HTTP2.Disabled {
		conf.NextProtos = []string{"http/1.1"}
	}
	for _, suite := range tls.CipherSuites() {
		if slices.Contains(t.CipherSuites, suite.Name) {
			conf.CipherSuites = append(conf.CipherSuites, suite.ID)
		}
	}
	if acmeCache != "" {
		m := &autocert.Manager{
			HostPolicy: autocert.HostWhitelist(t.LetsEncrypt.Hosts...),
			Cache:      autocert.DirCache(acmeCache),
			Email:      t.LetsEncrypt.Email,
			Prompt:     autocert.AcceptTOS,
		}
		if url := t.LetsEncrypt.DirectoryURL; url != "" {
			m.Client = &acme.Client{DirectoryURL: url}
		}
		conf.GetCertificate = m.GetCertificate
		conf.NextProtos = append(conf.NextProtos, acme.ALPNProto)
	} else {
		cert, err := tls.LoadX509KeyPair(t.Certificate, t.Key)
		if err != nil {
			return nil, fmt.Errorf("http.tls.certificate, http.tls.key: %w", err)
		}
		conf.Certificates = []tls.Certificate{cert}
	}
	if len(t.ClientCAs) == 0 {
		return conf, nil
	}
	conf.ClientCAs = x509.NewCertPool()
	for _, file := range t.ClientCAs {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("http.tls.clientcas: %w", err)
		}
		if !conf.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("http.tls.clientcas: %s holds no certificate in PEM", file)
		}
	}
	conf.ClientAuth = clientAuth[t.ClientAuth]
	return conf, nil
}
