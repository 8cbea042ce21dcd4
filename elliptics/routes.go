package elliptics

import (
	"fmt"
	"maps"
	"slices"
	"sort"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// routeTable says which backend owns an id in a group. A table is never
// changed: a new one replaces it, so that looking up takes no lock.
type routeTable struct {
	remotes int                // that are connected
	groups  map[uint32][]route // sorted by id
	shards  map[uint32][]int32 // of indexes: what the nodes of a group announced, each number once
}

// route is a place on the ring of a group, and whose it is.
type route struct {
	id wire.ID
	owner
}

// owner is a backend of a node.
type owner struct {
	remote  *remote
	backend uint32
}

// newRouteTable builds a table from what each remote announced. Within a
// group the first to announce an id keeps it.
func newRouteTable(remotes []*remote) *routeTable {
	t := &routeTable{remotes: len(remotes), groups: make(map[uint32][]route), shards: make(map[uint32][]int32)}
	for _, r := range remotes {
		for _, backend := range slices.Sorted(maps.Keys(r.backends)) {
			b := r.backends[backend]
			if n := r.handshake.IndexShards; !slices.Contains(t.shards[b.Group], n) {
				t.shards[b.Group] = append(t.shards[b.Group], n)
			}
			for _, id := range b.IDs {
				t.groups[b.Group] = append(t.groups[b.Group], route{id, owner{r, backend}})
			}
		}
	}
	for g, list := range t.groups {
		sort.SliceStable(list, func(i, j int) bool { return list[i].id.Compare(list[j].id) < 0 })
		unique := list[:0]
		for i, e := range list {
			if i == 0 || e.id != list[i-1].id {
				unique = append(unique, e)
			}
		}
		t.groups[g] = unique
	}
	return t
}

// owner is the entry with the greatest id that is not above id, or, going
// round the ring, the one with the greatest id of all.
func (t *routeTable) owner(group uint32, id wire.ID) (route, bool) {
	list := t.groups[group]
	if len(list) == 0 {
		return route{}, false
	}
	i := sort.Search(len(list), func(i int) bool { return list[i].id.Compare(id) > 0 })
	if i == 0 {
		i = len(list)
	}
	return list[i-1], true
}

// noRoute is ErrNoRoute with what an operator needs to know: whether nobody is
// there, or somebody with other groups.
func (t *routeTable) noRoute() error {
	switch {
	case t.remotes == 0:
		return fmt.Errorf("%w: no node is connected", wire.ErrNoRoute)
	case len(t.groups) == 0:
		return fmt.Errorf("%w: the connected nodes have no backends", wire.ErrNoRoute)
	}
	groups := slices.Sorted(maps.Keys(t.groups))
	return fmt.Errorf("%w: the connected nodes have groups %v", wire.ErrNoRoute, groups)
}
