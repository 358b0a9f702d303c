package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// scapy runs a Python script with scapy in a namespace. The script finds SRC, DST, ROUTER, MAC (of the
// router) and DEV set.
func scapy(t *testing.T, p *topology, script string) string {
	t.Helper()
	mac := between2(p.must("-j", "link", "show", "dev", "left"), `"address":"`, `"`)
	file := p.dir + "/script.py"
	text := fmt.Sprintf("from scapy.all import *\nconf.verb=0\nSRC,DST,ROUTER,MAC,DEV=%q,%q,%q,%q,%q\ndef tx(p): sendp(Ether(dst=MAC)/p, iface=DEV)\n%s", addrA, addrB, routerA, mac, p.devA, script)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := try(fmt.Sprintf("ip netns exec %s /usr/bin/python3 %s", p.a, file))
	if err != nil {
		t.Fatalf("scapy: %v\n%s", err, out)
	}
	return out
}

// provoke makes the appliance send every kind of message of docs/rfc-coverage.md and answer packets
// that a router must survive.
const provoke = `
def opt(t, n=4): return HBHOptUnknown(otype=t, optdata=b'\0'*n)
ip = IPv6(src=SRC, dst=DST)
us = IPv6(src=SRC, dst=ROUTER)
tx(IPv6(src=SRC, dst="2001:db8:f::1")/UDP(sport=40000, dport=9))                      # no route
tx(IPv6(src=SRC, dst="2001:db8:bad::1")/UDP(sport=40000, dport=9))                    # unreachable
tx(IPv6(src=SRC, dst="2001:db8:bad:1::1")/UDP(sport=40000, dport=9))                  # prohibit
tx(IPv6(src=SRC, dst="2001:db8:2::dead")/UDP(sport=40000, dport=9))                   # nobody there
tx(IPv6(src="fe80::1234", dst=DST)/UDP(sport=40000, dport=9))                         # beyond scope
tx(us/UDP(dport=99))                                                     # no port
tx(IPv6(src=SRC, dst=DST, hlim=1)/UDP(sport=40000, dport=9))                          # hop limit
tx(IPv6(src=SRC, dst=DST)/UDP(sport=40000, dport=9)/(b'x'*1440))                      # too big for the other side
tx(us/IPv6ExtHdrRouting(type=0, segleft=1, addresses=[DST]))             # erroneous field
tx(IPv6(src=SRC, dst=ROUTER, nh=200)/Raw(b'12345678'))                   # unknown next header
tx(us/IPv6ExtHdrDestOpt(options=[opt(0x9e)])/UDP(sport=40000, dport=9))               # unknown option
tx(us/IPv6ExtHdrFragment(nh=60, m=1, id=7)/Raw(b'\x11\x01\x01\x04\0\0\0\0'))   # incomplete first fragment
tx(us/ICMPv6EchoRequest(data=b'x'*1400))
for i in range(2): tx(us/IPv6ExtHdrFragment(nh=17, m=1, offset=i, id=9+i)/Raw(b'\0'*16))  # never completed
# a transit packet with more than 1280 octets of extension headers
big = ip
for i in range(6): big = big/IPv6ExtHdrDestOpt(options=[PadN(optdata=b'\0'*236)])
tx(big/UDP(sport=40000, dport=9))                                        # does not fit: Packet Too Big
small = IPv6(src=SRC, dst=DST, fl=0xabcde)
for n in [236]*5+[116]: small = small/IPv6ExtHdrDestOpt(options=[PadN(optdata=b'\0'*n)])
tx(small/UDP(sport=40000, dport=9))                                      # fits: goes on as it is
# Packet Too Big with MTU 40, and one that quotes nothing
tx(us/ICMPv6PacketTooBig(mtu=40)/IPv6(src=ROUTER, dst=SRC)/UDP())
tx(us/ICMPv6PacketTooBig(mtu=40)/IPv6(src=ROUTER, dst=SRC)/ICMPv6EchoReply())
tx(us/ICMPv6PacketTooBig(mtu=1300))
# overlapping fragments
f = [us/IPv6ExtHdrFragment(nh=17, m=1, offset=0, id=77)/Raw(b'A'*64), us/IPv6ExtHdrFragment(nh=17, m=1, offset=4, id=77)/Raw(b'B'*64), us/IPv6ExtHdrFragment(nh=17, m=0, offset=8, id=77)/Raw(b'C'*64)]
for x in f: tx(x)
# every truncated prefix of packets of several kinds
for p in [us/ICMPv6EchoRequest(data=b'abc'), ip/UDP(sport=40000, dport=40001)/b'data', us/IPv6ExtHdrHopByHop(options=[RouterAlert()])/ICMPv6MLReport2(records=[ICMPv6MLDMultAddrRec(dst="ff02::99")]),
          us/ICMPv6ND_NS(tgt=ROUTER)/ICMPv6NDOptSrcLLAddr(lladdr="02:00:00:00:00:99"), us/IPv6ExtHdrFragment(nh=17, m=1, id=5)/UDP(), ip/TCP()]:
    b = raw(p)
    for n in range(len(b)+1): sendp(Ether(dst=MAC, type=0x86dd)/Raw(b[:n]), iface=DEV)
`

