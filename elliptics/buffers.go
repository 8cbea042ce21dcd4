package elliptics

import (
	"math/bits"
	"sync"
)

// Payloads of replies live in pooled buffers of a power of two bytes. Smaller
// and larger ones are allocated as they are needed.
const (
	minPooled = 7  // 128 bytes
	maxPooled = 23 // 8 MiB
)

var bufferPools [maxPooled + 1]sync.Pool

// getBuffer returns n bytes and what putBuffer takes back, nil for a buffer
// that is not pooled.
func getBuffer(n int) (b []byte, pooled *[]byte) {
	class := bits.Len(uint(max(n, 1) - 1))
	if class < minPooled || class > maxPooled {
		return make([]byte, n), nil
	}
	if p, ok := bufferPools[class].Get().(*[]byte); ok {
		return (*p)[:n], p
	}
	full := make([]byte, 1<<class)
	return full[:n], &full
}

func putBuffer(p *[]byte) {
	if p != nil {
		bufferPools[bits.Len(uint(len(*p)-1))].Put(p)
	}
}
