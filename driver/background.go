package driver

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"
)

// trashEvery is how often the trash is emptied, give or take a third: several
// registries on one cluster must not do it at the same time all the time.
const trashEvery = 20 * time.Minute

// startTrash empties the trash in the background for as long as the driver
// lives.
func (d *fileDriver) startTrash(ctx context.Context) {
	d.done, d.ended = make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		<-d.done
		cancel()
	}()
	go func() {
		defer close(d.ended)
		for {
			pause := trashEvery*2/3 + rand.N(trashEvery*2/3)
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			r, err := d.fs.EmptyTrash(ctx)
			switch {
			case err != nil && !errors.Is(err, context.Canceled):
				slog.Warn("could not empty the trash; it is tried again", "error", err)
			case r.Chunks > 0:
				slog.Info("emptied the trash", "chunks", r.Chunks)
			}
		}
	}()
}

func (d *fileDriver) close() {
	d.once.Do(func() {
		close(d.done)
		<-d.ended
		_ = d.fs.Close()
		if d.node != nil {
			_ = d.node.Close()
		}
	})
}
