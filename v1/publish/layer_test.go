package publish

import (
	"archive/tar"
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/v1/v1test"
)

var someFiles = []v1test.File{
	{Name: "etc/motd", Body: "welcome"},
	{Name: "bin/tool", Body: strings.Repeat("0123456789", 40_000), Mode: 0o755},
	{Name: "bin/alias", Symlink: "tool"},
	{Name: "bin/same", Link: "bin/tool"},
	{Name: "данные/файл", Body: "содержание"},
}

func unzip(t *testing.T, b []byte) []byte {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(b))
	require.NoError(t, err)
	plain, err := io.ReadAll(r)
	require.NoError(t, err)
	return plain
}

// Whatever the compression, the blob unpacks to the same tar, and what was
// gzip'd stays as it is.
func TestConvertKeepsTheTar(t *testing.T) {
	for _, compression := range []v1test.Compression{v1test.Plain, v1test.Gzip, v1test.XZ} {
		t.Run("compression "+string(compression), func(t *testing.T) {
			img := &v1test.Image{Files: someFiles, Compression: compression}
			stored, plain := img.Layer(t), img.Tar(t)
			var blob bytes.Buffer
			c, err := convert(iotest.HalfReader(bytes.NewReader(stored)), &blob)
			require.NoError(t, err)
			require.Equal(t, plain, unzip(t, blob.Bytes()))
			require.Equal(t, digest.FromBytes(plain), c.diffID)
			require.EqualValues(t, len(plain), c.tarSize)
			require.EqualValues(t, len(stored), c.stored)
			require.Equal(t, len(someFiles), c.entries)
			if compression == v1test.Gzip {
				require.Equal(t, stored, blob.Bytes())
			}
		})
	}
}

// bzip2 of a tar with the file `a`, which holds `bzip2`.
const bzip2Layer = `QlpoOTFBWSZTWdh3bpcAACtbgMmAQAB/AAAA8CBeEAgIIABUQgAAAeoJIkHqMmQ0BXIj5GAg1vSDaemZDJODUcTsIs6Kytd5yuppFwDuwPCBn8XckU4UJDYd26XA`

func TestConvertBzip2(t *testing.T) {
	stored, err := base64.StdEncoding.DecodeString(bzip2Layer)
	require.NoError(t, err)
	var blob bytes.Buffer
	c, err := convert(bytes.NewReader(stored), &blob)
	require.NoError(t, err)
	require.Equal(t, 1, c.entries)
	r := tar.NewReader(bytes.NewReader(unzip(t, blob.Bytes())))
	_, err = r.Next()
	require.NoError(t, err)
	body, err := io.ReadAll(r)
	require.NoError(t, err)
	require.Equal(t, "bzip2", string(body))
}

// What follows the archive is part of the layer's digest: clients hash it all.
func TestConvertKeepsWhatFollowsTheArchive(t *testing.T) {
	plain := append((&v1test.Image{Files: someFiles}).Tar(t), make([]byte, 300_000)...)
	var blob bytes.Buffer
	c, err := convert(bytes.NewReader(plain), &blob)
	require.NoError(t, err)
	require.Equal(t, digest.FromBytes(plain), c.diffID)
	require.Equal(t, plain, unzip(t, blob.Bytes()))
}

// The same layer makes the same blob: an import that is repeated without its
// memory writes nothing new.
func TestConvertIsDeterministic(t *testing.T) {
	plain := (&v1test.Image{Files: someFiles}).Tar(t)
	var one, two bytes.Buffer
	_, err := convert(bytes.NewReader(plain), &one)
	require.NoError(t, err)
	_, err = convert(iotest.HalfReader(bytes.NewReader(plain)), &two)
	require.NoError(t, err)
	require.Equal(t, one.Bytes(), two.Bytes())
}

// Every kind of damage is an error of the content, and says which step found it.
func TestConvertFindsDamage(t *testing.T) {
	img := &v1test.Image{Files: []v1test.File{{Name: "noise", Body: noise(100_000)}}}
	plain := img.Tar(t)
	img.Compression = v1test.Gzip
	zipped := img.Layer(t)
	img.Compression = v1test.XZ
	packed := img.Layer(t)
	flip := func(b []byte, at int) []byte {
		b = bytes.Clone(b)
		b[at] ^= 0x40
		return b
	}
	for name, c := range map[string]struct {
		stored []byte
		want   string
	}{
		"not an archive":     {[]byte(strings.Repeat("no layer at all ", 100)), "tar, after 0 entries"},
		"plain, cut":         {plain[:50_000], "tar, after 1 entries"},
		"gzip, cut":          {zipped[:len(zipped)/2], "gzip"},
		"gzip, head only":    {zipped[:5], "gzip"},
		"gzip, changed":      {flip(zipped, len(zipped)-6), "gzip"},
		"gzip, more follows": {append(bytes.Clone(zipped), "trailing"...), "gzip"},
		"xz, cut":            {packed[:len(packed)/2], "xz"},
		"xz, changed":        {flip(packed, len(packed)/2), "xz"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := convert(bytes.NewReader(c.stored), io.Discard)
			var content errContent
			require.ErrorAs(t, err, &content)
			require.ErrorContains(t, err, c.want)
		})
	}
}

// An error of who reads or writes is not the layer's fault.
func TestConvertTellsErrorsApart(t *testing.T) {
	broken := errors.New("the network is down")
	for _, compression := range []v1test.Compression{v1test.Plain, v1test.Gzip, v1test.XZ} {
		stored := (&v1test.Image{Files: []v1test.File{{Name: "noise", Body: noise(200_000)}}, Compression: compression}).Layer(t)
		var content errContent
		_, err := convert(io.MultiReader(bytes.NewReader(stored[:150_000]), iotest.ErrReader(broken)), io.Discard)
		require.ErrorIs(t, err, broken)
		require.False(t, errors.As(err, &content), err)
		_, err = convert(bytes.NewReader(stored), failingWriter{broken})
		require.ErrorIs(t, err, broken)
		require.False(t, errors.As(err, &content), err)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

// noise is n bytes that do not compress.
func noise(n int) string {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return string(b)
}

// A hostile xz stream cannot have the memory that it asks for.
func TestXZWindowIsBounded(t *testing.T) {
	stored := (&v1test.Image{Files: someFiles, Compression: v1test.XZ}).Layer(t)
	const window = 16 // after both headers, the filter's id and the length of its properties
	require.Equal(t, []byte{0x21, 1}, stored[window-2:window])
	stored[window] = 28 // 64 MiB
	require.NoError(t, checkXZ(bufio.NewReader(bytes.NewReader(stored))))
	stored[window] = 29 // 96 MiB
	_, err := convert(bytes.NewReader(stored), io.Discard)
	require.ErrorContains(t, err, "xz: the layer needs a window of more than 64 MiB")
}

// Builders counted sizes in different ways; none of them is damage.
func TestSizeFits(t *testing.T) {
	stored := (&v1test.Image{Files: someFiles, Compression: v1test.Gzip}).Layer(t)
	c, err := convert(bytes.NewReader(stored), io.Discard)
	require.NoError(t, err)
	files := int64(len("welcome") + 400_000 + len("содержание"))
	for said, fits := range map[int64]bool{
		0:                           true, // nothing was said
		files:                       true,
		files + int64(len("tool")):  true, // with the target of the symbolic link
		files + 400_000:             true, // with the hard link
		c.tarSize:                   true,
		c.stored:                    true,
		files - 1:                   false,
		files + 400_000 + 1_000_000: false,
		1:                           false,
	} {
		require.Equal(t, fits, c.sizeFits(said), "%d", said)
	}
}
