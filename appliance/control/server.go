// Package control is the appliance's only door for its operator: HTTP with JSON over a UNIX
// socket, and the client of it.
//
//	operator -- api.sock --> Server --> handler --> module loop
//	                            \-----> stream  --> event bus, captures, probes
//
// Everything that comes in is bounded: connections, streams, body size, header time. Who may
// connect is a matter of the socket's mode and group.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"leveret/appliance/control/api"
	"leveret/appliance/module"
)

// The bounds.
const (
	MaxBody        = 1 << 20 // octets of a request body
	MaxConnections = 256
	MaxStreams     = 64

	headerTimeout = 5 * time.Second
	bodyTimeout   = 30 * time.Second
	idleTimeout   = 2 * time.Minute
)

// Handler answers one command. What it returns becomes the JSON answer; errors become HTTP's:
// [module.Refused] 409, [BadRequest] and what [module.Request.Decode] returns 400, others 500.
type Handler func(ctx context.Context, req module.Request) (any, error)

// StreamHandler answers with a stream of unknown length. It ends when ctx does: the client has
// gone or the server stops. An error before the first Write becomes an answer like a
// [Handler]'s. Each Write reaches the client at once; one of no octets only begins the answer.
type StreamHandler func(ctx context.Context, req module.Request, w io.Writer) error

// FaultError is an error that carries the faults of a configuration: the answer has them one by
// one, and the status 422.
type FaultError struct{ Faults []api.Fault }

func (e *FaultError) Error() string {
	if len(e.Faults) == 1 {
		return "the configuration has a fault"
	}
	return fmt.Sprintf("the configuration has %d faults", len(e.Faults))
}

// BadRequest returns an error about the request itself: status 400, exit code 1.
func BadRequest(format string, args ...any) error {
	return &badRequest{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

type badRequest struct {
	status int
	msg    string
}

func (e *badRequest) Error() string { return e.msg }

// The content types of the streams there are.
const (
	TypeJSONLines = "application/jsonl"
	TypePcapng    = "application/x-pcapng"
)

type route struct {
	handle      Handler
	stream      StreamHandler
	contentType string
}

// Server serves the control socket.
type Server struct {
	log     *zap.Logger
	routes  map[string]map[string]route // by path and method
	streams chan struct{}               // one element for each open stream
	serving atomic.Bool

	mu   sync.Mutex
	http *http.Server
	sock *socket
}

// NewServer returns a server without handlers that listens nowhere.
func NewServer(log *zap.Logger) *Server {
	return &Server{log: log, routes: map[string]map[string]route{}, streams: make(chan struct{}, MaxStreams)}
}

// Handle adds a handler for one method and exact path. It panics if there is one already or the
// server is serving: the set of commands is frozen then.
func (s *Server) Handle(method, path string, h Handler) {
	s.add(method, path, route{handle: h})
}

// Stream adds a handler whose answer is a stream; see [Server.Handle].
func (s *Server) Stream(method, path, contentType string, h StreamHandler) {
	s.add(method, path, route{stream: h, contentType: contentType})
}

func (s *Server) add(method, path string, r route) {
	if s.serving.Load() {
		panic("control: handler for " + path + " added while serving")
	}
	if s.routes[path] == nil {
		s.routes[path] = map[string]route{}
	}
	if _, dup := s.routes[path][method]; dup {
		panic("control: two handlers for " + method + " " + path)
	}
	s.routes[path][method] = r
}

// Serve answers requests on the socket that [Server.Listen] made, until [Server.Close].
func (s *Server) Serve() error {
	s.mu.Lock()
	if s.sock == nil {
		s.mu.Unlock()
		return errors.New("control: not listening")
	}
	s.serving.Store(true)
	l := s.sock.listener
	s.http = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       bodyTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    16 << 10,
		ConnContext:       withPeer,
		ErrorLog:          zap.NewStdLog(s.log),
	}
	srv := s.http
	s.mu.Unlock()
	if err := srv.Serve(&peerListener{UnixListener: l, log: s.log}); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("control socket: %w", err)
	}
	return nil
}