const provokeRoutes = `routing:
  routes:
    - {to: "2001:db8:bad::/64", type: unreachable}
    - {to: "2001:db8:bad:1::/64", type: prohibit}
`

// TestEverythingSentIsWellFormed: tshark finds nothing malformed among all that we send, and at least
// one of each type.
func TestEverythingSentIsWellFormed(t *testing.T) {
	need(t, "tshark")
	p := between(t, side{kind: "tap", offload: false, extra: advertiseAll}, side{kind: "tap", offload: false, mtu: 1400, extra: ", host: {accept_ra: always}"},
		provokeRoutes+"icmpv6: {error_rate: 0}\n")
	sh(t, fmt.Sprintf("ip -n %s -6 addr add fe80::1234/64 dev %s nodad", p.a, p.devA))
	file := p.dir + "/all.pcapng"
	stop := capture(t, p.appliance, "any", file)
	// DAD, MLD and announcements come again with a reset.
	p.must("reset")
	eventually(t, "ready", 10*time.Second, func() bool { _, err := p.cli("health"); return err == nil })
	ping(t, p.a, addrB, 2, "")
	ping(t, p.a, routerA, 2, "-s 3000")
	p.must("ping", "-c", "1", addrB)
	scapy(t, p, provoke)
	scapy(t, p, `sendp(Ether(dst="33:33:ff:00:00:01")/IPv6(src="::", dst="ff02::1:ff00:1")/ICMPv6ND_NS(tgt=ROUTER), iface=DEV)
sendp(Ether(dst="33:33:00:00:00:02")/IPv6(src="fe80::1234", dst="ff02::2")/ICMPv6ND_RS(), iface=DEV)
sendp(Ether(dst=MAC)/IPv6(src=SRC, dst="2001:db8:1::77")/ICMPv6EchoRequest(), iface=DEV)`)
	// The last answer is that of the neighbor that never answers.
	eventually(t, "resolution given up", 8*time.Second, func() bool {
		state := p.neighState("2001:db8:2::dead")
		return state == "FAILED" || state == "gone"
	})
	stop()
	show := func(filter, fields string) string {
		return sh(t, fmt.Sprintf(`tshark -r %s -o ip.check_checksum:TRUE -o udp.check_checksum:TRUE -o tcp.check_checksum:TRUE -Y '(frame.interface_name contains "egress") && (%s)' -T fields %s 2>/dev/null`, file, filter, fields))
	}
	if out := show(`_ws.malformed || icmpv6.checksum.status == 0 || udp.checksum.status == 0 || _ws.expert.severity == 0x00800000`, "-e frame.number -e _ws.col.Info"); out != "" {
		t.Errorf("malformed:\n%s", out)
	}
	if n := len(strings.Fields(show("ipv6", "-e frame.number"))); n < 30 {
		t.Errorf("only %d packets were sent", n)
	}
	for what, filter := range map[string]string{
		"NS for DAD": `icmpv6.type == 135 && ipv6.src == :: && icmpv6.opt.nonce`, "NS": `icmpv6.type == 135 && ipv6.src != ::`,
		"NA solicited": `icmpv6.type == 136 && icmpv6.nd.na.flag.s == 1`, "NA to all nodes": `icmpv6.type == 136 && ipv6.dst == ff02::1`,
		"RS": `icmpv6.type == 133 && icmpv6.opt.linkaddr`, "RA": `icmpv6.type == 134 && icmpv6.opt.rdnss && icmpv6.opt.dnssl && icmpv6.opt.mtu && icmpv6.opt.route_info.flag`,
		"Redirect":     `icmpv6.type == 137`,
		"MLDv2 report": `icmpv6.type == 143`, "echo request": `icmpv6.type == 128`, "echo reply": `icmpv6.type == 129`, "fragment": `ipv6.fraghdr`,
		"no route": `icmpv6.type == 1 && icmpv6.code == 0`, "prohibited": `icmpv6.type == 1 && icmpv6.code == 1`, "beyond scope": `icmpv6.type == 1 && icmpv6.code == 2`,
		"address unreachable": `icmpv6.type == 1 && icmpv6.code == 3`, "port unreachable": `icmpv6.type == 1 && icmpv6.code == 4`, "reject route": `icmpv6.type == 1 && icmpv6.code == 6`,
		"packet too big": `icmpv6.type == 2`, "hop limit": `icmpv6.type == 3 && icmpv6.code == 0`,
		"erroneous field": `icmpv6.type == 4 && icmpv6.code == 0`, "unknown next header": `icmpv6.type == 4 && icmpv6.code == 1`,
		"unknown option": `icmpv6.type == 4 && icmpv6.code == 2`, "incomplete first fragment": `icmpv6.type == 4 && icmpv6.code == 3`,
		"headers of 1320 octets in transit, one hop on":       `ipv6.flow == 0xabcde && ipv6.dst == ` + addrB + ` && ipv6.plen == 1328 && ipv6.hlim == 63`,
		"Packet Too Big for 1440 octets of extension headers": `icmpv6.type == 2 && icmpv6.mtu == 1400 && ipv6.dstopts && ipv6.dst == ` + addrA,
	} {
		if show(filter, "-e frame.number") == "" {
			t.Errorf("none sent: %s (%s)", what, filter)
		}
	}
	drops := p.must("stats", "drops")
	for _, reason := range []string{
		"no_route", "route_unreachable", "route_prohibited", "neighbor_unreachable", "beyond_scope", "hop_limit_exceeded", "too_big",
		"routing_header_type0", "next_header_unrecognized", "option_unrecognized", "chain_first_fragment",
		"icmp_quote_invalid", "packet_too_big_mtu", "fragment_overlap",
		"header_truncated", "header_payload_length", // the truncated ones
	} {
		if !strings.Contains(drops, reason) {
			t.Errorf("nothing dropped for %s:\n%s", reason, drops)
		}
	}
	if out := p.must("route", "show", "cache"); strings.Contains(out, addrA) {
		t.Errorf("a Packet Too Big of 40, or one that quotes nothing, was believed: %s", out)
	}
	judge(t, p, file)
}

