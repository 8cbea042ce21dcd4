package wire

// BackendState is what a backend is doing.
type BackendState int32

// States.
const (
	BackendUninitialised BackendState = -1
	BackendDisabled      BackendState = 0
	BackendEnabled       BackendState = 1
	BackendActivating    BackendState = 2
	BackendDeactivating  BackendState = 3
)

// String is the state's name.
func (s BackendState) String() string {
	switch s {
	case BackendUninitialised:
		return "uninitialised"
	case BackendDisabled:
		return "disabled"
	case BackendEnabled:
		return "enabled"
	case BackendActivating:
		return "activating"
	case BackendDeactivating:
		return "deactivating"
	}
	return "unknown"
}

// DefragState is how far a backend's defragmentation is.
type DefragState uint32

// Defragmentation states.
const (
	DefragNone       DefragState = 0
	DefragRunning    DefragState = 1
	DefragSorting    DefragState = 2 // the index
	DefragCompacting DefragState = 3
)

// BackendStatus describes a backend.
type BackendStatus struct {
	Backend    uint32
	State      BackendState
	Defrag     DefragState
	LastStart  Time
	StartError int32 // of the last start: 0 or a negative errno number
	ReadOnly   bool
	Delay      uint32 // before each request, in milliseconds
}

const backendStatusSize = 96

func (s *BackendStatus) append(dst []byte) []byte {
	dst = le.AppendUint32(dst, s.Backend)
	dst = le.AppendUint32(dst, uint32(s.State))
	dst = le.AppendUint32(dst, uint32(s.Defrag))
	dst = appendTime(dst, s.LastStart)
	dst = le.AppendUint32(dst, uint32(s.StartError))
	readOnly := byte(0)
	if s.ReadOnly {
		readOnly = 1
	}
	dst = append(dst, readOnly, 0, 0, 0, 0, 0, 0, 0)
	dst = le.AppendUint32(dst, s.Delay)
	return append(dst, make([]byte, 52)...)
}

func (s *BackendStatus) decode(src []byte) {
	s.Backend = le.Uint32(src)
	s.State = BackendState(le.Uint32(src[4:]))
	s.Defrag = DefragState(le.Uint32(src[8:]))
	s.LastStart = timeAt(src[12:])
	s.StartError = int32(le.Uint32(src[28:]))
	s.ReadOnly = src[32] != 0
	s.Delay = le.Uint32(src[40:])
}

// BackendStatuses is the payload of the answers to BACKEND_STATUS, all
// backends, and BACKEND_CONTROL, the one that was asked for.
type BackendStatuses struct {
	Backends []BackendStatus
	// Room is how many further entries' worth of zeros follow: a server sizes
	// its answer by its highest backend number.
	Room int
}

// Append writes s to dst.
func (s *BackendStatuses) Append(dst []byte) []byte {
	dst = le.AppendUint32(dst, uint32(len(s.Backends)))
	for i := range s.Backends {
		dst = s.Backends[i].append(dst)
	}
	return append(dst, make([]byte, s.Room*backendStatusSize)...)
}

// Decode reads s from the whole of src.
func (s *BackendStatuses) Decode(src []byte) error {
	if len(src) < 4 {
		return short("list of backends", len(src), 4)
	}
	count := le.Uint32(src)
	src = src[4:]
	entries := len(src) / backendStatusSize
	if uint64(count) > uint64(entries) || len(src)%backendStatusSize != 0 {
		return malformed("%d backends announced in %d bytes", count, len(src))
	}
	s.Backends = make([]BackendStatus, count)
	for i := range s.Backends {
		s.Backends[i].decode(src[i*backendStatusSize:])
	}
	s.Room = entries - int(count)
	return nil
}

// BackendCommand is what a BACKEND_CONTROL request wants of a backend.
type BackendCommand uint32

// Backend commands.
const (
	BackendEnable      BackendCommand = 0
	BackendDisable     BackendCommand = 1
	BackendStartDefrag BackendCommand = 2 // see BackendControl.DefragLevel
	BackendSetIDs      BackendCommand = 3 // see BackendControl.IDs
	BackendReadOnly    BackendCommand = 4
	BackendWritable    BackendCommand = 5
	BackendSetDelay    BackendCommand = 6 // see BackendControl.Delay
	BackendStopDefrag  BackendCommand = 7
)

// BackendControl is the payload of a BACKEND_CONTROL request. The header's id
// begins with the number of the backend: see ControlID.
type BackendControl struct {
	Backend     uint32
	Command     BackendCommand
	DefragLevel uint32 // 0 full, 1 only compaction
	Delay       uint32 // before each request, in milliseconds
	IDs         []ID
}

const backendControlSize = 72

// ControlID is the id that the header of a BACKEND_CONTROL request carries:
// the backend's number, and zeros.
func (c *BackendControl) ControlID() ID {
	var id ID
	le.PutUint32(id[:], c.Backend)
	return id
}

// Append writes c to dst.
func (c *BackendControl) Append(dst []byte) []byte {
	dst = le.AppendUint32(dst, c.Backend)
	dst = le.AppendUint32(dst, uint32(c.Command))
	dst = append(dst, make([]byte, 52)...)
	dst = le.AppendUint32(dst, c.DefragLevel)
	dst = le.AppendUint32(dst, c.Delay)
	dst = le.AppendUint32(dst, uint32(len(c.IDs)))
	for i := range c.IDs {
		dst = append(dst, c.IDs[i][:]...)
	}
	return dst
}

// Decode reads c from the whole of src.
func (c *BackendControl) Decode(src []byte) error {
	if len(src) < backendControlSize {
		return short("backend control", len(src), backendControlSize)
	}
	*c = BackendControl{
		Backend:     le.Uint32(src),
		Command:     BackendCommand(le.Uint32(src[4:])),
		DefragLevel: le.Uint32(src[60:]),
		Delay:       le.Uint32(src[64:]),
	}
	ids := uint64(le.Uint32(src[68:]))
	src = src[backendControlSize:]
	if ids*IDSize != uint64(len(src)) {
		return malformed("backend control announces %d ids in %d bytes", ids, len(src))
	}
	if ids > 0 {
		c.IDs = make([]ID, ids)
		for i := range c.IDs {
			copy(c.IDs[i][:], src[i*IDSize:])
		}
	}
	return nil
}
