package registry

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/configuration"

	"github.com/elliptics-registry/elliptics-registry/driver"
)

const (
	// DefaultListen is the address of a registry without a configuration.
	DefaultListen = "127.0.0.1:5000"
	// DefaultData is its data directory.
	DefaultData = "./registry-data"

	// defaultDrain is how long requests may go on after a stop signal. It is
	// below the ten seconds after which `docker stop` kills.
	defaultDrain = 8 * time.Second
)

// Settings are a checked configuration.
type Settings struct {
	Config  *configuration.Configuration
	Storage driver.Parameters
	Version string // of the program, for its first lines

	// Ignored are the keys of an old configuration file that mean nothing
	// here, and why.
	Ignored []string
}

// Default is a registry on the embedded node below dataDir.
func Default(dataDir string) (*Settings, error) {
	text := "version: 0.1\nlog:\n  level: warn\nhttp:\n  addr: " + DefaultListen + "\nstorage:\n  " + driver.Name + ": {}\n  delete:\n    enabled: true\n"
	config, err := parseDistribution([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("environment: %w", err)
	}
	if config.Storage.Type() == driver.Name { // REGISTRY_STORAGE may say otherwise
		p := config.Storage[driver.Name]
		if p == nil {
			p = configuration.Parameters{}
			config.Storage[driver.Name] = p
		}
		if _, cluster := p["nodes"]; !cluster { // as of REGISTRY_STORAGE_ELLIPTICS_NODES
			p["embedded"] = dataDir
		}
	}
	return check(config)
}

// Load reads and checks a configuration file in Distribution's YAML, or in that
// of docker-registry 0.9. The error names every key that is unknown or has a
// bad value, a line for each.
func Load(path string) (*Settings, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	var ignored []string
	if IsOld(text) {
		c, err := ConvertOld(text)
		if err != nil {
			return nil, inFile(path, err)
		}
		text, ignored = c.Text, c.Ignored
	}
	s, err := parse(text)
	if err != nil {
		return nil, inFile(path, err)
	}
	s.Ignored = ignored
	return s, nil
}

func parse(text []byte) (*Settings, error) {
	if err := checkKeys(text); err != nil {
		return nil, err
	}
	config, err := parseDistribution(text)
	if err != nil {
		return nil, err
	}
	return check(config)
}

// parseDistribution is Distribution's parser, which takes in the environment as
// well, and panics when that names a second storage.
func parseDistribution(text []byte) (c *configuration.Configuration, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("storage: %v; this registry has the storage %s alone, see the variables REGISTRY_STORAGE_*", p, driver.Name)
		}
	}()
	c, err = configuration.Parse(bytes.NewReader(text))
	if err != nil {
		return nil, errors.New(strings.Join(strings.Fields(err.Error()), " "))
	}
	return c, nil
}

// inFile begins each line of a list of errors with the name of the file.
func inFile(path string, err error) error {
	lines := strings.Split(err.Error(), "\n")
	for i := range lines {
		lines[i] = path + ": " + lines[i]
	}
	return errors.New(strings.Join(lines, "\n"))
}
