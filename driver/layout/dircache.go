package layout

import (
	"bytes"
	"container/list"
	"context"
	"iter"
	"sort"
	"sync"
)

const (
	logWindow    = 1 << 20 // bytes of a log in one read
	maxCacheDirs = 4096
	maxCacheName = 200_000 // names in all cached directories, for each group
)

// groupLog is what is known of a directory's log in one group.
type groupLog struct {
	used  uint64 // parsed so far
	last  []byte // the last frame before used: proof that the log was not rewritten
	state dirState
	// fresh: the group answered the last refresh. Older knowledge must not be
	// mixed in: it may miss a deletion that the others have forgotten since.
	fresh bool
}

// dirLog is a directory as remembered: always a prefix of its logs, never
// believed before refresh has read their tails.
type dirLog struct {
	path string

	mu      sync.Mutex // guards what follows
	groups  []groupLog
	loaded  bool
	running *refreshCall
	queued  *refreshCall
	mending bool   // a compaction or a repair of this log is under way
	checked uint64 // length at the last look for a compaction
	mended  uint64 // sum of the lengths after the last mending
}

type refreshCall struct {
	done chan struct{}
	err  error
}

// dirCache remembers the directories used last.
type dirCache struct {
	mu    sync.Mutex
	byKey map[string]*list.Element
	lru   list.List // of *dirLog, newest first
}

func (fs *FS) dir(path string) *dirLog {
	c := &fs.dirs
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.byKey[path]; ok {
		c.lru.MoveToFront(e)
		return e.Value.(*dirLog)
	}
	if c.byKey == nil {
		c.byKey = make(map[string]*list.Element)
	}
	d := &dirLog{path: path, groups: make([]groupLog, len(fs.cluster.groups))}
	c.byKey[path] = c.lru.PushFront(d)
	for c.lru.Len() > maxCacheDirs {
		c.drop(c.lru.Back())
	}
	return d
}

func (c *dirCache) drop(e *list.Element) {
	delete(c.byKey, e.Value.(*dirLog).path)
	c.lru.Remove(e)
}

// trim forgets the directories used longest ago while there are too many
// names. It is called now and then, not at each step.
func (c *dirCache) trim() {
	c.mu.Lock()
	defer c.mu.Unlock()
	names := 0
	for e := c.lru.Front(); e != nil; {
		d := e.Value.(*dirLog)
		next := e.Next()
		d.mu.Lock()
		names += len(d.groups[0].state.names)
		d.mu.Unlock()
		if names > maxCacheName && e != c.lru.Front() {
			c.drop(e)
		}
		e = next
	}
}

