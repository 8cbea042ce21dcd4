package node

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics/internal/vectors"
	"github.com/elliptics-registry/elliptics-registry/elliptics/node/engine"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// FuzzConnection sends arbitrary bytes to a node. It must not panic, must let
// go of the connection when the client leaves, must not keep memory lent, and
// must answer in packets that can be decoded.
func FuzzConnection(f *testing.F) {
	id := key("k")
	seed := func(packets ...[]byte) {
		var b []byte
		for _, p := range packets {
			b = append(b, p...)
		}
		f.Add(b)
	}
	request := func(cmd wire.Command, flags wire.Flags, payload []byte) []byte {
		h := wire.Header{ID: id, Group: 1, Command: cmd, Flags: flags, Size: uint64(len(payload))}
		return append(h.Append(nil), payload...)
	}
	attr := func(flags wire.IOFlags, data string) []byte {
		io := wire.IOAttr{ID: id, Parent: id, Flags: flags, Num: 10, Size: uint64(len(data))}
		return append(io.Append(nil), data...)
	}
	for cmd := wire.Command(0); cmd <= wire.CmdSend+1; cmd++ {
		for _, payload := range [][]byte{nil, make([]byte, 12), make([]byte, 44), make([]byte, 72), make([]byte, 104),
			make([]byte, 136), attr(0, ""), attr(0, "data"), append(attr(0, ""), attr(0, "")...)} {
			seed(request(cmd, wire.FlagNeedAck, payload))
			seed(request(cmd, wire.FlagDirect|wire.FlagDirectBackend|wire.FlagNoLock, payload))
		}
	}
	for _, flags := range []wire.IOFlags{0, wire.IOAppend, prepare, plain, commit, oneShot, wire.IOCompareAndSwap} {
		write := request(wire.CmdWrite, wire.FlagNeedAck, attr(flags, "data"))
		read := request(wire.CmdRead, 0, attr(0, ""))
		seed(write, read)
		seed(write, request(wire.CmdLookup, wire.FlagChecksum, nil), write, read, write[:len(write)-1])
	}
	hello := wire.Header{ID: wire.Handshake{Version: wire.Version226}.ID(), Command: wire.CmdReverseLookup}
	seed(hello.Append(nil), request(wire.CmdRouteList, wire.FlagNeedAck, nil))
	seed(request(wire.CmdWrite, wire.FlagReply, attr(0, "data")), hello.Append(nil))

	for _, name := range vectors.Names(f, captures) {
		var requests [][]byte
		for _, p := range vectors.Load(f, captures, name) {
			if p.Direction == vectors.Request {
				requests = append(requests, p.Bytes)
			}
		}
		seed(requests...)
	}

	end := bytes.Repeat([]byte{0xff}, minMaxRequest+2*wire.HeaderSize)
	n := startNode(f, func(cfg *Config) {
		cfg.Sync = engine.SyncNone
		cfg.MaxRequest = minMaxRequest
		cfg.MaxMemory = 4 << 20
	})
	f.Fuzz(func(t *testing.T, input []byte) {
		nc, err := n.Dial(t.Context(), "tcp", n.Addr().String())
		require.NoError(t, err)
		defer nc.Close()
		require.NoError(t, nc.SetDeadline(time.Now().Add(20*time.Second)))
		answers := make(chan error, 1)
		go func() {
			answers <- func() error {
				head := make([]byte, wire.HeaderSize)
				for {
					if _, err := io.ReadFull(nc, head); err != nil {
						return nil // the end; a cut header is an answer that was not finished
					}
					var h wire.Header
					if err := h.Decode(head); err != nil {
						return err
					}
					if _, err := io.CopyN(io.Discard, nc, int64(h.Size)); err != nil {
						return nil
					}
				}
			}()
		}()
		if _, err := nc.Write(input); err == nil {
			// Behind whatever the input left open this is a packet of absurd
			// size: the node answers what it has and hangs up.
			nc.Write(end)
		}
		require.NoError(t, <-answers)
		nc.Close() // or the node waits whether there is more
		require.Eventually(t, func() bool {
			n.mu.Lock()
			defer n.mu.Unlock()
			return len(n.conns) == 0
		}, 20*time.Second, 100*time.Microsecond)
		requireNothingLent(t, n)
		// The next input finds the node as this one did.
		n.readOnly.Store(false)
		b := n.backend(1)
		b.readOnly.Store(false)
		b.delay.Store(0)
		if s := b.enable(); s != wire.ErrAlready {
			require.Equal(t, wire.OK, s)
		}
	})
}
