package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"leveret/appliance/config"
	"leveret/appliance/control"
	"leveret/appliance/control/api"
	"leveret/appliance/module"
)

// fakeRouter stands in for the appliance.
type fakeRouter struct {
	o       routerOptions
	running chan struct{} // closed once Run was called
	hang    chan struct{} // Run returns when it is closed, as if stopping took that long
	fail    error         // of Run
	check   error         // of Check

	mu      sync.Mutex
	applied []string // hostnames
}

func newFake() *fakeRouter {
	f := &fakeRouter{running: make(chan struct{}), hang: make(chan struct{})}
	close(f.hang)
	return f
}

func (f *fakeRouter) RegisterAPI(s *control.Server) {
	s.Handle("GET", "/v1/health", func(context.Context, module.Request) (any, error) {
		return api.Health{Ready: true, Waiting: []string{}}, nil
	})
}

func (f *fakeRouter) Check(*config.Root) error { return f.check }

func (f *fakeRouter) Run(ctx context.Context) error {
	close(f.running)
	if f.fail != nil {
		return f.fail
	}
	f.o.OnReady()
	<-ctx.Done()
	<-f.hang
	return nil
}

func (f *fakeRouter) Apply(root *config.Root, _ string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.applied = append(f.applied, root.System.Hostname)
	return nil
}

func (f *fakeRouter) hostnames() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.applied)
}

// running is one `leveret run` in this process.
type running struct {
	t        *testing.T
	fake     *fakeRouter
	out, err lockedBuffer
	code     chan int
	states   *net.UnixConn // what the service manager hears
}

// lockedBuffer takes what several goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func startRun(t *testing.T, f *fakeRouter, args ...string) *running {
	t.Helper()
	r := &running{t: t, fake: f, code: make(chan int, 1)}
	notify := filepath.Join(t.TempDir(), "notify")
	var err error
	if r.states, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notify, Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.states.Close() })
	t.Setenv("NOTIFY_SOCKET", notify)
	c := newCLI(nil, &r.out, &r.err)
	c.claims = func() []string { return nil }
	c.newRouter = func(o routerOptions) (router, error) {
		f.o = o
		return f, nil
	}
	go func() { r.code <- c.main(context.Background(), append([]string{"run"}, args...)) }()
	return r
}

// hears waits for the next state the service manager is told.
func (r *running) hears(want string) {
	r.t.Helper()
	if err := r.states.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		r.t.Fatal(err)
	}
	b := make([]byte, 256)
	n, err := r.states.Read(b)
	if err != nil {
		r.t.Fatal(err)
	}
	if got, _, _ := strings.Cut(string(b[:n]), "\n"); got != want {
		r.t.Errorf("the service manager hears %q, want %q", b[:n], want)
	}
}

func (r *running) signal(sig syscall.Signal) {
	r.t.Helper()
	if err := syscall.Kill(os.Getpid(), sig); err != nil {
		r.t.Fatal(err)
	}
}

func (r *running) ends(want int) {
	r.t.Helper()
	select {
	case got := <-r.code:
		if got != want {
			r.t.Errorf("exit code %d, want %d: %s", got, want, r.err.String())
		}
	case <-time.After(10 * time.Second):
		r.t.Fatal("run does not end")
	}
}

func TestRunFromStartToEnd(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir) // no configuration here
	t.Setenv("LEVERET_CONFIG", "")
	sock := filepath.Join(dir, "api.sock")
	r := startRun(t, newFake(), "--socket", sock, "--log-format", "json", "--log-level", "debug")
	r.hears("READY=1")
	var h api.Health
	if err := control.NewClient(sock, 10*time.Second).Get(t.Context(), "/v1/health", nil, &h); err != nil || !h.Ready {
		t.Errorf("health over the socket: %+v %v", h, err)
	}
	if o := r.fake.o; o.Source != builtIn || o.Root.System.Log.Level != "debug" || len(o.Root.Links) == 0 {
		t.Errorf("options %+v", o)
	}
	r.signal(syscall.SIGHUP)
	r.hears("RELOADING=1")
	r.hears("READY=1")
	if got := r.fake.hostnames(); len(got) != 1 {
		t.Errorf("applied %d times", len(got))
	}
	r.signal(syscall.SIGTERM)
	r.hears("STOPPING=1")
	r.ends(exitOK)
	if _, err := os.Lstat(sock); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
	for _, want := range []string{
		"  ip -6 addr add fd6c:6576:6572:1::2/64 dev leveret0\n", "  ping -c 3 fd6c:6576:6572:1::1\n", " --socket " + sock + " -s link\n", `"msg":"stopping"`,
	} {
		if !strings.Contains(r.out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, r.out.String())
		}
	}
}

