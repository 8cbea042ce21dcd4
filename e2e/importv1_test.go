//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/v1"
	"github.com/elliptics-registry/elliptics-registry/v1/publish"
	"github.com/elliptics-registry/elliptics-registry/v1/v1test"
)

// oldRegistry is the storage of an old registry, and the configuration of a new
// one in the same place.
type oldRegistry struct {
	remotes, groups, namespace string // as in a configuration

	session *elliptics.Session
	store   *v1.Store
	config  string
}

// startOldRegistry uses the servers of ELLIPTICS_TEST_REMOTES and the groups of
// ELLIPTICS_TEST_GROUPS (default 1), or without them a node of its own.
func startOldRegistry(t *testing.T) *oldRegistry {
	t.Helper()
	remotes, groups := strings.Fields(os.Getenv("ELLIPTICS_TEST_REMOTES")), []uint32{1}
	namespace := "DOCKER"
	if len(remotes) == 0 {
		remotes = []string{runNode(t, "--listen", "127.0.0.1:0", "--data", t.TempDir()).addr}
	} else {
		// Real servers keep what an earlier test left.
		namespace = fmt.Sprintf("DOCKER-%d", time.Now().UnixNano())
		if s := os.Getenv("ELLIPTICS_TEST_GROUPS"); s != "" {
			groups = nil
			for _, f := range strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == ',' }) {
				g, err := strconv.ParseUint(f, 10, 32)
				require.NoError(t, err)
				groups = append(groups, uint32(g))
			}
		}
	}
	client, err := elliptics.NewNode(elliptics.Config{Remotes: remotes})
	require.NoError(t, err)
	t.Cleanup(func() { client.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), startPatience)
	defer cancel()
	require.NoError(t, client.Wait(ctx, groups...))
	o := &oldRegistry{
		remotes: strings.Join(remotes, " "), groups: fmt.Sprint(groups), namespace: namespace,
		session: client.NewSession(groups...).WithNamespace(namespace),
	}
	o.store = v1.New(o.session)
	o.config = writeConfig(t, fmt.Sprintf("nodes: %q, groups: %q, namespace: %s", o.remotes, o.groups, o.namespace))
	return o
}

// importV1 runs the command and reads its report.
func importV1(t *testing.T, args ...string) (publish.Report, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "report.json")
	out, err := command(t, nil, "elliptics-registry", append([]string{"import-v1", "--report", file}, args...)...)
	t.Log(out)
	var r publish.Report
	b, rerr := os.ReadFile(file)
	require.NoError(t, rerr, "%v", err)
	require.NoError(t, json.Unmarshal(b, &r))
	return r, err
}