// advertiseAll has every option of an advertisement that scapy and tshark know.
const advertiseAll = `, router_advertisement: {adv_send_advertisements: true, adv_link_mtu: 1500, adv_interval_option: true, adv_other_config_flag: true,
    home_agent: {adv_home_agent_flag: true, preference: 10}, prefixes: [{prefix: "2001:db8:1::/64"}], routes: [{prefix: "2001:db8:f::/48", adv_route_preference: high}],
    rdnss: [{servers: ["2001:db8:1::53", "2001:db8:1::54"]}], dnssl: [{domains: [corp.example, example.org]}]}`

// judge lets scapy take every packet we sent apart and build it again from its fields, checksums and
// lengths computed anew: the octets must be the same, and nothing may be left over that scapy does
// not know.
func judge(t *testing.T, p *topology, file string) {
	t.Helper()
	sent := p.dir + "/sent.pcapng"
	sh(t, fmt.Sprintf(`tshark -r %s -Y 'frame.interface_name contains "egress"' -w %s 2>/dev/null`, file, sent))
	out := scapy(t, p, fmt.Sprintf(`
bad = n = 0
for frame in rdpcap(%q):
    n += 1
    ip, was = frame[IPv6], raw(frame[IPv6])
    again = IPv6(was)
    l = again
    first = True
    while not isinstance(l, NoPayload):
        fragment = isinstance(l, IPv6ExtHdrFragment)
        if fragment and (l.offset or l.m): break          # the rest is a part of something
        if first: l.plen = None
        if ip.haslayer(ICMPv6DestUnreach) or ip.haslayer(ICMPv6PacketTooBig) or ip.haslayer(ICMPv6TimeExceeded) or ip.haslayer(ICMPv6ParamProblem):
            if not first: l.cksum = None; break           # the rest is a quotation
        for f in ("cksum", "chksum", "len"):
            if f in l.fields and not (f == "len" and not isinstance(l, UDP)): setattr(l, f, None)
        first = False
        l = l.payload
    if raw(again) != was:
        bad += 1; print("differs:", ip.summary(), was.hex(), raw(again).hex())
    rest = ip[Raw].load if ip.haslayer(Raw) else b""
    if len(rest) == 8 and rest[:2] == b"\x0e\x01": rest = b""      # the Nonce option, which this scapy does not know
    if any(ip.haslayer(x) for x in (ICMPv6ND_NS, ICMPv6ND_NA, ICMPv6ND_RA, ICMPv6ND_RS, ICMPv6MLReport2)) and (rest or ip.haslayer(ICMPv6Unknown)):
        bad += 1; print("leftover:", ip.summary(), was.hex())
print(n, "packets,", bad, "bad")
`, sent))
	if !strings.Contains(out, " 0 bad") || strings.HasPrefix(out, "0 packets") {
		t.Errorf("scapy: %s", out)
	}
}

