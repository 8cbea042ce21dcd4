package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/health"
	"github.com/distribution/distribution/v3/registry/handlers"
	"github.com/distribution/distribution/v3/tracing"
	"github.com/distribution/distribution/v3/version"
	gorillahandlers "github.com/gorilla/handlers"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"

	// The ways to check who asks that Distribution has.
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	_ "github.com/distribution/distribution/v3/registry/auth/token"

	"github.com/elliptics-registry/elliptics-registry/driver"
)

// Server is a running registry.
type Server struct {
	config   *configuration.Configuration
	storage  *Storage
	app      *handlers.App
	http     *http.Server
	listener net.Listener
	debug    *debugServer // nil: none configured
}

const (
	headerTimeout = 30 * time.Second
	idleTimeout   = 2 * time.Minute
)

// New opens the storage and listens; Run serves. Storage that cannot be
// reached is no error: the registry answers 503 until it can. The server lives
// on when ctx ends: requests that are under way then still need it.
func New(ctx context.Context, s *Settings) (_ *Server, err error) {
	if err := configureLogging(s.Config); err != nil {
		return nil, err
	}
	if len(s.Ignored) > 0 {
		slog.Warn("the configuration file is one of docker-registry; what means nothing here is ignored, see elliptics-registry convert-config",
			"ignored", strings.Join(s.Ignored, "; "))
	}
	tls, err := tlsConfig(s.Config)
	if err != nil {
		return nil, err
	}
	storage, err := OpenStorage(s.Storage)
	if err != nil {
		return nil, err
	}
	server := &Server{config: s.Config, storage: storage}
	defer func() {
		if err != nil {
			_ = server.close()
		}
	}()
	storage.wait(ctx)
	ctx = context.WithoutCancel(ctx)
	if err := configureSecret(s); err != nil {
		return nil, err
	}
	if server.app, err = newApp(ctx, s.Config, storage); err != nil {
		return nil, err
	}
	checks := health.NewRegistry()
	server.app.RegisterHealthChecks(checks)
	handler, err := server.handler(ctx, checks)
	if err != nil {
		return nil, err
	}
	server.http = &http.Server{
		Handler:           handler,
		Protocols:         protocols(s.Config),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
	}
	if server.listener, err = listen(s.Config, tls); err != nil {
		return nil, err
	}
	if server.debug, err = newDebugServer(s.Config, checks); err != nil {
		return nil, err
	}
	return server, nil
}

// newApp makes Distribution's application, with the driver on storage.
func newApp(ctx context.Context, config *configuration.Configuration, storage *Storage) (app *handlers.App, err error) {
	// Some mistakes in a configuration make Distribution panic.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("configuration: %v", p)
		}
	}()
	params := configuration.Parameters{}
	for k, v := range config.Storage.Parameters() {
		params[k] = v
	}
	params["cluster"] = storage.Client
	own := *config
	own.Storage = configuration.Storage{}
	for k, v := range config.Storage {
		own.Storage[k] = v
	}
	own.Storage[driver.Name] = params
	own.Middleware = map[string][]configuration.Middleware{}
	for k, v := range config.Middleware {
		own.Middleware[k] = v
	}
	own.Middleware["storage"] = append([]configuration.Middleware{{Name: unavailableMiddleware}}, config.Middleware["storage"]...)
	own.Middleware["registry"] = append([]configuration.Middleware{{Name: blobsMiddleware}}, config.Middleware["registry"]...)
	return handlers.NewApp(ctx, &own), nil
}

// handler is the application with what stands around it, from inside to
// outside.
func (s *Server) handler(ctx context.Context, checks *health.Registry) (http.Handler, error) {
	handler := unhealthy(checks, http.Handler(s.app))
	handler = answerUnavailable(handler)
	handler = alive(handler)
	if !s.config.Log.AccessLog.Disabled {
		handler = gorillahandlers.CustomLoggingHandler(os.Stdout, handler, writeAccess)
	}
	if tracingWanted() {
		if err := tracing.InitOpenTelemetry(ctx); err != nil {
			return nil, fmt.Errorf("tracing (OTEL_* in the environment): %w", err)
		}
		handler = otelhttp.NewHandler(handler, "", otelhttp.WithSpanNameFormatter(func(_ string, r *http.Request) string {
			return r.Method + " " + r.URL.Path
		}))
	}
	return handler, nil
}

// tracingWanted says whether the user asked for traces: without a collector
// they would cost a quarter of a small push, and fill the log.
func tracingWanted() bool {
	exporter := os.Getenv("OTEL_TRACES_EXPORTER")
	return exporter != "none" && (exporter != "" ||
		os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != "")
}

// alive answers "/", which says no more than that the process runs.
func alive(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Cache-Control", "no-cache")
		w.WriteHeader(http.StatusOK)
	})
}

// Addr is the address that the registry listens on.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Storage is what the registry works on.
func (s *Server) Storage() *Storage { return s.storage }

// Run serves until ctx ends, then lets requests end for http.draintimeout, and
// closes everything. It must be called once.
func (s *Server) Run(ctx context.Context) error {
	slog.Info("serving", "address", s.listener.Addr().String(), "version", version.Version())
	failed := make(chan error, 2)
	go func() { failed <- s.http.Serve(s.listener) }()
	if s.debug != nil {
		go func() { failed <- s.debug.serve() }()
	}
	var err error
	select {
	case err = <-failed:
		err = fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
		slog.Info("stopping: requests may end", "within", s.config.HTTP.DrainTimeout)
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config.HTTP.DrainTimeout)
		err = s.http.Shutdown(drain)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			slog.Warn("connections were cut: requests took longer than http.draintimeout", "draintimeout", s.config.HTTP.DrainTimeout)
			err = nil
		}
	}
	return errors.Join(err, s.close())
}

// close ends what New began, from the outside to the inside.
func (s *Server) close() error {
	var errs []error
	if s.http != nil {
		errs = append(errs, s.http.Close())
	}
	if s.listener != nil {
		_ = s.listener.Close() // the server has closed it if it served
	}
	if s.debug != nil {
		errs = append(errs, s.debug.close())
	}
	if s.app != nil {
		errs = append(errs, s.app.Shutdown())
	}
	return errors.Join(append(errs, s.storage.Close())...)
}
