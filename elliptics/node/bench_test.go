package node

import (
	"bufio"
	"crypto/sha512"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics/node/engine"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// BenchmarkNode measures requests against a node that does not sync, in
// process and over loopback TCP, with 1 and with 64 in flight on one
// connection (8 for 4 MiB). The client side is as little as possible: prepared
// requests out, answers thrown away.
func BenchmarkNode(b *testing.B) {
	small := make([]byte, 200)
	large := make([]byte, 4<<20)
	id := func(name string, i int) wire.ID { return sha512.Sum512(fmt.Appendf(nil, "%s %d", name, i)) }
	const keys = 64
	request := func(cmd wire.Command, id wire.ID, io *wire.IOAttr, data []byte) [][]byte {
		h := wire.Header{ID: id, Group: 1, Command: cmd, Flags: wire.FlagNeedAck}
		var body []byte
		if io != nil {
			io.ID, io.Size = id, uint64(len(data))
			body = io.Append(nil)
		}
		h.Size = uint64(len(body) + len(data))
		packet := [][]byte{append(h.Append(nil), body...)}
		if len(data) > 0 {
			packet = append(packet, data)
		}
		return packet
	}
	operations := []struct {
		name   string
		size   int64
		flight int
		packet func(i int) [][]byte
	}{
		{"lookup", 0, 64, func(i int) [][]byte { return request(wire.CmdLookup, id("small", i%keys), nil, nil) }},
		{"read200B", 0, 64, func(i int) [][]byte { return request(wire.CmdRead, id("small", i%keys), &wire.IOAttr{}, nil) }},
		{"write200B", 0, 64, func(i int) [][]byte { return request(wire.CmdWrite, id("small", i%keys), &wire.IOAttr{}, small) }},
		{"read4MiB", 4 << 20, 8, func(i int) [][]byte { return request(wire.CmdRead, id("large", i%8), &wire.IOAttr{}, nil) }},
		{"write4MiB", 4 << 20, 8, func(i int) [][]byte { return request(wire.CmdWrite, id("large", i%8), &wire.IOAttr{}, large) }},
	}
	transports := map[string]func(*Config){"pipe": func(*Config) {}, "tcp": listening}
	for _, op := range operations {
		for _, transport := range []string{"pipe", "tcp"} {
			for _, flight := range []int{1, op.flight} {
				b.Run(fmt.Sprintf("%s/%s/%d", op.name, transport, flight), func(b *testing.B) {
					n := startNode(b, transports[transport], func(cfg *Config) { cfg.Sync = engine.SyncNone })
					c := dial(b, n)
					for i := range keys {
						var r wire.FileInfo
						h := wire.Header{ID: id("small", i), Group: 1, Command: wire.CmdWrite, Flags: wire.FlagNeedAck}
						io := wire.IOAttr{ID: h.ID, Size: uint64(len(small))}
						require.NoError(b, r.Decode(c.call(h, io.Append(nil), small).payload))
					}
					for i := range 8 {
						h := wire.Header{ID: id("large", i), Group: 1, Command: wire.CmdWrite, Flags: wire.FlagNeedAck}
						io := wire.IOAttr{ID: h.ID, Size: uint64(len(large))}
						require.Equal(b, wire.OK, c.call(h, io.Append(nil), large).Status)
					}
					c.nc.SetDeadline(time.Time{})
					var packets [][][]byte
					for i := range keys {
						packets = append(packets, op.packet(i))
					}
					b.SetBytes(op.size)
					b.ReportAllocs()
					b.ResetTimer()
					flood(b, c.nc, packets, flight)
				})
			}
		}
	}
}

// BenchmarkRawTCP is the yardstick for read4MiB/tcp: as many bytes in requests
// and answers, of as many records, between a client and a server that do
// nothing but copy memory over a loopback connection.
func BenchmarkRawTCP(b *testing.B) {
	const size = 4 << 20
	for _, flight := range []int{1, 8} {
		b.Run(fmt.Sprintf("copy4MiB/%d", flight), func(b *testing.B) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(b, err)
			defer l.Close()
			var answers [8][]byte
			for i := range answers {
				answer := (&wire.Header{Size: size + wire.IOAttrSize}).Append(nil)
				answers[i] = append(answer, make([]byte, size+wire.IOAttrSize)...)
			}
			request := make([]byte, wire.HeaderSize+wire.IOAttrSize)
			var wg sync.WaitGroup
			defer wg.Wait()
			wg.Go(func() {
				nc, err := l.Accept()
				if err != nil {
					return
				}
				defer nc.Close()
				br := bufio.NewReaderSize(nc, readBuffer)
				ask := make([]byte, len(request))
				for i := 0; ; i++ {
					if _, err := io.ReadFull(br, ask); err != nil {
						return
					}
					if _, err := nc.Write(answers[i%len(answers)]); err != nil {
						return
					}
				}
			})
			nc, err := net.Dial("tcp", l.Addr().String())
			require.NoError(b, err)
			defer nc.Close()
			b.SetBytes(size)
			b.ResetTimer()
			flood(b, nc, [][][]byte{{request}}, flight)
		})
	}
}

// flood sends b.N requests, at most flight of them unanswered.
func flood(b *testing.B, nc net.Conn, packets [][][]byte, flight int) {
	slots := make(chan struct{}, flight)
	var wg sync.WaitGroup
	wg.Go(func() {
		// Requests that may go out at once go out with one call.
		w := bufio.NewWriterSize(nc, 32<<10)
		for i := range b.N {
			select {
			case slots <- struct{}{}:
			default:
				w.Flush()
				slots <- struct{}{}
			}
			for _, p := range packets[i%len(packets)] {
				w.Write(p)
			}
		}
		w.Flush()
	})
	br := bufio.NewReaderSize(nc, 32<<10)
	head := make([]byte, wire.HeaderSize)
	rest := make([]byte, 5<<20)
	for range b.N {
		if _, err := io.ReadFull(br, head); err != nil {
			b.Fatal(err)
		}
		var h wire.Header
		if err := h.Decode(head); err != nil || h.Status != wire.OK {
			b.Fatal(err, h.Status)
		}
		if _, err := io.ReadFull(br, rest[:h.Size]); err != nil {
			b.Fatal(err)
		}
		<-slots
	}
	wg.Wait()
}
