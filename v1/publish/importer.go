package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/elliptics-registry/elliptics-registry/v1"
)

// Options say how to import.
type Options struct {
	Format  Format       // default Docker
	Library LibraryNames // default LibraryBoth
	// Rename maps namespace/name in the old registry to a repository.
	Rename map[string]string
	// Overwrite also moves tags that somebody pushed.
	Overwrite bool
	// Jobs bounds the layers that are converted at once; default 2. Each needs
	// up to 20 MiB of memory.
	Jobs int
	// Rate bounds what is read from the old registry, in bytes per second;
	// 0: it is not bounded.
	Rate int64
}

// Importer imports images from an old registry into a target.
type Importer struct {
	source   *v1.Store
	target   *Target
	opt      Options
	slots    chan struct{}
	limit    *rate.Limiter
	layers   sync.Map // of id to *layer
	progress counters
	failures atomic.Int64  // of the storage, in a row
	pause    time.Duration // before the second attempt at something
}

// New makes an importer.
func New(source *v1.Store, target *Target, opt Options) *Importer {
	if opt.Format == "" {
		opt.Format = Docker
	}
	if opt.Library == "" {
		opt.Library = LibraryBoth
	}
	if opt.Jobs <= 0 {
		opt.Jobs = 2
	}
	im := &Importer{source: source, target: target, opt: opt, slots: make(chan struct{}, opt.Jobs), pause: 500 * time.Millisecond}
	if opt.Rate > 0 {
		im.limit = rate.NewLimiter(rate.Limit(opt.Rate), copyBuffer)
	}
	return im
}

// counters are Progress as it happens.
type counters struct {
	tags, tagsDone, failed, bytes, bytesDone, skipped, written atomic.Int64
}

// Progress is how far a run is.
type Progress struct {
	Tags, TagsDone, Failed int64
	Bytes, BytesDone       int64 // of layers, as the old registry has them
}

// Progress may be asked for at any time.
func (im *Importer) Progress() Progress {
	p := &im.progress
	return Progress{p.tags.Load(), p.tagsDone.Load(), p.failed.Load(), p.bytes.Load(), p.bytesDone.Load() + p.skipped.Load()}
}

// giveUpAfter is how many tags in a row may fail because of the storage: not
// because of themselves.
const giveUpAfter = 8

var errGivenUp = fmt.Errorf("the storage failed for %d tags in a row; run it again to go on from here", giveUpAfter)

// Run does what was planned. The report is there even when the error is not
// nil: that is what ended the run early.
func (im *Importer) Run(ctx context.Context, p *Plan) (*Report, error) {
	r := *p.Report
	r.DryRun, r.Started = false, time.Now().UTC()
	for _, w := range p.work {
		w.tag.Status = NotDone
	}
	im.progress.tagsDone.Store(int64(len(r.Tags) - len(p.work)))
	im.progress.failed.Store(int64(r.Count(Failed)))
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var g errgroup.Group
	g.SetLimit(2 * im.opt.Jobs)
	for _, w := range p.work {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error {
			im.runTag(ctx, stop, w)
			return nil
		})
	}
	_ = g.Wait() // failures are in the report
	r.Layers = LayerCount{Known: r.Layers.Known, Read: im.progress.bytesDone.Load(), Written: im.progress.written.Load()}
	var damage *v1.DamageError
	for _, l := range p.layers {
		switch {
		case l.made != nil:
			r.Layers.Converted++
		case errors.As(l.fail, &damage):
			r.Layers.Failed++
		default:
			r.Layers.Remaining += max(l.source.Size, 0)
		}
	}
	r.Finished = time.Now().UTC()
	return &r, context.Cause(ctx)
}

// runTag imports a tag and notes the result.
func (im *Importer) runTag(ctx context.Context, stop context.CancelCauseFunc, w *work) {
	err := im.importTag(ctx, w)
	switch {
	case err == nil:
		w.tag.Status = Imported
		im.failures.Store(0)
	case ctx.Err() != nil:
		w.tag.Reason = context.Cause(ctx).Error()
		return
	default:
		w.tag.Status, w.tag.Reason = Failed, err.Error()
		im.progress.failed.Add(1)
		if im.givesUp(err) {
			stop(errGivenUp)
		}
	}
	im.progress.tagsDone.Add(1)
}

