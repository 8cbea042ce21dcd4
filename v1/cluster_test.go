package v1_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/elliptics/ellipticstest"
	"github.com/elliptics-registry/elliptics-registry/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = time.Minute // until a test gives up

// connect opens a client whose nodes are all connected.
func connect(t *testing.T, remotes []string, edit func(*elliptics.Config)) *elliptics.Node {
	t.Helper()
	cfg := elliptics.Config{
		Remotes: remotes, WaitTimeout: 5 * time.Second, CheckTimeout: time.Second,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	if edit != nil {
		edit(&cfg)
	}
	n, err := elliptics.NewNode(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { n.Close() })
	require.Eventually(t, func() bool {
		for _, r := range n.Remotes() {
			if r.Configured && r.Connections < 2 {
				return false
			}
		}
		return true
	}, patience, 5*time.Millisecond, "the nodes cannot be reached")
	return n
}

// servers are where a test runs: embedded nodes, or those of
// ELLIPTICS_TEST_REMOTES (host:port:family, separated by spaces) with the groups
// of ELLIPTICS_TEST_GROUPS (default 1). Real servers need indexes: 2.26.
func servers(t *testing.T, groups ...uint32) (store *v1.Store, session *elliptics.Session) {
	t.Helper()
	remotes := strings.Fields(os.Getenv("ELLIPTICS_TEST_REMOTES"))
	if len(remotes) == 0 {
		remotes = ellipticstest.Start(t, groups...).Remotes()
	} else {
		groups = []uint32{1}
		if s := os.Getenv("ELLIPTICS_TEST_GROUPS"); s != "" {
			groups = nil
			for _, f := range strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == ',' }) {
				g, err := strconv.ParseUint(f, 10, 32)
				require.NoError(t, err, "ELLIPTICS_TEST_GROUPS")
				groups = append(groups, uint32(g))
			}
		}
	}
	// Real servers keep what earlier tests left.
	namespace := fmt.Sprintf("%s %d", t.Name(), time.Now().UnixNano())
	session = connect(t, remotes, nil).NewSession(groups...).WithNamespace(namespace)
	return v1.New(session), session
}

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}
