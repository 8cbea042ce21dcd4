package registry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	gorillahandlers "github.com/gorilla/handlers"
	"github.com/sirupsen/logrus"
)

// configureLogging sets up the one log of the process as section log says.
// Distribution writes to logrus; everything else writes to slog, which ends up
// there as well.
func configureLogging(c *configuration.Configuration) error {
	level, err := logrus.ParseLevel(string(c.Log.Level))
	if err != nil {
		return fmt.Errorf("log.level: %w", err)
	}
	logrus.SetLevel(level)
	logrus.SetReportCaller(c.Log.ReportCaller)
	var format logrus.Formatter
	switch c.Log.Formatter {
	case "json":
		format = &logrus.JSONFormatter{TimestampFormat: time.RFC3339Nano, DisableHTMLEscape: true}
	case "logstash":
		format = &logrus.JSONFormatter{
			TimestampFormat: time.RFC3339Nano,
			FieldMap:        logrus.FieldMap{logrus.FieldKeyFunc: "function"},
		}
	default:
		format = &logrus.TextFormatter{TimestampFormat: time.RFC3339Nano}
	}
	logrus.SetFormatter(tidyFormatter{format, level})
	logrus.StandardLogger().ReplaceHooks(make(logrus.LevelHooks))
	if len(c.Log.Fields) > 0 {
		logrus.AddHook(fieldsHook(c.Log.Fields))
	}
	slog.SetDefault(slog.New(logrusHandler{logger: logrus.StandardLogger()}))
	return nil
}

// logrusHandler writes what is logged with slog to logrus.
type logrusHandler struct {
	logger *logrus.Logger
	fields logrus.Fields
	prefix string // of the groups that were opened
}

func logrusLevel(l slog.Level) logrus.Level {
	switch {
	case l >= slog.LevelError:
		return logrus.ErrorLevel
	case l >= slog.LevelWarn:
		return logrus.WarnLevel
	case l >= slog.LevelInfo:
		return logrus.InfoLevel
	}
	return logrus.DebugLevel
}

func (h logrusHandler) Enabled(_ context.Context, l slog.Level) bool {
	return h.logger.IsLevelEnabled(logrusLevel(l))
}

func (h logrusHandler) Handle(ctx context.Context, r slog.Record) error {
	attrs := make([]slog.Attr, 0, r.NumAttrs())
	r.Attrs(func(a slog.Attr) bool {
		attrs = append(attrs, a)
		return true
	})
	e := logrus.NewEntry(h.logger).WithContext(ctx).WithTime(r.Time).WithFields(h.with(attrs))
	e.Log(logrusLevel(r.Level), r.Message)
	return nil
}

func (h logrusHandler) with(attrs []slog.Attr) logrus.Fields {
	fields := make(logrus.Fields, len(h.fields)+len(attrs))
	for k, v := range h.fields {
		fields[k] = v
	}
	for _, a := range attrs {
		fields[h.prefix+a.Key] = a.Value.Resolve().Any()
	}
	return fields
}

func (h logrusHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	h.fields = h.with(attrs)
	return h
}

func (h logrusHandler) WithGroup(name string) slog.Handler {
	h.prefix += name + "."
	return h
}

// tidyFormatter makes Distribution's entries fit for a log that people read.
type tidyFormatter struct {
	logrus.Formatter
	level logrus.Level
}

// uriField and statusField are Distribution's names.
const (
	uriField    = "http.request.uri"
	statusField = "http.response.status"
)

// Format leaves out tokens, and on levels below info the "errors" that are
// none: a client asks for each blob before it pushes it, and gets a 404.
func (f tidyFormatter) Format(e *logrus.Entry) ([]byte, error) {
	status, _ := e.Data[statusField].(int)
	if f.level < logrus.InfoLevel && status >= 400 && status < 500 {
		return nil, nil
	}
	if uri, ok := e.Data[uriField].(string); ok {
		path, query, _ := strings.Cut(uri, "?")
		if query != "" {
			tidy := *e
			tidy.Data = maps.Clone(e.Data)
			tidy.Data[uriField] = path
			e = &tidy
		}
	}
	return f.Formatter.Format(e)
}

// writeAccess writes a request as the common log does, without the query: that
// of an upload carries a token.
func writeAccess(w io.Writer, p gorillahandlers.LogFormatterParams) {
	host, _, err := net.SplitHostPort(p.Request.RemoteAddr)
	if err != nil {
		host = p.Request.RemoteAddr
	}
	user := "-"
	if name, _, ok := p.Request.BasicAuth(); ok && name != "" {
		user = url.PathEscape(name) // whatever it is, it stays on its line
	}
	fmt.Fprintf(w, "%s - %s [%s] \"%s %s %s\" %d %d %q\n", host, user, p.TimeStamp.Format("02/Jan/2006:15:04:05 -0700"),
		p.Request.Method, p.URL.EscapedPath(), p.Request.Proto, p.StatusCode, p.Size, p.Request.UserAgent())
}

// fieldsHook adds log.fields to every entry.
type fieldsHook map[string]any

func (fieldsHook) Levels() []logrus.Level { return logrus.AllLevels }

func (f fieldsHook) Fire(e *logrus.Entry) error {
	for k, v := range f {
		if _, ok := e.Data[k]; !ok {
			e.Data[k] = v
		}
	}
	return nil
}
