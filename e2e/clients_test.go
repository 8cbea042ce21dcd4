//go:build e2e

package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// imageTar makes an image on disk without an engine: crane appends a layer to
// nothing.
func imageTar(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "data")
	f, err := os.Create(file)
	require.NoError(t, err)
	_, err = f.ReadFrom(content(3, 20<<20))
	require.NoError(t, err)
	require.NoError(t, f.Close())
	layer, image := filepath.Join(dir, "layer.tar"), filepath.Join(dir, "image.tar")
	must(t, nil, "tar", "-C", dir, "-cf", layer, "data")
	must(t, nil, "crane", "append", "--new_layer", layer, "--new_tag", "test/image:1", "--output", image)
	return image
}

func TestSkopeo(t *testing.T) {
	p := serve(t, "--data", t.TempDir())
	image, out := imageTar(t), t.TempDir()
	must(t, nil, "skopeo", "copy", "--dest-tls-verify=false", "docker-archive:"+image, "docker://"+p.addr+"/skopeo/image:1")
	must(t, nil, "skopeo", "copy", "--src-tls-verify=false", "docker://"+p.addr+"/skopeo/image:1", "dir:"+out)
	must(t, nil, "skopeo", "copy", "--src-tls-verify=false", "--dest-tls-verify=false",
		"docker://"+p.addr+"/skopeo/image:1", "docker://"+p.addr+"/elsewhere:2")
	require.Contains(t, must(t, nil, "skopeo", "list-tags", "--tls-verify=false", "docker://"+p.addr+"/elsewhere"), `"2"`)
	must(t, nil, "skopeo", "inspect", "--tls-verify=false", "docker://"+p.addr+"/elsewhere:2")
}

func TestCrane(t *testing.T) {
	p := serve(t, "--data", t.TempDir())
	image, out := imageTar(t), filepath.Join(t.TempDir(), "out.tar")
	name := p.addr + "/crane/image"
	must(t, nil, "crane", "push", image, name+":1")
	must(t, nil, "crane", "pull", name+":1", out)
	must(t, nil, "crane", "copy", name+":1", p.addr+"/crane/copy:1") // mounts the blobs
	must(t, nil, "crane", "validate", "--remote", p.addr+"/crane/copy:1")
	require.Equal(t, "crane/copy\ncrane/image\n", must(t, nil, "crane", "catalog", p.addr))
	digest := must(t, nil, "crane", "digest", name+":1")
	must(t, nil, "crane", "delete", name+"@"+digest[:len(digest)-1])
	_, err := command(t, nil, "crane", "manifest", name+":1")
	require.ErrorContains(t, err, "MANIFEST_UNKNOWN")
	must(t, nil, "crane", "validate", "--remote", p.addr+"/crane/copy:1")
}

func TestOras(t *testing.T) {
	p := serve(t, "--data", t.TempDir())
	file := filepath.Join(t.TempDir(), "artifact.bin")
	b := make([]byte, 3<<20)
	_, _ = content(4, int64(len(b))).Read(b)
	require.NoError(t, os.WriteFile(file, b, 0o644))
	name := p.addr + "/oras/artifact:1"
	must(t, nil, "oras", "push", "--plain-http", "--disable-path-validation", name, file+":application/octet-stream")
	require.NoError(t, os.Remove(file)) // it comes back to where it was
	must(t, nil, "oras", "pull", "--plain-http", "--allow-path-traversal", name)
	must(t, nil, "oras", "attach", "--plain-http", "--disable-path-validation", "--artifact-type", "test/signature", name, file)
	require.Contains(t, must(t, nil, "oras", "discover", "--plain-http", name), "test/signature")
	got, err := os.ReadFile(file)
	require.NoError(t, err)
	require.True(t, bytes.Equal(b, got))
}

func TestRegctl(t *testing.T) {
	p := serve(t, "--data", t.TempDir())
	env := []string{"REGCTL_CONFIG=" + filepath.Join(t.TempDir(), "config.json")}
	must(t, env, "regctl", "registry", "set", "--tls", "disabled", "--blob-chunk", "1000000", "--blob-max", "1000000", p.addr)
	image, out := imageTar(t), filepath.Join(t.TempDir(), "out.tar")
	name := p.addr + "/regctl/image:1"
	must(t, env, "regctl", "image", "import", name, image)
	must(t, env, "regctl", "image", "export", name, out)
	must(t, env, "regctl", "image", "copy", name, p.addr+"/regctl/copy:1")
	require.Contains(t, must(t, env, "regctl", "tag", "ls", p.addr+"/regctl/copy"), "1")
	must(t, env, "regctl", "tag", "delete", p.addr+"/regctl/copy:1")
	require.Contains(t, must(t, env, "regctl", "manifest", "get", name), "sha256:")
}
