package tunnel

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

// configOf reads the words of "ip link add NAME type ip6tnl".
func configOf(t *testing.T, command string) Config {
	t.Helper()
	_, words, ok := strings.Cut(command, " type ip6tnl ")
	w := strings.Fields(words)
	if !ok || len(w)%2 != 0 {
		t.Fatal(command)
	}
	var c Config
	for i := 0; i < len(w); i += 2 {
		switch v := w[i+1]; {
		case w[i] == "local":
			c.Local = addr(v)
		case w[i] == "remote":
			c.Remote = addr(v)
		case w[i] == "encaplimit":
			c.EncapLimit = v
		case w[i] == "hoplimit":
			c.HopLimit = v
		case w[i] == "mode" && v == "any":
		default:
			t.Fatalf("%s: %s", command, w[i])
		}
	}
	return c
}

// TestTunnelVectors: the original packet makes the tunnel packet, which the other end makes the original again, octet for octet.
// Linux has made both flow labels of one hash, so the tunnel packet's is the original's.
func TestTunnelVectors(t *testing.T) {
	type vector struct {
		name             string
		conf             Config
		plain, protected string // plain "": what is behind the headers of the tunnel
	}
	var read struct {
		Linux []struct {
			Case              string
			Commands, Packets []string
		} `json:"linux_output"`
		Mobile []struct{ Name, Plain, Protected string } `json:"mip6_data"`
	}
	raw, err := os.ReadFile("testdata/vectors.json")
	if err == nil {
		err = json.Unmarshal(raw, &read)
	}
	if err != nil || len(read.Linux) != 2 || len(read.Mobile) != 1 {
		t.Fatalf("%d and %d vectors, %v", len(read.Linux), len(read.Mobile), err)
	}
	var all []vector
	for _, c := range read.Linux {
		cfg := configOf(t, c.Commands[0])
		cfg.FlowLabel = "inherit"
		for _, p := range c.Packets {
			all = append(all, vector{c.Case, cfg, "", p})
		}
	}
	for _, c := range read.Mobile {
		all = append(all, vector{c.Name, configOf(t, "ip link add t0 type ip6tnl local 2001:db8:100::1 remote 2001:db8:200::1234 encaplimit none hoplimit 64"), c.Plain, c.Protected})
		all[len(all)-1].conf.FlowLabel = 0
	}
	for _, v := range all {
		t.Run(v.name, func(t *testing.T) {
			protected, err := hex.DecodeString(v.protected)
			if err != nil {
				t.Fatal(err)
			}
			to := newBench(t)
			other := v.conf
			other.Local, other.Remote = v.conf.Remote, v.conf.Local
			to.apply(item{"t0", "ip6ip6", other})
			q := arrive(append([]byte(nil), protected...))
			if verdict := to.Hooks[module.StageExit](q); verdict != packet.Arrived || q.In != 2 {
				t.Fatalf("%s, by link %d", verdict, q.In)
			}
			plain := q.Bytes()
			if want := v.plain; want != "" && hex.EncodeToString(plain) != want {
				t.Errorf("got  %x\nwant %s", plain, want)
			}
			if x, err := wire.ParseIPv6(plain); err != nil || len(plain) != wire.IPv6HeaderLen+int(x.PayloadLength()) ||
				x.NextHeader() == wire.ICMPv6 && !wire.VerifyICMPv6(plain, wire.IPv6HeaderLen) {
				t.Errorf("%x, %v", plain, err)
			}
			from := newBench(t)
			from.apply(item{"t0", "ip6ip6", v.conf})
			p := packet.New(append([]byte(nil), plain...))
			p.Out = 2
			if verdict := from.Hooks[module.StageEnter](p); verdict != packet.Forward || hex.EncodeToString(p.Bytes()) != v.protected {
				t.Errorf("%s\ngot  %x\nwant %s", verdict, p.Bytes(), v.protected)
			}
		})
	}
}
