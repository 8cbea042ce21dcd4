package wire

// NodeStatusFlags are the states of a whole node.
type NodeStatusFlags int32

// Node states.
const (
	NodeExiting  NodeStatusFlags = 1 << 0
	NodeReadOnly NodeStatusFlags = 1 << 1
)

// NodeStatus is the payload of STATUS, in both directions. A request that is
// not QueryNodeStatus changes the node: it can set it read-only or stop it.
type NodeStatus struct {
	Flags    int32 // the node's configured flags
	Status   NodeStatusFlags
	LogLevel uint32 // 0 debug, 1 notice, 2 info, 3 warning, 4 error
}

// QueryNodeStatus is the request that changes nothing. The ping of a client
// carries it too.
var QueryNodeStatus = NodeStatus{Flags: -1, Status: -1, LogLevel: 1<<32 - 1}

const nodeStatusSize = 12

// Append writes the 12 bytes of s to dst.
func (s *NodeStatus) Append(dst []byte) []byte {
	dst = le.AppendUint32(dst, uint32(s.Flags))
	dst = le.AppendUint32(dst, uint32(s.Status))
	return le.AppendUint32(dst, s.LogLevel)
}

// Decode reads s from the whole of src.
func (s *NodeStatus) Decode(src []byte) error {
	if len(src) != nodeStatusSize {
		return malformed("node status has %d bytes, %d expected", len(src), nodeStatusSize)
	}
	s.Flags = int32(le.Uint32(src))
	s.Status = NodeStatusFlags(le.Uint32(src[4:]))
	s.LogLevel = le.Uint32(src[8:])
	return nil
}
