package node

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// monitorStat answers statistics: the subset of a real server's document that
// this node has something to say about. Unknown categories are empty.
func monitorStat(r *request) wire.Status {
	var ask wire.MonitorRequest
	if err := ask.Decode(r.payload()); err != nil {
		return wire.ErrInvalid
	}
	doc, err := json.Marshal(r.conn.node.monitor(ask.Categories))
	if err != nil {
		return r.conn.node.statusOf(r, err)
	}
	p := packet{hdr: r.answer(), body: &wire.MonitorReply{JSON: doc}}
	if r.needAck() {
		r.sendMore(p)
	} else {
		r.send(p)
	}
	return wire.OK
}

// The document, with the names of the original.
type (
	monitorDoc struct {
		Timestamp monitorTime               `json:"timestamp"`
		String    string                    `json:"string_timestamp"`
		Status    string                    `json:"monitor_status"`
		Backends  map[string]monitorBackend `json:"backends,omitempty"`
		IO        *monitorIO                `json:"io,omitempty"`
		Commands  map[string]any            `json:"commands,omitempty"`
	}
	monitorTime struct {
		Sec  int64 `json:"tv_sec"`
		Usec int64 `json:"tv_usec"`
	}
	monitorSize struct {
		Current int64 `json:"current_size"`
	}
	monitorIO struct {
		Blocking    monitorSize             `json:"blocking"`
		Nonblocking monitorSize             `json:"nonblocking"`
		Output      monitorSize             `json:"output"`
		States      map[string]monitorState `json:"states"`
		Blocked     bool                    `json:"blocked"`
	}
	monitorState struct {
		SendQueue int64 `json:"send_queue_size"`
		InFlight  int   `json:"la"`
		Free      int   `json:"free"`
		Stall     int   `json:"stall"`
		JoinState int   `json:"join_state"`
	}
	monitorBackend struct {
		ID      uint32                `json:"backend_id"`
		Status  monitorBackendStatus  `json:"status"`
		Backend *monitorBackendDetail `json:"backend,omitempty"`
		IO      *monitorBackendIO     `json:"io,omitempty"`
	}
	monitorBackendStatus struct {
		State        wire.BackendState `json:"state"`
		StateString  string            `json:"string_state"`
		Defrag       wire.DefragState  `json:"defrag_state"`
		DefragString string            `json:"string_defrag_state"`
		Start        monitorTime       `json:"last_start"`
		StartString  string            `json:"string_last_time"`
		StartError   int32             `json:"last_start_err"`
		ReadOnly     bool              `json:"read_only"`
		Delay        uint32            `json:"delay"`
	}
	monitorBackendIO struct {
		Blocking    monitorSize `json:"blocking"`
		Nonblocking monitorSize `json:"nonblocking"`
	}
	monitorBackendDetail struct {
		Summary monitorSummary `json:"summary_stats"`
		Config  monitorConfig  `json:"config"`
		VFS     monitorVFS     `json:"vfs"`
		// Error is why the store takes no changes any more; empty: it does.
		Error string `json:"error,omitempty"`
	}
	monitorSummary struct {
		Records     int64 `json:"records_total"`
		Removed     int64 `json:"records_removed"`      // not counted by this node
		RemovedSize int64 `json:"records_removed_size"` // what compaction would free, bytes
		Corrupted   int64 `json:"records_corrupted"`    // not counted by this node
		BaseSize    int64 `json:"base_size"`            // of all segments, bytes
	}
	monitorConfig struct {
		Group uint32 `json:"group"`
		Data  string `json:"data"`
		Sync  string `json:"sync"`
	}
	monitorVFS struct {
		BlockSize    int64 `json:"bsize"`
		FragmentSize int64 `json:"frsize"`
		Blocks       int64 `json:"blocks"`
		Free         int64 `json:"bfree"`
		Available    int64 `json:"bavail"`
	}
	monitorCounts struct {
		Successes uint64 `json:"successes"`
		Failures  uint64 `json:"failures"`
		Size      uint64 `json:"size"` // of the requests' payloads, bytes
		Time      uint64 `json:"time"` // microseconds
	}
)

