package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/opencontainers/go-digest"
)

// stateRoot is where the target remembers what was imported: beside
// Distribution's own tree, which nothing of it reads. It may be deleted at any
// time; then layers are converted again, and tags count as pushed by others.
const stateRoot = "/docker/registry/import-v1"

// blobState is what a layer has become.
type blobState struct {
	// Source tells whether the layer is still the one that was converted.
	Source sourceState `json:"source"`
	// Empty layers have no blob.
	Empty    bool          `json:"empty,omitempty"`
	Digest   digest.Digest `json:"digest,omitempty"`
	Size     int64         `json:"size,omitempty"` // of the blob, bytes
	DiffID   digest.Digest `json:"diff_id,omitempty"`
	Warnings []string      `json:"warnings,omitempty"`
}

// sourceState is what can be known of a layer without reading it.
type sourceState struct {
	Size      int64    `json:"size"` // bytes; -1: there is no record
	Checksums []string `json:"checksums,omitempty"`
}

func (s sourceState) equal(o sourceState) bool {
	return s.Size == o.Size && slices.Equal(s.Checksums, o.Checksums)
}

// tagState is what an import has made of a tag.
type tagState struct {
	Image  string `json:"image"` // of the old registry
	Format Format `json:"format"`
	// Manifests are those that imports have given this tag, the last one at
	// the end. A tag with another one was pushed by somebody.
	Manifests []digest.Digest `json:"manifests"`
}

// maxManifests bounds tagState.Manifests; a tag moves rarely.
const maxManifests = 16

func layerStatePath(id string) string { return stateRoot + "/layers/" + id[:2] + "/" + id }

func tagStatePath(repo, tag string) string { return stateRoot + "/tags/" + repo + "/_tags/" + tag }

// load reads a state into v and tells whether there is one. One that cannot be
// read is as none: it is made again.
func (t *Target) load(ctx context.Context, path string, v any) (bool, error) {
	b, err := t.driver.GetContent(ctx, path)
	if notFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("target: %w", err)
	}
	return json.Unmarshal(b, v) == nil, nil
}

func (t *Target) save(ctx context.Context, path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := t.driver.PutContent(ctx, path, b); err != nil {
		return fmt.Errorf("target: %w", err)
	}
	return nil
}

func notFound(err error) bool {
	var e storagedriver.PathNotFoundError
	return errors.As(err, &e)
}