// The images of an old registry, with everything that can be wrong with some of
// them, are imported beside a registry that is serving, and pulled with Docker
// and skopeo: the files are the source's.
func TestImportV1(t *testing.T) {
	o, ctx := startOldRegistry(t), t.Context()
	base := &v1test.Image{Compression: v1test.Gzip, Files: []v1test.File{
		{Name: "hello", Body: string(helloProgram(t)), Mode: 0o755},
		{Name: "etc/motd", Body: "welcome"},
		{Name: "etc/removed", Body: "not for long"},
	}}
	env := &v1test.Image{Parent: base, JSON: map[string]any{"config": map[string]any{"Env": []string{"LANG=ru"}, "Cmd": []string{"/hello"}}}}
	app := &v1test.Image{Parent: env, Files: []v1test.File{
		{Name: "данные/файл с пробелом.txt", Body: "содержание"}, {Name: "etc/.wh.removed"},
		{Name: "etc/issue", Symlink: "motd"}, {Name: "large", Body: strings.Repeat("large ", 500_000)},
	}}
	tool := &v1test.Image{Parent: base, Compression: v1test.XZ, Files: []v1test.File{{Name: "etc/motd", Body: "changed"}, {Name: "copy", Link: "etc/motd"}}}
	v1test.Push(ctx, t, o.store, "library/ubuntu", "latest", base)
	v1test.Push(ctx, t, o.store, "library/ubuntu", "14.04", base)
	v1test.Push(ctx, t, o.store, "team/app", "1.0", app)
	v1test.Push(ctx, t, o.store, "team/tool", "v2", tool)
	require.NoError(t, o.store.Put(ctx, "repositories/team/tool/_private", nil))

	broken := &v1test.Image{Parent: base, Files: []v1test.File{{Name: "file", Body: "broken ancestry"}}}
	v1test.Push(ctx, t, o.store, "team/app", "broken", broken)
	require.NoError(t, o.store.PutJSON(ctx, "images/"+broken.ID()+"/ancestry", []string{broken.ID()}))
	size := &v1test.Image{Parent: base, Files: []v1test.File{{Name: "file", Body: "wrong size"}}, JSON: map[string]any{"Size": 99}}
	v1test.Push(ctx, t, o.store, "team/app", "size", size)
	require.NoError(t, o.store.Remove(ctx, "images/"+size.ID()+"/_checksum"))
	v1test.Tag(ctx, t, o.store, "team/app", "nowhere", strings.Repeat("0", 64))
	cut := &v1test.Image{Files: []v1test.File{{Name: "file", Body: strings.Repeat("cut", 1000)}}, Compression: v1test.Gzip}
	v1test.Push(ctx, t, o.store, "team/app", "cut", cut)
	layer := cut.Layer(t)
	require.NoError(t, o.store.Put(ctx, "images/"+cut.ID()+"/layer", layer[:len(layer)/2]))

	p := serve(t, "--config", o.config)
	planned, err := importV1(t, "--config", o.config, "--dry-run")
	require.ErrorContains(t, err, "2 of 10 tags cannot be imported", "those whose layers need not be read")
	require.Equal(t, 8, planned.Count(publish.Planned))

	r, err := importV1(t, "--config", o.config)
	require.ErrorContains(t, err, "4 of 10 tags cannot be imported")
	require.Equal(t, 6, r.Count(publish.Imported))
	for _, tag := range r.Tags {
		if want, damaged := map[string]string{
			"team/app:broken": "its ancestry has 1 images, but it has 2", "team/app:size": "its json announces 99 bytes",
			"team/app:nowhere": "it is missing", "team/app:cut": "the checksum of its json and layer",
		}[tag.To]; damaged {
			require.Equal(t, publish.Failed, tag.Status, tag.To)
			if tag.To != "team/app:cut" || !strings.Contains(tag.Reason, "gzip") {
				require.Contains(t, tag.Reason, want)
			}
		}
	}
	require.Equal(t, []string{"team/tool"}, r.PrivateRepositories())

	engine := startDocker(t)
	for name, img := range map[string]*v1test.Image{
		"ubuntu:latest": base, "ubuntu:14.04": base, "library/ubuntu:latest": base, "team/app:1.0": app, "team/tool:v2": tool,
	} {
		require.Equal(t, img.Merged(), skopeoFiles(t, p.addr+"/"+name), name)
		requireContainer(t, engine, p.addr+"/"+name, img)
	}
	must(t, engine, "docker", "pull", p.addr+"/team/app:1.0")
	require.Contains(t, must(t, engine, "docker", "history", "--no-trunc", p.addr+"/team/app:1.0"), "ADD <files> in / && true")

	// The other format, and what changed meanwhile.
	v1test.Push(ctx, t, o.store, "team/app", "2.0", tool)
	r, err = importV1(t, "--config", o.config, "--format", "oci", "team/app:1.0", "team/app:2.0")
	require.NoError(t, err)
	require.Equal(t, 2, r.Count(publish.Imported))
	require.Zero(t, r.Layers.Converted)
	require.Equal(t, app.Merged(), skopeoFiles(t, p.addr+"/team/app:1.0"))
	requireContainer(t, engine, p.addr+"/team/app:1.0", app)
	requireContainer(t, engine, p.addr+"/team/app:2.0", tool)
	require.Contains(t, must(t, nil, "crane", "manifest", p.addr+"/team/app:1.0"), "application/vnd.oci.image.manifest.v1+json")
}

// The other way to say where the old registry is: its own file, or flags; the
// target is the embedded node.
func TestImportV1FromElsewhere(t *testing.T) {
	o, ctx := startOldRegistry(t), t.Context()
	img := &v1test.Image{Files: []v1test.File{{Name: "file", Body: "content"}}}
	v1test.Push(ctx, t, o.store, "library/small", "1", img)
	old := filepath.Join(t.TempDir(), "old.yml")
	require.NoError(t, os.WriteFile(old, fmt.Appendf(nil, `common: &common
  storage: elliptics
  elliptics_nodes: %q
  elliptics_groups: %q
  elliptics_namespace: %s
dev:
  <<: *common
`, o.remotes, strings.ReplaceAll(o.groups, " ", ","), o.namespace), 0o644))
	nodes := strings.ReplaceAll(o.remotes, " ", ",")
	flags := []string{"--source-nodes", nodes, "--source-groups", strings.ReplaceAll(strings.Trim(o.groups, "[]"), " ", ","), "--source-namespace", o.namespace}
	for _, source := range [][]string{{"--source-config", old}, flags} {
		data := t.TempDir()
		r, err := importV1(t, append([]string{"--data", data, "--library", "short", "--rename", "team/Old=team/new"}, source...)...)
		require.NoError(t, err)
		require.Equal(t, 1, r.Count(publish.Imported))
		p := serve(t, "--data", data)
		require.Equal(t, img.Merged(), skopeoFiles(t, p.addr+"/small:1"))
		p.stop()
	}
	_, err := command(t, nil, "elliptics-registry", "import-v1", "--data", t.TempDir(), "--source-nodes", nodes, "--source-groups", "x")
	require.ErrorContains(t, err, "--source-groups: storage.elliptics.groups: bad value")
	_, err = command(t, nil, "elliptics-registry", append([]string{"import-v1", "--data", t.TempDir(), "team/none"}, flags...)...)
	require.ErrorContains(t, err, "repository team/none: the old registry does not have it")
}

