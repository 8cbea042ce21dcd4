//go:build e2e

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// content is size bytes that do not compress, the same for the same seed.
func content(seed byte, size int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{seed}), size)
}

// upload is a blob that is pushed as clients do it: POST, PATCH, PUT.
type upload struct {
	p        *process
	repo     string
	location string
}

func beginUpload(p *process, repo string) (*upload, error) {
	resp, err := http.Post(p.url("/v2/"+repo+"/blobs/uploads/"), "", nil)
	if err != nil {
		return nil, err
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
	drain(resp.Body)
	if resp.StatusCode != http.StatusAccepted {
		return nil, fmt.Errorf("POST: %s: %s", resp.Status, text)
	}
	return &upload{p, repo, resp.Header.Get("Location")}, nil
}

// path is where the state of the upload can be asked for.
func (u *upload) path() string {
	l, err := url.Parse(u.location)
	if err != nil {
		return ""
	}
	return l.RequestURI()
}

// patch sends all of r.
func (u *upload) patch(r io.Reader) error {
	return u.send(http.MethodPatch, u.location, io.NopCloser(r), http.StatusAccepted)
}

func (u *upload) put(digest string) error {
	l, err := url.Parse(u.location)
	if err != nil {
		return err
	}
	q := l.Query()
	q.Set("digest", digest)
	l.RawQuery = q.Encode()
	return u.send(http.MethodPut, l.String(), nil, http.StatusCreated)
}

func (u *upload) send(method, location string, body io.Reader, want int) error {
	req, err := http.NewRequest(method, location, body)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
	drain(resp.Body)
	if resp.StatusCode != want {
		return fmt.Errorf("%s: %s: %s", method, resp.Status, text)
	}
	u.location = resp.Header.Get("Location")
	return nil
}

// pushBlob pushes a blob and answers its digest.
func pushBlob(p *process, repo string, r io.Reader) (string, error) {
	u, err := beginUpload(p, repo)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	if err := u.patch(io.TeeReader(r, h)); err != nil {
		return "", err
	}
	digest := "sha256:" + hex.EncodeToString(h.Sum(nil))
	return digest, u.put(digest)
}

// pullBlob reads a blob whole and answers the digest of what came.
func pullBlob(p *process, repo, digest string) (got string, size int64, err error) {
	resp, err := http.Get(p.url("/v2/" + repo + "/blobs/" + digest))
	if err != nil {
		return "", 0, err
	}
	defer drain(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return "", 0, fmt.Errorf("GET %s: %s", digest, resp.Status)
	}
	h := sha256.New()
	size, err = io.Copy(h, resp.Body)
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), size, err
}

func requireBlob(t *testing.T, p *process, repo, digest string, size int64) {
	t.Helper()
	got, n, err := pullBlob(p, repo, digest)
	require.NoError(t, err)
	require.Equal(t, size, n)
	require.Equal(t, digest, got)
}

// get is a GET whose answer is small.
func get(t *testing.T, p *process, path string) (status int, body string, h http.Header) {
	t.Helper()
	resp, err := http.Get(p.url(path))
	require.NoError(t, err)
	defer drain(resp.Body)
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	require.NoError(t, err)
	return resp.StatusCode, strings.TrimSpace(string(b)), resp.Header
}
