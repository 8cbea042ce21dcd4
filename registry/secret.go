package registry

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
)

// secretFile holds http.secret of a registry on the embedded node.
const secretFile = "http.secret"

// configureSecret sees to http.secret, which signs the state that a client
// carries from one step of an upload to the next. Without a stable one, an
// upload that is under way does not survive a restart.
func configureSecret(s *Settings) error {
	c := s.Config
	switch {
	case c.HTTP.Secret != "" || c.Proxy.RemoteURL != "":
		return nil
	case s.Storage.Embedded == "":
		slog.Warn("http.secret is not set: uploads end with a restart, and several registries on one cluster need the same one")
		return nil
	}
	path := filepath.Join(s.Storage.Embedded, secretFile)
	b, err := os.ReadFile(path)
	if secret := strings.TrimSpace(string(b)); err == nil && len(secret) >= 32 {
		c.HTTP.Secret = secret
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("http.secret: %w", err)
	}
	random := make([]byte, 32)
	_, _ = rand.Read(random) // never fails
	c.HTTP.Secret = hex.EncodeToString(random)
	if err := os.WriteFile(path, []byte(c.HTTP.Secret+"\n"), 0o600); err != nil {
		return fmt.Errorf("http.secret: %w", err)
	}
	return nil
}
