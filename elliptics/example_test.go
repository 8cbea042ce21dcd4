package elliptics_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/elliptics/node"
	"github.com/elliptics-registry/elliptics-registry/elliptics/node/engine"
	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

// exampleServer stands for a cluster: an embedded node with groups 1, 2 and 3.
func exampleServer() (remote string, stop func()) {
	dir, err := os.MkdirTemp("", "elliptics-example")
	if err != nil {
		panic(err)
	}
	n, err := node.OpenDir(dir, []uint32{1, 2, 3}, node.Config{
		Listen: "127.0.0.1:0", Sync: engine.SyncNone, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		panic(err)
	}
	return n.Remote(), func() {
		n.Close()
		os.RemoveAll(dir)
	}
}

// exampleClient is a client that is connected to it.
func exampleClient() (n *elliptics.Node, stop func()) {
	remote, stopServer := exampleServer()
	n, err := elliptics.NewNode(elliptics.Config{Remotes: []string{remote}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		panic(err)
	}
	if err := n.Wait(context.Background()); err != nil {
		panic(err)
	}
	return n, func() {
		n.Close()
		stopServer()
	}
}

func Example() {
	remote, stop := exampleServer() // in real life, the address of a dnet_ioserv
	defer stop()

	n, err := elliptics.NewNode(elliptics.Config{Remotes: []string{remote}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer n.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := n.Wait(ctx); err != nil {
		fmt.Println(err)
		return
	}

	s := n.NewSession(1, 2, 3).WithNamespace("greetings")
	if _, err := s.WriteData(ctx, s.Key("hello"), []byte("Hello, Elliptics!")); err != nil {
		fmt.Println(err)
		return
	}
	r, err := s.Read(ctx, s.Key("hello"), 0, 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s (%d bytes, from group %d)\n", r.Data, r.TotalSize, r.Group)
	// Output: Hello, Elliptics! (17 bytes, from group 1)
}

// A part of a record, and what an error says.
func ExampleSession_Read() {
	n, stop := exampleClient()
	defer stop()
	ctx := context.Background()
	s := n.NewSession(1)
	_, _ = s.WriteData(ctx, s.Key("digits"), []byte("0123456789"))

	r, _ := s.Read(ctx, s.Key("digits"), 3, 4)
	fmt.Printf("%s\n", r.Data)
	r.Release() // the buffer is used again

	_, err := s.Read(ctx, s.Key("digits"), 10, 1)
	fmt.Println(errors.Is(err, elliptics.ErrTooBig))
	_, err = s.Read(ctx, s.Key("letters"), 0, 0)
	fmt.Println(errors.Is(err, elliptics.ErrNotFound), elliptics.Missing(err))
	// Output:
	// 3456
	// true
	// true true
}

// What the groups say one by one.
func ExampleSession_Write() {
	n, stop := exampleClient()
	defer stop()
	ctx := context.Background()
	s := n.NewSession(1, 2, 7).WithChecker(elliptics.Quorum)

	results, err := s.Write(ctx, s.Key("k"), elliptics.Write{
		Data:      [][]byte{[]byte("in two "), []byte("pieces")}, // sent without a copy
		Timestamp: elliptics.Time{Sec: 1500000000},
		UserFlags: 42,
	})
	fmt.Println("error:", err)
	for _, r := range results {
		if r.Err != nil {
			fmt.Println("group", r.Group, "failed, no route:", errors.Is(r.Err, elliptics.ErrNoRoute))
		} else {
			fmt.Println("group", r.Group, "has", r.Info.Size, "bytes")
		}
	}
	// Output:
	// error: <nil>
	// group 1 has 13 bytes
	// group 2 has 13 bytes
	// group 7 failed, no route: true
}

// Create a record only if there is none, and replace it only if nobody else has.
func ExampleSession_Write_conditional() {
	n, stop := exampleClient()
	defer stop()
	ctx := context.Background()
	s := n.NewSession(1)
	absent := new([64]byte)
	create := elliptics.Write{Data: [][]byte{[]byte("mine")}, IfChecksum: absent}

	_, err := s.Write(ctx, s.Key("lock"), create)
	fmt.Println("first:", err)
	_, err = s.Write(ctx, s.Key("lock"), create)
	fmt.Println("second:", errors.Is(err, elliptics.ErrConflict))
	// Output:
	// first: <nil>
	// second: true
}

// Count, whoever else counts at the same time.
func ExampleSession_Update() {
	n, stop := exampleClient()
	defer stop()
	ctx := context.Background()
	s := n.NewSession(1, 2, 3)

	for range 3 {
		_, err := s.Update(ctx, s.Key("counter"), 0, func(old []byte) ([]byte, error) {
			count, _ := strconv.Atoi(string(old)) // nil at first
			return []byte(strconv.Itoa(count + 1)), nil
		})
		if err != nil {
			fmt.Println(err)
		}
	}
	r, _ := s.Read(ctx, s.Key("counter"), 0, 0)
	fmt.Printf("%s\n", r.Data)
	// Output: 3
}

// A record that is larger than memory should hold.
func ExampleSession_WriteChunked() {
	n, stop := exampleClient()
	defer stop()
	ctx := context.Background()
	s := n.NewSession(1, 2, 3)
	text := strings.Repeat("all work and no play ", 100_000)

	_, err := s.WriteChunked(ctx, s.Key("novel"), strings.NewReader(text), uint64(len(text)), 512<<10)
	fmt.Println(err)
	total := 0
	for offset := 0; offset < len(text); offset += 512 << 10 {
		r, err := s.Read(ctx, s.Key("novel"), uint64(offset), 512<<10)
		if err != nil {
			fmt.Println(err)
			return
		}
		total += len(r.Data)
		r.Release()
	}
	fmt.Println(total)
	// Output:
	// <nil>
	// 2100000
}

// Which groups have a record, and how new it is.
func ExampleSession_LookupLatest() {
	n, stop := exampleClient()
	defer stop()
	ctx := context.Background()
	s := n.NewSession(1, 2, 3)
	_, _ = s.WithTimestamp(elliptics.Time{Sec: 1000}).WriteData(ctx, s.Key("k"), []byte("old"))
	_, _ = s.WithGroups(2).WithTimestamp(elliptics.Time{Sec: 2000}).WriteData(ctx, s.Key("k"), []byte("newer"))

	found, _ := s.LookupLatest(ctx, s.Key("k"))
	for _, f := range found {
		fmt.Println("group", f.Group, f.Info.Timestamp.Time().Format(time.TimeOnly), f.Info.Size, "bytes")
	}
	r, _ := s.ReadLatest(ctx, s.Key("k"), 0, 0)
	fmt.Printf("%s\n", r.Data)
	// Output:
	// group 2 00:33:20 5 bytes
	// group 1 00:16:40 3 bytes
	// group 3 00:16:40 3 bytes
	// newer
}

// Many small records with one request for each server.
func ExampleSession_BulkRead() {
	n, stop := exampleClient()
	defer stop()
	ctx := context.Background()
	s := n.NewSession(1)
	var keys []elliptics.Key
	for _, name := range []string{"a", "b", "c"} {
		keys = append(keys, s.Key(name))
		_, _ = s.WriteData(ctx, s.Key(name), []byte("record "+name))
	}

	found, err := s.BulkRead(ctx, append(keys, s.Key("d")))
	fmt.Println(len(found), err)
	fmt.Printf("%s\n", found[s.Key("b")].Data)
	fmt.Println(s.BulkRemove(ctx, keys)) // the errors
	// Output:
	// 3 <nil>
	// record b
	// map[]
}

// Everything that a group has.
func ExampleSession_Iterate() {
	n, stop := exampleClient()
	defer stop()
	ctx := context.Background()
	s := n.NewSession(1, 2, 3)
	for i := range 5 {
		_, _ = s.WriteData(ctx, s.Key(strconv.Itoa(i)), []byte("record "+strconv.Itoa(i)))
	}

	var found []string
	for e, err := range s.Iterate(ctx, 1, elliptics.Iteration{Data: true}) {
		if err != nil {
			fmt.Println(err) // something is missing; the loop goes on
			continue
		}
		if e.RecordFlags&wire.RecordUncommitted == 0 {
			found = append(found, string(e.Data))
		}
	}
	slices.Sort(found) // they come in the order of the storage
	fmt.Println(strings.Join(found, ", "))
	// Output: record 0, record 1, record 2, record 3, record 4
}

// Tags on records, on servers that have secondary indexes.
func ExampleSession_FindAllIndexes() {
	n, stop := exampleClient()
	defer stop()
	ctx := context.Background()
	s := n.NewSession(1, 2, 3)
	for name, tags := range map[string][]string{"apple": {"red", "round"}, "cherry": {"red", "round"}, "chili": {"red"}} {
		var indexes []elliptics.Index
		for _, tag := range tags {
			// No name is stored, so it goes into the data.
			indexes = append(indexes, elliptics.Index{Tag: s.Key(tag), Data: []byte(name)})
		}
		if _, err := s.UpdateIndexes(ctx, s.Key(name), indexes); err != nil {
			fmt.Println(err)
		}
	}

	found, err := s.FindAllIndexes(ctx, []elliptics.Key{s.Key("red"), s.Key("round")})
	if errors.Is(err, elliptics.ErrNoIndexes) {
		fmt.Println("these servers cannot do that")
	}
	var names []string
	for _, o := range found {
		names = append(names, string(o.Indexes[0].Data))
	}
	slices.Sort(names)
	fmt.Println(names, err)
	// Output: [apple cherry] <nil>
}

// Try again what can be tried again.
func ExampleRetry() {
	n, stop := exampleClient()
	defer stop()
	s := n.NewSession(1, 7, 8)
	_, err := s.WriteData(context.Background(), s.Key("k"), []byte("data"))
	switch elliptics.Retry(err) {
	case wire.RetrySafe:
		fmt.Println("nothing has happened: send it again")
	case wire.RetryIdempotent:
		fmt.Println("it may have happened: send it again if twice is as good as once")
	case wire.RetryNever:
		fmt.Println("it would fail the same way")
	}
	// Output: it may have happened: send it again if twice is as good as once
}

// Which servers there are, and what they are like.
func ExampleNode_Remotes() {
	n, stop := exampleClient()
	defer stop()
	for _, r := range n.Remotes() {
		var groups []uint32
		for _, b := range r.Backends {
			groups = append(groups, b.Group)
		}
		backends, err := n.BackendStatus(context.Background(), r.Address)
		fmt.Println("protocol", r.Version, "groups", groups, "backends", len(backends), backends[0].State, err)
	}
	// Output: protocol [2 26 11 1] groups [1 2 3] backends 3 enabled <nil>
}
