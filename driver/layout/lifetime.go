package layout

import (
	"context"
	"sync"
	"time"
)

// lifetime counts what runs in the background, so that Close can wait for it.
type lifetime struct {
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func newLifetime() *lifetime {
	l := &lifetime{}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

func (l *lifetime) begin() { l.wg.Add(1) }
func (l *lifetime) end()   { l.wg.Done() }

// start runs f in the background with a context that ends with the filesystem
// or after d. After Close it does nothing.
func (l *lifetime) start(d time.Duration, f func(ctx context.Context)) {
	if l.ctx.Err() != nil {
		return
	}
	l.begin()
	go func() {
		defer l.end()
		ctx, cancel := context.WithTimeout(l.ctx, d)
		defer cancel()
		f(ctx)
	}()
}

func (l *lifetime) close() {
	l.cancel()
	l.wg.Wait()
}