// Close stops serving, ends every stream and removes the socket.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	if s.http != nil {
		errs = append(errs, s.http.Close())
	}
	if s.sock != nil {
		errs = append(errs, s.sock.close())
	}
	return errors.Join(errs...)
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	methods, ok := s.routes[r.URL.Path]
	if !ok {
		s.answer(w, r, nil, &badRequest{http.StatusNotFound, fmt.Sprintf("no such path: %s", r.URL.Path)})
		return
	}
	h, ok := methods[r.Method]
	if !ok {
		s.answer(w, r, nil, &badRequest{http.StatusMethodNotAllowed, fmt.Sprintf("no such method: %s %s", r.Method, r.URL.Path)})
		return
	}
	req, err := request(w, r)
	if err != nil {
		s.answer(w, r, nil, err)
		return
	}
	s.logRequest(r)
	if h.stream != nil {
		s.serveStream(w, r, h, req)
		return
	}
	v, err := h.handle(r.Context(), req)
	s.answer(w, r, v, err)
}

func (s *Server) serveStream(w http.ResponseWriter, r *http.Request, h route, req module.Request) {
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default:
		s.answer(w, r, nil, &badRequest{http.StatusServiceUnavailable, fmt.Sprintf("too many streams: %d are open", MaxStreams)})
		return
	}
	// The body has been read: reading on is only how net/http notices that the client has gone.
	if err := http.NewResponseController(w).SetReadDeadline(time.Time{}); err != nil {
		s.log.Debug("control stream has no read deadline", zap.Error(err))
	}
	out := &flushWriter{w: w, c: http.NewResponseController(w), contentType: h.contentType}
	err := h.stream(r.Context(), req, out)
	switch {
	case !out.started && (err == nil || r.Context().Err() != nil):
		out.start()
	case !out.started:
		s.answer(w, r, nil, err)
	case err != nil && r.Context().Err() == nil:
		s.log.Warn("control stream ended", zap.String("path", r.URL.Path), zap.Error(err))
		panic(http.ErrAbortHandler) // the client must not take the broken stream for a whole one
	}
}

// flushWriter sends everything at once: streams are read live.
type flushWriter struct {
	w           http.ResponseWriter
	c           *http.ResponseController
	contentType string
	started     bool
}

func (f *flushWriter) start() {
	f.started = true
	f.w.Header().Set("Content-Type", f.contentType)
	f.w.WriteHeader(http.StatusOK)
}

func (f *flushWriter) Write(b []byte) (int, error) {
	if !f.started {
		f.start()
	}
	n, err := f.w.Write(b)
	if err == nil {
		err = f.c.Flush()
	}
	return n, err
}

// request reads the whole body within its bound and returns what handlers get.
func request(w http.ResponseWriter, r *http.Request) (module.Request, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	if err != nil {
		if tooLong := (*http.MaxBytesError)(nil); errors.As(err, &tooLong) {
			return module.Request{}, &badRequest{http.StatusRequestEntityTooLarge, fmt.Sprintf("the request body is larger than %d octets", MaxBody)}
		}
		return module.Request{}, BadRequest("reading the request body: %v", err)
	}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return module.Request{}, BadRequest("query: %v", err)
	}
	query := make(map[string]string, len(values))
	for k, v := range values {
		if len(v) != 1 {
			return module.Request{}, BadRequest("query: %q is given %d times", k, len(v))
		}
		query[k] = v[0]
	}
	return module.Request{Query: query, Decode: func(v any) error { return decode(body, v) }, Owner: owner(r)}, nil
}

// answer writes v or err.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, v any, err error) {
	status := http.StatusOK
	if err != nil {
		status, v = s.errorAnswer(r, err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		status, v = s.errorAnswer(r, fmt.Errorf("answer: %w", err))
		b, _ = json.Marshal(v) // two strings at most: cannot fail
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if _, err := w.Write(append(b, '\n')); err != nil {
		s.log.Debug("control answer not sent", zap.String("path", r.URL.Path), zap.Error(err))
	}
}

// errorAnswer returns the status and body for err.
func (s *Server) errorAnswer(r *http.Request, err error) (int, api.Error) {
	var refused *module.Refused
	var bad *badRequest
	var faults *FaultError
	switch {
	case errors.As(err, &refused):
		return http.StatusConflict, api.Error{Error: refused.Msg}
	case errors.As(err, &bad):
		return bad.status, api.Error{Error: bad.msg}
	case errors.As(err, &faults):
		return http.StatusUnprocessableEntity, api.Error{Error: faults.Error(), Faults: faults.Faults}
	}
	s.log.Error("control command failed", zap.String("method", r.Method), zap.String("path", r.URL.Path), zap.Error(err))
	return http.StatusInternalServerError, api.Error{Error: "internal error: " + err.Error()}
}
