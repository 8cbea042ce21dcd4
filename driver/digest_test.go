package driver_test

import (
	"context"
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics/ellipticstest"
)

func blobPath(content string) string {
	sum := sha256.Sum256([]byte(content))
	digest := hex.EncodeToString(sum[:])
	return "/docker/registry/v2/blobs/sha256/" + digest[:2] + "/" + digest + "/data"
}

// A blob's path is its digest: an upload that is something else does not get
// there, and what is there stays.
func TestMoveChecksTheDigest(t *testing.T) {
	d := open(t, ellipticstest.Start(t), nil)
	ctx := context.Background()
	h := sha256.New()
	h.Write([]byte("hello"))
	hashed, err := h.(encoding.BinaryMarshaler).MarshalBinary()
	require.NoError(t, err)
	finish := func(n int, content string, state1 []byte) {
		begin(t, d, n)
		w := writer(t, d, upload(n, "data"), true)
		write(t, w, []byte(content))
		if state1 != nil {
			require.NoError(t, d.PutContent(ctx, upload(n, state(len(content))), state1))
		}
		require.NoError(t, w.Commit(ctx))
		require.NoError(t, w.Close())
	}

	finish(1, "hello", hashed)
	require.NoError(t, d.PutContent(ctx, blobPath("other"), []byte("other")))
	require.ErrorContains(t, d.Move(ctx, upload(1, "data"), blobPath("other")), strings.Split(blobPath("hello"), "/")[7])
	require.Equal(t, "other", string(get(t, d, blobPath("other"))))
	require.NoError(t, d.Move(ctx, upload(1, "data"), blobPath("hello")), "the upload is still there, and right")
	require.Equal(t, "hello", string(get(t, d, blobPath("hello"))))

	finish(2, "hello", []byte("no state"))
	require.ErrorContains(t, d.Move(ctx, upload(2, "data"), blobPath("hello")), "hash state")

	// Distribution has read back what has no state; a state of another length
	// says nothing.
	finish(3, "other", nil)
	require.NoError(t, d.Move(ctx, upload(3, "data"), blobPath("other")))
}
