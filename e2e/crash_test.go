//go:build e2e

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// The process is killed in the middle of a large layer. What was acknowledged
// is still there, and pushing again works.
func TestKilledDuringPush(t *testing.T) {
	data := t.TempDir()
	p := serve(t, "--data", data)
	const small = 20
	var acknowledged []string
	for i := range small {
		digest, err := pushBlob(p, "kept", content(byte(100+i), 300_000+int64(i)))
		require.NoError(t, err)
		acknowledged = append(acknowledged, digest)
	}

	// Three parts of an upload are acknowledged, one after the other; the kill
	// comes in the middle of the fourth.
	const part, size = 48 << 20, 5 * 48 << 20
	u, err := beginUpload(p, "large")
	require.NoError(t, err)
	whole := content(1, size)
	for range 3 {
		require.NoError(t, u.patch(io.LimitReader(whole, part)))
	}
	var sent atomic.Int64
	killing := readerFunc(func(b []byte) (int, error) {
		n, err := whole.Read(b)
		if sent.Add(int64(n)) > part/2 {
			p.kill()
		}
		return n, err
	})
	require.Error(t, u.patch(io.LimitReader(killing, part)))

	p = serve(t, "--data", data)
	for i, digest := range acknowledged {
		requireBlob(t, p, "kept", digest, 300_000+int64(i))
	}
	// The acknowledged parts are there; the upload goes on where they end.
	_, _, h := get(t, p, u.path())
	require.Regexp(t, fmt.Sprintf("^0-%d$", 3*part-1), h.Get("Range"), "the acknowledged parts of the upload")
	u.p, u.location = p, h.Get("Location")
	rest := content(1, size)
	_, err = io.CopyN(io.Discard, rest, 3*part)
	require.NoError(t, err)
	require.NoError(t, u.patch(rest))
	sum := sha256.New()
	_, err = io.Copy(sum, content(1, size))
	require.NoError(t, err)
	digest := "sha256:" + hex.EncodeToString(sum.Sum(nil))
	require.NoError(t, u.put(digest))
	requireBlob(t, p, "large", digest, size)

	// Pushing it anew, elsewhere, works as well.
	again, err := pushBlob(p, "again", content(1, size))
	require.NoError(t, err)
	require.Equal(t, digest, again)
	p.stop()
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }
