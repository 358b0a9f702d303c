// Package interop runs the binary against a Linux kernel in a VM, which has what the kernel under the tests
// may not: ESP, AH, Mobile IPv6, tunnels.
package interop

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"leveret/test/interop/vm"
)

// peer is the VM of all tests: eth0 on vm0, eth1 on vm1.
var peer = vm.Fixture{Cards: 2}

// program is the binary under test, built once.
var program string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "leveret-interop-")
	if err != nil {
		panic(err)
	}
	program = filepath.Join(dir, "leveret")
	build := exec.Command("go", "build", "-o", program, "leveret/cmd/leveret")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Printf("interop: build: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	peer.Close()
	os.RemoveAll(dir)
	os.Exit(code)
}

// sh runs a shell command that must succeed.
func sh(t *testing.T, format string, args ...any) string {
	t.Helper()
	cmd := fmt.Sprintf(format, args...)
	out, err := exec.Command("bash", "-c", cmd).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	return string(out)
}

// appliance is one running binary.
type appliance struct {
	t    *testing.T
	dir  string
	cmd  *exec.Cmd
	log  bytes.Buffer // read after done
	done chan struct{}
	err  error
}

// start runs the binary on a configuration (without its system section), waits until it is ready, and wants a
// clean end after the test.
func start(t *testing.T, yaml string) *appliance {
	t.Helper()
	dir, err := os.MkdirTemp("", "lvt") //nolint:usetesting // t.TempDir has the test's name in it: too long for a socket's
	if err != nil {
		t.Fatal(err)
	}
	a := &appliance{t: t, dir: dir, done: make(chan struct{})}
	text := fmt.Sprintf("version: 1\nsystem: {run_dir: %s, state_dir: %s, log: {format: console}}\n%s", dir, dir, yaml)
	file := filepath.Join(dir, "leveret.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	a.cmd = exec.Command(program, "run", "-c", file)
	a.cmd.Stdout, a.cmd.Stderr = &a.log, &a.log
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { a.err = a.cmd.Wait(); close(a.done) }()
	t.Cleanup(a.stop)
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, err := a.cli("health"); err == nil {
			return a
		}
		if time.Now().After(end) || !a.alive() {
			t.Fatal("not ready")
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

func (a *appliance) stop() {
	defer os.RemoveAll(a.dir)
	_ = a.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-a.done:
	case <-time.After(10 * time.Second):
		_ = a.cmd.Process.Signal(syscall.SIGABRT)
		<-a.done
	}
	if a.t.Failed() || a.err != nil || strings.Contains(a.log.String(), "panic") {
		a.t.Errorf("Leveret has ended with %v:\n%s", a.err, &a.log)
	}
}

// cli runs a client command.
func (a *appliance) cli(args ...string) (string, error) {
	out, err := exec.Command(program, append([]string{"--socket", filepath.Join(a.dir, "api.sock")}, args...)...).CombinedOutput()
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

// attach connects a link of Leveret with a TAP device of the VM and returns the link's configuration, open at
// its end for more keys. A link of kind af_packet is that TAP device; other kinds need a bridge.
func attach(t *testing.T, v *vm.VM, kind, tap, addr string) string {
	t.Helper()
	dev := tap
	if kind == "tap" {
		dev = "lvt-" + tap
		bridge := "br-" + tap
		sh(t, "ip -n %s link add %s type bridge mcast_snooping 0 && ip -n %s link set %s up && ip -n %s link set %s master %s",
			v.Netns, bridge, v.Netns, bridge, v.Netns, tap, bridge)
		sh(t, "ip -n %s tuntap add %s mode tap && ip -n %s link set %s master %s up", v.Netns, dev, v.Netns, dev, bridge)
		t.Cleanup(func() {
			sh(t, "ip -n %s link del %s && ip -n %s link del %s", v.Netns, bridge, v.Netns, dev)
		})
	}
	return fmt.Sprintf("  - {name: %s, kind: %s, host_device: %s, netns: %s, mtu: 1500, dad: {transmits: 0}, addresses: [\"%s/64\"]}\n", tap, kind, dev, v.Netns, addr)
}

// address gives a card of the guest an address, and the guest routes by it.
func address(v *vm.VM, card, addr string) {
	v.Run(fmt.Sprintf("ip link set %s up && ip -6 addr add %s/64 dev %s nodad", card, addr, card))
}

// sizes is `a` normally, `b` with LVT_LONG.
func sizes(a, b string) string {
	if os.Getenv("LVT_LONG") != "" {
		return b
	}
	return a
}

// sweep pings from the VM with each number of octets of data, and wants every reply: without them nothing that follows
// would do better.
func sweep(t *testing.T, v *vm.VM, dst, sizes string) {
	t.Helper()
	limit := time.Minute // the short sizes take some seconds
	if os.Getenv("LVT_LONG") != "" {
		limit = 5 * time.Minute
	}
	if out, err := v.TryFor(limit, "sweep "+dst+" "+sizes); err != nil {
		t.Fatalf("VM to %s, %s octets: %v\n%s", dst, sizes, err, out)
	}
}
