package main

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"
)

// The topology of tunnels: two ends in the hosts' namespaces, with one veth between them. Each has a TUN device
// towards its host.
//
//	gen: g0 (TUN) :end: w0 -veth- w1 :end: s0 (TUN) :sink
const (
	outerGen  = "2001:db8:e::1"
	outerSink = "2001:db8:e::2"
)

// peers is where peers.sh has put what is compared with.
const peers = "/var/cache/leveret/bench"

// end is one of the two.
type end struct {
	ns, wan, tun    string
	own, peer       string // outer addresses
	host, peersHost string // inner ones
	gateway         string // of the host, where the end has an address of its own
	dir             string
}

func ends(dir string) [2]end {
	e := [2]end{
		{nsGen, "w0", "g0", outerGen, outerSink, genAddr, sinkAddr, genRtr, dir + "/gen"},
		{nsSink, "w1", "s0", outerSink, outerGen, sinkAddr, genAddr, sinkRtr, dir + "/sink"},
	}
	for i := range e {
		check(os.MkdirAll(e[i].dir, 0o700))
	}
	return e
}

// through measures one TCP stream through a subject's tunnel, and the CPU time of both its ends.
func (s subject) through(r *result) error {
	defer teardown()
	cmds := []string{
		"ip netns add " + nsGen, "ip netns add " + nsSink,
		"ip -n " + nsGen + " link add w0 type veth peer name w1 netns " + nsSink,
	}
	dir, err := os.MkdirTemp("", "lvtb")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	es := ends(dir)
	for _, e := range es {
		cmds = append(cmds, fmt.Sprintf("ip -n %s link set lo up; ip netns exec %s sysctl -qw net.ipv6.conf.%s.accept_dad=0 net.ipv6.conf.%s.disable_ipv6=%d",
			e.ns, e.ns, e.wan, e.wan, map[bool]int{true: 1, false: 0}[s.ownOuter]), fmt.Sprintf("ip -n %s link set %s up", e.ns, e.wan))
		if !s.ownOuter {
			cmds = append(cmds, fmt.Sprintf("ip -n %s addr add %s/64 dev %s nodad", e.ns, e.own, e.wan))
		}
	}
	for _, c := range cmds {
		if err := run(c); err != nil {
			return err
		}
	}
	defer stopAll()
	if err := s.tunnel(es); err != nil {
		return err
	}
	if err := run(fmt.Sprintf("for i in $(seq 100); do ip netns exec %s ping -6 -c 1 -W 1 -I %s %s >/dev/null && exit 0; sleep 0.1; done; exit 1", nsGen, genAddr, sinkAddr)); err != nil {
		return fmt.Errorf("the tunnel does not come up: %w", err)
	}
	pids := started()
	idle(pids...)
	before := processCPU(pids...)
	g, err := tcp("-B", genAddr)
	if err != nil {
		return err
	}
	used := processCPU(pids...) - before
	octets := g * 1e9 / 8 * seconds()
	r.tcp, r.pkt, r.rates = append(r.tcp, g), append(r.pkt, float64(used)/octets*1400), append(r.rates, octets/1400/seconds()/1000)
	return nil
}

// inner gives the host of an end its address and its route.
func (e *end) inner() error {
	return run(fmt.Sprintf("ip -n %s -6 addr add %s/64 dev %s nodad && ip -n %s -6 route add default dev %s", e.ns, e.host, e.tun, e.ns, e.tun))
}

// leveretTunnel is Leveret at both ends, with these words for a state.
func leveretTunnel(binary, algorithm string, encap bool) func([2]end) error {
	return func(es [2]end) error {
		if binary == nullBinary {
			if err := buildNull(); err != nil {
				return err
			}
		}
		for i, e := range es {
			var y strings.Builder
			fmt.Fprintf(&y, "version: 1\nsystem: {run_dir: %s, state_dir: %s, log: {format: console}}\nlinks:\n", e.dir, e.dir)
			fmt.Fprintf(&y, "  - {name: lan, kind: tun, host_device: %s, netns: %s, mtu: 1400, addresses: [\"%s/64\"], dad: {transmits: 0}}\n", e.tun, e.ns, e.gateway)
			fmt.Fprintf(&y, "  - {name: wan, kind: af_packet, host_device: %s, netns: %s, addresses: [\"%s/64\"], dad: {transmits: 0}}\n", e.wan, e.ns, e.own)
			fmt.Fprintf(&y, "routing: {routes: [{to: \"%s/64\", via: \"%s\"}]}\n", e.peersHost, e.peer)
			y.WriteString("ipsec:\n  allow_legacy: true\n  states:\n")
			for j, from := range es {
				fmt.Fprintf(&y, "    - {src: \"%s\", dst: \"%s\", proto: esp, spi: %d, reqid: %d, mode: tunnel, %s, replay_window: 1024", from.own, from.peer, 0x1000+j, 1+j, algorithm)
				if encap {
					y.WriteString(", encap: {type: espinudp, sport: 4500, dport: 4500}")
				}
				y.WriteString("}\n")
			}
			y.WriteString("  policies:\n")
			policy := "    - {name: %s, dir: %s, priority: 10, action: protect, selector: {src: \"%s\", dst: \"%s\"}, templates: [{src: \"%s\", dst: \"%s\", proto: esp, mode: tunnel, reqid: %d}]}\n"
			fmt.Fprintf(&y, policy, "out", "out", e.host+"/64", e.peersHost+"/64", e.own, e.peer, 1+i)
			fmt.Fprintf(&y, policy, "fwd", "fwd", e.peersHost+"/64", e.host+"/64", e.peer, e.own, 2-i)
			if err := runLeveret(binary, e.dir, y.String()); err != nil {
				return err
			}
			if err := e.inner(); err != nil {
				return err
			}
		}
		return nil
	}
}

