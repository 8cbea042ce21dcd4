package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/elliptics-registry/elliptics-registry/driver"
	"github.com/elliptics-registry/elliptics-registry/elliptics"
	"github.com/elliptics-registry/elliptics-registry/elliptics/node"
	"github.com/elliptics-registry/elliptics-registry/elliptics/node/engine"
)

// Storage is where the images are: a client of a cluster, and the embedded
// node if that runs in this process.
type Storage struct {
	Parameters driver.Parameters // with Cluster set
	Client     *elliptics.Node
	Node       *node.Node // nil: the node runs elsewhere
}

// closePatience bounds how long the embedded node may take to answer what it
// has read.
const closePatience = 5 * time.Second

// OpenStorage opens what a server works on. An embedded node that runs already
// is an error, *node.ErrInUse.
func OpenStorage(p driver.Parameters) (*Storage, error) {
	cfg, err := p.ClientConfig()
	if err != nil {
		return nil, err
	}
	s := &Storage{Parameters: p}
	if p.Embedded != "" {
		n, err := openNode(p)
		if err != nil {
			return nil, err
		}
		s.Node = n
		cfg.Remotes, cfg.Dial, cfg.KnownOnly = []string{n.Remote()}, n.Dial, true
	}
	return s, s.connect(cfg)
}

// OpenStorageBeside opens what a tool works on: as OpenStorage, but with a node
// that runs already on the data directory it talks to that.
func OpenStorageBeside(p driver.Parameters) (*Storage, error) {
	if p.Embedded == "" {
		return OpenStorage(p)
	}
	remote, running, err := node.Running(p.Embedded)
	if err != nil {
		return nil, err
	}
	if !running {
		return OpenStorage(p)
	}
	cfg, err := p.ClientConfig()
	if err != nil {
		return nil, err
	}
	s := &Storage{Parameters: p}
	cfg.Remotes, cfg.KnownOnly = []string{remote}, true
	return s, s.connect(cfg)
}

// openNode opens the embedded node.
func openNode(p driver.Parameters) (*node.Node, error) {
	config, err := nodeConfig(p)
	if err != nil {
		return nil, err
	}
	return node.OpenDir(p.Embedded, p.Groups, config)
}

func nodeConfig(p driver.Parameters) (config node.Config, err error) {
	config = node.Config{
		Listen: "127.0.0.1:0", // for the tools that run beside
		Logger: slog.Default(),
	}
	if p.Sync != "" {
		if config.Sync, err = engine.ParseSyncMode(p.Sync); err != nil {
			return config, fmt.Errorf("storage.%s.sync: %w", driver.Name, err)
		}
	}
	return config, nil
}

func (s *Storage) connect(cfg elliptics.Config) error {
	client, err := elliptics.NewNode(cfg)
	if err != nil {
		return errors.Join(err, s.Close())
	}
	s.Client = client
	s.Parameters.Cluster = client
	return nil
}

// connectPatience bounds how long a starting registry waits for its storage,
// toolPatience how long a tool does, which cannot do anything without.
const (
	connectPatience = 5 * time.Second
	toolPatience    = 30 * time.Second
)

// wait gives the connections to all groups a moment, so that the first request
// does not find a storage that is only just being reached.
func (s *Storage) wait(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, connectPatience)
	defer cancel()
	if err := s.Client.Wait(ctx, s.Parameters.Groups...); err != nil {
		slog.Error("the storage cannot be reached yet; requests are answered 503 until it can", "error", err)
	}
}

// Driver makes a storage driver on s for a tool.
func (s *Storage) Driver(ctx context.Context) (*driver.Driver, error) {
	wait, cancel := context.WithTimeout(ctx, toolPatience)
	defer cancel()
	if err := s.Client.Wait(wait, s.Parameters.Groups...); err != nil {
		return nil, err
	}
	return driver.New(ctx, s.Parameters)
}

// Close ends the client, and the node if it runs here.
func (s *Storage) Close() error {
	var errs []error
	if s.Client != nil {
		errs = append(errs, s.Client.Close())
	}
	if s.Node != nil {
		ctx, cancel := context.WithTimeout(context.Background(), closePatience)
		defer cancel()
		errs = append(errs, s.Node.Shutdown(ctx))
	}
	return errors.Join(errs...)
}
