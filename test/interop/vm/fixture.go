package vm

import (
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
)

// Fixture is one VM with a network namespace and TAP devices of its own for all tests of a package, which
// run one after the other. The first test that asks boots it; TestMain calls Close.
type Fixture struct {
	Cards  int // TAP devices vm0, vm1 ... in the namespace, eth0, eth1 ... in the guest
	Memory int // MiB; 0 is the default of Options

	mu    sync.Mutex
	netns string
	m     *machine
	err   error
}

// reset takes the guest back to what it was after its start. The device that is left over of each kind of
// tunnel cannot be deleted and is not there.
const reset = `killall -q -9 iperf3 nc ping espinudp
ip xfrm state flush && ip xfrm policy flush || exit 1
for d in /sys/class/net/*; do case ${d##*/} in lo|eth[0-9]) ;; *) ip link del ${d##*/};; esac; done
for d in /sys/class/net/eth*; do
	d=${d##*/}; tc qdisc del dev $d root 2>/dev/null
	ip link set $d down mtu 1500 && ip addr flush dev $d && sysctl -qw net.ipv6.conf.$d.forwarding=0 || exit 1
done
ip -6 addr flush dev lo scope global; ip -6 route flush proto boot; ip -6 route flush proto static
sysctl -qw net.ipv6.conf.all.forwarding=0
if [ -d /sys/module/xfrm_interface ]; then rmmod xfrm_interface || exit 1; fi
exit 0`

// VM returns the VM, booted if need be, in its first state; the TAP devices are up and without IPv6 in the
// kernel that the test runs on, until the test sets net.ipv6.conf.vm0.disable_ipv6=0 in VM.Netns.
func (f *Fixture) VM(t testing.TB) *VM {
	t.Helper()
	Need(t)
	f.mu.Lock()
	defer f.mu.Unlock()
	for boots := 0; ; boots++ {
		if f.m == nil && f.err == nil {
			f.err = f.start()
		}
		if f.err != nil {
			t.Fatal(f.err)
		}
		v := &VM{f.m, t}
		v.Run(reset)
		err := f.carries()
		if err == nil {
			t.Cleanup(v.report)
			return v
		}
		console := f.m.Console()
		f.m.close()
		f.m = nil
		if boots == 2 {
			t.Fatalf("%v\n%s", err, console)
		}
		t.Logf("the VM is booted anew: %v\n%s", err, console)
	}
}

// carries wants packets both ways through each card, and leaves the cards as a reset does. QEMU has been seen with a
// card whose interrupts no longer came: its transmit queue filled up, and every test ran into its timeouts.
func (f *Fixture) carries() error {
	for i, tap := range f.m.Taps {
		at, card := "ip netns exec "+f.netns+" sysctl -qw net.ipv6.conf."+tap+".disable_ipv6=", fmt.Sprintf("eth%d", i)
		if out, err := host(at + "0 && ip -n " + f.netns + " addr add fe80::1/64 dev " + tap + " nodad"); err != nil {
			return fmt.Errorf("%s: %w\n%s", tap, err, out)
		}
		out, err := f.m.command(limit, "ip link set "+card+" up && ip addr add fe80::2/64 dev "+card+" nodad && ping -6 -q -c 3 -i 0.02 -W 2 fe80::1%"+card+
			" || { cat /proc/interrupts; ip -s link show "+card+"; exit 1; }; ip link set "+card+" down && ip addr flush dev "+card)
		if err != nil {
			return fmt.Errorf("%s carries nothing: %w\n%s", card, err, out)
		}
		if out, err := host(at + "1"); err != nil {
			return fmt.Errorf("%s: %w\n%s", tap, err, out)
		}
	}
	return nil
}

func (f *Fixture) start() error {
	f.close()
	f.netns = fmt.Sprintf("lvt%d-vm", os.Getpid())
	script := fmt.Sprintf("ip netns add %s && ip netns exec %s sysctl -qw net.ipv6.conf.default.disable_ipv6=1", f.netns, f.netns)
	o := Options{Netns: f.netns, Memory: f.Memory}
	for i := range f.Cards {
		tap := fmt.Sprintf("vm%d", i)
		script += fmt.Sprintf(" && ip -n %s tuntap add %s mode tap && ip -n %s link set %s up", f.netns, tap, f.netns, tap)
		o.Taps = append(o.Taps, tap)
	}
	if out, err := host(script); err != nil {
		return fmt.Errorf("the VM's network: %w\n%s", err, out)
	}
	var err error
	f.m, err = boot(o)
	return err
}

func host(script string) ([]byte, error) { return exec.Command("sh", "-c", script).CombinedOutput() }

// Close ends the VM and deletes the namespace, if there are any.
func (f *Fixture) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.close()
}

func (f *Fixture) close() {
	if f.m != nil {
		f.m.close()
	}
	if f.netns != "" {
		_, _ = host("ip netns del " + f.netns)
	}
}
