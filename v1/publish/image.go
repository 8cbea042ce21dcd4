package publish

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/distribution/distribution/v3"
	"github.com/distribution/distribution/v3/manifest/ocischema"
	"github.com/distribution/distribution/v3/manifest/schema2"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/elliptics-registry/elliptics-registry/v1"
)

// Format is the kind of manifest that is written.
type Format string

// The formats.
const (
	Docker Format = "docker" // Docker's schema 2
	OCI    Format = "oci"
)

// What an image of the old registry says when it says nothing.
const (
	defaultOS           = "linux"
	defaultArchitecture = "amd64"
)

// notInConfig are the keys of an old image that mean nothing in a
// configuration.
var notInConfig = []string{"id", "parent", "Size", "parent_id", "layer_id", "throwaway"}

// history is a step in the making of an image.
type history struct {
	Created    string `json:"created,omitempty"`
	CreatedBy  string `json:"created_by,omitempty"`
	Author     string `json:"author,omitempty"`
	Comment    string `json:"comment,omitempty"`
	EmptyLayer bool   `json:"empty_layer,omitempty"`
}

// rootFS lists the layers of an image by their uncompressed content.
type rootFS struct {
	Type    string          `json:"type"`
	DiffIDs []digest.Digest `json:"diff_ids"`
}

// step is the history of one old image.
func step(img *v1.Image, empty bool) history {
	var v struct {
		Created         json.RawMessage `json:"created"`
		Author          json.RawMessage `json:"author"`
		Comment         json.RawMessage `json:"comment"`
		ContainerConfig json.RawMessage `json:"container_config"`
	}
	_ = json.Unmarshal(img.JSON, &v) // v1 has read it
	h := history{Author: text(v.Author), Comment: text(v.Comment), EmptyLayer: empty}
	if created := text(v.Created); isTime(created) {
		h.Created = created
	}
	var c struct{ Cmd []string }
	if json.Unmarshal(v.ContainerConfig, &c) == nil {
		h.CreatedBy = strings.Join(c.Cmd, " ")
	}
	return h
}

// text is a JSON string, "" for anything else.
func text(raw json.RawMessage) (s string) {
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

func isTime(s string) bool {
	_, err := time.Parse(time.RFC3339Nano, s)
	return err == nil
}

// configuration is what the new image says: all that the old one did, and what
// its layers are. The same input makes the same bytes.
func configuration(img *v1.Image, layers []digest.Digest, steps []history) (config []byte, warnings []string, err error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(img.JSON, &m); err != nil {
		return nil, nil, err
	}
	for _, key := range notInConfig {
		delete(m, key)
	}
	if raw, ok := m["created"]; ok && !isTime(text(raw)) {
		delete(m, "created")
		warnings = append(warnings, fmt.Sprintf("its time of creation was left out, because %.80s is none", raw))
	}
	if text(m["os"]) == "" {
		m["os"] = quoted(defaultOS)
	}
	if text(m["architecture"]) == "" {
		m["architecture"] = quoted(defaultArchitecture)
	}
	if string(m["config"]) == "null" {
		delete(m, "config")
	}
	if m["rootfs"], err = marshal(rootFS{"layers", layers}); err != nil {
		return nil, nil, err
	}
	if m["history"], err = marshal(steps); err != nil {
		return nil, nil, err
	}
	if config, err = marshal(m); err != nil {
		return nil, nil, err
	}
	var check ocispec.Image
	if err := json.Unmarshal(config, &check); err != nil {
		return nil, nil, fmt.Errorf("no client could read its configuration: %w", err)
	}
	return config, warnings, nil
}

func quoted(s string) json.RawMessage { return json.RawMessage(`"` + s + `"`) }

// marshal is json.Marshal that leaves <, > and & in commands readable.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSpace(b.Bytes()), err
}

// configType is the media type of a configuration.
func (f Format) configType() string {
	if f == OCI {
		return ocispec.MediaTypeImageConfig
	}
	return schema2.MediaTypeImageConfig
}

// layerType is the media type of a layer.
func (f Format) layerType() string {
	if f == OCI {
		return ocispec.MediaTypeImageLayerGzip
	}
	return schema2.MediaTypeLayer
}

// manifest binds a configuration and layers together.
func (f Format) manifest(config ocispec.Descriptor, layers []ocispec.Descriptor) (distribution.Manifest, error) {
	if f == OCI {
		return ocischema.FromStruct(ocischema.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2},
			MediaType: ocispec.MediaTypeImageManifest,
			Config:    config,
			Layers:    layers,
		})
	}
	return schema2.FromStruct(schema2.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: schema2.MediaTypeManifest,
		Config:    config,
		Layers:    layers,
	})
}
