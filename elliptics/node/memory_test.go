package node

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestBufferClasses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(0, 1<<40).Draw(t, "n")
		class, capacity := classOf(n)
		if capacity < n || class < 0 || class >= maxClass {
			t.Fatalf("%d bytes: class %d of %d bytes", n, class, capacity)
		}
		if n > minBuffer && (capacity-n)*5 > capacity {
			t.Fatalf("%d bytes: %d of %d wasted", n, capacity-n, capacity)
		}
		if again, same := classOf(capacity); again != class || same != capacity {
			t.Fatalf("%d bytes: class %d holds %d bytes, which are in class %d of %d", n, class, capacity, again, same)
		}
		if next, more := classOf(capacity + 1); next != class+1 || more <= capacity {
			t.Fatalf("%d bytes: class %d of %d bytes is followed by %d of %d", n, class, capacity, next, more)
		}
	})
}

func TestMemoryIsBounded(t *testing.T) {
	m := newMemory(8 << 10)
	a, err := m.get(t.Context(), 4<<10)
	require.NoError(t, err)
	b, err := m.get(t.Context(), 4<<10)
	require.NoError(t, err)
	require.Len(t, a.b, 4<<10)

	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = m.get(gone, 1)
	require.ErrorIs(t, err, context.Canceled)

	got := make(chan *buffer)
	go func() {
		c, _ := m.get(context.Background(), 3<<10)
		got <- c
	}()
	b.free()
	c := <-got
	require.Len(t, c.b, 3<<10)
	c.free()
	a.free()
	_, err = m.get(t.Context(), 8<<10)
	require.NoError(t, err, "everything was given back")
}
