// Package e2e runs the binary against the Linux kernel as its host, in network namespaces that the
// tests make. Kernel forwarding stays off everywhere: whatever gets through went through Leveret.
package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// binary is the program under test, built once; with LVT_RACE=1 with the race detector.
var binary string

// long says that the full durations are wanted.
var long = os.Getenv("LVT_LONG") != ""

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		fmt.Println("e2e: needs root: makes network namespaces; left out")
		os.Exit(m.Run()) // every test skips itself and says so
	}
	dir, err := os.MkdirTemp("", "leveret-e2e-")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "leveret")
	build := exec.Command("go", "build", "-o", binary, "leveret/cmd/leveret")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if os.Getenv("LVT_RACE") != "" {
		build = exec.Command("go", "build", "-race", "-o", binary, "leveret/cmd/leveret")
	}
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Printf("e2e: build: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// need skips without root or a program that `make deps` installs.
func need(t *testing.T, programs ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Fatalf("%s is not installed: run `make deps` as root", p)
		}
	}
}

// seconds is a duration for a test: short normally, full with LVT_LONG.
func seconds(short, full int) string {
	if long {
		return fmt.Sprint(full)
	}
	return fmt.Sprint(short)
}

var nsCount atomic.Int32

// ns makes a network namespace that goes with the test.
func ns(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("lvt%d-%d", os.Getpid(), nsCount.Add(1))
	sh(t, "ip netns add "+name)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", name).Run() })
	sh(t, "ip -n "+name+" link set lo up")
	return name
}

// try runs a shell command and returns its output.
func try(cmd string) (string, error) {
	out, err := exec.Command("bash", "-c", cmd).CombinedOutput()
	return string(out), err
}

// sh runs a shell command that must succeed.
func sh(t *testing.T, cmd string) string {
	t.Helper()
	out, err := try(cmd)
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	return out
}

// in runs a shell command in a namespace; it must succeed.
func in(t *testing.T, ns, cmd string) string {
	t.Helper()
	return sh(t, "ip netns exec "+ns+" "+cmd)
}

// eventually polls until ok, at most d.
func eventually(t *testing.T, what string, d time.Duration, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("%s: not within %s", what, d)
}

// appliance is one running binary.
type appliance struct {
	t    *testing.T
	dir  string
	cmd  *exec.Cmd
	log  *bytes.Buffer
	done chan struct{}
	err  error
}

// start runs the binary on a configuration (without its system section) and waits until it is ready.
func start(t *testing.T, yaml string) *appliance {
	t.Helper()
	a := &appliance{t: t, dir: tempDir(t)}
	a.write(yaml)
	a.launch()
	t.Cleanup(func() {
		if a.alive() {
			a.stop()
		}
	})
	return a
}

// tempDir is short enough for a socket's name.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lvt") //nolint:usetesting // t.TempDir has the test's name in it: too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// write makes yaml the appliance's configuration file.
func (a *appliance) write(yaml string) {
	a.t.Helper()
	text := fmt.Sprintf("version: 1\nsystem: {run_dir: %s, state_dir: %s, log: {format: console}}\n%s", a.dir, a.dir, yaml)
	if err := os.WriteFile(a.file(), []byte(text), 0o644); err != nil {
		a.t.Fatal(err)
	}
}

func (a *appliance) file() string { return filepath.Join(a.dir, "leveret.yaml") }

func (a *appliance) launch() {
	a.t.Helper()
	a.run(exec.Command(binary, "run", "-c", a.file()))
}

// run starts the appliance by a command and waits until it is ready.
func (a *appliance) run(cmd *exec.Cmd) {
	a.t.Helper()
	a.log = &bytes.Buffer{}
	a.cmd = cmd
	a.cmd.Stdout, a.cmd.Stderr = a.log, a.log
	if err := a.cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
	a.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) { a.err = cmd.Wait(); close(done) }(a.cmd, a.done)
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, err := a.cli("health"); err == nil {
			return
		}
		if !a.alive() || time.Now().After(end) {
			a.t.Fatalf("not ready:\n%s", a.output())
		}
	}
}

