// Package vm gives tests a Linux kernel of their own as the other end: Debian's cloud kernel in QEMU, without
// KVM, with ESP, AH, Mobile IPv6, tunnels and queueing disciplines that the kernel under the tests may not have.
// Its network cards are TAP devices in a network namespace of the test.
package vm

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"leveret/test/interop/vm/channel"
)

// Options is what a VM has.
type Options struct {
	Netns  string   // where the TAP devices are and QEMU runs; "" is where the test runs
	Taps   []string // existing TAP devices: eth0, eth1 ... of the guest, without offloads, so that captures show real checksums
	Memory int      // MiB; 0 is 192
}

// VM is a running guest as one test sees it: what goes wrong fails that test.
type VM struct {
	*machine
	t testing.TB
}

// Boot is how long the guest took from QEMU's start to its first answer; Uptime is the kernel's share.
type Boot struct{ Wall, Uptime time.Duration }

// Need skips the test, with the reason, where no VM can be had.
func Need(t testing.TB) {
	t.Helper()
	if err := missing(); err != nil {
		t.Skip(err)
	}
}

// Start boots a VM that goes with the test. The guest's interfaces are down and without addresses, and no
// router advertisement is accepted. Use a Fixture where several tests can share one.
func Start(t testing.TB, o Options) *VM {
	t.Helper()
	Need(t)
	m, err := boot(o)
	if err != nil {
		t.Fatal(err)
	}
	v := &VM{m, t}
	t.Cleanup(func() { v.report(); m.close() })
	return v
}

// report adds to a failed test's log what tells a VM that has stalled from one that is well: the end of the console,
// and what both sides of each card count.
func (v *VM) report() {
	if !v.t.Failed() {
		return
	}
	lines := strings.Split(strings.TrimSpace(v.Console()), "\n")
	if n := len(lines); n > 20 {
		lines = append([]string{fmt.Sprintf("(%d lines more)", n-20)}, lines[n-20:]...)
	}
	cards, err := v.TryFor(5*time.Second, "ip -s -s link; tc -s qdisc")
	if err != nil {
		cards += err.Error()
	}
	for _, tap := range v.Taps {
		out, err := host(fmt.Sprintf("%sip -s -s link show dev %s; %[1]stc -s qdisc show dev %[2]s", v.in(), tap))
		if err != nil {
			out = append(out, err.Error()...)
		}
		cards += "\nits other side: " + string(out)
	}
	v.t.Logf("console of the VM:\n%s\nits cards:\n%s", strings.Join(lines, "\n"), cards)
}

// in is what runs a command where the TAP devices are.
func (m *machine) in() string {
	if m.Netns == "" {
		return ""
	}
	return "ip netns exec " + m.Netns + " "
}

// limit is how long Run and Try wait for a command.
const limit = 30 * time.Second

// Run runs a shell command in the guest, which must succeed within 30 s, and returns what it printed.
func (v *VM) Run(command string) string {
	v.t.Helper()
	out, err := v.Try(command)
	if err != nil {
		v.t.Fatalf("in the VM: %s: %v\n%s", command, err, out)
	}
	return out
}

// Try runs a shell command in the guest and returns its standard output and error, and an *ExitError, or
// ErrTimeout after 30 s, or what is wrong with the VM. Any number may run at a time.
func (v *VM) Try(command string) (string, error) { return v.TryFor(limit, command) }

// TryFor is Try with a time limit. What the command leaves in the background goes on.
func (v *VM) TryFor(d time.Duration, command string) (string, error) { return v.command(d, command) }

// XfrmStat returns the counters of /proc/net/xfrm_stat, which count since the guest's start.
func (v *VM) XfrmStat() map[string]uint64 {
	v.t.Helper()
	stat := map[string]uint64{}
	for line := range strings.Lines(v.Run("cat /proc/net/xfrm_stat")) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 64)
		if err != nil {
			v.t.Fatalf("xfrm_stat: %q: %v", line, err)
		}
		stat[name] = n
	}
	return stat
}

// States returns the text of `ip -s xfrm state`, keys and counters included.
func (v *VM) States() string { v.t.Helper(); return v.Run("ip -s xfrm state") }

// Policies returns the text of `ip -s xfrm policy`.
func (v *VM) Policies() string { v.t.Helper(); return v.Run("ip -s xfrm policy") }

// ExitError is the exit code of a command that failed; 128 and a signal's number when that ended it.
type ExitError struct{ Code int }

func (e *ExitError) Error() string { return fmt.Sprintf("exit code %d", e.Code) }

// ErrTimeout is the end of a command that took too long.
var ErrTimeout = errors.New("took too long and was killed")

// machine is QEMU and the channel to the agent in it.
type machine struct {
	Options
	Boot Boot

	dir  string
	cmd  *exec.Cmd
	conn net.Conn
	log  bytes.Buffer  // of QEMU itself; read after gone
	gone chan struct{} // QEMU has ended

	mu      sync.Mutex
	next    uint64
	waiting map[uint64]chan channel.Reply
}

// machines counts them: each has other link-layer addresses.
var machines atomic.Uint32

