package wire_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics/internal/vectors"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

const captures = "testdata/vectors"

// codec is what every structure of the protocol has.
type codec interface {
	Append([]byte) []byte
	Decode([]byte) error
}

// data is a payload that the protocol does not look into.
type data []byte

func (d *data) Append(dst []byte) []byte { return append(dst, *d...) }
func (d *data) Decode(src []byte) error  { *d = append((*d)[:0], src...); return nil }

// row is one structure behind the other.
type row []codec

func (r row) Append(dst []byte) []byte {
	for _, c := range r {
		dst = c.Append(dst)
	}
	return dst
}

// Decode finds out where a structure ends by writing it again.
func (r row) Decode(src []byte) error {
	for _, c := range r {
		if err := c.Decode(src); err != nil {
			return err
		}
		src = src[min(len(src), len(c.Append(nil))):]
	}
	return nil
}

// structures are those that make up the payload of a packet; nil for a packet
// that has none.
func structures(p *vectors.Packet) codec {
	if p.Header.Size == 0 {
		return nil
	}
	request := p.Direction == vectors.Request
	switch p.Header.Command {
	case wire.CmdReverseLookup, wire.CmdJoin:
		return &wire.Routes{}
	case wire.CmdUpdateIDs:
		return &wire.UpdateIDs{}
	case wire.CmdRouteList:
		return &wire.RouteList{}
	case wire.CmdAuth:
		return &wire.Auth{}
	case wire.CmdStatus:
		return &wire.NodeStatus{}
	case wire.CmdBackendStatus:
		return &wire.BackendStatuses{}
	case wire.CmdLookup:
		return &wire.FileInfo{}
	case wire.CmdRead, wire.CmdDel:
		return row{&wire.IOAttr{}, &data{}}
	case wire.CmdBulkRead:
		var attrs row
		for range len(p.Payload()) / wire.IOAttrSize {
			attrs = append(attrs, &wire.IOAttr{})
		}
		return attrs
	}
	if request {
		switch p.Header.Command {
		case wire.CmdWrite:
			return row{&wire.IOAttr{}, &data{}}
		case wire.CmdIterator:
			return &wire.IteratorRequest{}
		case wire.CmdMonitorStat:
			return &wire.MonitorRequest{}
		case wire.CmdBackendControl:
			return &wire.BackendControl{}
		case wire.CmdIndexesUpdate, wire.CmdIndexesInternal:
			return &wire.IndexRequest{}
		case wire.CmdIndexesFind:
			return &wire.IndexFind{}
		}
	} else {
		switch p.Header.Command {
		case wire.CmdWrite:
			return &wire.FileInfo{}
		case wire.CmdIterator:
			return row{&wire.IteratorReply{}, &data{}}
		case wire.CmdMonitorStat:
			return &wire.MonitorReply{}
		case wire.CmdBackendControl:
			return &wire.BackendStatuses{}
		case wire.CmdIndexesUpdate, wire.CmdIndexesInternal:
			return &wire.IndexReply{}
		case wire.CmdIndexesFind:
			return &wire.IndexFound{}
		}
	}
	return nil
}

// TestCaptures decodes every captured packet and writes it again.
func TestCaptures(t *testing.T) {
	opaque := map[string]string{
		"raw-write-short-payload": "the payload is too short on purpose",
		"v30-exec":                "EXEC is not part of this package",
		"v30-read-new":            "a command of 2.27, to an older server",
	}
	for _, name := range vectors.Names(t, captures) {
		t.Run(name, func(t *testing.T) {
			for i, p := range vectors.Load(t, captures, name) {
				require.Equal(t, p.Bytes[:wire.HeaderSize], p.Header.Append(nil), "header of packet %d", i)
				require.Equal(t, p.Direction == vectors.Reply, p.Header.Flags&wire.FlagReply != 0)
				c := structures(&p)
				if p.Header.Size == 0 {
					continue
				}
				if p.Direction == vectors.Request && opaque[name] != "" {
					continue
				}
				require.NotNil(t, c, "packet %d: nothing decodes %s", i, p.Op)
				require.NoError(t, c.Decode(p.Payload()), "packet %d", i)
				if _, ok := c.(*wire.MonitorReply); ok {
					// Another compressor finds other bytes for the same text.
					again := wire.MonitorReply{}
					require.NoError(t, again.Decode(c.Append(nil)))
					require.Equal(t, c, &again)
					continue
				}
				require.Equal(t, p.Payload(), c.Append(nil), "packet %d: %s %s", i, p.Op, p.Direction)
			}
		})
	}
}

func TestDerivedIDs(t *testing.T) {
	for _, want := range vectors.LoadIDs(t, captures) {
		id := wire.HashID(want.Namespace, want.Key)
		require.Equal(t, want.ID, id, want.Key)
		require.Equal(t, want.ObjectTable, id.ObjectTable())
		for count, shard := range want.ObjectShard {
			require.Equal(t, shard, id.ObjectTable().ShardOf(count), "%s of %d", want.Key, count)
		}
		for count, shards := range want.IndexShards {
			for i, shard := range shards {
				require.Equal(t, shard, id.IndexShard(uint32(i), count), "%s: shard %d of %d", want.Key, i, count)
			}
		}
	}
}
