package wire_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/elliptics-registry/elliptics-registry/elliptics/wire"
)

func TestStatusIsAnError(t *testing.T) {
	require.NoError(t, wire.OK.Err())
	err := fmt.Errorf("read of key %q in group 1: %w", "k", wire.Status(-2).Err())
	require.ErrorIs(t, err, wire.ErrNotFound)
	require.NotErrorIs(t, err, wire.ErrPermission)
	var s wire.Status
	require.ErrorAs(t, err, &s)
	require.Equal(t, wire.ErrNotFound, s)
	require.EqualError(t, err, `read of key "k" in group 1: no such record (status -2)`)
	require.Equal(t, "server error (status -9999)", wire.Status(-9999).Error(), "a number that nobody knows")
	require.NotErrorIs(t, errors.Join(wire.ErrTimeout, wire.ErrNoSpace), wire.ErrNotFound)
}

// TestRetry: a request that was not executed can be sent again; one of which
// nobody knows only if it may be applied twice; what a server has decided does
// not change by asking again.
func TestRetry(t *testing.T) {
	for status := wire.Status(-200); status <= 0; status++ {
		want := wire.RetryNever
		switch status {
		case wire.ErrNoRoute, wire.ErrAgain, wire.ErrRefused, wire.ErrInProgress:
			want = wire.RetrySafe
		case wire.ErrTimeout, wire.ErrConnectionReset, wire.ErrNoMemory, wire.ErrIO:
			want = wire.RetryIdempotent
		}
		require.Equal(t, want, status.Retry(), "%v", status)
	}
}
