package layout

import (
	"context"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"slices"
)

const ownerMagic = "ERo"

// owners are the paths that may refer to a content, beside the one where it
// was written. Each Move adds its own to the content's owner log; since logs
// are only appended to, two Moves at once do not lose each other's.
type owners struct {
	id    contentID
	ts    Timestamp // of the newest
	paths []string  // in the order of the Moves, each from where before to where
}

func (o *owners) encode() []byte {
	b := beginFrame(ownerMagic)
	b = append(b, o.id[:]...)
	b = binary.AppendUvarint(b, uint64(o.ts))
	b = binary.AppendUvarint(b, uint64(len(o.paths)))
	for _, p := range o.paths {
		b = appendBytes(b, p)
	}
	return appendLength(endFrame(b))
}

// add merges what another group or another Move says.
func (o *owners) add(more owners) {
	o.ts = max(o.ts, more.ts)
	for _, p := range more.paths {
		if !slices.Contains(o.paths, p) {
			o.paths = append(o.paths, p)
		}
	}
}

// decodeOwners reads an owner log. What is damaged may have named an owner, so
// that nothing can be concluded from the rest.
func decodeOwners(b []byte) (o owners, err error) {
	for len(b) > 0 {
		var frame []byte
		if frame, b, err = cutLength(b); err != nil {
			return o, err
		}
		f, err := openFrame(ownerMagic, frame)
		if err != nil {
			return o, err
		}
		one := owners{id: f.id(), ts: Timestamp(f.uint())}
		for range f.count() {
			if one.paths = append(one.paths, string(f.bytes())); f.bad {
				break
			}
		}
		if err := f.err(); err != nil {
			return o, err
		}
		o.id = one.id
		o.add(one)
	}
	return o, nil
}

func (fs *FS) readOwners(ctx context.Context, id contentID) (o owners, err error) {
	answers, err := ask(ctx, fs.cluster, func(ctx context.Context, g uint32) (owners, error) {
		b, err := fs.readAll(ctx, g, ownerKey(id))
		if err != nil {
			return owners{}, err
		}
		o, err := decodeOwners(b)
		if err == nil && len(o.paths) > 0 && o.id != id {
			err = fmt.Errorf("%w: it belongs to content %s", errDamaged, o.id)
		}
		return o, err
	}, nil)
	o.id = id
	for _, a := range answers { // a path too many is only looked at in vain
		o.add(a.value)
	}
	return o, err
}

// own notes, before it happens, that content goes to another path.
func (fs *FS) own(ctx context.Context, id contentID, ts Timestamp, from, to string) error {
	o := owners{id: id, ts: ts, paths: []string{from, to}}
	b := o.encode()
	return fs.cluster.write(ctx, func(ctx context.Context, g uint32) error {
		return fs.cluster.store.Write(ctx, g, ownerKey(id), Write{
			Data: [][]byte{b}, Timestamp: ts, Flags: flagsOwner, Append: true,
		})
	}, nil)
}

// syncOwners gives every group the owners that it lacks.
func (c *Checker) syncOwners(ctx context.Context, id contentID) ([]Finding, error) {
	logs := make(map[uint32][]byte)
	know := make(map[uint32]owners)
	all := owners{id: id}
	var damaged, lacking []uint32
	for _, g := range c.fs.cluster.groups {
		b, err := c.fs.readAll(ctx, g, ownerKey(id))
		var o owners
		if err == nil {
			logs[g] = b
			o, err = decodeOwners(b)
		}
		switch {
		case isDamage(err):
			damaged = append(damaged, g)
			continue
		case err != nil:
			return nil, fmt.Errorf("group %d: %w", g, err)
		}
		know[g] = o
		all.add(o)
	}
	if len(all.paths) == 0 {
		return nil, nil // checkOwner tells of it
	}
	for _, g := range c.fs.cluster.groups {
		if o, ok := know[g]; ok && slices.ContainsFunc(all.paths, func(p string) bool { return !slices.Contains(o.paths, p) }) {
			lacking = append(lacking, g)
		}
	}
	write := func(g uint32) error {
		w := Write{Data: [][]byte{all.encode()}, Timestamp: all.ts, Flags: flagsOwner, Append: true}
		if slices.Contains(damaged, g) {
			w.Append = false
			if b := logs[g]; b != nil { // what is appended meanwhile must not be lost
				sum := sha512.Sum512(b)
				w.IfSum = &sum
			}
		}
		return c.fs.cluster.store.Write(ctx, g, ownerKey(id), w)
	}
	return append(c.restore("incomplete owner record", "", ownerKey(id), lacking, write),
		c.restore("damaged owner record", "", ownerKey(id), damaged, write)...), nil
}