func (a *appliance) alive() bool {
	select {
	case <-a.done:
		return false
	default:
		return true
	}
}

// output returns the log of an appliance that has ended, or says that it is running.
func (a *appliance) output() string {
	if a.alive() {
		out, _ := a.cli("health")
		return "still running; health: " + out
	}
	return a.log.String()
}

// stop ends the appliance as an operator does, and wants a clean end.
func (a *appliance) stop() {
	a.t.Helper()
	_ = a.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-a.done:
	case <-time.After(10 * time.Second):
		_ = a.cmd.Process.Signal(syscall.SIGABRT)
		<-a.done
		a.t.Errorf("did not stop within 10 s:\n%s", a.log)
		return
	}
	if a.err != nil || strings.Contains(a.log.String(), "panic") || strings.Contains(a.log.String(), "DATA RACE") {
		a.t.Errorf("ended with %v:\n%s", a.err, a.log)
	}
}

// kill ends the appliance without a chance to clean up.
func (a *appliance) kill() {
	_ = a.cmd.Process.Kill()
	<-a.done
}

// cli runs a client command.
func (a *appliance) cli(args ...string) (string, error) {
	cmd := exec.Command(binary, append([]string{"--socket", filepath.Join(a.dir, "api.sock")}, args...)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// must runs a client command that must succeed.
func (a *appliance) must(args ...string) string {
	a.t.Helper()
	out, err := a.cli(args...)
	if err != nil {
		a.t.Fatalf("leveret %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// get decodes a client command's JSON.
func (a *appliance) get(v any, args ...string) {
	a.t.Helper()
	if err := json.Unmarshal([]byte(a.must(append([]string{"-j"}, args...)...)), v); err != nil {
		a.t.Fatalf("leveret -j %v: %v", args, err)
	}
}

// topology is two kernel hosts with an appliance between them.
type topology struct {
	*appliance
	a, b       string // namespaces
	devA, devB string
}

const (
	addrA   = "2001:db8:1::2"
	addrB   = "2001:db8:2::2"
	routerA = "2001:db8:1::1"
	routerB = "2001:db8:2::1"
)

// side describes how one host is attached.
type side struct {
	kind    string
	offload bool
	extra   string // more keys of the link
	mtu     int
}

// attach prepares a host's side and returns the link's YAML.
func attach(t *testing.T, host, name, addr string, s side) (yaml, dev string) {
	t.Helper()
	if s.mtu == 0 {
		s.mtu = 1500
	}
	dev = "d" + name
	where := host
	if s.kind == "af_packet" {
		where = ns(t)
		in(t, where, "sysctl -qw net.ipv6.conf.default.disable_ipv6=1")
		sh(t, fmt.Sprintf("ip -n %s link add %s mtu %d type veth peer name p%s netns %s", host, dev, s.mtu, name, where))
		sh(t, fmt.Sprintf("ip -n %s link set p%s mtu %d up; ip -n %s link set %s up", where, name, s.mtu, host, dev))
		return fmt.Sprintf("  - {name: %s, kind: af_packet, host_device: p%s, netns: %s, mtu: %d, offload: %v, addresses: [\"%s/64\"]%s}\n",
			name, name, where, s.mtu, s.offload, addr, s.extra), dev
	}
	return fmt.Sprintf("  - {name: %s, kind: %s, host_device: %s, netns: %s, mtu: %d, offload: %v, addresses: [\"%s/64\"]%s}\n",
		name, s.kind, dev, where, s.mtu, s.offload, addr, s.extra), dev
}

// between builds the topology; more is added to the configuration.
func between(t *testing.T, sa, sb side, more string) *topology {
	t.Helper()
	p := &topology{a: ns(t), b: ns(t)}
	ya, da := attach(t, p.a, "left", routerA, sa)
	yb, db := attach(t, p.b, "right", routerB, sb)
	p.devA, p.devB = da, db
	p.appliance = start(t, "links:\n"+ya+yb+more)
	p.hosts()
	return p
}

// hosts gives the kernel hosts their addresses and routes.
func (p *topology) hosts() {
	p.t.Helper()
	for _, h := range [][4]string{{p.a, p.devA, addrA, routerA}, {p.b, p.devB, addrB, routerB}} {
		sh(p.t, fmt.Sprintf("ip -n %s -6 addr replace %s/64 dev %s nodad && ip -n %s -6 route replace default via %s dev %s", h[0], h[2], h[1], h[0], h[3], h[1]))
	}
}

// unhosts takes what hosts gave away again, from devices that are still there.
func (p *topology) unhosts() {
	for _, h := range [][3]string{{p.a, p.devA, addrA}, {p.b, p.devB, addrB}} {
		_, _ = try(fmt.Sprintf("ip -n %s -6 route del default; ip -n %s -6 addr del %s/64 dev %s", h[0], h[0], h[2], h[1]))
	}
}

// ping wants every one of n echo replies.
func ping(t *testing.T, ns, dst string, n int, opts string) {
	t.Helper()
	out, err := try(fmt.Sprintf("ip netns exec %s ping -6 -n -i 0.05 -W 2 -c %d %s %s", ns, n, opts, dst))
	if err != nil || !strings.Contains(out, " 0% packet loss") {
		t.Fatalf("ping %s %s: %v\n%s", dst, opts, err, out)
	}
}

// iperfEnd is what iperf3 says at the end.
type iperfEnd struct {
	SumReceived struct {
		BitsPerSecond float64 `json:"bits_per_second"`
	} `json:"sum_received"`
	Sum struct {
		Packets     int     `json:"packets"`
		LostPercent float64 `json:"lost_percent"`
	} `json:"sum"`
}

// iperf runs one iperf3 TCP test from a to b and returns the Mbit/s received.
func iperf(t *testing.T, from, to, dst, opts string) float64 {
	t.Helper()
	return runIperf(t, from, to, dst, opts).SumReceived.BitsPerSecond / 1e6
}

// iperfUDP runs one iperf3 UDP test from a to b and returns the percentage lost.
func iperfUDP(t *testing.T, from, to, dst, opts string) float64 {
	t.Helper()
	end := runIperf(t, from, to, dst, "-u "+opts)
	if end.Sum.Packets < 1000 {
		t.Errorf("iperf3 -u %s: only %d packets", opts, end.Sum.Packets)
	}
	return end.Sum.LostPercent
}

func runIperf(t *testing.T, from, to, dst, opts string) iperfEnd {
	t.Helper()
	server := exec.Command("ip", "netns", "exec", to, "iperf3", "-s", "-1", "--forceflush")
	var log bytes.Buffer
	server.Stdout, server.Stderr = &log, &log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Process.Kill(); _ = server.Wait() }()
	eventually(t, "iperf3 server", 5*time.Second, func() bool {
		out, _ := try("ip netns exec " + to + " ss -6ltn")
		return strings.Contains(out, ":5201")
	})
	out, err := try(fmt.Sprintf("ip netns exec %s iperf3 -6 -J -c %s %s", from, dst, opts))
	var r struct {
		Error string
		End   iperfEnd
	}
	if jerr := json.Unmarshal([]byte(out), &r); err != nil || jerr != nil || r.Error != "" {
		t.Fatalf("iperf3 %s: %v %v %s\n%s", opts, err, jerr, r.Error, out)
	}
	return r.End
}

// exitCode returns a command's exit code.
func exitCode(err error) int {
	var e *exec.ExitError
	if errors.As(err, &e) {
		return e.ExitCode()
	}
	return -1
}
