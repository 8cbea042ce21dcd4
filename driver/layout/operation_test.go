package layout

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// operation is what a user of a model asks of a registry.
type operation struct {
	name     string
	from, to string
	value    value
	large    bool
	must     bool // it cannot fail: nothing is wrong any more
	do       func(ctx context.Context, m *model, fs *FS, c *call) (any, error)
	enter    func(m *model, c *call, err error) // into the history
	// Of an upload: the registries of its steps, and whether it ends before
	// its last one.
	route     int
	abandoned bool
}

func (o operation) String() string {
	s := o.name
	for _, p := range []string{o.from, o.to} {
		if p != "" {
			s += " " + p
		}
	}
	if o.value != 0 {
		s += fmt.Sprintf(" v%d", o.value)
	}
	return s
}

// invent chooses an operation.
func (m *model) invent() operation {
	r := m.rng
	file := func() string { return modelFiles[r.IntN(len(modelFiles))] }
	dir := func() string { return modelDirs[r.IntN(len(modelDirs))] }
	fresh := func(o operation) operation {
		m.values++
		o.value, o.large = m.values, r.IntN(4) == 0
		return o
	}
	// Some runs are mostly about uploads, some about compaction.
	which := r.IntN(23)
	if m.uploads && r.IntN(2) == 0 {
		which = 17 + r.IntN(3)
	}
	if m.tidy && r.IntN(3) == 0 {
		which = 20
	}
	switch which {
	case 0, 1, 2, 3, 4:
		return fresh(operation{name: "put", to: file(), do: doPut, enter: enterWrite})
	case 5, 6, 7:
		return operation{name: "get", to: file(), do: doGet, enter: enterGet}
	case 8, 9:
		return operation{name: "delete", to: file(), do: doDelete, enter: enterDelete}
	case 10, 11:
		return operation{name: "delete", to: dir(), do: doDelete, enter: enterDelete}
	case 12, 13:
		o := operation{name: "move", from: file(), to: file(), do: doMove, enter: enterMove}
		for o.from == o.to {
			o.to = file()
		}
		return o
	case 14, 15, 16:
		return operation{name: "list", to: dir(), do: doList, enter: enterList}
	case 17, 18:
		s := &session{path: fmt.Sprintf("%s/%d", uploads, len(m.sessions))}
		m.sessions = append(m.sessions, s)
		o := fresh(operation{name: "upload", from: s.path, to: file(), do: doUpload, enter: enterUpload})
		o.large, o.route, o.abandoned = r.IntN(2) == 0, r.IntN(1<<20), r.IntN(3) == 0
		return o
	case 21:
		return operation{name: "renew", to: file(), do: doRenew, enter: enterRenew}
	case 22:
		to := file()
		if r.IntN(2) == 0 {
			to = dir()
		}
		return operation{name: "sweep", to: to, do: doSweep, enter: enterSweep}
	case 20:
		return operation{name: "compact", to: dir(), do: doCompact, enter: enterNothing}
	default:
		if len(m.sessions) == 0 {
			return operation{name: "list", to: "/", do: doList, enter: enterList}
		}
		s := m.sessions[max(r.IntN(len(m.sessions)), r.IntN(len(m.sessions)))]
		s.contested = true
		return operation{name: "purge", to: s.path, do: doDelete, enter: enterNothing}
	}
}

// bytes of a value: nothing else repeats its number in every eight bytes.
func (o operation) bytes() []byte {
	n := 5
	if o.large {
		n = inlineLimit/8 + 10
	}
	return bytes.Repeat(fmt.Appendf(nil, "v%07d", o.value), n)
}