// attacks are the packages' tools, against the router R on the device D,
// from the link-local address S. Those of one line that a "|" parts run at the same time, each on a
// link of its own: they send little, or nothing for some seconds. rs6 is left out: the packaged
// version dies of a segmentation fault; flood_rs6 has its place. dos-new-ip6 only answers
// others: TestAddressDeniedToNewcomers.
const attacks = `
frag6 -i D -d R --flood-frags 50 -l -z 1 | icmp6 -i D -d R --icmp6-packet-too-big --mtu 40 -l -z 1 | jumbo6 -i D -d R -l -z 1 | ni6 -i D -d R -n -l -z 1
na6 -i D -d R -t 2001:db8:1::9 -E 02:00:00:00:00:01 -F 100 -l -z 1 | ns6 -i D -d R -t R -F 100 -e -l -z 1 | ra6 -i D -d R -F 100 -l -z 1 | rd6 -i D -s S -d R -r R -t 2001:db8:1::77 -n S -F 100 -l -z 1
tcp6 -i D -d R -a 7 -XS -F 100 -l -z 1
udp6 -i D -d R -a 9 -F 100 -l -z 1
atk6-flood_router6 D
atk6-flood_advertise6 D R
atk6-flood_solicitate6 D R
atk6-flood_mld6 D
atk6-flood_mld26 D
atk6-flood_mldrouter6 D
atk6-flood_redir6 D R
atk6-flood_rs6 D
atk6-flood_unreach6 D R
atk6-ndpexhaust26 -c D 2001:db8:2::/64
atk6-ndpexhaust6 D 2001:db8:2::/64
atk6-denial6 D R 1 | atk6-denial6 D R 3 | atk6-denial6 D R 4 | atk6-denial6 D R 5
atk6-denial6 D R 2 | atk6-denial6 D R 6 | atk6-denial6 D R 7 | flow6 -i D -d R -v -P TCP -p 7 -W 1
atk6-fragmentation6 -f D R 1
atk6-smurf6 D R
atk6-rsmurf6 D R
atk6-exploit6 D R | atk6-fragmentation6 D R | atk6-implementation6 D R
atk6-toobig6 D 2001:db8:2::2 R 40 | atk6-fuzz_ip6 -x -1 -2 -3 -4 -5 -6 -7 D R
`

// worst are the ones that run for a minute each at full length.
const worst = "frag6 na6 tcp6 atk6-flood_advertise6 atk6-flood_solicitate6 atk6-flood_mld6 atk6-ndpexhaust26 atk6-denial6 atk6-fragmentation6 atk6-fuzz_ip6"

// attackers is how many tools run at the same time at most.
const attackers = 4

// attacker is a namespace with a link of its own to the router.
type attacker struct {
	ns, dev, link     string
	router, linkLocal string
	toolLog           string
}

