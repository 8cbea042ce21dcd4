package registry

import (
	"encoding/json"
	"expvar"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"slices"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/health"
	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/docker/go-metrics"
)

// debugServer serves http.debug.addr: health, metrics, profiles. Whoever
// reaches it sees the insides of the process, so it has an address of its own.
type debugServer struct {
	http     *http.Server
	listener net.Listener
}

func newDebugServer(c *configuration.Configuration, checks *health.Registry) (*debugServer, error) {
	if c.HTTP.Debug.Addr == "" {
		return nil, nil
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/health", func(w http.ResponseWriter, r *http.Request) {
		failing := checks.CheckStatus(r.Context())
		w.Header().Set("Content-Type", "application/json")
		if len(failing) > 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(failing)
	})
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.Handle("/debug/vars", expvar.Handler())
	if p := c.HTTP.Debug.Prometheus; p.Enabled {
		path := p.Path
		if path == "" {
			path = "/metrics"
		}
		mux.Handle(path, metrics.Handler())
	}
	ln, err := net.Listen("tcp", c.HTTP.Debug.Addr)
	if err != nil {
		return nil, fmt.Errorf("http.debug.addr: cannot listen on %s: %w", c.HTTP.Debug.Addr, err)
	}
	slog.Info("health, metrics and profiles", "address", ln.Addr().String())
	return &debugServer{&http.Server{Handler: mux, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout}, ln}, nil
}

func (d *debugServer) serve() error { return d.http.Serve(d.listener) }

func (d *debugServer) close() error {
	err := d.http.Close()
	_ = d.listener.Close() // the server has closed it if it served
	return err
}

// unhealthy answers 503 to everything while a health check of section health
// fails, so that a load balancer goes elsewhere.
func unhealthy(checks *health.Registry, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		failing := checks.CheckStatus(r.Context())
		if len(failing) == 0 {
			next.ServeHTTP(w, r)
			return
		}
		names := make([]string, 0, len(failing))
		for name := range failing {
			names = append(names, name)
		}
		slices.Sort(names)
		w.Header().Set("Retry-After", retryAfter)
		_ = errcode.ServeJSON(w, errcode.ErrorCodeUnavailable.WithMessage("a health check fails").WithDetail(names))
	})
}
