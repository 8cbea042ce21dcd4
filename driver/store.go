package driver

import (
	"context"
	"time"

	"github.com/elliptics-registry/elliptics-registry/driver/layout"
	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// clusterStore is layout's Store on an Elliptics cluster: a session for each
// group, since layout decides itself what a majority means.
type clusterStore struct {
	groups   []uint32
	sessions map[uint32]*elliptics.Session
	turns    map[uint32]*turns
	order    *readOrder // nil: layout's own
}

func newClusterStore(node *elliptics.Node, p Parameters) *clusterStore {
	s := &clusterStore{groups: p.Groups, sessions: make(map[uint32]*elliptics.Session), turns: make(map[uint32]*turns)}
	for _, g := range p.Groups {
		sess := node.NewSession(g).WithNamespace(p.Namespace).WithIOFlags(p.ioFlags())
		if p.WaitTimeout > 0 {
			sess = sess.WithTimeout(p.WaitTimeout)
		}
		s.sessions[g] = sess
		s.turns[g] = newTurns(p)
	}
	if random := p.flag(flagRandomizeStates); random || p.flag(flagMixStates) {
		s.order = newReadOrder(p.Groups, random)
	}
	return s
}

func (s *clusterStore) Groups() []uint32 { return s.groups }

func (s *clusterStore) Read(ctx context.Context, group uint32, key string, offset, size uint64) (layout.Value, error) {
	give, err := s.turns[group].take(ctx, group, key)
	if err != nil {
		return layout.Value{}, err
	}
	defer give()
	sess := s.sessions[group]
	start := time.Now()
	rec, err := sess.Read(ctx, sess.Key(key), offset, size)
	if layout.IsChunk(key) && ctx.Err() == nil {
		n := 0
		if err == nil {
			n = len(rec.Data)
		}
		s.order.done(group, n, time.Since(start))
	}
	if err != nil {
		return layout.Value{}, err
	}
	return layout.NewValue(rec.Data, rec.TotalSize, rec.Release), nil
}

func (s *clusterStore) Write(ctx context.Context, group uint32, key string, w layout.Write) error {
	give, err := s.turns[group].take(ctx, group, key)
	if err != nil {
		return err
	}
	defer give()
	sess := s.sessions[group]
	req := elliptics.Write{
		Data:       w.Data,
		Timestamp:  wire.Time{Sec: uint64(w.Timestamp) / 1e9, Nsec: uint64(w.Timestamp) % 1e9},
		UserFlags:  w.Flags,
		IfChecksum: w.IfSum,
	}
	if w.Append {
		// Without NOCSUM a real server reads and hashes the whole log at each
		// append, and makes damage look valid. The entries carry checksums.
		req.Flags |= wire.IOAppend | wire.IONoChecksum
	}
	if w.IfNotNewer {
		req.Flags |= wire.IOCASTimestamp
	}
	_, err = sess.Write(ctx, sess.Key(key), req)
	return err
}

func (s *clusterStore) Remove(ctx context.Context, group uint32, key string) error {
	give, err := s.turns[group].take(ctx, group, key)
	if err != nil {
		return err
	}
	defer give()
	sess := s.sessions[group]
	_, err = sess.Remove(ctx, sess.Key(key))
	return err
}
