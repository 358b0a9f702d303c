package vm

import (
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

var fixture = Fixture{Cards: 2}

func TestMain(m *testing.M) {
	code := m.Run()
	fixture.Close()
	os.Exit(code)
}

func TestCommands(t *testing.T) {
	v := fixture.VM(t)
	t.Logf("boot: %v, of which the kernel's clock %v", v.Boot.Wall, v.Boot.Uptime)
	if v.Boot.Wall > 60*time.Second {
		t.Errorf("boot took %v", v.Boot.Wall)
	}
	for _, c := range []struct{ name, command, out string }{
		{"output", "echo hello", "hello\n"},
		{"both outputs in order", "echo a; echo b >&2; echo c", "a\nb\nc\n"},
		{"no end of line", "printf x", "x"},
		{"lines like replies", `echo '{"ID":1}'`, `{"ID":1}` + "\n"},
		{"several lines", "for i in 1 2\ndo\n echo $i\ndone", "1\n2\n"},
		{"octets", `printf '\000\377\n\r'`, "\x00\xff\n\r"},
		{"more than a write of the driver", "head -c 300000 /dev/zero | tr '\\000' x", strings.Repeat("x", 300000)},
		{"left in the background", "sleep 100 & echo on", "on\n"},
		{"sweep", "sweep ::1 0-9,4000", "11 sent, 0 not answered\n"},
	} {
		if out := v.Run(c.command); out != c.out {
			t.Errorf("%s: %d octets %.60q, want %.60q", c.name, len(out), out, c.out)
		}
	}
	long := "echo " + strings.Repeat("y", 100000) + " | wc -c"
	if out := strings.TrimSpace(v.Run(long)); out != "100001" {
		t.Errorf("a command of 100 kB: %s", out)
	}

	var exit *ExitError
	if out, err := v.Try("echo no; exit 3"); !errors.As(err, &exit) || exit.Code != 3 || out != "no\n" {
		t.Errorf("exit 3: %q, %v", out, err)
	}
	if _, err := v.Try("kill -TERM $$"); !errors.As(err, &exit) || exit.Code != 128+15 {
		t.Errorf("a signal: %v", err)
	}
	if out, err := v.Try("sysctl -qw net.ipv6.icmp.echo_ignore_all=1; sweep ::1 5"); !errors.As(err, &exit) || !strings.Contains(out, "5 octets: ") {
		t.Errorf("sweep without replies: %v\n%s", err, out)
	}
	v.Run("sysctl -qw net.ipv6.icmp.echo_ignore_all=0")
	begin := time.Now()
	if out, err := v.TryFor(300*time.Millisecond, "echo begun; sleep 20"); !errors.Is(err, ErrTimeout) || out != "begun\n" {
		t.Errorf("timeout: %q, %v", out, err)
	}
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("the timeout took %v", d)
	}
}

func TestCommandsAtATime(t *testing.T) {
	v := fixture.VM(t)
	begin := time.Now()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			word := strings.Repeat(string(rune('a'+i)), 100)
			if out, err := v.Try("sleep 1; echo " + word); err != nil || out != word+"\n" {
				t.Errorf("%q, %v", out, err)
			}
		})
	}
	wg.Wait()
	if d := time.Since(begin); d > 7*time.Second {
		t.Errorf("8 commands of 1 s each took %v: one after the other", d)
	}
}

// TestModules: what the tests of the project need of the kernel is there, built in or as a module.
func TestModules(t *testing.T) {
	v := fixture.VM(t)
	set, err := readModules(modulesOf(t))
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, line := range strings.Split(v.Run("cat /proc/modules"), "\n") {
		name, _, _ := strings.Cut(line, " ")
		there[name] = true
	}
	for _, m := range append([]string{"mip6", "af_packet", "xfrm_algo", "tunnel6"}, loaded...) {
		if !there[m] && !set.builtin[m] {
			t.Errorf("module %s is not loaded", m)
		}
	}
	if there["xfrm_interface"] {
		t.Error("xfrm_interface is loaded: MIPv6 with ESP would fail")
	}
	for _, c := range []string{
		"ip link add t0 type ip6tnl mode ip6ip6 local 2001:db8::1 remote 2001:db8::2", "ip link add t0 type sit local 192.0.2.1 remote 192.0.2.2",
		"ip link add t0 type ip6gre local 2001:db8::1 remote 2001:db8::2", "ip link add t0 type vti6 local 2001:db8::1 remote 2001:db8::2 key 1",
		"ip link add t0 type dummy", "ip link add t0 type veth peer name t1", "ip tuntap add t0 mode tun",
		"insmod /modules/xfrm_interface.ko && ip link add t0 type xfrm dev lo if_id 7",
	} {
		v.Run(c + " && ip link show t0 && ip link del t0")
	}
	v.Run("tc qdisc add dev eth1 root netem delay 10ms loss 1%")
	// Mobile IPv6 is built in and shows by what it takes.
	v.Run("ip xfrm state add src 2001:db8::1 dst 2001:db8::2 proto route2 reqid 0 mode ro coa 2001:db8::3 && " +
		"ip xfrm state add src 2001:db8::1 dst 2001:db8::2 proto hao reqid 0 mode ro coa 2001:db8::3")
	if out := v.States(); !strings.Contains(out, "proto route2") || !strings.Contains(out, "proto hao") {
		t.Errorf("states:\n%s", out)
	}
}

func modulesOf(t *testing.T) string {
	t.Helper()
	_, modules, err := kernel()
	if err != nil {
		t.Fatal(err)
	}
	return modules
}

// TestFirstState: a test finds nothing of the one before it.
func TestFirstState(t *testing.T) {
	look := "ip xfrm state; ip xfrm policy; ip -6 addr show scope global; ip -6 route; ip -br link; tc qdisc show dev eth0 | grep netem; pidof iperf3; cat /sys/class/net/eth0/mtu; true"
	first := fixture.VM(t).Run(look)
	v := fixture.VM(t)
	v.Run(`ip link set eth0 mtu 1400 up && ip -6 addr add 2001:db8::1/64 dev eth0 nodad && ip -6 addr add 2001:db8::99/128 dev lo
ip -6 route add 2001:db8:5::/48 via 2001:db8::2 && ip -6 route add blackhole 2001:db8:6::/48
ip xfrm state add src 2001:db8::1 dst 2001:db8::2 proto esp spi 1 mode transport aead 'rfc4106(gcm(aes))' 0x0001020304050607080900010203040506070809 128
ip xfrm policy add dir out src 2001:db8::1 dst 2001:db8::2 tmpl proto esp mode transport
insmod /modules/xfrm_interface.ko && ip link add x0 type xfrm dev eth0 if_id 1 && ip link add t0 type ip6tnl local 2001:db8::1 remote 2001:db8::2
tc qdisc add dev eth0 root netem delay 1ms && iperf3 -s -D`)
	if now := v.Run(look); now == first {
		t.Fatal("the changes do not show")
	}
	if now := fixture.VM(t).Run(look); now != first {
		t.Errorf("left over:\n%s\nwas:\n%s", now, first)
	}
	stat := v.XfrmStat()
	if _, ok := stat["XfrmInNoStates"]; !ok || len(stat) < 20 {
		t.Errorf("counters: %v", stat)
	}
}