// refresh reads what was appended to the log, in a majority of the groups.
// The read begins after refresh was called; callers share reads.
func (fs *FS) refresh(ctx context.Context, d *dirLog) error {
	d.mu.Lock()
	call := d.queued
	if call == nil {
		call = &refreshCall{done: make(chan struct{})}
		if d.running == nil {
			d.running = call
			d.mu.Unlock()
			fs.fetch(ctx, d, call)
			return call.err
		}
		d.queued = call
	}
	d.mu.Unlock()
	select {
	case <-call.done:
		return call.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// fetch runs call, then starts the one that queued up behind it.
func (fs *FS) fetch(ctx context.Context, d *dirLog, call *refreshCall) {
	call.err = fs.fetchLogs(ctx, d, fs.cluster.need)
	d.mu.Lock()
	next := d.queued
	d.running, d.queued = next, nil
	d.mu.Unlock()
	close(call.done)
	if next != nil {
		// On behalf of everyone who waits, so under nobody's context.
		fs.cluster.life.begin()
		go func() {
			defer fs.cluster.life.end()
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fs.opt.Timeout)
			defer cancel()
			fs.fetch(ctx, d, next)
		}()
	}
}

type logTail struct {
	at   groupLog // what was known when the read began
	data []byte   // the log from at.used-len(at.last)
	void bool     // the log is not a continuation of at
}

// sameLogs tells whether logs are there and do not differ, as far as that can
// be told without parsing them.
func sameLogs(logs []answer[logTail]) bool {
	a := logs[0].value
	for _, l := range logs {
		b := l.value
		if b.void && len(b.data) == 0 || b.at.used != a.at.used || !bytes.Equal(a.at.last, b.at.last) || !bytes.Equal(a.data, b.data) {
			return false
		}
	}
	return true
}

// fetchLogs is only run by one goroutine at a time for a directory.
func (fs *FS) fetchLogs(ctx context.Context, d *dirLog, want int) error {
	known := make([]groupLog, len(d.groups))
	d.mu.Lock()
	copy(known, d.groups)
	d.mu.Unlock()
	index := make(map[uint32]int, len(known))
	for i, g := range fs.cluster.groups {
		index[g] = i
	}
	tails, err := askN(ctx, fs.cluster, want, func(ctx context.Context, g uint32) (logTail, error) {
		return fs.readTail(ctx, g, dirKey(d.path), known[index[g]])
	}, sameLogs)
	if err != nil {
		return err
	}
	d.mu.Lock()
	for i := range d.groups {
		d.groups[i].fresh = false
	}
	for _, a := range tails {
		d.groups[a.group].take(a.value)
		d.groups[a.group].fresh = true
	}
	d.loaded = true
	differ := len(tails) > 1 && d.differ() && d.mended != d.length()
	big := d.groups[0].used
	names := len(d.groups[0].state.names)
	d.mu.Unlock()
	if differ {
		fs.mendLater(d)
	}
	if big > compactMin {
		fs.compactLater(d)
	}
	if names > 1000 {
		fs.dirs.trim()
	}
	return nil
}

func (fs *FS) readTail(ctx context.Context, group uint32, key string, known groupLog) (logTail, error) {
	t := logTail{at: known}
	for {
		from := t.at.used - uint64(len(t.at.last)) + uint64(len(t.data))
		v, err := fs.cluster.store.Read(ctx, group, key, from, logWindow)
		switch {
		case isNotFound(err):
			return logTail{void: true}, nil
		case isBehindEnd(err) && len(t.data) == 0 && t.at.used > 0:
			t = logTail{void: true} // shorter than it was: rewritten
			continue
		case isBehindEnd(err):
			return t, nil
		case err != nil:
			return t, err
		}
		t.data = append(t.data, v.Data...)
		end := from + uint64(len(v.Data))
		size := v.Size
		v.Release()
		if !bytes.HasPrefix(t.data, t.at.last) {
			if t.at.used == 0 {
				return t, nil // cannot be: every log begins with nothing
			}
			t = logTail{void: true}
			continue
		}
		if end >= size {
			return t, nil
		}
	}
}

func (l *groupLog) take(t logTail) {
	if t.void {
		*l = groupLog{}
	}
	data := t.data[len(l.last):]
	var last []byte
	used := eachEntry(data, func(e logEntry, frame []byte) {
		l.state.apply(e)
		last = frame
	})
	l.used += uint64(used)
	if last != nil {
		l.last = append([]byte(nil), last...)
	}
}

// length is that of all groups' logs. Called with d.mu held.
func (d *dirLog) length() (n uint64) {
	for i := range d.groups {
		n += d.groups[i].used
	}
	return n
}

// differ tells whether two groups disagree. Called with d.mu held.
func (d *dirLog) differ() bool {
	var a *dirState
	for b := range d.fresh() {
		if a == nil {
			a = b
			continue
		}
		if a.fence != b.fence || a.clear != b.clear || a.up != b.up || a.newest != b.newest || len(a.names) != len(b.names) {
			return true
		}
	}
	return false
}

// fresh are the states of the groups that answered last. Called with d.mu held.
func (d *dirLog) fresh() iter.Seq[*dirState] {
	return func(yield func(*dirState) bool) {
		for i := range d.groups {
			if d.groups[i].fresh && !yield(&d.groups[i].state) {
				return
			}
		}
	}
}

// marks are the newest FENCE, CLEAR and UP of any group.
func (d *dirLog) marks() (fence, clear, up Timestamp) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.marksLocked()
}

func (d *dirLog) marksLocked() (fence, clear, up Timestamp) {
	for s := range d.fresh() {
		fence, clear, up = max(fence, s.fence), max(clear, s.clear), max(up, s.up)
	}
	return fence, clear, up
}

// proven tells whether the directory is known to be linked in its parent, and
// not about to be unlinked.
func (d *dirLog) proven() bool {
	if d.path == "/" {
		return true
	}
	fence, _, up := d.marks()
	return up > fence
}

// lookup merges the state of one name. found is false for a name that no log
// knows; a name may be found and not visible.
func (d *dirLog) lookup(name string) (e dirEntry, visible, found bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for s := range d.fresh() {
		if n, ok := s.names[name]; ok && (!found || n.log(name).wins(e)) {
			e, found = n, true
		}
	}
	_, clear, _ := d.marksLocked()
	s := dirState{clear: clear}
	return e, found && s.visible(e), found
}

// merged is the union of all groups' logs.
func (d *dirLog) merged() dirState {
	d.mu.Lock()
	defer d.mu.Unlock()
	var m dirState
	m.fence, m.clear, m.up = d.marksLocked()
	m.names = make(map[string]dirEntry, len(d.groups[0].state.names))
	for s := range d.fresh() {
		m.newest = max(m.newest, s.newest)
		for name, e := range s.names {
			if old, ok := m.names[name]; !ok || e.log(name).wins(old) {
				m.names[name] = e
			}
		}
	}
	return m
}

// Entry is a name in a directory.
type Entry struct {
	Name  string
	Kind  Kind
	Size  int64
	Mtime Timestamp
}

// entries are the visible names in order, and the newest timestamp of all.
func (d *dirLog) entries() (list []Entry, newest Timestamp) {
	m := d.merged()
	list = make([]Entry, 0, len(m.names))
	for name, e := range m.names {
		if m.visible(e) {
			list = append(list, Entry{Name: name, Kind: e.kind, Size: int64(e.size), Mtime: e.ts})
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	return list, m.newest
}
