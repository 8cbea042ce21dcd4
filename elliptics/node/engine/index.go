package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// index is the pebble database beside the segments. Its memory does not grow
// with the number of records.
type index struct {
	db *pebble.DB
}

// The index's keys: one byte of kind, then the rest.
const (
	keyRecord   = 'r' // record's key → record
	keySegment  = 's' // segment, big-endian → living bytes
	keyPosition = 'p' // → log position up to which the index is complete
	keyRecords  = 'n' // → number of records
)

func openIndex(dir string, fs vfs.FS, log *slog.Logger) (*index, error) {
	cache := pebble.NewCache(8 << 20)
	defer cache.Unref()
	opt := &pebble.Options{
		FS:                         fs,
		Cache:                      cache,
		DisableWAL:                 true, // the segments are the log
		MemTableSize:               4 << 20,
		MaxOpenFiles:               200,
		L0CompactionThreshold:      2,
		Logger:                     pebbleLogger{log},
		FormatMajorVersion:         pebble.FormatNewest,
		CompactionConcurrencyRange: func() (int, int) { return 1, 1 },
	}
	var once sync.Once
	opt.EventListener = &pebble.EventListener{
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			once.Do(func() { markDamaged(dir, fs, log, info.Path, info.Details) })
		},
		BackgroundError: func(err error) { log.Error("index: "+err.Error(), "directory", dir) },
	}
	for i := range opt.Levels {
		opt.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	db, err := pebble.Open(filepath.Join(dir, "index"), opt)
	if err != nil {
		return nil, err
	}
	return &index{db}, nil
}

// damagedMark is a file that tells the next Open to make the index anew.
const damagedMark = "index-damaged"

func markDamaged(dir string, fs vfs.FS, log *slog.Logger, path string, why error) {
	log.Error("the index is damaged: some records cannot be read until the next start, which makes it anew", "file", path, "error", why)
	f, err := fs.Create(filepath.Join(dir, damagedMark), diskCategory)
	if err == nil {
		err = errors.Join(f.Sync(), f.Close())
	}
	if err != nil {
		log.Error("could not mark the index as damaged; remove the folder named index before the next start", "directory", dir, "error", err)
	}
}

func (x *index) close() error { return x.db.Close() }

// flush makes the index durable.
func (x *index) flush() error { return x.db.Flush() }

func recordKey(key Key) []byte {
	return append([]byte{keyRecord}, key[:]...)
}

// get answers nil for a key that is not there.
func (x *index) get(key Key) (*record, error) {
	v, closer, err := x.db.Get(recordKey(key))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, indexError(err)
	}
	defer closer.Close()
	return decodeRecord(v)
}

func indexError(err error) error {
	if pebble.IsCorruptionError(err) {
		return fmt.Errorf("%w: the index, which is made anew at the next start (%w)", ErrCorrupt, err)
	}
	return err
}

// position is where the log goes on behind what the index knows.
func (x *index) position() (p position, err error) {
	v, closer, err := x.db.Get([]byte{keyPosition})
	if errors.Is(err, pebble.ErrNotFound) {
		return p, nil
	}
	if err != nil {
		return p, err
	}
	defer closer.Close()
	p, ok := decodePosition(v)
	if !ok {
		return p, fmt.Errorf("%w: log position", ErrCorrupt)
	}
	return p, nil
}

// load reads the counters.
func (x *index) load() (live map[uint64]int64, records int64, err error) {
	live = make(map[uint64]int64)
	it, err := x.db.NewIter(&pebble.IterOptions{LowerBound: []byte{keySegment}, UpperBound: []byte{keySegment + 1}})
	if err != nil {
		return nil, 0, err
	}
	for it.First(); it.Valid(); it.Next() {
		if k, v := it.Key(), it.Value(); len(k) == 9 && len(v) == 8 {
			live[binary.BigEndian.Uint64(k[1:])] = int64(binary.LittleEndian.Uint64(v))
		}
	}
	if err := it.Close(); err != nil {
		return nil, 0, err
	}
	v, closer, err := x.db.Get([]byte{keyRecords})
	if errors.Is(err, pebble.ErrNotFound) {
		return live, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	defer closer.Close()
	if len(v) == 8 {
		records = int64(binary.LittleEndian.Uint64(v))
	}
	return live, records, nil
}

// batch is a set of changes that the index takes as one.
type batch struct {
	b       *pebble.Batch
	touched map[uint64]int64 // living bytes of the segments
	records int64
}

func (x *index) begin() *batch {
	return &batch{b: x.db.NewBatch(), touched: make(map[uint64]int64)}
}

func (b *batch) set(key Key, r *record) {
	if r == nil {
		_ = b.b.Delete(recordKey(key), nil) // fails in commit, if at all
		return
	}
	_ = b.b.Set(recordKey(key), r.encode(), nil)
}

func (b *batch) commit(p position) error {
	for id, live := range b.touched {
		k := binary.BigEndian.AppendUint64([]byte{keySegment}, id)
		if live <= 0 {
			_ = b.b.Delete(k, nil)
			continue
		}
		_ = b.b.Set(k, binary.LittleEndian.AppendUint64(nil, uint64(live)), nil)
	}
	_ = b.b.Set([]byte{keyRecords}, binary.LittleEndian.AppendUint64(nil, uint64(b.records)), nil)
	_ = b.b.Set([]byte{keyPosition}, p.encode(), nil)
	return b.b.Commit(pebble.NoSync)
}

// pebbleLogger passes on what matters to an operator.
type pebbleLogger struct{ log *slog.Logger }

func (l pebbleLogger) Infof(string, ...any) {}
func (l pebbleLogger) Errorf(format string, args ...any) {
	l.log.Error("index: " + fmt.Sprintf(format, args...))
}
func (l pebbleLogger) Fatalf(format string, args ...any) {
	panic("index: " + fmt.Sprintf(format, args...))
}
