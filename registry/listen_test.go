package registry_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics/ellipticstest"
	"github.com/elliptics-registry/elliptics-registry/registry"
)

// certificate makes a certificate that signs itself, for servers and clients.
func certificate(t *testing.T) (certFile, keyFile string, pair tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	require.NoError(t, os.WriteFile(certFile, certPEM, 0o600))
	require.NoError(t, os.WriteFile(keyFile, keyPEM, 0o600))
	pair, err = tls.X509KeyPair(certPEM, keyPEM)
	require.NoError(t, err)
	return certFile, keyFile, pair
}

func TestTLSWithClientCertificates(t *testing.T) {
	certFile, keyFile, pair := certificate(t)
	r := run(t, config{
		http:      "tls: {certificate: " + certFile + ", key: " + keyFile + ", clientcas: [" + certFile + "]}",
		elliptics: onCluster(ellipticstest.Start(t)),
	}.load(t))
	pool := x509.NewCertPool()
	pem, err := os.ReadFile(certFile)
	require.NoError(t, err)
	require.True(t, pool.AppendCertsFromPEM(pem))
	get := func(certificates ...tls.Certificate) (*http.Response, error) {
		transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: certificates}}
		defer transport.CloseIdleConnections()
		resp, err := (&http.Client{Transport: transport}).Get("https://" + r.Addr().String() + "/v2/")
		if err == nil {
			resp.Body.Close()
		}
		return resp, err
	}
	resp, err := get(pair)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, 2, resp.ProtoMajor)
	_, err = get()
	require.Error(t, err, "a client without a certificate")
}

func TestBadTLS(t *testing.T) {
	certFile, keyFile, _ := certificate(t)
	ok := "certificate: " + certFile + ", key: " + keyFile
	for lines, want := range map[string]string{
		"certificate: " + certFile:                                    "http.tls: certificate and key are both needed",
		"certificate: " + keyFile + ", key: " + keyFile:               "http.tls.certificate, http.tls.key: ",
		ok + ", minimumtls: tls1.0":                                   `http.tls.minimumtls: bad value "tls1.0"; expected tls1.2 or tls1.3`,
		ok + ", ciphersuites: [TLS_RSA_WITH_RC4_128_SHA]":             `http.tls.ciphersuites: bad value "TLS_RSA_WITH_RC4_128_SHA"; expected names of secure cipher suites`,
		ok + ", clientcas: [/no/such/file]":                           "http.tls.clientcas: open /no/such/file",
		ok + ", clientcas: [" + keyFile + "]":                         "holds no certificate in PEM",
		ok + ", clientcas: [" + certFile + "], clientauth: no-thanks": `http.tls.clientauth: bad value "no-thanks"; expected request-client-cert, `,
		ok + ", letsencrypt: {cachefile: x}":                          "http.tls: certificate and letsencrypt are both given",
	} {
		file := config{http: "tls: {" + lines + "}", elliptics: "embedded: " + t.TempDir()}.write(t)
		s, err := registry.Load(file)
		if err == nil {
			_, err = registry.New(context.Background(), s)
		}
		require.ErrorContains(t, err, want, lines)
	}
}
