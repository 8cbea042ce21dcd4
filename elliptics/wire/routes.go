package wire

// Version is the protocol version of a handshake. Only the first two numbers
// are compared.
type Version [4]int32

// The versions a client tries, in this order: servers of the 2.26 and 2.27
// lines take the first, servers of 3.0 only the second. A server hangs up
// without a word on a version that is not its own.
var (
	Version226 = Version{2, 26, 11, 1}
	Version300 = Version{3, 0, 0, 1}
)

// Same tells whether two versions can talk to each other.
func (v Version) Same(w Version) bool { return v[0] == w[0] && v[1] == w[1] }

// Handshake is what the id field of a REVERSE_LOOKUP packet carries.
type Handshake struct {
	Version Version
	// IndexShards is the number of shards of each secondary index. A client
	// sends 0; a server that has indexes answers its own number, one that has
	// none answers what it got.
	IndexShards int32
}

// ID is the handshake as the id field of a header.
func (h Handshake) ID() ID {
	var id ID
	for i, n := range h.Version {
		le.PutUint32(id[4*i:], uint32(n))
	}
	le.PutUint32(id[20:], uint32(h.IndexShards))
	return id
}

// HandshakeOf reads the id field of a REVERSE_LOOKUP packet.
func HandshakeOf(id ID) Handshake {
	var h Handshake
	for i := range h.Version {
		h.Version[i] = int32(le.Uint32(id[4*i:]))
	}
	h.IndexShards = int32(le.Uint32(id[20:]))
	return h
}

// BackendIDs announces the ids of one backend: its places on the ring of its
// group.
type BackendIDs struct {
	Backend  uint32
	Group    uint32
	Disabled bool // in an UPDATE_IDS push: the backend is gone; no group, no ids
	IDs      []ID
}

const (
	backendIDsSize  = 16
	backendDisabled = 1
)

// Routes is the payload of a REVERSE_LOOKUP reply and of JOIN: a node's own
// addresses and its backends.
type Routes struct {
	Addrs    []Addr
	Backends []BackendIDs
}

// Append writes r to dst.
func (r *Routes) Append(dst []byte) []byte {
	n := uint32(len(r.Addrs))
	dst = appendAddrs(dst, n, r.Addrs)
	return appendBackends(dst, r.Backends)
}

// Decode reads r from the whole of src.
func (r *Routes) Decode(src []byte) error {
	perNode, addrs, rest, err := decodeAddrs(src)
	if err != nil {
		return err
	}
	if int(perNode) != len(addrs) {
		return malformed("a node announces %d addresses and lists %d", perNode, len(addrs))
	}
	backends, rest, err := decodeBackends(rest)
	if err != nil {
		return err
	}
	if len(rest) != 0 {
		return malformed("%d bytes behind the list of backends", len(rest))
	}
	r.Addrs, r.Backends = addrs, backends
	return nil
}

// UpdateIDs is the payload of the UPDATE_IDS push: a backend of the sending
// node was enabled, disabled, or got other ids. No answer is expected.
type UpdateIDs struct {
	Backends []BackendIDs
}

// Append writes u to dst.
func (u *UpdateIDs) Append(dst []byte) []byte { return appendBackends(dst, u.Backends) }

// Decode reads u from the whole of src.
func (u *UpdateIDs) Decode(src []byte) error {
	backends, rest, err := decodeBackends(src)
	if err != nil {
		return err
	}
	if len(rest) != 0 {
		return malformed("%d bytes behind the list of backends", len(rest))
	}
	u.Backends = backends
	return nil
}

// RouteList is the payload of a ROUTE_LIST reply: the addresses of all nodes,
// PerNode consecutive ones for each node.
type RouteList struct {
	PerNode int
	Addrs   []Addr
}

// Append writes r to dst.
func (r *RouteList) Append(dst []byte) []byte { return appendAddrs(dst, uint32(r.PerNode), r.Addrs) }

