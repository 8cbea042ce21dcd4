package publish

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/distribution/distribution/v3"

	"github.com/elliptics-registry/elliptics-registry/v1"
)

// converted is what a layer has become; it is converted once, for whoever asks
// first, in that one's repository.
func (im *Importer) converted(ctx context.Context, l *layer, repo string) (*blobState, error) {
	if l.state != nil {
		return l.state, nil
	}
	l.make.Do(func() {
		select {
		case im.slots <- struct{}{}:
			defer func() { <-im.slots }()
		case <-ctx.Done():
			l.fail = context.Cause(ctx)
			return
		}
		l.fail = im.attempts(ctx, func() (err error) {
			l.made, err = im.convertLayer(ctx, l, repo)
			return err
		})
		im.progress.skipped.Add(max(l.source.Size, 0) - l.moved)
	})
	return l.made, l.fail
}

// convertLayer reads a layer, checks it and stores its blob.
func (im *Importer) convertLayer(ctx context.Context, l *layer, repo string) (*blobState, error) {
	img, err := im.source.Image(ctx, l.id)
	if err != nil {
		return nil, err
	}
	var state *blobState
	if l.source.Size <= 0 {
		if state, err = l.check(contents{}, payload(img)); err != nil {
			return nil, err
		}
	} else {
		r, err := im.target.repository(ctx, repo)
		if err != nil {
			return nil, err
		}
		if state, err = im.convertCopies(ctx, l, img, r); err != nil {
			return nil, err
		}
	}
	if err := im.target.save(ctx, layerStatePath(l.id), state); err != nil {
		return nil, err
	}
	return state, nil
}

// convertCopies converts the best of the groups' copies that is whole.
func (im *Importer) convertCopies(ctx context.Context, l *layer, img *v1.Image, r distribution.Repository) (*blobState, error) {
	path := v1.LayerPath(l.id)
	copies, err := im.source.Copies(ctx, path)
	if err != nil {
		return nil, err
	}
	var failed error
	for i, c := range copies {
		open := func() (*v1.Reader, error) { return im.source.OpenCopy(ctx, path, c) }
		if i == 0 { // with help from the groups that have the same
			open = func() (*v1.Reader, error) { return im.source.Open(ctx, path, 0, -1) }
		}
		source, err := open()
		if err != nil {
			return nil, err
		}
		state, err := im.convertStream(ctx, l, img, r, source)
		source.Close()
		var damage *v1.DamageError
		if err == nil || !errors.As(err, &damage) {
			return state, err
		}
		if failed == nil {
			failed = err
		}
	}
	return nil, failed
}

func (im *Importer) convertStream(ctx context.Context, l *layer, img *v1.Image, r distribution.Repository, source io.Reader) (*blobState, error) {
	im.progress.bytesDone.Add(-l.moved)
	l.moved = 0
	sum := payload(img)
	blob := newUpload(ctx, r)
	c, err := convert(limited{ctx, im, l, io.TeeReader(source, sum)}, blob)
	var state *blobState
	if err == nil {
		state, err = l.check(c, sum)
	}
	var content errContent
	if errors.As(err, &content) {
		err = l.damage("%w", content.err)
	}
	if err != nil || state.Empty {
		return state, errors.Join(err, blob.cancel())
	}
	desc, err := blob.commit()
	if err != nil {
		return nil, fmt.Errorf("target: %w", err)
	}
	im.progress.written.Add(desc.Size)
	state.Digest, state.Size, state.DiffID = desc.Digest, desc.Size, c.diffID
	return state, nil
}

func (l *layer) damage(format string, args ...any) error {
	return v1.Damage("layer of image "+l.id, format, args...)
}

// check compares what was read of a layer with what is known of it.
func (l *layer) check(c contents, sum hash.Hash) (*blobState, error) {
	state := &blobState{Source: l.source, Empty: c.entries == 0}
	if l.source.Size < 0 && l.empty {
		return state, nil
	}
	verified, warnings, err := verdict(l.source.Checksums, sum)
	if err != nil {
		return nil, l.damage("%w", err)
	}
	state.Warnings = warnings
	if !c.sizeFits(l.said) {
		wrong := fmt.Sprintf("its json announces %d bytes of files, it has %d", l.said, c.files)
		if !verified { // with a good checksum, this is what was pushed
			return nil, l.damage("%s", wrong)
		}
		state.Warnings = append(state.Warnings, wrong)
	}
	return state, nil
}
