package repair

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/elliptics-registry/elliptics-registry/driver/layout"
)

// state is where a run is, for the next one to go on from.
type state struct {
	Version  int              `json:"version"`
	Command  string           `json:"command"`
	Step     string           `json:"step"`
	Slices   int              `json:"slices"`
	Slice    int              `json:"slice"`
	Path     string           `json:"path"`
	Findings []layout.Finding `json:"findings"`

	file  string
	saved time.Time
}

const (
	stateVersion = 1
	saveEvery    = 5 * time.Second
)

// loadState reads what an interrupted run of the same command has left.
func loadState(file, command string) (*state, error) {
	s := &state{Version: stateVersion, Command: command, file: file}
	if file == "" {
		return s, nil
	}
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return s, s.save() // better to fail now than at the end
	}
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	if err := json.Unmarshal(b, s); err != nil {
		return nil, fmt.Errorf("state %s: %w; remove the file to begin anew", file, err)
	}
	if s.Version != stateVersion || s.Command != command {
		return nil, fmt.Errorf("state %s is of another command (%s); give another file", file, s.Command)
	}
	return s, nil
}

func (s *state) saveSometimes() error {
	if time.Since(s.saved) < saveEvery {
		return nil
	}
	return s.save()
}

func (s *state) save() error {
	if s.file == "" {
		return nil
	}
	s.saved = time.Now()
	b, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	if err := os.WriteFile(s.file+".new", b, 0o600); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	if err := os.Rename(s.file+".new", s.file); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	return nil
}

func (s *state) remove() error {
	if s.file == "" {
		return nil
	}
	return os.Remove(s.file)
}