// Decode reads r from the whole of src.
func (r *RouteList) Decode(src []byte) error {
	perNode, addrs, rest, err := decodeAddrs(src)
	if err != nil {
		return err
	}
	if perNode == 0 || len(addrs)%int(perNode) != 0 {
		return malformed("route list of %d addresses with %d for each node", len(addrs), perNode)
	}
	if len(rest) != 0 {
		return malformed("%d bytes behind the route list", len(rest))
	}
	r.PerNode, r.Addrs = int(perNode), addrs
	return nil
}

// Nodes cuts the list into the addresses of each node.
func (r *RouteList) Nodes() [][]Addr {
	var nodes [][]Addr
	for i := 0; r.PerNode > 0 && i+r.PerNode <= len(r.Addrs); i += r.PerNode {
		nodes = append(nodes, r.Addrs[i:i+r.PerNode])
	}
	return nodes
}

func appendAddrs(dst []byte, perNode uint32, addrs []Addr) []byte {
	dst = le.AppendUint32(dst, perNode)
	dst = le.AppendUint32(dst, uint32(len(addrs)))
	for i := range addrs {
		dst = append(dst, addrs[i][:]...)
	}
	return dst
}

func decodeAddrs(src []byte) (perNode int32, addrs []Addr, rest []byte, err error) {
	if len(src) < 8 {
		return 0, nil, nil, short("address list", len(src), 8)
	}
	perNode = int32(le.Uint32(src))
	count := int32(le.Uint32(src[4:]))
	src = src[8:]
	if perNode < 0 || count < 0 || int(count) > len(src)/AddrSize {
		return 0, nil, nil, malformed("%d addresses announced in %d bytes", count, len(src))
	}
	addrs = make([]Addr, count)
	for i := range addrs {
		copy(addrs[i][:], src)
		if addrs[i].IsZero() {
			return 0, nil, nil, malformed("address %d is all zero", i)
		}
		src = src[AddrSize:]
	}
	return perNode, addrs, src, nil
}

func appendBackends(dst []byte, backends []BackendIDs) []byte {
	dst = le.AppendUint32(dst, uint32(len(backends)))
	for i := range backends {
		b := &backends[i]
		flags := uint32(0)
		if b.Disabled {
			flags = backendDisabled
		}
		dst = le.AppendUint32(dst, b.Backend)
		dst = le.AppendUint32(dst, b.Group)
		dst = le.AppendUint32(dst, flags)
		dst = le.AppendUint32(dst, uint32(len(b.IDs)))
		for j := range b.IDs {
			dst = append(dst, b.IDs[j][:]...)
		}
	}
	return dst
}

func decodeBackends(src []byte) (backends []BackendIDs, rest []byte, err error) {
	if len(src) < 4 {
		return nil, nil, short("backend list", len(src), 4)
	}
	count := int32(le.Uint32(src))
	src = src[4:]
	if count < 0 || int(count) > len(src)/backendIDsSize {
		return nil, nil, malformed("%d backends announced in %d bytes", count, len(src))
	}
	backends = make([]BackendIDs, count)
	for i := range backends {
		if len(src) < backendIDsSize {
			return nil, nil, short("backend entry", len(src), backendIDsSize)
		}
		b := &backends[i]
		b.Backend = le.Uint32(src)
		b.Group = le.Uint32(src[4:])
		b.Disabled = le.Uint32(src[8:])&backendDisabled != 0
		ids := le.Uint32(src[12:])
		src = src[backendIDsSize:]
		if uint64(ids) > uint64(len(src)/IDSize) {
			return nil, nil, malformed("backend %d announces %d ids in %d bytes", b.Backend, ids, len(src))
		}
		b.IDs = make([]ID, ids)
		for j := range b.IDs {
			copy(b.IDs[j][:], src)
			src = src[IDSize:]
		}
	}
	return backends, src, nil
}
