package pipe

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/net/nettest"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type addr string

func (a addr) Network() string { return "test" }
func (a addr) String() string  { return string(a) }

func pair() (*Conn, *Conn) { return New(addr("a"), addr("b")) }

// TestNetConn runs the suite that the Go project has for implementations of
// net.Conn.
func TestNetConn(t *testing.T) {
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		a, b := pair()
		return a, b, func() { a.Close(); b.Close() }, nil
	})
}

func TestAddresses(t *testing.T) {
	a, b := pair()
	require.Equal(t, addr("a"), a.LocalAddr())
	require.Equal(t, addr("b"), a.RemoteAddr())
	require.Equal(t, addr("b"), b.LocalAddr())
	require.Equal(t, addr("a"), b.RemoteAddr())
}

// TestBytesArrive sends random pieces with random calls and reads them with
// random lengths: the stream is the same whatever way each piece took.
func TestBytesArrive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		rng := rand.New(rand.NewPCG(seed, 1))
		length := func(rng *rand.Rand) int {
			switch rng.IntN(3) {
			case 0:
				return rng.IntN(200)
			case 1:
				return rng.IntN(ringSize)
			}
			return rng.IntN(4 * ringSize)
		}
		a, b := pair()
		defer a.Close()
		defer b.Close()
		var want bytes.Buffer
		sent := make(chan error, 1)
		go func() {
			sent <- func() error {
				defer a.Close()
				for range 20 {
					bufs := make([][]byte, 1+rng.IntN(4))
					for i := range bufs {
						bufs[i] = make([]byte, length(rng))
						for j := range bufs[i] {
							bufs[i][j] = byte(rng.Uint32())
						}
						want.Write(bufs[i])
					}
					if len(bufs) > 1 {
						if n, err := a.WriteBuffers(bufs); err != nil || n != size(bufs) {
							return errors.Join(err, errors.New("short WriteBuffers"))
						}
						continue
					}
					if n, err := a.Write(bufs[0]); err != nil || n != len(bufs[0]) {
						return errors.Join(err, errors.New("short Write"))
					}
				}
				return nil
			}()
		}()
		reads := rand.New(rand.NewPCG(seed, 2))
		var got bytes.Buffer
		for {
			p := make([]byte, 1+length(reads))
			n, err := b.Read(p)
			got.Write(p[:n])
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("read: %v", err)
			}
		}
		if err := <-sent; err != nil {
			t.Fatalf("write: %v", err)
		}
		if !bytes.Equal(want.Bytes(), got.Bytes()) {
			t.Fatalf("%d bytes sent, %d other bytes arrived", want.Len(), got.Len())
		}
	})
}

func TestSmallWritesNeedNoReader(t *testing.T) {
	a, b := pair()
	defer b.Close()
	for range ringSize / 512 {
		_, err := a.Write(make([]byte, 512))
		require.NoError(t, err)
	}
	require.NoError(t, a.Close())
	got, err := io.ReadAll(b)
	require.NoError(t, err)
	require.Len(t, got, ringSize)
}

func TestWriteToClosedPeer(t *testing.T) {
	a, b := pair()
	defer a.Close()
	started := make(chan struct{})
	failed := make(chan error, 1)
	go func() {
		close(started)
		_, err := a.Write(make([]byte, 10*ringSize))
		failed <- err
	}()
	<-started
	require.NoError(t, b.Close())
	require.ErrorIs(t, <-failed, io.ErrClosedPipe)
	_, err := b.Read(make([]byte, 1))
	require.ErrorIs(t, err, net.ErrClosed)
}

// TestWriteLetsGo checks the promise that a failed write does not touch the
// caller's memory later: what a reader gets after it is not the caller's.
func TestCloseWrite(t *testing.T) {
	a, b := pair()
	defer a.Close()
	defer b.Close()
	_, err := a.Write([]byte("last words"))
	require.NoError(t, err)
	require.NoError(t, a.CloseWrite())
	got, err := io.ReadAll(b)
	require.NoError(t, err)
	require.Equal(t, "last words", string(got))
	_, err = a.Write([]byte("more"))
	require.ErrorIs(t, err, net.ErrClosed)
	_, err = b.Write([]byte("answer"))
	require.NoError(t, err)
	answer := make([]byte, 6)
	_, err = io.ReadFull(a, answer)
	require.NoError(t, err)
	require.Equal(t, "answer", string(answer))
}

func TestWriteLetsGo(t *testing.T) {
	a, b := pair()
	defer a.Close()
	defer b.Close()
	payload := bytes.Repeat([]byte{1}, 4*ringSize)
	require.NoError(t, a.SetWriteDeadline(time.Now().Add(time.Millisecond)))
	n, err := a.Write(payload)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.Zero(t, n)
	clear(payload)
	require.NoError(t, a.SetWriteDeadline(time.Time{}))
	_, err = a.Write([]byte{7})
	require.NoError(t, err)
	p := make([]byte, 10)
	n, err = b.Read(p)
	require.NoError(t, err)
	require.Equal(t, []byte{7}, p[:n])
}

// TestMovedDeadline moves the deadline of a reader that waits, both ways.
func TestMovedDeadline(t *testing.T) {
	a, b := pair()
	defer a.Close()
	defer b.Close()
	require.NoError(t, b.SetReadDeadline(time.Now().Add(time.Hour)))
	failed := make(chan error, 1)
	go func() {
		_, err := b.Read(make([]byte, 1))
		failed <- err
	}()
	for _, d := range []time.Duration{2 * time.Hour, time.Minute, time.Millisecond} {
		require.NoError(t, b.SetReadDeadline(time.Now().Add(d)))
	}
	err := <-failed
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	var timeout net.Error
	require.ErrorAs(t, err, &timeout)
	require.True(t, timeout.Timeout())
}

func benchmark(b *testing.B, size int, dial func() (net.Conn, net.Conn)) {
	w, r := dial()
	defer w.Close()
	defer r.Close()
	go func() {
		p := make([]byte, size)
		for {
			if _, err := io.ReadFull(r, p); err != nil {
				return
			}
			if _, err := r.Write(p[:1]); err != nil {
				return
			}
		}
	}()
	p := make([]byte, size)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.Write(p); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(w, p[:1]); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRoundTrip sends a payload and waits for one byte, over this
// package and over loopback TCP.
func BenchmarkRoundTrip(b *testing.B) {
	transports := map[string]func() (net.Conn, net.Conn){
		"pipe": func() (net.Conn, net.Conn) { x, y := pair(); return x, y },
		"tcp": func() (net.Conn, net.Conn) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(b, err)
			defer l.Close()
			x, err := net.Dial("tcp", l.Addr().String())
			require.NoError(b, err)
			y, err := l.Accept()
			require.NoError(b, err)
			return x, y
		},
	}
	for _, size := range []struct {
		name string
		n    int
	}{{"120B", 120}, {"64KiB", 64 << 10}, {"4MiB", 4 << 20}} {
		for _, name := range []string{"pipe", "tcp"} {
			b.Run(size.name+"/"+name, func(b *testing.B) { benchmark(b, size.n, transports[name]) })
		}
	}
}
