package wire

import (
	"bytes"
	"compress/zlib"
	"fmt"
	"io"
)

// MonitorCategories choose the parts of a node's statistics.
type MonitorCategories uint64

// Categories of statistics.
const (
	MonitorCache    MonitorCategories = 1 << 0
	MonitorIO       MonitorCategories = 1 << 1
	MonitorCommands MonitorCategories = 1 << 2
	MonitorBackend  MonitorCategories = 1 << 4
	MonitorStats    MonitorCategories = 1 << 5
	MonitorProcFS   MonitorCategories = 1 << 6
	MonitorTop      MonitorCategories = 1 << 7
	MonitorAll      MonitorCategories = 1<<64 - 1
)

// MonitorRequest is the payload of a MONITOR_STAT request.
type MonitorRequest struct {
	Categories MonitorCategories
}

const monitorRequestSize = 44

// Append writes the 44 bytes of r to dst.
func (r *MonitorRequest) Append(dst []byte) []byte {
	dst = le.AppendUint64(dst, uint64(r.Categories))
	return append(dst, make([]byte, monitorRequestSize-8)...)
}

// Decode reads r from the whole of src.
func (r *MonitorRequest) Decode(src []byte) error {
	if len(src) != monitorRequestSize {
		return malformed("monitor request has %d bytes, %d expected", len(src), monitorRequestSize)
	}
	r.Categories = MonitorCategories(le.Uint64(src))
	return nil
}

// MonitorReply is the payload of the answer to MONITOR_STAT: a JSON document,
// compressed as a zlib stream.
type MonitorReply struct {
	JSON []byte
}

// maxMonitorJSON bounds a document that Decode unpacks, in bytes.
const maxMonitorJSON = 64 << 20

// Append writes r to dst, compressed.
func (r *MonitorReply) Append(dst []byte) []byte {
	b := bytes.NewBuffer(dst)
	z := zlib.NewWriter(b)
	_, _ = z.Write(r.JSON) // a bytes.Buffer takes everything
	_ = z.Close()
	return b.Bytes()
}

// Decode reads r from the whole of src. A document of more than 64 MiB is
// refused.
func (r *MonitorReply) Decode(src []byte) error {
	z, err := zlib.NewReader(bytes.NewReader(src))
	if err != nil {
		return fmt.Errorf("%w: statistics: %w", ErrMalformed, err)
	}
	b, err := io.ReadAll(io.LimitReader(z, maxMonitorJSON+1))
	if err != nil {
		return fmt.Errorf("%w: statistics: %w", ErrMalformed, err)
	}
	if len(b) > maxMonitorJSON {
		return malformed("statistics are longer than %d bytes", maxMonitorJSON)
	}
	r.JSON = b
	return nil
}
