package node

import (
	"slices"
	"sort"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// ring tells which backend of a group a key belongs to. It is never changed;
// a change of backends makes a new one.
type ring struct {
	groups map[uint32][]place
}

// place is an id that a backend has on the ring of its group.
type place struct {
	id      wire.ID
	backend *backend
}

// newRing takes the enabled ones of backends. An id that another backend of
// the group has already is skipped.
func newRing(backends []*backend) *ring {
	r := &ring{groups: make(map[uint32][]place)}
	for _, b := range backends {
		for _, id := range b.announced() {
			places := r.groups[b.group]
			i, found := slices.BinarySearchFunc(places, id, func(p place, id wire.ID) int { return p.id.Compare(id) })
			if !found {
				r.groups[b.group] = slices.Insert(places, i, place{id: id, backend: b})
			}
		}
	}
	return r
}

// owner is the backend with the greatest id that is not greater than key, or
// with the greatest of all when there is none; nil for an unknown group.
func (r *ring) owner(group uint32, key *wire.ID) *backend {
	places := r.groups[group]
	if len(places) == 0 {
		return nil
	}
	i := sort.Search(len(places), func(i int) bool { return places[i].id.Compare(*key) > 0 })
	if i == 0 {
		i = len(places)
	}
	return places[i-1].backend
}

func (n *Node) updateRing() { n.ring.Store(newRing(n.backends)) }

func (n *Node) backend(id uint32) *backend {
	for _, b := range n.backends {
		if b.id == id {
			return b
		}
	}
	return nil
}
