package ndwire

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"testing"

	"leveret/appliance/wire"
)

// vectors returns packets that two other implementations agree on, by name.
func vectors(t testing.TB) map[string][]byte {
	t.Helper()
	raw, err := os.ReadFile("testdata/icmpv6.json")
	if err != nil {
		t.Fatal(err)
	}
	var list []struct{ Name, Packet string }
	if err := json.Unmarshal(raw, &list); err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for _, v := range list {
		b, err := hex.DecodeString(v.Packet)
		if err != nil {
			t.Fatal(err)
		}
		out[v.Name] = b
	}
	return out
}

func parse(b []byte) (Message, error) {
	var c wire.Chain
	c.Walk(b)
	return Parse(b, c.Off, c.Fragment != 0)
}

// TestGoldenBothWays: what others made is read, and made again octet by octet.
func TestGoldenBothWays(t *testing.T) {
	vs := vectors(t)
	for name, build := range map[string]func(Message) []byte{
		"NS multicast with SLLAO":                           buildNS,
		"NS DAD with Nonce (RFC 7527)":                      buildNS,
		"NS unicast probe (NUD)":                            buildNS,
		"NA solicited override router":                      buildNA,
		"NA proxy by HA (R=0 S=0 O=1) to all-nodes for HoA": buildNA,
		"NA DAD defence (S=0 O=1) to all-nodes":             buildNA,
	} {
		want := vs[name]
		m, err := parse(want)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := build(m); string(got) != string(want) {
			t.Errorf("%s:\ngot  %x\nwant %x", name, got, want)
		}
	}
	for name := range vs {
		switch name {
		case "RS with SLLAO", "RS unspecified source", "Redirect to router with TLLAO + Redirected Header":
			if _, err := parse(vs[name]); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func buildNS(m Message) []byte {
	ns := NS{Src: m.Src, Dst: m.Dst, Target: m.Target, Nonce: m.Nonce}
	if m.HasSourceLLA {
		ns.SourceLLA = &m.SourceLLA
	}
	return AppendNS(nil, ns)
}

func buildNA(m Message) []byte {
	na := NA{Src: m.Src, Dst: m.Dst, Target: m.Target, Router: m.Router, Solicited: m.Solicited, Override: m.Override}
	if m.HasTargetLLA {
		na.TargetLLA = &m.TargetLLA
	}
	return AppendNA(nil, na)
}

var (
	a   = netip.MustParseAddr("fe80::1")
	b   = netip.MustParseAddr("fe80::2")
	mac = [6]byte{2, 0, 0, 0, 0, 1}
)

// mend returns a packet changed at some places, with its checksum right again.
func mend(p []byte, change func([]byte) []byte) []byte {
	p = change(append([]byte(nil), p...))
	if len(p) >= 48 {
		p[4], p[5] = byte((len(p)-40)>>8), byte(len(p)-40)
		wire.UpdateICMPv6Checksum(p, 40)
	}
	return p
}

// TestValidation is every rule of RFC 4861 6.1.1, 6.1.2, 7.1.1, 7.1.2, 8.1 and RFC 6980.
func TestValidation(t *testing.T) {
	ns := AppendNS(nil, NS{Src: a, Dst: wire.SolicitedNode(b), Target: b, SourceLLA: &mac})
	na := AppendNA(nil, NA{Src: b, Dst: a, Target: b, Solicited: true, Override: true, TargetLLA: &mac})
	dad := AppendNS(nil, NS{Src: netip.IPv6Unspecified(), Dst: wire.SolicitedNode(b), Target: b})
	vs := vectors(t)
	redirect := vs["Redirect to router with TLLAO + Redirected Header"]
	set := func(off int, octets ...byte) func([]byte) []byte {
		return func(p []byte) []byte { copy(p[off:], octets); return p }
	}
	for _, c := range []struct {
		name string
		pkt  []byte
		want error
	}{
		{"NS", ns, nil},
		{"NA", na, nil},
		{"NS for DAD", dad, nil},
		{"hop limit 254", mend(ns, set(7, 254)), ErrHopLimit},
		{"bad checksum", set(42, 1, 2)(append([]byte(nil), ns...)), ErrChecksum},
		{"code 1", mend(ns, set(41, 1)), ErrCode},
		{"NS of 23 octets", mend(ns, func(p []byte) []byte { return p[:40+23] }), ErrLength},
		{"NA of 23 octets", mend(na, func(p []byte) []byte { return p[:40+23] }), ErrLength},
		{"option of length 0", mend(ns, set(40+25, 0)), ErrOption},
		{"option past the end", mend(ns, set(40+25, 2)), ErrOption},
		{"half an option", mend(ns, func(p []byte) []byte { return append(p, 1) }), ErrOption},
		{"unknown option", mend(ns, func(p []byte) []byte { return append(p, 200, 1, 0, 0, 0, 0, 0, 0) }), nil},
		{"NS target multicast", mend(ns, set(48, 0xff)), ErrTarget},
		{"NA target multicast", mend(na, set(48, 0xff)), ErrTarget},
		{"NS from :: with an address option", mend(ns, set(8, make([]byte, 16)...)), ErrUnspecified},
		{"NS from :: to a unicast address", AppendNS(nil, NS{Src: netip.IPv6Unspecified(), Dst: b, Target: b}), ErrDestination},
		{"NS from :: to another group", AppendNS(nil, NS{Src: netip.IPv6Unspecified(), Dst: wire.AllNodes, Target: b}), ErrDestination},
		{"NA solicited to all nodes", AppendNA(nil, NA{Src: b, Dst: wire.AllNodes, Target: b, Solicited: true}), ErrSolicited},
		{"RS from :: with an address option", mend(vs["RS with SLLAO"], set(8, make([]byte, 16)...)), ErrUnspecified},
		{"RS of 7 octets", mend(vs["RS unspecified source"], func(p []byte) []byte { return p[:47] }), ErrLength},
		{"redirect from a global address", mend(redirect, set(8, 0x20, 1)), ErrSource},
		{"redirect to a link-local that is not the destination's", redirect, nil},
		{"redirect to a global address that is not the destination", mend(redirect, set(48, 0x20, 1)), ErrTarget},
		{"redirect of a group", mend(redirect, set(64, 0xff)), ErrTarget},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := parse(c.pkt); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
	if _, err := Parse(ns, 40, true); !errors.Is(err, ErrFragmented) {
		t.Errorf("fragmented: %v", err)
	}
	for n := range len(ns) {
		if _, err := parseShort(ns[:n]); err == nil {
			t.Errorf("%d octets are accepted", n)
		}
	}
}

func parseShort(p []byte) (Message, error) { return Parse(p, 40, false) }

func FuzzParse(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v, 40)
	}
	f.Fuzz(func(t *testing.T, p []byte, off int) {
		m, err := Parse(p, off, false)
		if err != nil {
			return
		}
		// What is valid and carries only what we write is stable when it is written again.
		if m.Type == wire.TypeNeighborSolicitation {
			again, err := parse(buildNS(m))
			if err != nil || again.Target != m.Target || again.HasSourceLLA != m.HasSourceLLA {
				t.Errorf("%+v came back as %+v, %v", m, again, err)
			}
		}
	})
}