// boot starts QEMU and waits for the agent.
func boot(o Options) (*machine, error) {
	if o.Memory == 0 {
		o.Memory = 192
	}
	image, modules, err := kernel()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "leveret-vm-")
	if err != nil {
		return nil, err
	}
	m := &machine{Options: o, dir: dir, gone: make(chan struct{}), waiting: map[uint64]chan channel.Reply{}}
	initrd := filepath.Join(dir, "initrd")
	if err := buildImage(initrd, modules); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	begin := time.Now()
	if err := m.start(image, initrd); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	ready := make(chan channel.Reply, 1)
	m.waiting[0] = ready
	go m.receive()
	select {
	case r := <-ready:
		m.Boot.Wall = time.Since(begin)
		up, _, _ := strings.Cut(string(r.Output), " ")
		m.Boot.Uptime, err = time.ParseDuration(up + "s")
	case <-m.gone:
		err = fmt.Errorf("QEMU has ended: %s", m.log.String())
	case <-time.After(90 * time.Second):
		err = errors.New("the VM is not up after 90 s")
	}
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, m.Console())
		m.close()
		return nil, err
	}
	return m, nil
}

// start starts QEMU in the namespace. It gets one end of a socket pair: when this process goes, whatever the
// reason, the agent sees an end of file and powers off.
func (m *machine) start(image, initrd string) error {
	// One processor, but not for good: else QEMU leaves the guest's memory barriers out, though its own threads read the
	// rings of the cards meanwhile. Cards have been seen to hang after some 100,000 packets.
	args := []string{"qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-machine", "pc,usb=off,vmport=off,hpet=off", "-accel", "tcg,tb-size=64", "-smp", "1,maxcpus=2", "-m", fmt.Sprint(m.Memory),
		"-cpu", "qemu64,+rdrand,+rdseed,+ssse3,+sse4.1,+sse4.2,+aes,+pclmulqdq",
		"-kernel", image, "-initrd", initrd,
		"-append", "console=ttyS0 quiet loglevel=4 cryptomgr.notests=1 nokaslr mitigations=off audit=0 net.ifnames=0 random.trust_cpu=on tsc=reliable no_timer_check",
		"-serial", "file:" + filepath.Join(m.dir, "console"), "-monitor", "none",
		"-device", "virtio-serial-pci", "-chardev", "socket,id=agent,fd=3", "-device", "virtserialport,chardev=agent,name=" + channel.Port}
	number := uint8(machines.Add(1))
	for i, tap := range m.Taps {
		args = append(args, "-netdev", fmt.Sprintf("tap,id=n%d,ifname=%s,script=no,downscript=no,vhost=off", i, tap),
			"-device", fmt.Sprintf("virtio-net-pci,netdev=n%d,mac=02:00:5e:00:%02x:%02x,romfile=,csum=off,guest_csum=off,gso=off,"+
				"guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off,host_tso4=off,host_tso6=off,host_ecn=off,host_ufo=off", i, number, i+1))
	}
	if m.Netns != "" {
		args = append([]string{"ip", "netns", "exec", m.Netns}, args...)
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "agent"), os.NewFile(uintptr(fds[1]), "agent")
	defer ours.Close()
	defer theirs.Close()
	if m.conn, err = net.FileConn(ours); err != nil {
		return err
	}
	m.cmd = exec.Command(args[0], args[1:]...)
	m.cmd.ExtraFiles = []*os.File{theirs}
	m.cmd.Stdout, m.cmd.Stderr = &m.log, &m.log
	if err := m.cmd.Start(); err != nil {
		m.conn.Close()
		return err
	}
	go func() { _ = m.cmd.Wait(); close(m.gone) }()
	return nil
}

// receive hands replies to those who wait for them, until the channel closes.
func (m *machine) receive() {
	for lines := bufio.NewReader(m.conn); ; {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var r channel.Reply
		if json.Unmarshal(line, &r) != nil {
			m.conn.Close() // every command fails from here on
			return
		}
		m.mu.Lock()
		ch := m.waiting[r.ID]
		delete(m.waiting, r.ID)
		m.mu.Unlock()
		if ch != nil {
			ch <- r
		}
	}
}

// command runs a command and waits for its reply, a little longer than the guest does.
func (m *machine) command(d time.Duration, command string) (string, error) {
	ch := make(chan channel.Reply, 1)
	m.mu.Lock()
	m.next++
	id := m.next
	m.waiting[id] = ch
	b, err := json.Marshal(channel.Request{ID: id, Command: command, Milliseconds: d.Milliseconds()})
	if err == nil {
		_, err = m.conn.Write(append(b, '\n'))
	}
	m.mu.Unlock()
	if err != nil {
		return "", fmt.Errorf("to the VM: %w", err)
	}
	select {
	case r := <-ch:
		switch {
		case r.Fault != "":
			err = errors.New(r.Fault)
		case r.TimedOut:
			err = ErrTimeout
		case r.Code != 0:
			err = &ExitError{r.Code}
		}
		return string(r.Output), err
	case <-m.gone:
		return "", errors.New("the VM has ended")
	case <-time.After(d + 10*time.Second):
		return "", errors.New("the VM does not answer")
	}
}

// Console returns what the guest has printed on its console.
func (m *machine) Console() string {
	b, err := os.ReadFile(filepath.Join(m.dir, "console"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// close ends QEMU.
func (m *machine) close() {
	m.conn.Close()
	_ = m.cmd.Process.Kill()
	<-m.gone
	os.RemoveAll(m.dir)
}
