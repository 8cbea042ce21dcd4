package node

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/elliptics-registry/elliptics-registry/elliptics/node/engine"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

const (
	// iteratorBatch is after how many records the engine is asked anew: while
	// a client reads slowly, or pauses, nothing is kept open for it.
	iteratorBatch = 4096
	// keepAliveEvery is how long a client hears nothing of an iterator that
	// finds nothing to send.
	keepAliveEvery = time.Second
)

// iterate sends all records of a backend that a request wants, in the order of
// their keys, one packet each, or pauses, continues or cancels another
// iterator. What changes meanwhile may or may not show.
//
// A record that is damaged is sent without data and with the status of the
// damage; a real server sends what it finds.
func iterate(r *request) wire.Status {
	var ask wire.IteratorRequest
	if err := ask.Decode(r.payload()); err != nil {
		return wire.ErrInvalid
	}
	if ask.Action != wire.IteratorStart {
		return r.backend.iterators.act(ask.Number, ask.Action)
	}
	const known = wire.IteratorData | wire.IteratorKeyRange | wire.IteratorTimeRange | wire.IteratorNoMeta
	if ask.Type != wire.IteratorNetwork || ask.Flags&^known != 0 {
		return wire.ErrNotSupported
	}
	ranges, ok := keyRanges(&ask)
	if !ok {
		return wire.ErrRange
	}
	it := r.backend.iterators.begin(r.conn.reading)
	if it == nil {
		return wire.ErrAgain
	}
	defer it.end()
	w := walk{request: r, it: it, ask: &ask, told: time.Now()}
	for _, rg := range ranges {
		if err := w.rangeOfKeys(rg); err != nil {
			var s wire.Status
			if errors.As(err, &s) {
				return s
			}
			return r.conn.node.statusOf(r, err)
		}
	}
	return wire.OK
}

// keyRanges are the ranges of keys that are asked for, in order and without
// overlaps; false when one of them, or the times, are the wrong way round.
func keyRanges(ask *wire.IteratorRequest) ([]wire.IDRange, bool) {
	if ask.Flags&wire.IteratorTimeRange != 0 && ask.Begin.Compare(ask.End) > 0 {
		return nil, false
	}
	if ask.Flags&wire.IteratorKeyRange == 0 {
		all := wire.IDRange{}
		for i := range all.Last {
			all.Last[i] = 0xff
		}
		return []wire.IDRange{all}, true
	}
	if len(ask.Ranges) == 0 {
		return nil, false
	}
	ranges := slices.Clone(ask.Ranges)
	slices.SortFunc(ranges, func(a, b wire.IDRange) int { return a.First.Compare(b.First) })
	merged := ranges[:0]
	for _, rg := range ranges {
		if rg.First.Compare(rg.Last) > 0 {
			return nil, false
		}
		if n := len(merged); n > 0 && rg.First.Compare(merged[n-1].Last) <= 0 {
			if rg.Last.Compare(merged[n-1].Last) > 0 {
				merged[n-1].Last = rg.Last
			}
			continue
		}
		merged = append(merged, rg)
	}
	return merged, true
}

// walk is the work of one iterator.
type walk struct {
	*request
	it       *iterator
	ask      *wire.IteratorRequest
	total    uint64
	iterated uint64
	told     time.Time // when the last packet was sent
}

// errEnough ends a batch.
var errEnough = errors.New("enough records for now")

func (w *walk) rangeOfKeys(rg wire.IDRange) error {
	for {
		if err := w.it.wait(); err != nil {
			return err
		}
		batch := 0
		var last wire.ID
		err := w.store.Iterate(w.it.ctx, engine.Key(rg.First), engine.Key(rg.Last), func(key engine.Key, snap *engine.Snapshot) error {
			batch++
			last = wire.ID(key)
			if err := w.record(key, snap); err != nil {
				return err
			}
			if batch >= iteratorBatch || w.it.paused() {
				return errEnough
			}
			return nil
		})
		if cause := context.Cause(w.it.ctx); cause != nil {
			return cause
		}
		if !errors.Is(err, errEnough) {
			return err
		}
		if last == rg.Last {
			return nil
		}
		rg.First = successor(last)
	}
}

// successor is the id behind id, which is not the last one.
func successor(id wire.ID) wire.ID {
	for i := len(id) - 1; i >= 0; i-- {
		if id[i]++; id[i] != 0 {
			break
		}
	}
	return id
}

// record sends a record, if it is asked for.
func (w *walk) record(key engine.Key, snap *engine.Snapshot) error {
	if w.iterated++; w.total == 0 {
		w.total = uint64(w.store.Stats().Records)
	}
	info := snap.Info()
	stamp := wire.Time(info.Timestamp)
	if w.ask.Flags&wire.IteratorTimeRange != 0 && (stamp.Compare(w.ask.Begin) < 0 || stamp.Compare(w.ask.End) > 0) {
		return w.keepAlive()
	}
	var p packet
	var err error
	if w.ask.Flags&wire.IteratorData != 0 && info.Size > 0 {
		p, info, err = w.data(key, snap)
		if errors.Is(err, engine.ErrNotFound) {
			return nil // removed meanwhile
		}
	}
	a := wire.IteratorReply{
		Number: w.it.number, Key: wire.ID(key), Status: int32(w.conn.node.statusOf(w.request, err)),
		Timestamp: wire.Time(info.Timestamp), UserFlags: info.UserFlags,
		Size: info.Size, Iterated: w.iterated, Total: max(w.total, w.iterated), RecordFlags: info.Flags,
	}
	p.body = &a
	return w.tell(p)
}

// data reads a record. A long one outlives snap, so that it is looked up again
// and may have changed.
func (w *walk) data(key engine.Key, snap *engine.Snapshot) (p packet, info engine.Info, err error) {
	n := w.conn.node
	info = snap.Info()
	if info.Size <= maxBuffered {
		if p.data, err = w.lend(int64(info.Size)); err != nil {
			return packet{}, info, err
		}
		if err = n.readAt(snap, p.data.b, 0); err != nil {
			p.free()
			return packet{}, info, err
		}
		return p, info, nil
	}
	own, err := w.store.Get(n.life, key)
	if err != nil {
		return packet{}, info, err
	}
	info = own.Info()
	s, err := w.verified(own, 0, info.Size, nil)
	if err != nil {
		own.Close()
		return packet{}, info, err
	}
	return packet{stream: s, streamed: info.Size}, info, nil
}

func (w *walk) keepAlive() error {
	if w.iterated%256 != 0 || time.Since(w.told) < keepAliveEvery {
		return nil
	}
	return w.tell(packet{body: &wire.IteratorReply{
		Number: w.it.number, Status: wire.IteratorKeepAlive, Iterated: w.iterated, Total: max(w.total, w.iterated),
	}})
}

func (w *walk) tell(p packet) error {
	p.hdr = w.answer()
	w.told = time.Now()
	if !w.sendMore(p) {
		return context.Canceled // the connection is broken: nobody hears of it
	}
	return nil
}
