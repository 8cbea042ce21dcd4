package wire_test

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics/internal/vectors"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// fuzz gives arbitrary bytes to the decoder of T. It must not panic, must not
// make more of them than they can hold, and what it accepts must survive being
// written and read again. All captured payloads are seeds, and those that the
// decoder takes are what coverage begins with.
func fuzz[T any, P interface {
	*T
	codec
}](f *testing.F, more ...[]byte) {
	for _, b := range more {
		f.Add(b)
	}
	for _, name := range vectors.Names(f, captures) {
		for _, p := range vectors.Load(f, captures, name) {
			var v T
			if P(&v).Decode(p.Payload()) == nil {
				f.Add(p.Payload())
			}
		}
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		var v, again T
		if err := P(&v).Decode(src); err != nil {
			require.ErrorIs(t, err, wire.ErrMalformed)
			return
		}
		b := P(&v).Append(nil)
		// 16 bytes are the shortest thing of which a peer announces a number,
		// and msgpack of 2 fields may be written as 4.
		if _, compressed := any(&v).(*wire.MonitorReply); !compressed {
			require.LessOrEqual(t, len(b), 2*len(src)+16)
		}
		require.NoError(t, P(&again).Decode(b))
		if !reflect.DeepEqual(v, again) {
			t.Fatalf("read %+v, then wrote and read %+v", v, again)
		}
		require.Equal(t, b, P(&again).Append(nil))
	})
}

func FuzzHeader(f *testing.F) {
	var heads [][]byte
	for _, name := range vectors.Names(f, captures) {
		for _, p := range vectors.Load(f, captures, name) {
			heads = append(heads, p.Bytes[:wire.HeaderSize])
		}
	}
	fuzz[wire.Header](f, heads...)
}

func FuzzIOAttr(f *testing.F)          { fuzz[wire.IOAttr](f) }
func FuzzFileInfo(f *testing.F)        { fuzz[wire.FileInfo](f) }
func FuzzRoutes(f *testing.F)          { fuzz[wire.Routes](f) }
func FuzzUpdateIDs(f *testing.F)       { fuzz[wire.UpdateIDs](f) }
func FuzzRouteList(f *testing.F)       { fuzz[wire.RouteList](f) }
func FuzzAuth(f *testing.F)            { fuzz[wire.Auth](f) }
func FuzzNodeStatus(f *testing.F)      { fuzz[wire.NodeStatus](f) }
func FuzzMonitorRequest(f *testing.F)  { fuzz[wire.MonitorRequest](f) }
func FuzzMonitorReply(f *testing.F)    { fuzz[wire.MonitorReply](f) }
func FuzzBackendStatuses(f *testing.F) { fuzz[wire.BackendStatuses](f) }
func FuzzIndexRequest(f *testing.F)    { fuzz[wire.IndexRequest](f) }
func FuzzIndexFind(f *testing.F)       { fuzz[wire.IndexFind](f) }
func FuzzIndexReply(f *testing.F)      { fuzz[wire.IndexReply](f) }
func FuzzIndexFound(f *testing.F)      { fuzz[wire.IndexFound](f) }
func FuzzIteratorReply(f *testing.F)   { fuzz[wire.IteratorReply](f) }

func FuzzIteratorRequest(f *testing.F) {
	r := wire.IteratorRequest{Action: wire.IteratorStart, Type: wire.IteratorServerSend,
		Ranges: make([]wire.IDRange, 2), Groups: []uint32{1, 2, 3}}
	fuzz[wire.IteratorRequest](f, r.Append(nil))
}

func FuzzBackendControl(f *testing.F) {
	c := wire.BackendControl{Backend: 1, Command: wire.BackendSetIDs, IDs: make([]wire.ID, 2)}
	fuzz[wire.BackendControl](f, c.Append(nil))
}

func FuzzNotification(f *testing.F) {
	n := wire.Notification{IO: wire.IOAttr{Size: 5}}
	fuzz[wire.Notification](f, n.Append(nil))
}

func FuzzIndexTable(f *testing.F) {
	var tables [][]byte
	for _, p := range vectors.Load(f, captures, "list-indexes") {
		if p.Header.Command == wire.CmdRead && p.Direction == vectors.Reply {
			tables = append(tables, p.Payload()[wire.IOAttrSize:])
		}
	}
	for _, p := range vectors.Load(f, captures, "iterate") {
		if p.Direction == vectors.Reply && p.Header.Size > 0 {
			tables = append(tables, p.Payload()[wire.IteratorReplySize:])
		}
	}
	fuzz[wire.IndexTable](f, tables...)
}

func FuzzParseRemote(f *testing.F) {
	for _, s := range []string{"127.0.0.1:1025:2", "::1:1025:10", "storage1.example.org:65535:2", "::", ":1:2", "a:0:2", "a:1:3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := wire.ParseRemote(s)
		if err != nil {
			return
		}
		require.NotEmpty(t, r.Host)
		again, err := wire.ParseRemote(r.String())
		require.NoError(t, err)
		require.Equal(t, r, again)
	})
}

func FuzzParseID(f *testing.F) {
	f.Add(wire.HashID("DOCKER", "vec-key").String())
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := wire.ParseID(s)
		if err != nil {
			require.ErrorIs(t, err, wire.ErrMalformed)
			return
		}
		again, err := wire.ParseID(id.String())
		require.NoError(t, err)
		require.Equal(t, id, again)
	})
}