// skopeoFiles pulls an image with skopeo and unpacks it.
func skopeoFiles(t *testing.T, image string) map[string]string {
	t.Helper()
	dir := t.TempDir()
	must(t, nil, "skopeo", "copy", "--src-tls-verify=false", "docker://"+image, "dir:"+dir)
	b, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	require.NoError(t, err)
	var m struct{ Layers []struct{ Digest string } }
	require.NoError(t, json.Unmarshal(b, &m))
	files := make(map[string]string)
	for _, l := range m.Layers {
		blob, err := os.ReadFile(filepath.Join(dir, strings.TrimPrefix(l.Digest, "sha256:")))
		require.NoError(t, err)
		zip, err := gzip.NewReader(bytes.NewReader(blob))
		require.NoError(t, err)
		v1test.Unpack(t, zip, files)
	}
	return files
}

// requireContainer pulls an image with Docker, looks at the files of a container
// of it, and runs it.
func requireContainer(t *testing.T, engine []string, image string, img *v1test.Image) {
	t.Helper()
	must(t, engine, "docker", "pull", image)
	defer must(t, engine, "docker", "rmi", "-f", image)
	id := strings.TrimSpace(must(t, engine, "docker", "create", "--network=none", image))
	defer must(t, engine, "docker", "rm", id)
	file := filepath.Join(t.TempDir(), "container.tar")
	must(t, engine, "docker", "export", "-o", file, id)
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	got := make(map[string]string)
	v1test.Unpack(t, f, got)
	// Docker adds files of its own to each container.
	for _, own := range []string{".dockerenv", "dev/console", "etc/hostname", "etc/hosts", "etc/mtab", "etc/resolv.conf"} {
		delete(got, own)
	}
	require.Equal(t, img.Merged(), got, image)
	require.Contains(t, must(t, engine, "docker", "run", "--rm", "--network=none", image), helloText)
}

// An import stays below 300 MiB whatever the size of the layers: four at once of
// ELLIPTICS_IMPORT_MIB MiB each (default 96), gzip'd and plain.
func TestImportV1Memory(t *testing.T) {
	const limit = 300 << 20
	mib := int64(96)
	if s := os.Getenv("ELLIPTICS_IMPORT_MIB"); s != "" {
		var err error
		mib, err = strconv.ParseInt(s, 10, 64)
		require.NoError(t, err)
	}
	o, ctx := startOldRegistry(t), t.Context()
	for i := range 4 {
		id := fmt.Sprintf("%064x", i+1)
		dir := "images/" + id
		require.NoError(t, o.store.PutJSON(ctx, dir+"/json", map[string]any{"id": id, "Size": mib << 20}))
		require.NoError(t, o.store.PutJSON(ctx, dir+"/ancestry", []string{id}))
		require.NoError(t, o.store.Put(ctx, dir+"/layer", []byte("announced"))) // its tags
		o.writeLayer(t, dir+"/layer", mib<<20, i%2 == 0)
		v1test.Tag(ctx, t, o.store, "large/layer", fmt.Sprint(i), id)
	}
	cmd := exec.Command(program(t, "elliptics-registry"), "import-v1", "--config", o.config, "large/layer")
	began := time.Now()
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	t.Logf("%s%d MiB of layers in %v, peak %d MiB", out, 4*mib, time.Since(began).Round(time.Millisecond), usage.Maxrss>>10)
	require.Less(t, usage.Maxrss<<10, int64(limit))
}

// writeLayer writes a layer of any length as one record, faster than by appends.
func (o *oldRegistry) writeLayer(t *testing.T, key string, size int64, zipped bool) {
	t.Helper()
	r, w := io.Pipe()
	go func() {
		var zip io.WriteCloser = w
		if zipped {
			zip = gzip.NewWriter(w)
		}
		archive := tar.NewWriter(zip)
		err := archive.WriteHeader(&tar.Header{Name: "content", Mode: 0o644, Size: size})
		if err == nil {
			_, err = io.Copy(archive, content(9, size))
		}
		err = errors.Join(err, archive.Close())
		if zipped {
			err = errors.Join(err, zip.Close())
		}
		w.CloseWithError(err)
	}()
	ctx, id, offset := t.Context(), o.session.Key(key), uint64(0)
	buf := make([]byte, 4<<20)
	for {
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			var werr error
			if offset == 0 {
				_, werr = o.session.Prepare(ctx, id, buf[:n], 0, uint64(size)+(64<<20))
			} else {
				_, werr = o.session.PlainWrite(ctx, id, buf[:n], offset)
			}
			require.NoError(t, werr)
			offset += uint64(n)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		require.NoError(t, err)
	}
	_, err := o.session.Commit(ctx, id, nil, offset, offset)
	require.NoError(t, err)
}
