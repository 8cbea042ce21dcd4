package layout

import (
	"context"
	"errors"
	"fmt"
)

// LoadTrash reads what the trash logs name, so that it is not reported. It
// comes before CheckRecord and CheckChunk.
func (c *Checker) LoadTrash(ctx context.Context) error {
	cursor, err := c.fs.trashCursor(ctx)
	if err != nil {
		return err
	}
	now := int64(Timestamp(c.fs.opt.Now().UnixNano()) / hour)
	from := now - trashBack
	if cursor > from {
		from = cursor - trashAgain
	}
	trashed, forgets := make(map[contentID]bool), make(map[string]bool)
	for h := from; h <= now+1; h++ {
		logs, err := ask(ctx, c.fs.cluster, func(ctx context.Context, g uint32) ([]byte, error) {
			return c.fs.readAll(ctx, g, trashKey(h))
		}, nil)
		if err != nil {
			return err
		}
		for _, l := range logs {
			eachTrash(l.value, func(e trashEntry) {
				trashed[e.content.id] = true
				for _, x := range e.content.extents {
					trashed[x.id] = true
				}
				if e.tombstone != "" {
					forgets[e.tombstone] = true
				}
			})
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trashed, c.forgets = trashed, forgets
	return nil
}

func (c *Checker) knownTrash(id contentID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trashed[id]
}

func (c *Checker) forgotten(p string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.forgets[p]
}

// CheckChunk finds content that neither a record nor the trash knows. It must
// come after CheckRecord has seen every record: that notes the owners of
// content again, by which this finds the records.
//
// The repair is a note in the trash. Who empties that looks once more.
func (c *Checker) CheckChunk(ctx context.Context, s *Sighting) (*Finding, error) {
	if s.Kind() != RecordChunk || !c.old(s.newest()) {
		return nil, nil
	}
	if err := c.throttle(ctx, chunkHeader); err != nil {
		return nil, err
	}
	n, err := c.name(ctx, s)
	if errors.Is(err, errForeign) || errors.Is(err, errDamaged) {
		return nil, nil // scrub tells of damage
	}
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	_, known := c.verdicts[n.extent]
	c.mu.Unlock()
	if known {
		return nil, nil
	}
	needed, err := c.isNeeded(ctx, n)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	remember(&c.verdicts, n.extent, needed)
	c.mu.Unlock()
	if needed {
		return nil, nil
	}
	count, err := c.countChunks(ctx, n)
	if err != nil {
		return nil, err
	}
	f := Finding{Problem: "orphaned content", Path: n.path, Key: chunkKey(n.extent, 0), Detail: fmt.Sprintf("%d chunks that no record needs", count), Remedy: remedyRepair}
	f = c.mend(f, func() error {
		// The length is not known, but the number of chunks.
		lost := extent{id: n.extent, chunk: 1, size: uint64(count)}
		return c.fs.trash(ctx, trashEntry{ts: c.fs.clock.Next(), content: content{id: n.content, extents: []extent{lost}}, paths: []string{n.path}})
	})
	return &f, nil
}

// isNeeded tells whether a record or the trash knows a chunk's extent, or
// nobody can tell.
func (c *Checker) isNeeded(ctx context.Context, n name) (bool, error) {
	if c.knownTrash(n.extent) {
		return true, nil
	}
	needed, _, err := c.fs.needed(ctx, n.content, []string{n.path})
	if isDamage(err) {
		return true, nil
	}
	return needed[n.extent], err
}

// countChunks finds how many chunks an extent has, from one that is there.
func (c *Checker) countChunks(ctx context.Context, n name) (int, error) {
	count := n.number + 1
	for step := 1; step > 0; {
		there, err := c.exists(ctx, chunkKey(n.extent, count+step-1))
		if err != nil {
			return 0, err
		}
		if there {
			count += step
			step *= 2
		} else {
			step /= 2
		}
	}
	return count, nil
}

// exists tells whether any group has a key.
func (c *Checker) exists(ctx context.Context, key string) (bool, error) {
	for _, g := range c.fs.cluster.groups {
		v, err := c.fs.cluster.store.Read(ctx, g, key, 0, 1)
		v.Release()
		if err == nil || isDamage(err) {
			return true, nil
		}
		if !isLost(err) {
			return false, err
		}
	}
	return false, nil
}
