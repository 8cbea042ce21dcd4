package driver

import (
	"context"
	"crypto"
	_ "crypto/sha256" // the algorithms of digests
	_ "crypto/sha512"
	"encoding"
	"encoding/hex"
	"fmt"
	"path"
	"strconv"
	"strings"
)

// checkDigest refuses to make a blob of an upload whose content, as it was
// hashed when it was stored, is not what the blob's path says. The hash state
// at the end of an upload is stored in the same record as the list of its
// content, so this reads no content. An upload without one was read back whole
// by the registry, which had no other way to know its digest.
func (d *fileDriver) checkDigest(ctx context.Context, u uploadPath, blob string) error {
	algorithm, want, ok := blobDigest(blob)
	if !ok {
		return nil
	}
	attrs, info, err := d.fs.Attrs(ctx, u.session)
	if err != nil {
		return err
	}
	offset, state, ok := decodeHashState(attrs[hashStateAttr(algorithm)])
	if !ok || offset != strconv.FormatInt(info.Size, 10) {
		return nil
	}
	h := digestHashes[algorithm].New()
	if err := h.(encoding.BinaryUnmarshaler).UnmarshalBinary(state); err != nil {
		return fmt.Errorf("move %s: its hash state cannot be read: %w; push the blob again", u.session, err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return fmt.Errorf("move %s: the upload's content has the digest %s:%s, not %s:%s; push the blob again", u.session, algorithm, got, algorithm, want)
	}
	return nil
}

// digestHashes are the algorithms of OCI digests. All of them can save their
// state.
var digestHashes = map[string]crypto.Hash{"sha256": crypto.SHA256, "sha384": crypto.SHA384, "sha512": crypto.SHA512}

// blobDigest is the digest that the path of a blob's content stands for:
// …/blobs/<algorithm>/<two digits>/<hex>/data.
func blobDigest(p string) (algorithm, digest string, ok bool) {
	c := strings.Split(p, "/")
	n := len(c)
	if n < 5 || path.Base(p) != dataName || c[n-5] != "blobs" || !strings.HasPrefix(c[n-2], c[n-3]) {
		return "", "", false
	}
	h, known := digestHashes[c[n-4]]
	return c[n-4], c[n-2], known && len(c[n-2]) == hex.EncodedLen(h.Size())
}
