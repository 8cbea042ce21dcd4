package layout

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"sync"
)

// healer writes good copies of chunks over lost ones, in the background and a
// few at a time. What does not fit in is left to the next reader, or to scrub.
type healer struct {
	mu      sync.Mutex
	running map[string]bool // by key
}

const healsAtOnce = 2

// begin reports whether a chunk's turn has come.
func (h *healer) begin(key string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.running[key] || len(h.running) >= healsAtOnce {
		return false
	}
	if h.running == nil {
		h.running = make(map[string]bool)
	}
	h.running[key] = true
	return true
}

func (h *healer) end(key string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.running, key)
}

// healLater restores a chunk in the groups that have lost it, from one that has
// it.
func (fs *FS) healLater(id contentID, n, size int, from uint32, lost []uint32) {
	key := chunkKey(id, n)
	if !fs.healer.begin(key) {
		return
	}
	fs.life.start(fs.opt.Timeout, func(ctx context.Context) {
		defer fs.healer.end(key)
		v, err := fs.readChunk(ctx, from, id, n, size)
		if err != nil {
			return // its readers will tell
		}
		defer v.Release()
		for _, g := range lost {
			err := fs.cluster.store.Write(ctx, g, key, Write{Data: [][]byte{v.Data}, Timestamp: fs.clock.Next(), Flags: flagsChunk})
			if err != nil {
				fs.groupFailed(g, err)
				continue
			}
			fs.opt.Logger.Warn("restored a lost piece of content", "group", g, "from", from, "key", key)
		}
	})
}

// readChunk reads a whole chunk from one group and checks every byte of it.
func (fs *FS) readChunk(ctx context.Context, g uint32, id contentID, n, size int) (Value, error) {
	v, err := fs.cluster.store.Read(ctx, g, chunkKey(id, n), 0, 0)
	if err != nil {
		return Value{}, err
	}
	if err := checkChunk(id, n, size, v.Data); err != nil {
		v.Release()
		return Value{}, err
	}
	return v, nil
}

func checkChunk(id contentID, n, size int, b []byte) error {
	t, err := parseChunk(id, n, size, b)
	if err != nil {
		return err
	}
	at := chunkDataAt(size)
	pathLen := int(binary.LittleEndian.Uint32(b[48:]))
	if len(b)-at-size != pathLen || crc32.Checksum(b[at+size:], castagnoli) != binary.LittleEndian.Uint32(b[52:]) {
		return fmt.Errorf("%w: path of a chunk", errDamaged)
	}
	return t.check(0, b[at:at+size])
}
