package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/elliptics-registry/elliptics-registry/v1"
)

// planners bounds the tags that a plan looks at together.
const planners = 16

// Plan is what a run would do. It may be run once.
type Plan struct {
	Report *Report
	work   []*work // one for each tag that is not done
	layers []*layer
}

// work is a tag to be imported.
type work struct {
	tag   *Tag
	chain []*layer // from the image to its root
}

// layer is an image of the old registry in its role as somebody's ancestor.
// All tags that need it share one.
type layer struct {
	id string

	look   sync.Mutex
	looked bool
	parent string
	said   int64 // what its builder said about its size
	empty  bool  // by its own word
	source sourceState
	state  *blobState // what it has become, nil: it is to be converted
	err    error      // what is wrong with it

	make  sync.Once
	made  *blobState
	fail  error
	moved int64 // bytes that progress counts for it
}

// Plan finds the tags that are selected, or all, and what is to be done for
// them. It reads no layers and writes nothing. Errors of single images are in
// the report; the error is what kept the plan from being made.
func (im *Importer) Plan(ctx context.Context, selected []Selection) (*Plan, error) {
	p := &Plan{Report: &Report{DryRun: true, Format: im.opt.Format, Started: time.Now().UTC()}}
	if len(selected) == 0 {
		var repos []v1.Repository
		err := im.attempts(ctx, func() (err error) {
			repos, err = im.source.Repositories(ctx)
			return err
		})
		if err != nil {
			return nil, cannotList("the old registry's repositories", err)
		}
		for _, r := range repos {
			selected = append(selected, Selection{Repository: r})
		}
	}
	for _, s := range selected {
		if err := im.attempts(ctx, func() error { return im.addTags(ctx, p, s) }); err != nil {
			return nil, err
		}
	}
	im.progress.tags.Store(int64(len(p.Report.Tags)))
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(planners)
	for _, t := range p.Report.Tags {
		g.Go(func() error {
			var w *work
			err := im.attempts(gctx, func() (err error) {
				w, err = im.planTag(gctx, t)
				return err
			})
			switch {
			case err == nil:
				im.failures.Store(0)
			case gctx.Err() != nil:
				return context.Cause(gctx)
			default:
				t.Status, t.Reason = Failed, err.Error()
				if im.givesUp(err) {
					return fmt.Errorf("the storage failed for %d tags in a row: %w", giveUpAfter, err)
				}
			}
			if w != nil {
				mu.Lock()
				p.work = append(p.work, w)
				mu.Unlock()
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	slices.SortFunc(p.work, func(a, b *work) int { return strings.Compare(a.tag.To, b.tag.To) })
	im.count(p)
	p.Report.Finished = time.Now().UTC()
	return p, nil
}

// addTags puts the tags that one selection means into the report.
func (im *Importer) addTags(ctx context.Context, p *Plan, s Selection) error {
	tags := []string{s.Tag}
	if s.Tag == "" {
		var err error
		tags, err = im.source.Tags(ctx, s.Repository)
		if errors.Is(err, v1.ErrNotExist) {
			return v1.Damage("repository "+s.Repository.String(), "the old registry does not have it")
		}
		if err != nil {
			return cannotList("the tags of "+s.Repository.String(), err)
		}
	}
	private, err := im.source.Private(ctx, s.Repository)
	if err != nil {
		return err
	}
	for _, to := range im.opt.names(s.Repository) {
		for _, tag := range tags {
			p.Report.Tags = append(p.Report.Tags, &Tag{
				From: s.Repository.String() + ":" + tag, To: to + ":" + tag, Status: Planned, Private: private,
			})
		}
	}
	return nil
}

// cannotList says what can be done where the servers cannot list anything.
func cannotList(what string, err error) error {
	if errors.Is(err, v1.ErrNoIndexes) {
		return fmt.Errorf("%s cannot be listed, but a tag that is named can be imported (REPOSITORY:TAG): %w", what, err)
	}
	return fmt.Errorf("%s cannot be listed: %w", what, err)
}

// splitTag is the repository and the tag of Tag.From or Tag.To.
func splitTag(s string) (repo, tag string) {
	i := strings.LastIndexByte(s, ':')
	return s[:i], s[i+1:]
}

// planTag finds out what there is to do for a tag: nothing, or the work.
func (im *Importer) planTag(ctx context.Context, t *Tag) (*work, error) {
	repo, tag := splitTag(t.To)
	if err := checkName(repo); err != nil {
		return nil, err
	}
	if !tagPattern.MatchString(tag) {
		return nil, v1.Damage("tag "+t.From, "its name cannot be that of a tag today")
	}
	from, _ := splitTag(t.From)
	r, err := v1.ParseRepository(from)
	if err != nil {
		return nil, err
	}
	if t.Image, err = im.source.Tag(ctx, r, tag); err != nil {
		return nil, err
	}
	var state tagState
	if _, err := im.target.load(ctx, tagStatePath(repo, tag), &state); err != nil {
		return nil, err
	}
	now, err := im.target.tagged(ctx, repo, tag)
	if err != nil {
		return nil, err
	}
	switch ours := slices.Contains(state.Manifests, now); {
	case now == "":
	case ours && state.Image == t.Image && state.Format == im.opt.Format && now == state.Manifests[len(state.Manifests)-1]:
		t.Status, t.Reason, t.Manifest = Unchanged, "an earlier run imported it", now
		return nil, nil
	case !ours && !im.opt.Overwrite:
		t.Status, t.Reason, t.Manifest = Kept, "somebody pushed this tag; --overwrite replaces it", now
		return nil, nil
	}
	chain, warnings, err := im.chain(ctx, t.Image)
	t.Warnings, t.Layers = warnings, len(chain)
	if err != nil {
		return nil, err
	}
	return &work{t, chain}, nil
}

// chain finds the ancestors of an image, itself first, and what is wrong with
// them.
func (im *Importer) chain(ctx context.Context, id string) (chain []*layer, warnings []string, err error) {
	seen := make(map[string]bool)
	for next := id; next != ""; {
		if seen[next] {
			return nil, nil, v1.Damage("image "+id, "its ancestry never ends: %s is its own ancestor", next)
		}
		seen[next] = true
		l := im.layer(next)
		if err := im.lookAt(ctx, l); err != nil {
			if next != id {
				err = fmt.Errorf("ancestor %d: %w", len(chain), err)
			}
			return nil, nil, err
		}
		chain = append(chain, l)
		next = l.parent
	}
	list, err := im.source.Ancestry(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	if list == nil {
		return chain, []string{"it has no ancestry; its parents were followed"}, nil
	}
	if len(list) != len(chain) {
		return nil, nil, v1.Damage("image "+id, "its ancestry has %d images, but it has %d when its parents are followed", len(list), len(chain))
	}
	for i, l := range chain {
		if list[i] != l.id {
			return nil, nil, v1.Damage("image "+id, "image %d of its ancestry is %.80q, but the parents lead to %s", i, list[i], l.id)
		}
	}
	return chain, nil, nil
}

func (im *Importer) layer(id string) *layer {
	l, _ := im.layers.LoadOrStore(id, &layer{id: id})
	return l.(*layer)
}

// lookAt learns what can be known of a layer without reading it. What is
// learnt stays, damage as well.
func (im *Importer) lookAt(ctx context.Context, l *layer) error {
	l.look.Lock()
	defer l.look.Unlock()
	if !l.looked {
		l.err = im.describe(ctx, l)
		l.looked = l.err == nil || permanent(l.err)
	}
	return l.err
}

func (im *Importer) describe(ctx context.Context, l *layer) error {
	img, err := im.source.Image(ctx, l.id)
	if err != nil {
		return err
	}
	l.parent, l.said, l.empty = img.Parent, img.Size, img.Empty
	unfinished, err := im.source.Unfinished(ctx, l.id)
	if err != nil {
		return err
	}
	if unfinished {
		return v1.Damage("image "+l.id, "its upload to the old registry never ended")
	}
	l.source.Size, err = im.source.Size(ctx, v1.LayerPath(l.id))
	if errors.Is(err, v1.ErrNotExist) {
		l.source.Size, err = -1, nil
	}
	if err != nil {
		return err
	}
	if l.source.Checksums, err = im.source.Checksums(ctx, l.id); err != nil {
		return err
	}
	if l.source.Size < 0 && !l.empty && !emptyByChecksum(img, l.source.Checksums) {
		return v1.Damage("image "+l.id, "its layer is missing: there is no %s", v1.LayerPath(l.id))
	}
	var state blobState
	known, err := im.target.load(ctx, layerStatePath(l.id), &state)
	if err != nil || !known || !state.Source.equal(l.source) {
		return err
	}
	if !state.Empty {
		there, err := im.target.hasBlob(ctx, state.Digest)
		if err != nil || !there {
			return err
		}
	}
	l.state = &state
	return nil
}

// count adds up what is to be done with layers.
func (im *Importer) count(p *Plan) {
	seen := make(map[*layer]bool)
	for _, w := range p.work {
		for _, l := range w.chain {
			if seen[l] {
				continue
			}
			seen[l] = true
			if l.state != nil {
				p.Report.Layers.Known++
				continue
			}
			p.layers = append(p.layers, l)
			p.Report.Layers.Converted++
			p.Report.Layers.Remaining += max(l.source.Size, 0)
		}
	}
	im.progress.bytes.Store(p.Report.Layers.Remaining)
}