// The algorithms. The key of AES is followed by its salt.
const (
	aesGCM     = "aead: {name: \"rfc4106(gcm(aes))\", key: \"0x000102030405060708090a0b0c0d0e0f10111213\", icv_bits: 128}"
	nullCipher = "enc: {name: \"ecb(cipher_null)\"}, auth: {name: digest_null}"
)

// wireguard is wireguard-go at both ends.
func wireguard(es [2]end) error {
	var keys [2]*ecdh.PrivateKey
	for i := range keys {
		var err error
		if keys[i], err = ecdh.X25519().GenerateKey(rand.Reader); err != nil {
			return err
		}
	}
	for i, e := range es {
		cmd := exec.Command("ip", "netns", "exec", e.ns, peers+"/wireguard", "-f", e.tun)
		cmd.Env = append(os.Environ(), "LOG_LEVEL=error")
		if err := start(cmd); err != nil {
			return fmt.Errorf("wireguard-go (test/bench/peers.sh installs it): %w", err)
		}
		uapi, err := dial("/var/run/wireguard/" + e.tun + ".sock")
		if err != nil {
			return err
		}
		fmt.Fprintf(uapi, "set=1\nprivate_key=%s\nlisten_port=51820\npublic_key=%s\nendpoint=[%s]:51820\nallowed_ip=::/0\n\n",
			hex.EncodeToString(keys[i].Bytes()), hex.EncodeToString(keys[1-i].PublicKey().Bytes()), e.peer)
		answer := make([]byte, 64)
		n, err := uapi.Read(answer)
		uapi.Close()
		if err != nil || !strings.HasPrefix(string(answer[:n]), "errno=0\n") {
			return fmt.Errorf("wireguard-go: %q, %w", answer[:n], err)
		}
		if err := run(fmt.Sprintf("ip -n %s link set %s mtu 1420 up", e.ns, e.tun)); err != nil {
			return err
		}
		if err := e.inner(); err != nil {
			return err
		}
	}
	return nil
}

// dial connects to a socket that is about to be there.
func dial(path string) (c net.Conn, err error) {
	for range 100 {
		if c, err = net.Dial("unix", path); err == nil {
			return c, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil, err
}

// charon is strongSwan's daemon, of Debian.
const charon = "/usr/lib/ipsec/charon"

// strongswan is strongSwan at both ends, with ESP in the daemon (kernel-libipsec), which is always in UDP.
func strongswan(es [2]end) error {
	for i, e := range es {
		conf := e.dir + "/strongswan.conf"
		for name, text := range map[string]string{
			conf: fmt.Sprintf(`charon {
  load = random nonce aes sha1 sha2 hmac kdf openssl gcm pem pkcs1 pubkey kernel-libipsec kernel-netlink socket-default vici
  plugins { vici { socket = unix://%s/vici } }
  filelog { f { path = %s/log
   default = 1 } }
}
`, e.dir, e.dir),
			e.dir + "/swanctl.conf": fmt.Sprintf(`connections { t { version = 2
  local_addrs = %s
  remote_addrs = %s
  encap = yes
  proposals = aes128-sha256-x25519
  local { auth = psk
   id = end%d }
  remote { auth = psk
   id = end%d }
  children { c { local_ts = %s/128
    remote_ts = %s/128
    esp_proposals = aes128gcm16
    mode = tunnel } } } }
secrets { ike-1 { secret = bench } }
`, e.own, e.peer, i, 1-i, e.host, e.peersHost),
		} {
			if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
				return err
			}
		}
		if err := run(fmt.Sprintf("ip -n %s addr add %s/128 dev lo nodad", e.ns, e.host)); err != nil {
			return err
		}
		// Its own /run, where its PID file is.
		cmd := exec.Command("ip", "netns", "exec", e.ns, "unshare", "-m", "bash", "-c", "mount -t tmpfs none /run && exec "+charon)
		cmd.Env = append(os.Environ(), "STRONGSWAN_CONF="+conf)
		if err := start(cmd); err != nil {
			return fmt.Errorf("charon (test/bench/peers.sh installs it): %w", err)
		}
		c, err := dial(e.dir + "/vici")
		if err != nil {
			return fmt.Errorf("charon: %w; %s", err, output("cat "+e.dir+"/log"))
		}
		c.Close()
	}
	for _, e := range es {
		if err := e.swanctl("--load-all", "--file", e.dir+"/swanctl.conf"); err != nil {
			return err
		}
	}
	return es[0].swanctl("--initiate", "--child", "c")
}

func (e *end) swanctl(args ...string) error {
	cmd := exec.Command("swanctl", append(args, "--uri", "unix://"+e.dir+"/vici")...)
	cmd.Env = append(os.Environ(), "STRONGSWAN_CONF="+e.dir+"/strongswan.conf", "SWANCTL_DIR="+e.dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("swanctl: %w: %s\n%s", err, out, output("tail -20 "+e.dir+"/log"))
	}
	return nil
}

// nullBinary is Leveret linked so that it takes an SA that protects nothing, which no other Leveret does.
const nullBinary = peers + "/leveret-null"

// buildNull makes it.
func buildNull() error {
	if err := os.MkdirAll(peers, 0o755); err != nil {
		return err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-X leveret/extensions/xfrm/algo.bare=bench", "-o", nullBinary, "./cmd/leveret")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w: %s", err, out)
	}
	return nil
}
