package publish

import (
	"time"

	"github.com/opencontainers/go-digest"
)

// Status is what became of a tag.
type Status string

// The ends that a tag can come to.
const (
	Imported  Status = "imported"  // it names the image now
	Unchanged Status = "unchanged" // it did already
	Kept      Status = "kept"      // it names what somebody pushed; see Options.Overwrite
	Planned   Status = "planned"   // it would be imported: this is the report of a plan
	Failed    Status = "failed"    // see the reason
	NotDone   Status = "not done"  // the run ended before
)

// Tag is one tag of the target in a report.
type Tag struct {
	// From is the tag of the old registry, as namespace/name:tag.
	From string `json:"from"`
	// To is the tag of this registry, as repository:tag.
	To     string `json:"to"`
	Status Status `json:"status"`
	// Reason says why, unless the tag was imported.
	Reason   string        `json:"reason,omitempty"`
	Warnings []string      `json:"warnings,omitempty"`
	Image    string        `json:"image,omitempty"` // id in the old registry
	Manifest digest.Digest `json:"manifest,omitempty"`
	Layers   int           `json:"layers,omitempty"` // with empty ones
	// Private repositories were not for everybody in the old registry. What
	// they are here, the configuration decides.
	Private bool `json:"private,omitempty"`
}

// Report is what a plan found or a run did.
type Report struct {
	DryRun   bool      `json:"dry_run"`
	Format   Format    `json:"format"`
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished"`
	Tags     []*Tag    `json:"tags"`
	// Layers counts the layers of the images that were not there yet.
	Layers LayerCount `json:"layers"`
}

// LayerCount says how much there was to do with layers.
type LayerCount struct {
	Known     int   `json:"known"`     // were converted by an earlier run
	Converted int   `json:"converted"` // by this one, or to be
	Failed    int   `json:"failed"`
	Read      int64 `json:"bytes_read"`    // of the old registry
	Written   int64 `json:"bytes_written"` // blobs of this run, before equal ones were shared
	Remaining int64 `json:"bytes_remaining"`
}

// Count is how many tags came to an end.
func (r *Report) Count(s Status) (n int) {
	for _, t := range r.Tags {
		if t.Status == s {
			n++
		}
	}
	return n
}

// PrivateRepositories lists the repositories of this registry whose images
// were private, sorted as the tags are.
func (r *Report) PrivateRepositories() (list []string) {
	for _, t := range r.Tags {
		repo, _ := splitTag(t.To)
		if t.Private && (len(list) == 0 || list[len(list)-1] != repo) {
			list = append(list, repo)
		}
	}
	return list
}
