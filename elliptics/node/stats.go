package node

import (
	"sync/atomic"
	"time"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// stats counts what was executed, by command.
type stats struct {
	commands [maxCommand + 1]commandStats
}

// maxCommand is the highest command number that is counted by itself; others
// share number 0.
const maxCommand = wire.CmdSend

type commandStats struct {
	successes, failures atomic.Uint64
	bytes               atomic.Uint64 // of the requests' payloads
	micros              atomic.Uint64 // from the arrival to the answer
}

func newStats() *stats { return &stats{} }

func (s *stats) count(r *request, status wire.Status) {
	n := r.hdr.Command
	if n < 0 || n > maxCommand {
		n = 0
	}
	c := &s.commands[n]
	if status == wire.OK {
		c.successes.Add(1)
	} else {
		c.failures.Add(1)
	}
	c.bytes.Add(r.hdr.Size)
	c.micros.Add(uint64(time.Since(r.began) / time.Microsecond))
}
