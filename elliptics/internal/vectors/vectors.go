// Package vectors reads the packets that were captured between real Elliptics
// clients and servers, for the golden tests of this repository. Nothing but
// tests imports it.
//
// The captures are in wire/testdata/vectors, a file for each operation. Their
// headers and payloads are what went over the wire; paths and addresses are
// those of the servers that were captured.
package vectors

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// Packet is one captured packet.
type Packet struct {
	Op        string // command name
	Note      string // what it shows
	Direction string // Request, Reply or Notify
	Node      string // address of the server
	Conn      int    // number of the connection within the capture
	Bytes     []byte // header and payload
	Header    wire.Header
}

// Directions: from a client to a server, back, and without being asked.
const (
	Request = "request"
	Reply   = "reply"
	Notify  = "notify"
)

// Payload is what follows the header.
func (p *Packet) Payload() []byte { return p.Bytes[wire.HeaderSize:] }

// idsFile has another form than the captures.
const idsFile = "ids"

// Names lists all captures of dir, the path of wire/testdata/vectors.
func Names(t testing.TB, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	require.NoError(t, err)
	var names []string
	for _, f := range files {
		if name := strings.TrimSuffix(filepath.Base(f), ".json"); name != idsFile {
			names = append(names, name)
		}
	}
	require.NotEmpty(t, names, "no captures in %s", dir)
	return names
}

// Load reads a capture, its packets in the order in which they were seen.
func Load(t testing.TB, dir, name string) []Packet {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name+".json"))
	require.NoError(t, err)
	var raw []struct {
		Op, Note, Direction, Node, Hex string
		Conn                           int
	}
	require.NoError(t, json.Unmarshal(b, &raw), name)
	packets := make([]Packet, len(raw))
	for i, r := range raw {
		p := Packet{Op: r.Op, Note: r.Note, Direction: r.Direction, Node: r.Node, Conn: r.Conn}
		p.Bytes, err = hex.DecodeString(r.Hex)
		require.NoError(t, err, name)
		require.NoError(t, p.Header.Decode(p.Bytes), name)
		require.EqualValues(t, len(p.Payload()), p.Header.Size, name)
		packets[i] = p
	}
	return packets
}

// IDs is what follows from the id of a key, as an object and as a tag.
type IDs struct {
	Namespace   string
	Key         string
	ID          wire.ID
	ObjectTable wire.ID
	ObjectShard map[uint32]uint32    // by the number of shards
	IndexShards map[uint32][]wire.ID // by the number of shards
}

// LoadIDs reads the test data of derived ids.
func LoadIDs(t testing.TB, dir string) []IDs {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, idsFile+".json"))
	require.NoError(t, err)
	var raw struct {
		IDs []struct {
			Namespace   string              `json:"namespace"`
			Key         string              `json:"key"`
			ID          string              `json:"id"`
			ObjectTable string              `json:"object_table"`
			ObjectShard map[uint32]uint32   `json:"object_shard"`
			IndexShards map[uint32][]string `json:"index_shards"`
		} `json:"ids"`
	}
	require.NoError(t, json.Unmarshal(b, &raw))
	parse := func(s string) wire.ID {
		id, err := wire.ParseID(s)
		require.NoError(t, err)
		return id
	}
	all := make([]IDs, len(raw.IDs))
	for i, r := range raw.IDs {
		all[i] = IDs{Namespace: r.Namespace, Key: r.Key, ID: parse(r.ID), ObjectTable: parse(r.ObjectTable),
			ObjectShard: r.ObjectShard, IndexShards: make(map[uint32][]wire.ID)}
		for n, ids := range r.IndexShards {
			for _, id := range ids {
				all[i].IndexShards[n] = append(all[i].IndexShards[n], parse(id))
			}
		}
	}
	return all
}