// TestAttackTools: the SI6 and THC tools against the router, each for a while, with a ping through it
// that loses nothing; afterwards nothing is over its bound. A tool that puts no packet on the link
// has attacked nobody, and is an error.
func TestAttackTools(t *testing.T) {
	need(t, "atk6-denial6", "frag6", "jq")
	var from [attackers]attacker
	var yaml string
	for i := range from {
		a := &from[i]
		a.ns, a.link, a.router = ns(t), fmt.Sprint("evil", i), fmt.Sprintf("2001:db8:6%d::1", i)
		var y string
		y, a.dev = attach(t, a.ns, a.link, a.router, side{kind: "tap", offload: true})
		yaml += y
	}
	p := between(t, side{kind: "tap", offload: true}, side{kind: "tap", offload: true}, yaml)
	for i := range from {
		a := &from[i]
		a.toolLog = fmt.Sprintf("%s/tool%d.log", p.dir, i)
		sh(t, fmt.Sprintf("ip -n %s -6 addr add 2001:db8:6%d::2/64 dev %s nodad; ip -n %s -6 route add default via %s", a.ns, i, a.dev, a.ns, a.router))
		eventually(t, "the attacker's addresses", 5*time.Second, func() bool { return !strings.Contains(in(t, a.ns, "ip -6 addr"), "tentative") })
		eventually(t, "the attacker's link-local address", 5*time.Second, func() bool {
			f := strings.Fields(in(t, a.ns, "ip -6 -o addr show scope link dev "+a.dev))
			if len(f) < 4 {
				return false
			}
			a.linkLocal, _, _ = strings.Cut(f[3], "/")
			return true
		})
		ping(t, a.ns, a.router, 1, "")
	}
	ping(t, p.a, addrB, 2, "")
	for _, line := range strings.Split(strings.TrimSpace(attacks), "\n") {
		t.Run(line, func(t *testing.T) { runAttacks(t, p, from[:], strings.Split(line, " | ")) })
	}
	for _, l := range []string{"left", "right", "evil0", "evil1", "evil2", "evil3"} {
		var neighbors []neigh
		if p.get(&neighbors, "neigh", "show", "dev", l); len(neighbors) > 4096 {
			t.Errorf("%s: %d neighbors", l, len(neighbors))
		}
	}
	bound := 300
	if os.Getenv("LVT_RACE") != "" {
		bound = 3000 // the detector's shadow memory
	}
	status := sh(t, fmt.Sprintf("grep VmRSS /proc/%d/status", p.cmd.Process.Pid))
	kb, err := strconv.Atoi(strings.Fields(status)[1])
	if err != nil || kb > bound<<10 {
		t.Errorf("resident: %s, want at most %d MiB (%v)", status, bound, err)
	}
	t.Logf("resident afterwards: %d MiB", kb>>10)
	ping(t, p.a, addrB, 2, "")
}

// duration is how long a tool runs.
func duration(tool string) time.Duration {
	switch name := strings.Fields(tool)[0]; {
	case long && strings.Contains(" "+worst+" ", " "+name+" "):
		return time.Minute
	case name == "atk6-denial6":
		return 7 * time.Second // warns for four before it begins
	}
	return 3 * time.Second
}

// runAttacks runs tools at the same time while a ping goes through the router.
func runAttacks(t *testing.T, p *topology, from []attacker, tools []string) {
	t.Helper()
	what := strings.Join(tools, " | ")
	sent := func(a attacker) int {
		n, err := strconv.Atoi(strings.TrimSpace(in(t, a.ns, "ip -s -j link show dev "+a.dev+" | jq .[0].stats64.tx.packets")))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	var longest time.Duration
	var before []int
	var running []*exec.Cmd
	for i, tool := range tools {
		a := from[i]
		d := duration(tool)
		longest = max(longest, d)
		before = append(before, sent(a))
		cmd := strings.NewReplacer(" D ", " "+a.dev+" ", " R ", " "+a.router+" ", " S ", " "+a.linkLocal+" ").Replace(strings.ReplaceAll(tool, " ", "  ") + " ")
		c := exec.Command("bash", "-c", fmt.Sprintf("exec timeout -k 1 %.1f ip netns exec %s %s </dev/null >%s 2>&1", d.Seconds(), a.ns, cmd, a.toolLog))
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		running = append(running, c)
	}
	// Counted, not ended by ping's own deadline: that takes a reply which is on its way for lost.
	res, err := try(fmt.Sprintf("ip netns exec %s ping -6 -n -D -i 0.05 -W 2 -c %d %s", p.a, longest/(50*time.Millisecond), addrB))
	for i, c := range running {
		_ = c.Wait()
		log, _ := os.ReadFile(from[i].toolLog)
		// 124: stopped by timeout, as meant.
		if code := c.ProcessState.ExitCode(); code != 0 && code != 124 {
			t.Errorf("%s: exit code %d\n%s", tools[i], code, log)
		}
		if n := sent(from[i]) - before[i]; n < 2 {
			t.Errorf("%s: sent %d packets: no attack\n%s", tools[i], n, log)
		}
	}
	if !p.alive() {
		t.Fatalf("%s: the appliance has ended\n%s", what, p.log)
	}
	if err != nil || !strings.Contains(res, " 0% packet loss") {
		t.Errorf("%s: the ping through lost something: %v\n%s", what, err, res)
	}
}
