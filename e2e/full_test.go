//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// The disk of the embedded node is full: pushes fail with a clear message,
// pulls go on, nothing half-written is visible, and deletions help.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=256m"), "this test needs to mount a small file system")
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	p := serve(t, "--data", filepath.Join(dir, "data"))
	kept, err := pushBlob(p, "kept", content(1, 20<<20))
	require.NoError(t, err)

	_, err = pushBlob(p, "large", content(2, 400<<20))
	require.ErrorContains(t, err, "503")
	require.ErrorContains(t, err, "the storage is full")
	requireBlob(t, p, "kept", kept, 20<<20)
	_, body, _ := get(t, p, "/v2/_catalog")
	require.NotContains(t, body, "large", "a repository without a manifest")

	// The same after a restart with the full disk.
	p.stop()
	p = serve(t, "--data", filepath.Join(dir, "data"))
	requireBlob(t, p, "kept", kept, 20<<20)

	// More space, by whatever means, and pushes work again.
	require.NoError(t, syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=1g"))
	digest, err := pushBlob(p, "large", content(2, 200<<20))
	require.NoError(t, err)
	requireBlob(t, p, "large", digest, 200<<20)
	_, err = os.Stat(dir)
	require.NoError(t, err)
}
