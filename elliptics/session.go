package elliptics

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// Names of package wire that users of a Session need.
type (
	// Key is the id of an object, see Session.Key.
	Key = wire.ID
	// Time is a record's timestamp.
	Time = wire.Time
	// FileInfo says where a record is.
	FileInfo = wire.FileInfo
	// IOFlags are the flags of a storage request.
	IOFlags = wire.IOFlags
)

// ParseKey reads a raw key of 128 hexadecimal digits.
func ParseKey(s string) (Key, error) { return wire.ParseID(s) }

// Session says where and how operations are done. It is immutable and cheap:
// the With methods return a changed copy. It is safe for concurrent use.
type Session struct {
	node      *Node
	groups    []uint32
	namespace string
	checker   Checker
	timeout   time.Duration
	timestamp Time
	userFlags uint64
	ioFlags   wire.IOFlags
	flags     wire.Flags
	traceID   uint64
	writeBack bool
	backend   *BackendRef // all requests go there
}

// NewSession begins with groups, in the order in which they are asked, no
// namespace, the checker Quorum, and the node's WaitTimeout.
func (n *Node) NewSession(groups ...uint32) *Session {
	return &Session{node: n, groups: slices.Clone(groups), checker: Quorum, timeout: n.cfg.WaitTimeout}
}

func (s *Session) with(change func(*Session)) *Session {
	c := *s
	change(&c)
	return &c
}

// WithGroups uses other groups, of which none should appear twice.
func (s *Session) WithGroups(groups ...uint32) *Session {
	return s.with(func(c *Session) { c.groups = slices.Clone(groups) })
}

// WithNamespace mixes a namespace into the keys that Key derives.
func (s *Session) WithNamespace(namespace string) *Session {
	return s.with(func(c *Session) { c.namespace = namespace })
}

// WithChecker decides differently when an operation on several groups has
// succeeded.
func (s *Session) WithChecker(checker Checker) *Session {
	return s.with(func(c *Session) { c.checker = checker })
}

// WithTimeout bounds the wait for each packet of an answer; zero or less means
// the node's WaitTimeout.
func (s *Session) WithTimeout(d time.Duration) *Session {
	if d <= 0 {
		d = s.node.cfg.WaitTimeout
	}
	return s.with(func(c *Session) { c.timeout = d })
}

// WithTimestamp writes records with a given timestamp; zero: the time of the
// call.
func (s *Session) WithTimestamp(t Time) *Session {
	return s.with(func(c *Session) { c.timestamp = t })
}

// WithUserFlags stores 64 bits of the user's with each record written.
func (s *Session) WithUserFlags(flags uint64) *Session {
	return s.with(func(c *Session) { c.userFlags = flags })
}

// WithIOFlags adds flags to every read and write.
func (s *Session) WithIOFlags(flags IOFlags) *Session {
	return s.with(func(c *Session) { c.ioFlags = flags })
}

// WithTraceID marks requests in the servers' logs.
func (s *Session) WithTraceID(id uint64) *Session {
	return s.with(func(c *Session) { c.traceID = id })
}

// WithTrace makes servers log everything about the requests.
func (s *Session) WithTrace() *Session {
	return s.with(func(c *Session) { c.flags |= wire.FlagTrace })
}

// WithWriteBack makes a Read or ReadLatest of a whole record write it to the
// groups that said before that they have none or a damaged one, for ReadLatest
// also to those with an older one, with its timestamp and user flags. The
// read waits for that. Beware: it brings back what was removed while a group
// was away, because Elliptics keeps no trace of removed records.
func (s *Session) WithWriteBack(on bool) *Session {
	return s.with(func(c *Session) { c.writeBack = on })
}

// WithBackend sends all requests to one backend of one node, whether it owns
// the keys or not; the session's groups become the backend's. It is meant for
// tools that check or repair.
func (s *Session) WithBackend(b BackendRef) *Session {
	return s.with(func(c *Session) { c.groups, c.backend = []uint32{b.Group}, &b })
}

// Groups are the session's groups.
func (s *Session) Groups() []uint32 { return slices.Clone(s.groups) }

// Key derives the id of a named object, with the session's namespace.
func (s *Session) Key(name string) Key { return wire.HashID(s.namespace, name) }

// request sends one command to the owner of a key in one group.
func (s *Session) request(ctx context.Context, op string, group uint32, h wire.Header, attr *wire.IOAttr, data [][]byte) (*call, error) {
	fail := func(remote string, err error) (*call, error) {
		return nil, &Error{Op: op, Group: group, Remote: remote, Key: h.ID, Err: err}
	}
	if err := s.node.ctx.Err(); err != nil {
		return fail("", ErrClosed)
	}
	owner, err := s.owner(group, h.ID)
	if err != nil {
		return fail("", err)
	}
	if s.backend != nil {
		h.Flags |= wire.FlagDirect | wire.FlagDirectBackend
	}
	c := owner.remote.conn(&h.ID)
	if c == nil {
		return fail(owner.remote.name.String(), fmt.Errorf("%w: the connection was lost a moment ago", wire.ErrNoRoute))
	}
	h.Group = group
	h.Backend = int32(owner.backend)
	h.TraceID = s.traceID
	h.Flags |= s.flags | wire.FlagNeedAck
	p, err := c.send(ctx, h, attr, data, s.timeout)
	if err != nil {
		return fail(owner.remote.name.String(), err)
	}
	if status := p.last().header.Status; status != wire.OK {
		release(p.packets)
		p.free()
		return fail(owner.remote.name.String(), status)
	}
	return p, nil
}

// owner is the backend that a request for a key goes to.
func (s *Session) owner(group uint32, key Key) (route, error) {
	if b := s.backend; b != nil {
		r := s.node.remote(b.Remote)
		if r == nil {
			return route{}, fmt.Errorf("%w: node %s is not known", wire.ErrNoRoute, b.Remote)
		}
		return route{owner: owner{r, b.Backend}}, nil
	}
	table := s.node.routes.Load()
	owner, ok := table.owner(group, key)
	if !ok {
		return route{}, table.noRoute()
	}
	return owner, nil
}

// single is request for commands that answer one packet.
func (s *Session) single(ctx context.Context, op string, group uint32, h wire.Header, attr *wire.IOAttr, data [][]byte) (packet, error) {
	p, err := s.request(ctx, op, group, h, attr, data)
	if err != nil {
		return packet{}, err
	}
	first := p.packets[0]
	release(p.packets[1:])
	p.free()
	return first, nil
}

func (s *Session) noGroups(op string, key Key) error {
	return fmt.Errorf("%s %s: %w: the session has no groups", op, key.Short(), wire.ErrNoRoute)
}

// Owner is the backend that requests for a key go to in one group.
func (s *Session) Owner(group uint32, key Key) (BackendRef, error) {
	o, err := s.owner(group, key)
	if err != nil {
		return BackendRef{}, &Error{Op: "route", Group: group, Key: key, Err: err}
	}
	return BackendRef{Group: group, Remote: o.remote.name.String(), Backend: o.backend}, nil
}
