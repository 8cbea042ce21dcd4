package publish

import (
	"archive/tar"
	"bufio"
	"compress/bzip2"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	"github.com/ulikunitz/xz"
)

// gzipLevel compresses layers that were stored plain. Higher levels make a typical
// layer up to a tenth smaller and take up to three times as long; an import is
// bounded by this.
const gzipLevel = gzip.BestSpeed

// copyBuffer is the piece in which bytes go from one step to the next.
const copyBuffer = 128 << 10

// contents is what is known of a layer after it was read.
type contents struct {
	stored  int64         // bytes as the old registry has them
	diffID  digest.Digest // of the tar
	tarSize int64
	entries int // of the tar
	// files is the size of all files together; most also counts what some
	// builders counted: the targets of links.
	files, most int64
}

// errContent marks an error of the layer's bytes, not of who reads or writes
// them.
type errContent struct{ err error }

func (e errContent) Error() string { return e.err.Error() }
func (e errContent) Unwrap() error { return e.err }

// convert reads a layer as the old registry has it and writes the blob: the
// same bytes when they are gzip'd, else the tar gzip'd. Errors of the content
// are an errContent.
func convert(source io.Reader, blob io.Writer) (contents, error) {
	in := &counter{r: source}
	out := &guarded{w: blob}
	c, err := convertChecked(in, out)
	c.stored = in.n
	switch {
	case in.err != nil:
		err = in.err
	case out.err != nil:
		err = out.err
	case err != nil:
		err = errContent{err}
	}
	return c, err
}

func convertChecked(in *counter, out io.Writer) (contents, error) {
	buffered := bufio.NewReaderSize(in, copyBuffer)
	magic, err := buffered.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return contents{}, err
	}
	var plain io.Reader
	switch compressionOf(magic) {
	case "gzip":
		// What is read is the blob.
		kept := bufio.NewReaderSize(io.TeeReader(buffered, out), copyBuffer)
		unzip, err := gzip.NewReader(kept)
		if err != nil {
			return contents{}, fmt.Errorf("gzip: %w", err)
		}
		return readTar(named{unzip, "gzip"})
	case "bzip2":
		plain = named{bzip2.NewReader(buffered), "bzip2"}
	case "xz":
		if err := checkXZ(buffered); err != nil {
			return contents{}, err
		}
		unpack, err := xz.NewReader(buffered)
		if err != nil {
			return contents{}, fmt.Errorf("xz: %w", err)
		}
		plain = named{unpack, "xz"}
	default:
		plain = buffered
	}
	zip, err := gzip.NewWriterLevel(out, gzipLevel)
	if err != nil {
		return contents{}, err
	}
	c, err := readTar(io.TeeReader(plain, zip))
	if err != nil {
		return c, err
	}
	return c, zip.Close()
}

func compressionOf(magic []byte) string {
	for name, begin := range map[string]string{"gzip": "\x1f\x8b", "bzip2": "BZh", "xz": "\xfd7zXZ\x00"} {
		if len(magic) >= len(begin) && string(magic[:len(begin)]) == begin {
			return name
		}
	}
	return ""
}

// maxXZWindow bounds the memory that an xz stream may ask for. `xz -9` needs
// as much; the old Docker used an eighth of it.
const maxXZWindow = 64 << 20

// checkXZ refuses a stream whose first block needs more memory.
func checkXZ(r *bufio.Reader) error {
	// Stream header, 12 bytes; block header: its size, flags, optional sizes,
	// and the filters: id 0x21 (LZMA2), 1 byte of properties.
	head, _ := r.Peek(12 + 64)
	if len(head) < 16 || head[13]&0x03 != 0 { // another filter comes first
		return errors.New("xz: the layer uses filters that Docker's layers never had")
	}
	at := 14
	for _, present := range []bool{head[13]&0x40 != 0, head[13]&0x80 != 0} {
		for ; present && at < len(head); at++ {
			if head[at]&0x80 == 0 {
				at++
				break
			}
		}
	}
	if at+2 >= len(head) || head[at] != 0x21 || head[at+1] != 1 {
		return errors.New("xz: the layer uses filters that Docker's layers never had")
	}
	bits := head[at+2]
	if window := uint64(2|bits&1) << (bits/2 + 11); bits > 40 || window > maxXZWindow {
		return fmt.Errorf("xz: the layer needs a window of more than %d MiB to be unpacked", maxXZWindow>>20)
	}
	return nil
}

// readTar reads a tar to the end of its stream.
func readTar(r io.Reader) (contents, error) {
	sum := &sizedHash{Hash: sha256.New()}
	stream := bufio.NewReaderSize(io.TeeReader(r, sum), copyBuffer)
	c, err := listTar(stream)
	if err == nil {
		_, err = io.Copy(io.Discard, stream) // what follows the end of the archive
	}
	c.tarSize = sum.n
	c.diffID = digest.NewDigest(digest.SHA256, sum)
	return c, err
}

func listTar(stream io.Reader) (c contents, err error) {
	var largest, links int64
	t := tar.NewReader(stream)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			c.most += links * largest
			return c, nil
		}
		if err != nil {
			var s stepError
			if errors.As(err, &s) {
				return c, s
			}
			return c, fmt.Errorf("tar, after %d entries: %w", c.entries, err)
		}
		c.entries++
		switch h.Typeflag {
		case tar.TypeLink:
			links++
		case tar.TypeSymlink:
			c.most += int64(len(h.Linkname))
		case tar.TypeReg, tar.TypeGNUSparse:
			c.files += h.Size
			c.most += h.Size
			largest = max(largest, h.Size)
		}
	}
}

// sizeFits tells whether what the builder of an image said about the size of
// its layer goes with what the layer has. Builders counted differently: hard
// links once or each time, symbolic links with the length of their target or
// not at all, and some the archive instead of the files.
func (c contents) sizeFits(said int64) bool {
	return said == 0 || c.files <= said && said <= c.most || said == c.stored || said == c.tarSize
}

// named says in errors which step failed.
type named struct {
	io.Reader
	step string
}

func (n named) Read(b []byte) (int, error) {
	k, err := n.Reader.Read(b)
	if err != nil && err != io.EOF {
		err = stepError{n.step, err}
	}
	return k, err
}

type stepError struct {
	step string
	err  error
}

func (e stepError) Error() string { return e.step + ": " + e.err.Error() }
func (e stepError) Unwrap() error { return e.err }

// counter counts what is read and remembers why it ended.
type counter struct {
	r   io.Reader
	n   int64
	err error
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}

// guarded remembers why a write failed.
type guarded struct {
	w   io.Writer
	err error
}

func (g *guarded) Write(b []byte) (int, error) {
	n, err := g.w.Write(b)
	if err != nil {
		g.err = err
	}
	return n, err
}

// sizedHash counts what it hashes.
type sizedHash struct {
	hash.Hash
	n int64
}

func (h *sizedHash) Write(b []byte) (int, error) {
	h.n += int64(len(b))
	return h.Hash.Write(b)
}
