package wire

import "strconv"

// HeaderSize is the length of the header before every payload, in bytes.
const HeaderSize = 120

// Command is the number of a command in a header.
type Command int32

// The commands of the protocol. The numbers 6, 9, 12 and 18 are retired.
const (
	CmdLookup          Command = 1
	CmdReverseLookup   Command = 2
	CmdJoin            Command = 3
	CmdWrite           Command = 4
	CmdRead            Command = 5
	CmdExec            Command = 7
	CmdRouteList       Command = 8
	CmdNotify          Command = 10
	CmdDel             Command = 11
	CmdStatus          Command = 13
	CmdReadRange       Command = 14
	CmdDelRange        Command = 15
	CmdAuth            Command = 16
	CmdBulkRead        Command = 17
	CmdIterator        Command = 19
	CmdIndexesUpdate   Command = 20
	CmdIndexesInternal Command = 21
	CmdIndexesFind     Command = 22
	CmdMonitorStat     Command = 23
	CmdUpdateIDs       Command = 24
	CmdBackendControl  Command = 25
	CmdBackendStatus   Command = 26
	CmdSend            Command = 27
)

var commandNames = map[Command]string{
	CmdLookup: "LOOKUP", CmdReverseLookup: "REVERSE_LOOKUP", CmdJoin: "JOIN", CmdWrite: "WRITE",
	CmdRead: "READ", CmdExec: "EXEC", CmdRouteList: "ROUTE_LIST", CmdNotify: "NOTIFY", CmdDel: "DEL",
	CmdStatus: "STATUS", CmdReadRange: "READ_RANGE", CmdDelRange: "DEL_RANGE", CmdAuth: "AUTH",
	CmdBulkRead: "BULK_READ", CmdIterator: "ITERATOR", CmdIndexesUpdate: "INDEXES_UPDATE",
	CmdIndexesInternal: "INDEXES_INTERNAL", CmdIndexesFind: "INDEXES_FIND", CmdMonitorStat: "MONITOR_STAT",
	CmdUpdateIDs: "UPDATE_IDS", CmdBackendControl: "BACKEND_CONTROL", CmdBackendStatus: "BACKEND_STATUS",
	CmdSend: "SEND",
}

// String is the command's name in Elliptics' logs, or its number.
func (c Command) String() string {
	if name, ok := commandNames[c]; ok {
		return name
	}
	return "command " + strconv.Itoa(int(c))
}

// Flags are the header flags of a packet.
type Flags uint64

// Header flags. MORE is never set in a request: a server copies it into the
// reply, whose stream would then never look finished.
const (
	FlagNeedAck       Flags = 1 << 0 // request: answer with a final acknowledge
	FlagMore          Flags = 1 << 1 // reply: further packets of this transaction follow
	FlagDirect        Flags = 1 << 3 // process here, do not forward to the owner
	FlagNoLock        Flags = 1 << 4 // do not take the per-key lock
	FlagChecksum      Flags = 1 << 5 // LOOKUP, WRITE: fill FileInfo.Checksum
	FlagNoCache       Flags = 1 << 6 // LOOKUP: do not look into the server's cache
	FlagDirectBackend Flags = 1 << 7 // use Header.Backend instead of the id's owner
	FlagTrace         Flags = 1 << 8 // log everything about this request
	FlagReply         Flags = 1 << 9 // the packet answers a transaction of the receiver

	// FlagDropNotification, with NOTIFY, ends a subscription.
	FlagDropNotification Flags = 1 << 32
)

// Header precedes every payload, in both directions.
type Header struct {
	ID      ID      // object id: routing, key lock, and what conditional commands look at
	Group   uint32  // group to address; echoed
	Status  Status  // replies: 0 or a negative errno
	Command Command // echoed; the per-key answers of BULK_READ say READ
	Backend int32   // with FlagDirectBackend: the backend to use; replies: the one that answered, -1 for none
	TraceID uint64  // free correlation id for logs
	Flags   Flags
	Trans   uint64 // transaction number chosen by the sender; echoed
	Size    uint64 // payload length in bytes; untrusted
}

// Append writes the 120 bytes of h to dst. The reserved field is zero.
func (h *Header) Append(dst []byte) []byte {
	dst = append(dst, h.ID[:]...)
	dst = le.AppendUint32(dst, h.Group)
	dst = le.AppendUint64(dst, 0)
	dst = le.AppendUint32(dst, uint32(h.Status))
	dst = le.AppendUint32(dst, uint32(h.Command))
	dst = le.AppendUint32(dst, uint32(h.Backend))
	dst = le.AppendUint64(dst, h.TraceID)
	dst = le.AppendUint64(dst, uint64(h.Flags))
	dst = le.AppendUint64(dst, h.Trans)
	return le.AppendUint64(dst, h.Size)
}

// Decode reads h from the first 120 bytes of src.
func (h *Header) Decode(src []byte) error {
	if len(src) < HeaderSize {
		return short("header", len(src), HeaderSize)
	}
	copy(h.ID[:], src)
	h.Group = le.Uint32(src[64:])
	h.Status = Status(le.Uint32(src[76:]))
	h.Command = Command(le.Uint32(src[80:]))
	h.Backend = int32(le.Uint32(src[84:]))
	h.TraceID = le.Uint64(src[88:])
	h.Flags = Flags(le.Uint64(src[96:]))
	h.Trans = le.Uint64(src[104:])
	h.Size = le.Uint64(src[112:])
	return nil
}
