package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"

	"leveret/appliance/control/api"
	"leveret/appliance/module"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start serves s until the test ends and returns a client.
func start(t *testing.T, s *Server) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "api.sock")
	if err := s.Listen(SocketOptions{Path: path}); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve() }()
	c := NewClient(path, 10*time.Second)
	t.Cleanup(func() {
		c.http.CloseIdleConnections()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is left behind: %v", err)
		}
	})
	return c
}

type body struct {
	N int `json:"n"`
}

func TestCommands(t *testing.T) {
	s := NewServer(zap.NewNop())
	s.Handle("GET", "/v1/x", func(_ context.Context, req module.Request) (any, error) {
		switch req.Query["q"] {
		case "refuse":
			return nil, fmt.Errorf("route: %w", module.Refuse("File exists"))
		case "fail":
			return nil, errors.New("broken")
		case "bad":
			return nil, BadRequest("q is %s", "bad")
		case "faults":
			return nil, &FaultError{Faults: []api.Fault{{Path: "links[0].mtu", Msg: "too small", RFC: "RFC 8200 5"}}}
		case "unmarshalable":
			return func() {}, nil
		}
		return req.Query, nil
	})
	s.Handle("POST", "/v1/x", func(_ context.Context, req module.Request) (any, error) {
		var b body
		if err := req.Decode(&b); err != nil {
			return nil, err
		}
		return b, nil
	})
	c := start(t, s)
	for _, tc := range []struct {
		method, path, body string
		status             int
		answer             string
	}{
		{"GET", "/v1/x?dev=lan0&to=%3A%3A%2F0", "", 200, `{"dev":"lan0","to":"::/0"}`},
		{"GET", "/v1/x?q=refuse", "", 409, `{"error":"File exists"}`},
		{"GET", "/v1/x?q=fail", "", 500, `{"error":"internal error: broken"}`},
		{"GET", "/v1/x?q=bad", "", 400, `{"error":"q is bad"}`},
		{"GET", "/v1/x?q=faults", "", 422, `{"error":"the configuration has a fault","faults":[{"path":"links[0].mtu","message":"too small","rfc":"RFC 8200 5"}]}`},
		{"GET", "/v1/x?q=unmarshalable", "", 500, `{"error":"internal error: answer: json: unsupported type: func()"}`},
		{"GET", "/v1/x?q=1&q=2", "", 400, `{"error":"query: \"q\" is given 2 times"}`},
		{"GET", "/v1/x?q=%zz", "", 400, `{"error":"query: invalid URL escape \"%zz\""}`},
		{"POST", "/v1/x", `{"n":3}`, 200, `{"n":3}`},
		{"POST", "/v1/x", ``, 200, `{"n":0}`},
		{"POST", "/v1/x", `{"m":3}`, 400, `{"error":"request body: json: unknown field \"m\""}`},
		{"POST", "/v1/x", `{"n":`, 400, `{"error":"request body: unexpected EOF"}`},
		{"POST", "/v1/x", `{"n":1}{"n":2}`, 400, `{"error":"request body: something follows the JSON value"}`},
		{"POST", "/v1/x", `{"n":"1"}`, 400, ""},
		{"POST", "/v1/x", strings.Repeat(" ", MaxBody+1), 413, `{"error":"the request body is larger than 1048576 octets"}`},
		{"GET", "/v1/nothing", "", 404, `{"error":"no such path: /v1/nothing"}`},
		{"GET", "/", "", 404, `{"error":"no such path: /"}`},
		{"DELETE", "/v1/x", "", 405, `{"error":"no such method: DELETE /v1/x"}`},
	} {
		req, err := http.NewRequestWithContext(t.Context(), tc.method, "http://leveret"+tc.path, strings.NewReader(tc.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.http.Do(req)
		if err != nil {
			t.Fatalf("%s %s: %v", tc.method, tc.path, err)
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		got := strings.TrimSpace(string(b))
		if err != nil || resp.StatusCode != tc.status || (tc.answer != "" && got != tc.answer) || resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s %.20s: %d %s %v, want %d %s", tc.method, tc.path, tc.body, resp.StatusCode, got, err, tc.status, tc.answer)
		}
	}
}

func TestClientErrors(t *testing.T) {
	s := NewServer(zap.NewNop())
	s.Handle("GET", "/refuse", func(context.Context, module.Request) (any, error) { return nil, module.Refuse("File exists") })
	s.Handle("GET", "/slow", func(ctx context.Context, _ module.Request) (any, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	c := start(t, s)
	var status *StatusError
	if err := c.Get(t.Context(), "/refuse", nil, nil); !errors.As(err, &status) || status.Status != 409 || err.Error() != "File exists" {
		t.Errorf("refused: %v", err)
	}
	var unreachable *NotReachableError
	slow := NewClient(c.socket, 20*time.Millisecond)
	if err := slow.Get(t.Context(), "/slow", nil, nil); !errors.As(err, &unreachable) || !strings.Contains(err.Error(), "does not answer in time") {
		t.Errorf("slow: %v", err)
	}
	slow.http.CloseIdleConnections()
	gone := NewClient(filepath.Join(t.TempDir(), "no.sock"), time.Second)
	want := "the appliance is not reachable at " + gone.socket + ": is `leveret run` running? (--socket PATH)"
	if err := gone.Get(t.Context(), "/x", nil, nil); !errors.As(err, &unreachable) || err.Error() != want {
		t.Errorf("gone: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Get(ctx, "/slow", nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestStreamsEndWithTheirClientAndAreBounded(t *testing.T) {
	s := NewServer(zap.NewNop())
	var ended sync.WaitGroup
	ended.Add(MaxStreams)
	s.Stream("GET", "/lines", TypeJSONLines, func(ctx context.Context, _ module.Request, w io.Writer) error {
		defer ended.Done()
		if _, err := w.Write([]byte("{\"n\":1}\n")); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	})
	c := start(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range MaxStreams {
		r, err := c.Stream(ctx, "/lines", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		stop := errors.New("seen")
		if err := Lines(ctx, r, func(b body) error {
			if b.N != 1 {
				t.Errorf("line %+v", b)
			}
			return stop
		}); !errors.Is(err, stop) {
			t.Fatal(err)
		}
	}
	var status *StatusError
	if _, err := c.Stream(ctx, "/lines", nil, nil); !errors.As(err, &status) || status.Status != http.StatusServiceUnavailable {
		t.Errorf("stream %d: %v", MaxStreams+1, err)
	}
	cancel()
	ended.Wait() // every handler saw its client go
}

func TestStreamErrorsAreAnswersUntilItBegins(t *testing.T) {
	s := NewServer(zap.NewNop())
	s.Stream("POST", "/s", TypeJSONLines, func(_ context.Context, req module.Request, w io.Writer) error {
		var b body
		if err := req.Decode(&b); err != nil {
			return err
		}
		if b.N == 0 {
			return module.Refuse("Network is unreachable")
		}
		if _, err := w.Write([]byte("{\"n\":1}\n")); err != nil {
			return err
		}
		if b.N == 2 {
			return errors.New("broken off")
		}
		return nil
	})
	c := start(t, s)
	if _, err := c.Stream(t.Context(), "/s", nil, body{0}); err == nil || err.Error() != "Network is unreachable" {
		t.Errorf("refused: %v", err)
	}
	for n, whole := range map[int]bool{1: true, 2: false} {
		r, err := c.Stream(t.Context(), "/s", nil, body{n})
		if err != nil {
			t.Fatal(err)
		}
		err = Lines(t.Context(), r, func(body) error { return nil })
		_ = r.Close()
		if (err == nil) != whole {
			t.Errorf("n=%d: the stream ended with %v", n, err)
		}
	}
}

func TestCloseEndsStreams(t *testing.T) {
	s := NewServer(zap.NewNop())
	s.Stream("GET", "/s", TypeJSONLines, func(ctx context.Context, _ module.Request, w io.Writer) error {
		if _, err := w.Write(nil); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	})
	c := start(t, s)
	r, err := c.Stream(t.Context(), "/s", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := Lines(t.Context(), r, func(body) error { return nil }); err == nil {
		t.Error("the stream ended as if whole")
	}
}

func TestFrozenWhileServing(t *testing.T) {
	s := NewServer(zap.NewNop())
	h := func(context.Context, module.Request) (any, error) { return nil, nil }
	s.Handle("GET", "/x", h)
	panics := func(what string, f func()) {
		defer func() {
			if recover() == nil {
				t.Errorf("%s did not panic", what)
			}
		}()
		f()
	}
	panics("a second handler", func() { s.Handle("GET", "/x", h) })
	c := start(t, s)
	if err := c.Get(t.Context(), "/x", nil, nil); err != nil {
		t.Error(err)
	}
	panics("adding while serving", func() { s.Handle("GET", "/y", h) })
}

func TestPeerIsLogged(t *testing.T) {
	core, logs := observer.New(zapcore.DebugLevel)
	s := NewServer(zap.New(core))
	s.Handle("POST", "/x", func(context.Context, module.Request) (any, error) { return nil, nil })
	s.Handle("GET", "/x", func(context.Context, module.Request) (any, error) { return nil, nil })
	c := start(t, s)
	if err := c.Post(t.Context(), "/x", body{}, nil); err != nil {
		t.Fatal(err)
	}
	if err := c.Get(t.Context(), "/x", nil, nil); err != nil {
		t.Fatal(err)
	}
	all := logs.FilterMessage("control request").All()
	if len(all) != 2 || all[0].Level != zapcore.InfoLevel || all[1].Level != zapcore.DebugLevel {
		t.Fatalf("logged %v", all)
	}
	f := all[0].ContextMap()
	if f["pid"] != int32(os.Getpid()) || f["uid"] != uint32(os.Getuid()) || f["path"] != "/x" || f["method"] != "POST" {
		t.Errorf("fields %v", f)
	}
}

// TestOwner: secrets are for root and for the user that the appliance runs as.
func TestOwner(t *testing.T) {
	for _, c := range []struct {
		cred *unix.Ucred
		want bool
	}{{&unix.Ucred{Uid: 0}, true}, {&unix.Ucred{Uid: uint32(os.Geteuid())}, true}, {&unix.Ucred{Uid: uint32(os.Geteuid()) + 1}, false}, {nil, false}} {
		r, err := http.NewRequestWithContext(withPeer(t.Context(), &peerConn{cred: c.cred}), http.MethodGet, "/x", nil)
		if err != nil || owner(r) != c.want {
			t.Errorf("%+v: %v", c.cred, err)
		}
	}
	s := NewServer(zap.NewNop())
	s.Handle("GET", "/x", func(_ context.Context, req module.Request) (any, error) { return req.Owner, nil })
	var mine bool
	if err := start(t, s).Get(t.Context(), "/x", nil, &mine); err != nil || !mine {
		t.Errorf("the test itself: %v, %v", mine, err)
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	c := start(t, NewServer(zap.NewNop()))
	var conns []net.Conn
	defer func() {
		for _, conn := range conns {
			_ = conn.Close()
		}
	}()
	for range MaxConnections {
		conn, err := net.Dial("unix", c.socket)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	err := c.Get(t.Context(), "/x", nil, nil)
	var unreachable *NotReachableError
	if !errors.As(err, &unreachable) {
		t.Errorf("connection %d: %v", MaxConnections+1, err)
	}
}

func TestQuery(t *testing.T) {
	q, err := Query(api.CaptureFilter{Link: "lan0", Point: "drop"})
	if err != nil || q.Encode() != "link=lan0&point=drop" {
		t.Errorf("%s %v", q.Encode(), err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"n":1}`))
	f.Add([]byte(`{"n":1}x`))
	f.Add([]byte(` `))
	f.Fuzz(func(t *testing.T, b []byte) {
		var v body
		if decode(b, &v) != nil || len(bytes.TrimSpace(b)) == 0 {
			return
		}
		if !json.Valid(b) {
			t.Errorf("%q was taken", b)
		}
	})
}
