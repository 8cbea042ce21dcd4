package v1

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
)

// maxDescription bounds the files that describe images, in bytes.
const maxDescription = 4 << 20

// DamageError says that what is stored is wrong, so that trying again does not
// help.
type DamageError struct {
	What string // is wrong, as "image 1f3b…: json"
	Err  error
}

func (e *DamageError) Error() string { return e.What + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *DamageError) Unwrap() error { return e.Err }

// Damage makes a DamageError.
func Damage(what, format string, args ...any) error {
	return &DamageError{what, fmt.Errorf(format, args...)}
}

var idPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Image is one image of the old registry: a layer and what to run on it and on
// the layers of its ancestors.
type Image struct {
	ID     string
	Parent string // "" for a root
	// Size is what its builder said about the files of the layer, in bytes; 0
	// if it said nothing.
	Size int64
	// Empty: the image only changes the configuration.
	Empty bool
	// JSON is the file as it is stored.
	JSON []byte
}

// name is how an image is called in errors.
func name(id string) string {
	if len(id) > 12 {
		id = id[:12]
	}
	return "image " + id
}

// Image reads the description of an image. What is wrong with it is a
// DamageError.
func (s *Store) Image(ctx context.Context, id string) (*Image, error) {
	if !idPattern.MatchString(id) {
		return nil, Damage("image", "%.80q is not the id of an image, which has 64 hexadecimal digits", id)
	}
	b, err := s.description(ctx, jsonPath(id))
	if errors.Is(err, ErrNotExist) {
		return nil, Damage(name(id), "it is missing: there is no %s", jsonPath(id))
	}
	if err != nil {
		return nil, err
	}
	var v struct {
		ID        string          `json:"id"`
		Parent    string          `json:"parent"`
		Size      json.RawMessage `json:"Size"`
		Throwaway bool            `json:"throwaway"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return nil, Damage(name(id), "its json cannot be read: %w", err)
	}
	if v.ID != id {
		return nil, Damage(name(id), "its json is that of image %.80q", v.ID)
	}
	img := &Image{ID: id, Parent: v.Parent, Empty: v.Throwaway, JSON: b}
	if json.Unmarshal(v.Size, &img.Size) != nil || img.Size < 0 {
		img.Size = 0
	}
	return img, nil
}

// Checksums are what the old registry or its client computed over an image,
// each with its method: `sha256:` over the json, a newline and the layer as it
// is stored, or `tarsum…:`. An image may have none.
func (s *Store) Checksums(ctx context.Context, id string) ([]string, error) {
	b, err := s.description(ctx, checksumPath(id))
	if errors.Is(err, ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []string
	if json.Unmarshal(b, &list) == nil {
		return list, nil
	}
	return []string{string(bytes.TrimSpace(b))}, nil // as the first versions stored it
}

// Unfinished tells whether the old registry still waits for the image's upload
// to end.
func (s *Store) Unfinished(ctx context.Context, id string) (bool, error) {
	return s.Exists(ctx, unfinishedPath(id))
}

// Ancestry is the list of ids from an image to its root, as it is stored. nil:
// there is none.
func (s *Store) Ancestry(ctx context.Context, id string) ([]string, error) {
	b, err := s.description(ctx, ancestryPath(id))
	if errors.Is(err, ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list := []string{}
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, Damage(name(id), "its ancestry cannot be read: %w", err)
	}
	return list, nil
}

// description reads a small file.
func (s *Store) description(ctx context.Context, path string) ([]byte, error) {
	r, err := s.Open(ctx, path, 0, -1)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if r.Size() > maxDescription {
		return nil, Damage(path, "it has %d bytes, at most %d are expected", r.Size(), maxDescription)
	}
	b := make([]byte, 0, r.Size())
	buf := bytes.NewBuffer(b)
	_, err = buf.ReadFrom(r)
	return buf.Bytes(), err
}