// contentOf is the value that bytes stand for; -1 for a mixture.
func contentOf(b []byte) (v value) {
	if len(b) < 8 || !bytes.Equal(b[8:], b[:len(b)-8]) || len(b)%8 != 0 {
		return -1
	}
	if _, err := fmt.Sscanf(string(b[:8]), "v%07d", &v); err != nil {
		return -1
	}
	return v
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

func doPut(ctx context.Context, _ *model, fs *FS, c *call) (any, error) {
	return nil, fs.Put(ctx, c.to, c.bytes())
}

func enterWrite(m *model, c *call, err error) {
	m.hist.add(c.to, access{what: c.String(), call: c.begin, answer: m.hist.now(), unknown: err != nil, write: true, values: []value{c.value}})
}

func doGet(ctx context.Context, _ *model, fs *FS, c *call) (any, error) { return fs.Get(ctx, c.to) }

func enterGet(m *model, c *call, err error) {
	v := value(0)
	switch {
	case err == nil:
		if v = contentOf(c.result.([]byte)); v < 0 {
			m.fail("%s holds a mixture: %.60q", c.to, c.result)
		}
	case !errors.Is(err, ErrNotExist):
		if c.must {
			m.fail("%s: %v", c.operation, err)
		}
		return
	}
	m.hist.add(c.to, access{what: c.String(), call: c.begin, answer: m.hist.now(), values: []value{v}})
}

func doDelete(ctx context.Context, _ *model, fs *FS, c *call) (any, error) {
	return nil, fs.Delete(ctx, c.to)
}

// enterDelete: whoever is told that nothing is there may as well have deleted
// it.
func enterDelete(m *model, c *call, err error) {
	answer := m.hist.now()
	for _, p := range modelFiles {
		if p == c.to || strings.HasPrefix(p, c.to+"/") {
			m.hist.add(p, access{
				what: c.String(), call: c.begin, answer: answer, unknown: err != nil && !errors.Is(err, ErrNotExist),
				write: true, values: []value{0},
			})
		}
	}
}

func doMove(ctx context.Context, _ *model, fs *FS, c *call) (any, error) {
	return nil, fs.Move(ctx, c.from, c.to)
}

func enterMove(m *model, c *call, err error) {
	answer := m.hist.now()
	m.sim.mu.Lock() // a killed registry has not noticed yet
	moved := slices.Clone(c.moved)
	m.sim.mu.Unlock()
	if len(moved) > 0 {
		m.hist.add(c.to, access{what: c.String(), call: c.begin, answer: answer, unknown: err != nil, write: true, values: moved})
		m.hist.add(c.from, access{
			what: c.String(), call: c.begin, answer: answer, unknown: err != nil, write: true, values: []value{0}, replace: moved,
		})
	}
	if len(moved) == 0 { // it may have linked the new name, and no more
		m.hist.add(c.to, access{what: c.String(), call: c.begin, answer: answer, unknown: err != nil && !errors.Is(err, ErrNotExist), write: true, replace: []value{-1}})
	}
	switch {
	case err == nil:
		m.hist.add(c.from, access{what: c.String(), call: c.begin, answer: answer, values: moved})
	case errors.Is(err, ErrNotExist):
		m.hist.add(c.from, access{what: c.String(), call: c.begin, answer: answer, values: []value{0}})
	}
}

func doList(ctx context.Context, _ *model, fs *FS, c *call) (any, error) {
	entries, err := fs.List(ctx, c.to)
	return names(entries), err
}

func enterList(m *model, c *call, err error) {
	if err != nil && !errors.Is(err, ErrNotExist) {
		if c.must {
			m.fail("%s: %v", c.operation, err)
		}
		return
	}
	answer := m.hist.now()
	listed := c.result.([]string)
	for _, p := range modelFiles {
		below, ok := strings.CutPrefix(p, strings.TrimSuffix(c.to, "/")+"/")
		if !ok {
			continue
		}
		name, _, deeper := strings.Cut(below, "/")
		a := access{what: fmt.Sprint(c, " ", listed), call: c.begin, answer: answer, values: []value{0}}
		if slices.Contains(listed, name) {
			if deeper {
				continue // directories may be empty
			}
			a.not = true
		}
		m.listings = append(m.listings, listing{p, a})
	}
}

// listing is an access that a name without a file excuses.
type listing struct {
	path string
	access
}

// enterListings adds what was listed to the history, when all is known that
// was written.
func (m *model) enterListings() {
	for _, l := range m.listings {
		if !l.not || !m.hist.linked(l.path, l.call, l.answer) {
			m.hist.add(l.path, l.access)
		}
	}
	m.listings = nil
}

// doUpload is what Distribution does with a blob, every step at any registry.
func doUpload(ctx context.Context, m *model, fs *FS, c *call) (any, error) {
	return nil, upload(ctx, m, fs, c)
}

func upload(ctx context.Context, m *model, fs *FS, c *call) error {
	route := c.route
	any := func() *FS {
		i := route % 4
		route /= 4
		if i < len(m.registries) {
			return m.registries[i].fs
		}
		return fs
	}
	data := c.bytes()
	half := len(data) / 16 * 8
	if err := any().SetAttrs(ctx, c.from, map[string][]byte{"startedat": []byte("now")}, true); err != nil {
		return err
	}
	w, err := any().Create(ctx, c.from)
	if err != nil {
		return err
	}
	_, err = w.Write(data[:half])
	if closeErr := w.Close(); err != nil || closeErr != nil {
		return cmp.Or(err, closeErr)
	}
	if c.abandoned {
		return nil
	}
	if w, err = any().Resume(ctx, c.from); err != nil {
		return err
	}
	if w.Size() != int64(half) {
		_ = w.Close()
		return fmt.Errorf("%d bytes of %d", w.Size(), half)
	}
	if _, err = w.Write(data[half:]); err == nil {
		err = w.Commit(ctx)
	}
	if closeErr := w.Close(); err != nil || closeErr != nil {
		return cmp.Or(err, closeErr)
	}
	return any().Move(ctx, c.from, c.to)
}

func enterUpload(m *model, c *call, err error) {
	for _, s := range m.sessions {
		if s.path == c.from {
			s.committed = err == nil && !c.abandoned
			s.failed = s.failed || err != nil && !errors.Is(err, ErrNotExist) && !errors.Is(err, ErrConcurrent)
		}
	}
	if !c.abandoned {
		enterWrite(m, c, err)
	}
}

// doRenew gives a file a new timestamp, and nothing else.
func doRenew(ctx context.Context, _ *model, fs *FS, c *call) (any, error) {
	return nil, fs.Renew(ctx, c.to)
}

func enterRenew(m *model, c *call, err error) {
	a := access{what: c.String(), call: c.begin, answer: m.hist.now(), values: []value{0}}
	switch {
	case err == nil:
		a.not = true
	case !errors.Is(err, ErrNotExist):
		a.write, a.replace, a.unknown = true, []value{-1}, true // it may have linked the name again
	default: // it may have done so for a moment
		m.hist.add(c.to, access{what: c.String(), call: c.begin, answer: a.answer, write: true, replace: []value{-1}})
	}
	m.hist.add(c.to, a)
}

// doSweep deletes what is not newer than the moment when it began.
func doSweep(ctx context.Context, _ *model, fs *FS, c *call) (any, error) {
	ts := fs.clock.Next()
	if _, err := fs.List(ctx, path.Dir(c.to)); err != nil {
		return false, err
	}
	return fs.DeleteOlder(ctx, c.to, ts)
}

// enterSweep: what is not gone may have been deleted and made again, or some
// of what is below a directory.
func enterSweep(m *model, c *call, err error) {
	answer := m.hist.now()
	gone, _ := c.result.(bool)
	for _, p := range modelFiles {
		if p == c.to || strings.HasPrefix(p, c.to+"/") {
			m.hist.add(p, access{
				what: c.String(), call: c.begin, answer: answer, unknown: err != nil && !errors.Is(err, ErrNotExist),
				write: true, values: []value{0}, optional: !gone,
			})
		}
	}
}

func doEmptyTrash(ctx context.Context, _ *model, fs *FS, _ *call) (any, error) {
	return fs.EmptyTrash(ctx)
}

func doCompact(ctx context.Context, _ *model, fs *FS, c *call) (any, error) {
	return nil, fs.compact(ctx, fs.dir(c.to), func(int, int) bool { return true })
}

func enterNothing(m *model, c *call, err error) {
	if c.must && err != nil {
		m.fail("%s: %v", c.operation, err)
	}
}

// doSessions looks at what uploads have left.
func doSessions(ctx context.Context, m *model, fs *FS, _ *call) (any, error) {
	return nil, m.checkSessions(ctx, fs)
}

func (m *model) checkSessions(ctx context.Context, fs *FS) error {
	entries, err := fs.List(ctx, uploads)
	if err != nil && !errors.Is(err, ErrNotExist) {
		return err
	}
	listed := names(entries)
	for _, s := range m.sessions {
		rec, err := fs.readRecord(ctx, s.path)
		if err != nil {
			return err
		}
		isListed := slices.Contains(listed, path.Base(s.path))
		switch {
		case rec.alive() && !isListed && !s.failed:
			return fmt.Errorf("upload %s is there and not listed", s.path)
		case s.committed && !s.contested && (rec.alive() || isListed):
			return fmt.Errorf("upload %s was moved and is still there", s.path)
		}
	}
	return nil
}
