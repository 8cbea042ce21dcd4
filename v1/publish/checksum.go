package publish

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"
	"strings"

	"github.com/elliptics-registry/elliptics-registry/v1"
)

// payload begins the checksum that the old registry computed over an image:
// its json, a newline, and the layer as it was sent.
func payload(img *v1.Image) hash.Hash {
	h := sha256.New()
	h.Write(img.JSON)
	h.Write([]byte("\n"))
	return h
}

const payloadPrefix = "sha256:"

// verdict compares a layer with the checksums that are stored for it.
// verified: one that can be trusted says that it is whole.
func verdict(stored []string, h hash.Hash) (verified bool, warnings []string, err error) {
	computed := payloadPrefix + hex.EncodeToString(h.Sum(nil))
	var wrong []string
	for _, s := range stored {
		switch {
		case s == computed:
			verified = true
		case strings.HasPrefix(s, payloadPrefix) && len(s) == len(computed):
			wrong = append(wrong, s)
		case strings.HasPrefix(s, "tarsum"):
			// It would prove nothing: it leaves parts of the archive out.
			warnings = append(warnings, "its tarsum was not checked")
		default:
			warnings = append(warnings, fmt.Sprintf("a checksum of a method that is not known was not checked: %.100q", s))
		}
	}
	if len(wrong) > 0 && !verified {
		return false, warnings, fmt.Errorf("the checksum of its json and layer is %s, but %s was stored when it was pushed", computed, strings.Join(wrong, " "))
	}
	return verified, warnings, nil
}

// emptyByChecksum tells whether the checksum says that the layer has no bytes.
// The old driver stored no record for such a layer.
func emptyByChecksum(img *v1.Image, stored []string) bool {
	return slices.Contains(stored, payloadPrefix+hex.EncodeToString(payload(img).Sum(nil)))
}