func TestRunReloadsItsFileOnlyIfThatIsRight(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "leveret.yaml")
	write := func(text string) {
		if err := os.WriteFile(file, []byte("version: 1\nsystem: {"+text+"}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("hostname: a")
	r := startRun(t, newFake(), "-c", file, "--socket", filepath.Join(dir, "api.sock"), "--log-format", "json")
	r.hears("READY=1")
	if r.fake.o.Source != file || strings.Contains(r.out.String(), "Try,") {
		t.Errorf("source %s, output %s", r.fake.o.Source, r.out.String())
	}
	reload := func() {
		r.signal(syscall.SIGHUP)
		r.hears("RELOADING=1")
		r.hears("READY=1")
	}
	write("hostname: b")
	reload()
	write("hostnam: c")
	reload()
	write("hostname: d")
	reload()
	if got := r.fake.hostnames(); !slices.Equal(got, []string{"b", "d"}) {
		t.Errorf("applied %q", got)
	}
	// The same through Load, which is what `config apply` uses.
	if root, name, err := r.fake.o.Load("x.yaml", []byte("version: 1\nsystem: {hostname: e}\n")); err != nil || name != "x.yaml" || root.System.Hostname != "e" {
		t.Errorf("Load: %v %s", err, name)
	}
	r.signal(syscall.SIGINT)
	r.hears("STOPPING=1")
	r.ends(exitOK)
	if !strings.Contains(r.out.String(), "system.hostnam") {
		t.Errorf("the fault is not in the log:\n%s", r.out.String())
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	dir := t.TempDir()
	f := newFake()
	f.hang = make(chan struct{})
	r := startRun(t, f, "--socket", filepath.Join(dir, "api.sock"), "--log-format", "json")
	r.hears("READY=1")
	r.signal(syscall.SIGTERM)
	r.hears("STOPPING=1")
	r.signal(syscall.SIGTERM)
	r.ends(exitKilled)
	close(f.hang)
}

func TestRunFailures(t *testing.T) {
	dir := t.TempDir()
	sock := filepath.Join(dir, "api.sock")
	f := newFake()
	f.fail = errors.New("link lan0: operation not permitted")
	r := startRun(t, f, "--socket", sock)
	r.ends(exitUsage)
	if r.err.String() != "Error: link lan0: operation not permitted\n" {
		t.Errorf("said %q", r.err.String())
	}

	file := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(file, []byte("version: 1\nbogus: 1\nsystem: {log: {level: loud}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r = startRun(t, newFake(), "-c", file)
	r.ends(exitConfig)
	if s := r.err.String(); !strings.Contains(s, file+":2: bogus: ") || !strings.Contains(s, file+":3: system.log.level: ") || !strings.HasSuffix(s, "Error: "+file+" has 2 faults\n") {
		t.Errorf("said %q", s)
	}

	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r = startRun(t, newFake(), "--socket", sock)
	r.ends(exitUsage)
	if !strings.Contains(r.err.String(), "another process answers") {
		t.Errorf("said %q", r.err.String())
	}
}

// What only the modules can see is found by `config check`, too.
func TestConfigCheckAsksTheModules(t *testing.T) {
	file := filepath.Join(t.TempDir(), "leveret.yaml")
	if err := os.WriteFile(file, []byte("version: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	fault := config.Fault{File: file, Line: 7, Path: "links[lan0].nud", Msg: "unknown key", RFC: "RFC 4861 10"}
	for _, tc := range []struct {
		err  error
		code int
		want string
	}{
		{nil, exitOK, ""},
		{errors.Join(config.Faults{fault}, fault), exitConfig, fault.Error() + "\n" + fault.Error() + "\nError: " + file + " has 2 faults\n"},
		{errors.New("broken"), exitUsage, "Error: broken\n"},
	} {
		var out, stderr bytes.Buffer
		f := newFake()
		f.check = tc.err
		c := newCLI(nil, &out, &stderr)
		c.claims = func() []string { return nil }
		c.newRouter = func(routerOptions) (router, error) { return f, nil }
		if code := c.main(t.Context(), []string{"config", "check", "-c", file}); code != tc.code || stderr.String() != tc.want {
			t.Errorf("%v: code %d, said %q, want %d, %q", tc.err, code, stderr.String(), tc.code, tc.want)
		}
	}
}