// vfsBlock is the block size that free space is counted in, in bytes.
const vfsBlock = 4096

const monitorTimeLayout = "2006-01-02 15:04:05.000000"

func monitorTimeOf(t time.Time) monitorTime {
	return monitorTime{t.Unix(), int64(t.Nanosecond()) / 1000}
}

func (n *Node) monitor(want wire.MonitorCategories) *monitorDoc {
	now := time.Now()
	doc := &monitorDoc{Timestamp: monitorTimeOf(now), String: now.Format(monitorTimeLayout), Status: "enabled"}
	if want&(wire.MonitorIO|wire.MonitorBackend|wire.MonitorCache) != 0 {
		doc.Backends = make(map[string]monitorBackend)
		for _, b := range n.backends {
			doc.Backends[strconv.FormatUint(uint64(b.id), 10)] = b.monitor(want)
		}
	}
	if want&wire.MonitorIO != 0 {
		doc.IO = n.monitorIO()
	}
	if want&wire.MonitorCommands != 0 {
		doc.Commands = n.stats.monitor()
	}
	return doc
}

func (b *backend) monitor(want wire.MonitorCategories) monitorBackend {
	s := b.status()
	started := s.LastStart.Time()
	m := monitorBackend{ID: b.id, Status: monitorBackendStatus{
		State: s.State, StateString: s.State.String(), Defrag: s.Defrag, DefragString: "not-started",
		Start: monitorTimeOf(started), StartString: started.Local().Format(monitorTimeLayout),
		StartError: s.StartError, ReadOnly: s.ReadOnly, Delay: s.Delay,
	}}
	if s.Defrag != wire.DefragNone {
		m.Status.DefragString = "in-progress"
	}
	if want&wire.MonitorIO != 0 {
		m.IO = &monitorBackendIO{Blocking: monitorSize{int64(b.queue.waiting())}}
	}
	if want&wire.MonitorBackend == 0 {
		return m
	}
	store := b.acquire()
	if store == nil {
		return m
	}
	defer b.release()
	st := store.Stats()
	m.Backend = &monitorBackendDetail{
		Summary: monitorSummary{Records: st.Records, RemovedSize: st.FileBytes - st.LiveBytes, BaseSize: st.FileBytes},
		Config:  monitorConfig{Group: b.group, Data: b.dir, Sync: b.node.cfg.Sync.String()},
		VFS: monitorVFS{
			BlockSize: vfsBlock, FragmentSize: vfsBlock,
			Blocks: st.DiskBytes / vfsBlock, Free: st.FreeBytes / vfsBlock, Available: st.FreeBytes / vfsBlock,
		},
	}
	if st.ReadOnly != nil {
		m.Backend.Error = st.ReadOnly.Error()
	}
	return m
}

func (n *Node) monitorIO() *monitorIO {
	io := &monitorIO{States: make(map[string]monitorState)}
	for _, b := range n.backends {
		io.Blocking.Current += int64(b.queue.waiting())
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		addr := c.nc.RemoteAddr().String()
		s := io.States[addr] // connections from inside have one address
		c.out.mu.Lock()
		s.SendQueue += c.out.size
		s.InFlight += c.out.inflight
		io.Output.Current += c.out.size
		c.out.mu.Unlock()
		io.States[addr] = s
	}
	return io
}

// monitor is the counts by command. All of it came from outside, and nothing
// was answered by a cache.
func (s *stats) monitor() map[string]any {
	type place struct {
		Outside  monitorCounts `json:"outside"`
		Internal monitorCounts `json:"internal"`
	}
	type places struct {
		Cache place `json:"cache"`
		Disk  place `json:"disk"`
	}
	all := make(map[string]any)
	for i := range s.commands {
		c := &s.commands[i]
		counts := monitorCounts{c.successes.Load(), c.failures.Load(), c.bytes.Load(), c.micros.Load()}
		if counts.Successes == 0 && counts.Failures == 0 {
			continue
		}
		name := "UNKNOWN"
		if i > 0 {
			name = wire.Command(i).String()
		}
		all[name] = places{Disk: place{Outside: counts}}
	}
	return all
}
