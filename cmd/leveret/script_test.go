package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"leveret": func() { os.Exit(realMain()) },
	})
}

// TestScripts runs the command line against a fake appliance: `serve` starts one that answers
// with the files of the folder api and notes what it was asked in the file requests.
func TestScripts(t *testing.T) {
	if raceEnabled {
		t.Skip("each command is a process with one goroutine at work: nothing to find, and a minute to start them")
	}
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(env *testscript.Env) error {
			env.Setenv(socketEnv, filepath.Join(env.WorkDir, "api.sock"))
			env.Setenv("TZ", "UTC")
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"serve":    serveFake,
			"exitcode": exitCode,
		},
	})
}

// exitCode runs a command and compares its exit code, which testscript's `!` does not tell.
func exitCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exitcode N command...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit interface{ ExitCode() int }
	switch {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func serveFake(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: serve")
	}
	dir := ts.MkAbs("api")
	requests, err := os.Create(ts.MkAbs("requests"))
	ts.Check(err)
	l, err := net.Listen("unix", ts.Getenv(socketEnv))
	ts.Check(err)
	srv := &http.Server{Handler: fake{dir, requests}}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	ts.Defer(func() {
		_ = srv.Shutdown(context.Background())
		<-done
		_ = requests.Close()
	})
}

// fake answers GET /v1/link with the file GET_v1_link. A first line "status N" sets the status.
type fake struct {
	dir      string
	requests io.Writer
}

func (f fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	q := r.URL.RawQuery
	if q != "" {
		q = "?" + q
	}
	fmt.Fprintln(f.requests, strings.TrimSpace(fmt.Sprintf("%s %s%s %s", r.Method, r.URL.Path, q, body)))
	b, err := os.ReadFile(filepath.Join(f.dir, r.Method+strings.ReplaceAll(r.URL.Path, "/", "_")))
	if err != nil {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(w, `{"error":"no such path: %s"}`, r.URL.Path)
		return
	}
	text, status := string(b), http.StatusOK
	if rest, ok := strings.CutPrefix(text, "status "); ok {
		code, rest, _ := strings.Cut(rest, "\n")
		status, err = strconv.Atoi(code)
		if err != nil {
			status = http.StatusTeapot
		}
		text = rest
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}
