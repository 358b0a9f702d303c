package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// The topology: a generator's namespace, the router's, and a sink's.
//
//	gen: g0 -veth- r0 :router: r1 -veth- s0 :sink        (TUN subjects: g0 and s0 are TUN devices)
var (
	nsGen    = fmt.Sprintf("lvtb%d-gen", os.Getpid())
	nsRouter = fmt.Sprintf("lvtb%d-rtr", os.Getpid())
	nsSink   = fmt.Sprintf("lvtb%d-snk", os.Getpid())
)

const (
	genAddr  = "2001:db8:a::2"
	genRtr   = "2001:db8:a::1"
	sinkAddr = "2001:db8:b::2"
	sinkRtr  = "2001:db8:b::1"
	// nobody is the next hop of test traffic: a link-layer address that no device has, so that the
	// sink's stack drops the frames at once and only the counting socket sees them.
	nobody    = "2001:db8:b::99"
	nobodyMAC = "02:00:00:00:0b:99"
)

func run(cmd string) error {
	out, err := exec.Command("bash", "-c", cmd).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", cmd, err, out)
	}
	return nil
}

func output(cmd string) string {
	out, _ := exec.Command("bash", "-c", cmd).Output() // informational
	return strings.TrimSpace(string(out))
}

// setup makes the namespaces, with veths between them unless the router brings TUN devices. offload
// says whether the hosts' segmentation offloads stay on.
func setup(tun, offload bool) error {
	cmds := []string{"ip netns add " + nsGen, "ip netns add " + nsRouter, "ip netns add " + nsSink}
	if !tun {
		for _, v := range [][4]string{{nsGen, "g0", "r0", genAddr}, {nsSink, "s0", "r1", sinkAddr}} {
			cmds = append(cmds,
				fmt.Sprintf("ip -n %s link add %s type veth peer name %s netns %s", v[0], v[1], v[2], nsRouter),
				fmt.Sprintf("ip netns exec %s sysctl -qw net.ipv6.conf.%s.accept_dad=0 net.ipv6.conf.%s.disable_ipv6=1", nsRouter, v[2], v[2]),
				fmt.Sprintf("ip -n %s link set %s up; ip -n %s link set %s up", v[0], v[1], nsRouter, v[2]))
			if !offload {
				cmds = append(cmds, fmt.Sprintf("ip netns exec %s ethtool -K %s tx off tso off gso off gro off >/dev/null; ip netns exec %s ethtool -K %s tx off tso off gso off gro off >/dev/null", v[0], v[1], nsRouter, v[2]))
			}
		}
	}
	for _, c := range cmds {
		if err := run(c); err != nil {
			return err
		}
	}
	return nil
}

// hosts gives the generator's and the sink's kernel their addresses, once the devices are there.
func hosts() error {
	for _, h := range [][4]string{{nsGen, "g0", genAddr, genRtr}, {nsSink, "s0", sinkAddr, sinkRtr}} {
		if err := run(fmt.Sprintf("ip -n %s -6 addr add %s/64 dev %s nodad && ip -n %s -6 route add default via %s dev %s", h[0], h[2], h[1], h[0], h[3], h[1])); err != nil {
			return err
		}
	}
	return nil
}

// teardown removes the namespaces and with them everything in them.
func teardown() {
	for _, n := range []string{nsGen, nsRouter, nsSink} {
		_ = exec.Command("ip", "netns", "del", n).Run() // it may not be there
	}
}