func (im *Importer) importTag(ctx context.Context, w *work) error {
	repo, tag := splitTag(w.tag.To)
	blobs := make([]*blobState, len(w.chain))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(im.opt.Jobs)
	for i, l := range slices.Backward(w.chain) {
		g.Go(func() (err error) {
			if gctx.Err() != nil {
				return context.Cause(gctx)
			}
			// Not with gctx: other images may need the layer.
			blobs[i], err = im.converted(ctx, l, repo)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, b := range blobs {
		for _, warning := range b.Warnings {
			w.tag.Warnings = append(w.tag.Warnings, "layer "+w.chain[i].id[:12]+": "+warning)
		}
	}
	return im.attempts(ctx, func() error { return im.publish(ctx, w.tag, repo, tag, w.chain, blobs) })
}

// publish writes what says that the layers are an image.
func (im *Importer) publish(ctx context.Context, t *Tag, repo, tag string, chain []*layer, blobs []*blobState) error {
	r, err := im.target.repository(ctx, repo)
	if err != nil {
		return err
	}
	var (
		steps  []history
		diffs  = []digest.Digest{}
		layers = []ocispec.Descriptor{}
		top    *v1.Image
		f      = im.opt.Format
	)
	for i, l := range slices.Backward(chain) {
		img, err := im.source.Image(ctx, l.id)
		if err != nil {
			return err
		}
		b := blobs[i]
		steps = append(steps, step(img, b.Empty))
		if !b.Empty {
			desc := ocispec.Descriptor{MediaType: f.layerType(), Digest: b.Digest, Size: b.Size}
			if err := link(ctx, r, desc); err != nil {
				return err
			}
			diffs, layers = append(diffs, b.DiffID), append(layers, desc)
		}
		top = img
	}
	text, warnings, err := configuration(top, diffs, steps)
	if err != nil {
		return &v1.DamageError{What: "image " + top.ID, Err: err}
	}
	config, err := r.Blobs(ctx).Put(ctx, f.configType(), text)
	if err != nil {
		return fmt.Errorf("target: %w", err)
	}
	config.MediaType = f.configType()
	m, err := f.manifest(config, layers)
	if err != nil {
		return err
	}
	manifests, err := r.Manifests(ctx)
	if err != nil {
		return fmt.Errorf("target: %w", err)
	}
	d, err := manifests.Put(ctx, m)
	if err != nil {
		return fmt.Errorf("target: %w", err)
	}
	mediaType, body, err := m.Payload()
	if err != nil {
		return err
	}
	// The state first: after a crash in between the tag must not count as
	// somebody else's.
	if err := im.remember(ctx, repo, tag, t.Image, d); err != nil {
		return err
	}
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(body))}
	if err := r.Tags(ctx).Tag(ctx, tag, desc); err != nil {
		return fmt.Errorf("target: %w", err)
	}
	t.Manifest, t.Warnings = d, append(t.Warnings, warnings...)
	return nil
}

// remember notes what an import is about to make of a tag.
func (im *Importer) remember(ctx context.Context, repo, tag, image string, d digest.Digest) error {
	var state tagState
	if _, err := im.target.load(ctx, tagStatePath(repo, tag), &state); err != nil {
		return err
	}
	others := slices.DeleteFunc(state.Manifests, func(o digest.Digest) bool { return o == d })
	others = others[max(0, len(others)-maxManifests+1):]
	state = tagState{Image: image, Format: im.opt.Format, Manifests: append(others, d)}
	return im.target.save(ctx, tagStatePath(repo, tag), state)
}

// attempts tries again what failed for a reason that may pass.
func (im *Importer) attempts(ctx context.Context, try func() error) error {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = im.pause, 10*im.pause
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := try()
		if err != nil && (permanent(err) || ctx.Err() != nil) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(pause), backoff.WithMaxTries(4))
	return err
}

// permanent tells errors that come again however often one tries.
func permanent(err error) bool {
	var damage *v1.DamageError
	return errors.As(err, &damage) || errors.Is(err, v1.ErrNoIndexes)
}

// givesUp counts failures of the storage in a row.
func (im *Importer) givesUp(err error) bool {
	return !permanent(err) && im.failures.Add(1) >= giveUpAfter
}

// limited is a reader that obeys Options.Rate and counts progress.
type limited struct {
	ctx context.Context
	im  *Importer
	l   *layer
	r   io.Reader
}

func (r limited) Read(b []byte) (int, error) {
	if len(b) > copyBuffer {
		b = b[:copyBuffer]
	}
	n, err := r.r.Read(b)
	if r.im.limit != nil && n > 0 {
		if err := r.im.limit.WaitN(r.ctx, n); err != nil {
			return 0, err
		}
	}
	r.l.moved += int64(n)
	r.im.progress.bytesDone.Add(int64(n))
	return n, err
}
