package spd

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"leveret/appliance/wire"
	"leveret/extensions/xfrm/proto"
	"leveret/extensions/xfrm/selector"
)

// A state and a template of each kind, with the same reqid 0 and the addresses of the outer headers.
var (
	outerSrc, outerDst = ip("2001:db8:a::1"), ip("2001:db8:a::2")

	esp    = State{Proto: proto.ESP, SPI: 0x100}
	ah     = State{Proto: proto.AH, SPI: 0x200}
	hao    = State{Proto: proto.HAO, Mode: proto.RO, Src: ip("2001:db8:100::1"), Dst: ip("2001:db8:1::1")}
	rh2    = State{Proto: proto.Route2, Mode: proto.RO, Src: ip("2001:db8:300::1"), Dst: ip("2001:db8:100::2")}
	tunnel = State{Proto: proto.ESP, Mode: proto.Tunnel, SPI: 0x300, ReqID: 3, Src: outerSrc, Dst: outerDst}
	beet   = State{Proto: proto.ESP, Mode: proto.BEET, SPI: 0x400, Src: outerSrc, Dst: outerDst}

	tESP    = Template{Proto: proto.ESP}
	tAH     = Template{Proto: proto.AH}
	tHAO    = Template{Proto: proto.HAO, Mode: proto.RO}
	tRH2    = Template{Proto: proto.Route2, Mode: proto.RO}
	tTunnel = Template{Proto: proto.ESP, Mode: proto.Tunnel, Src: outerSrc, Dst: outerDst}
)

func (x State) of(ifid uint32) State               { x.IfID = ifid; return x }
func (p *Policy) of(ifid uint32) *Policy           { p.IfID = ifid; return p }
func use(t Template) Template                      { t.Level = Use; return t }
func path(states ...State) []State                 { return states }
func policy(tmpls ...Template) *Policy             { return &Policy{Templates: tmpls} }
func (t Template) with(spi, reqid uint32) Template { t.SPI, t.ReqID = spi, reqid; return t }

// TestVerify: what a packet came through against what policies ask for (xfrm A6 c, d).
func TestVerify(t *testing.T) {
	block := &Policy{Action: Block}
	for _, c := range []struct {
		name      string
		path      []State
		sub, main *Policy
		block     bool
		want      Verdict
		at        int
	}{
		{"no policy, clear", nil, nil, nil, false, Accept, -1},
		{"no policy, clear, default block", nil, nil, nil, true, InNoPols, -1},
		{"no policy, transport", path(ah, esp), nil, nil, false, Accept, -1},
		{"no policy, transport, default block", path(esp), nil, nil, true, InNoPols, -1},
		{"no policy, tunnel", path(tunnel), nil, nil, false, InNoPols, 0},
		{"no policy, tunnel in AH", path(ah, tunnel), nil, nil, false, InNoPols, 1},
		{"no policy, home address option", path(hao), nil, nil, false, InNoPols, 0},

		{"block", nil, nil, block, false, InPolBlock, -1},
		{"block, protected", path(esp), nil, block, false, InPolBlock, -1},
		{"sub blocks", nil, block, nil, false, InPolBlock, -1},
		{"main blocks what sub allows", path(hao), policy(tHAO), block, false, InPolBlock, -1},

		{"bypass", nil, nil, policy(), false, Accept, -1},
		{"bypass, default block", nil, nil, policy(), true, Accept, -1},
		{"bypass, more protection", path(esp), nil, policy(), false, Accept, -1},
		{"bypass, tunnel", path(tunnel), nil, policy(), false, InTmplMismatch, 0},

		{"esp", path(esp), nil, policy(tESP), false, Accept, -1},
		{"esp, default block", path(esp), nil, policy(tESP), true, Accept, -1},
		{"esp, in clear", nil, nil, policy(tESP), false, InTmplMismatch, -1},
		{"esp, came with AH", path(ah), nil, policy(tESP), false, InTmplMismatch, -1},
		{"esp of the SPI", path(esp), nil, policy(tESP.with(0x100, 0)), false, Accept, -1},
		{"esp of another SPI", path(esp), nil, policy(tESP.with(0x101, 0)), false, InTmplMismatch, -1},
		{"esp of another reqid", path(esp), nil, policy(tESP.with(0, 5)), false, InTmplMismatch, -1},
		{"esp, came by tunnel", path(tunnel), nil, policy(tESP), false, InTmplMismatch, 0},
		{"esp behind AH of its own accord", path(ah, esp), nil, policy(tESP), false, Accept, -1},
		{"esp, ah", path(ah, esp), nil, policy(tESP, tAH), false, Accept, -1},
		{"esp, ah the other way", path(esp, ah), nil, policy(tESP, tAH), false, InTmplMismatch, -1},
		{"esp, ah without AH", path(esp), nil, policy(tESP, tAH), false, InTmplMismatch, -1},
		{"esp, tunnel left over", path(esp, tunnel), nil, policy(tESP), false, InTmplMismatch, 1},
		{"esp behind a tunnel", path(tunnel, esp), nil, policy(tESP), false, InTmplMismatch, 0},

		{"tunnel", path(tunnel), nil, policy(tTunnel), false, Accept, -1},
		{"tunnel of the reqid", path(tunnel), nil, policy(tTunnel.with(0, 3)), false, Accept, -1},
		{"tunnel of another reqid", path(tunnel), nil, policy(tTunnel.with(0, 4)), false, InTmplMismatch, 0},
		{"tunnel in AH", path(ah, tunnel), nil, policy(tTunnel), false, Accept, -1},
		{"tunnel in tunnel", path(tunnel, tunnel), nil, policy(tTunnel, tTunnel), false, Accept, -1},
		{"tunnel in tunnel, one asked for", path(tunnel, tunnel), nil, policy(tTunnel), false, InTmplMismatch, 1},
		{"tunnel, two asked for", path(tunnel), nil, policy(tTunnel, tTunnel), false, InTmplMismatch, -1},
		{"tunnel, BEET came", path(beet), nil, policy(tTunnel), false, InTmplMismatch, 0},
		{"tunnel of another source", path(tunnel), nil, policy(Template{Proto: proto.ESP, Mode: proto.Tunnel, Src: outerDst}), false, InTmplMismatch, 0},
		{"tunnel of another destination", path(tunnel), nil, policy(Template{Proto: proto.ESP, Mode: proto.Tunnel, Dst: outerSrc}), false, InTmplMismatch, 0},
		{"tunnel of any", path(tunnel), nil, policy(Template{Proto: proto.ESP, Mode: proto.Tunnel, Src: netip.IPv6Unspecified()}), false, Accept, -1},
		{"esp has no addresses to compare", path(esp), nil, policy(Template{Proto: proto.ESP, Src: outerSrc, Dst: outerDst}), false, Accept, -1},

		{"tunnel of the if_id", path(tunnel.of(5)), nil, policy(tTunnel).of(5), false, Accept, -1},
		{"tunnel of another if_id", path(tunnel.of(6)), nil, policy(tTunnel).of(5), false, InTmplMismatch, 0},
		{"tunnel without if_id", path(tunnel), nil, policy(tTunnel).of(5), false, InTmplMismatch, 0},
		{"tunnel with if_id, policy without", path(tunnel.of(5)), nil, policy(tTunnel), false, InTmplMismatch, 0},
		{"sub and main of the if_id", path(tunnel.of(5), esp.of(5)), policy(tTunnel).of(5), policy(tESP).of(5), false, Accept, -1},

		{"use: esp", path(esp), nil, policy(use(tESP)), false, Accept, -1},
		{"use: esp, in clear", nil, nil, policy(use(tESP)), false, Accept, -1},
		{"use: tunnel", path(tunnel), nil, policy(use(tTunnel)), false, Accept, -1},
		{"use: tunnel, in clear", nil, nil, policy(use(tTunnel)), false, Accept, -1},
		{"use: tunnel, another one came", path(beet), nil, policy(use(tTunnel)), false, InTmplMismatch, 0},
		{"use: tunnel, past AH that nobody asked for", path(ah, tunnel), nil, policy(use(tTunnel)), false, Accept, -1}, // seen on Linux 6.1
		{"use: tunnel, in AH", path(ah, tunnel), nil, policy(tAH, use(tTunnel)), false, InTmplMismatch, -1},
		{"use: tunnel behind the AH that is required", path(tunnel, ah), nil, policy(tAH, use(tTunnel)), false, Accept, -1},
		{"use: tunnel not there, AH is required", path(ah), nil, policy(tAH, use(tTunnel)), false, Accept, -1},

		{"home address option", path(hao), policy(use(tHAO)), nil, false, Accept, -1},
		{"home address option, not there", nil, policy(use(tHAO)), nil, false, Accept, -1},
		{"home address option that is required", nil, policy(tHAO), nil, false, InTmplMismatch, -1},
		{"home address option, not asked for", path(hao), nil, policy(), false, InTmplMismatch, 0},
		{"home address of another", path(hao), policy(Template{Proto: proto.HAO, Mode: proto.RO, Src: outerSrc}), nil, false, InTmplMismatch, 0},
		{"sub hao, main esp", path(hao, esp), policy(use(tHAO)), policy(tESP), false, Accept, -1},
		{"sub hao, main esp, without esp", path(hao), policy(use(tHAO)), policy(tESP), false, InTmplMismatch, -1},
		{"sub route2,hao, main esp,ah", path(rh2, hao, ah, esp), policy(tHAO, tRH2), policy(tESP, tAH), false, Accept, -1},
		{"sub hao, main tunnel around it", path(tunnel, hao), policy(tHAO), policy(tTunnel), false, Accept, -1},
		{"sub hao, main tunnel inside of it", path(hao, tunnel), policy(tHAO), policy(tTunnel), false, InTmplMismatch, 0},
		{"sub alone: not sorted", path(hao, tunnel), policy(tTunnel, tHAO), nil, false, Accept, -1},

		{"six templates", path(ah, ah, ah, esp, esp, esp), policy(tESP, tESP, tESP), policy(tAH, tAH, tAH), false, Accept, -1},
		{"six templates, the other order", path(ah, ah, ah, esp, esp, esp), policy(tAH, tAH, tAH), policy(tESP, tESP, tESP), false, InTmplMismatch, -1},
		{"seven templates", nil, policy(use(tESP), use(tESP), use(tESP), use(tESP)), policy(use(tESP), use(tESP), use(tESP)), false, InBufferError, -1},
	} {
		if got, at := Verify(c.path, c.sub, c.main, c.block); got != c.want || at != c.at {
			t.Errorf("%s: %d %s at %d, want %d %s at %d", c.name, got, got, at, c.want, c.want, c.at)
		}
		if n := testing.AllocsPerRun(10, func() { Verify(c.path, c.sub, c.main, c.block) }); n != 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
	if got := fmt.Sprint(Accept, InBufferError, InStateMismatch, InNoPols, InPolBlock, InTmplMismatch); got !=
		" XfrmInBufferError XfrmInStateMismatch XfrmInNoPols XfrmInPolBlock XfrmInTmplMismatch" {
		t.Error(got)
	}
}

// TestCheck: the states' selectors (xfrm A6 b), the search for policies, and ICMP errors by the flow of
// what they quote (RFC 4301 6.2).
func TestCheck(t *testing.T) {
	d := New([2]uint64{}, nil)
	mustAdd(t, d, Policy{Dir: In, Selector: sel("src 2001:db8:1::/48 dst 2001:db8:2::/48 proto tcp"), Templates: []Template{tTunnel}})
	mustAdd(t, d, Policy{Dir: In, Sub: true, Selector: sel("dst 2001:db8:3::/48"), Action: Block})
	mustAdd(t, d, Policy{Dir: In, Sub: true, Selector: sel("dst 2001:db8:4::/48"), Templates: []Template{use(tHAO)}})
	mustAdd(t, d, Policy{Dir: In, Selector: sel("dst 2001:db8:4::/48"), Templates: []Template{tESP}})
	mustAdd(t, d, Policy{Dir: Fwd, Selector: sel("dst 2001:db8:2::/48"), Action: Block})
	s := d.Snapshot()

	tcp := flow("2001:db8:1::1", "2001:db8:2::2", wire.TCP, 1, 2)
	udp := flow("2001:db8:1::1", "2001:db8:2::2", wire.UDP, 1, 2)
	errFlow := flow("2001:db8:1::ffff", "2001:db8:2::2", wire.ICMPv6, 2, 0) // a router there, about tcp's way back
	fromTo := func(words string) *selector.Compiled { x := sel(words); c := x.Compile(); return &c }
	forTCP := tunnel
	forTCP.Selector = fromTo("src 2001:db8:1::/48 dst 2001:db8:2::/48 proto tcp")
	icmpToo := forTCP
	icmpToo.ICMP = true
	noICMP := tunnel
	for _, c := range []struct {
		name   string
		dir    Dir
		path   []State
		f      selector.Flow
		quoted *selector.Flow
		want   Verdict
		at     int
	}{
		{"tunnel", In, path(forTCP), tcp, nil, Accept, -1},
		{"clear", In, nil, tcp, nil, InTmplMismatch, -1},
		{"by a state that is not for it", In, path(forTCP), udp, nil, InStateMismatch, 0},
		{"the inner state first", In, path(forTCP, forTCP), udp, nil, InStateMismatch, 1},
		{"outer state not for it", In, path(forTCP, tunnel), udp, nil, InStateMismatch, 0},
		{"no policy", In, path(tunnel), udp, nil, InNoPols, 0},
		{"forwarded", Fwd, path(forTCP), tcp, nil, InPolBlock, -1},
		{"sub blocks", In, nil, flow("::1", "2001:db8:3::1", wire.TCP, 1, 2), nil, InPolBlock, -1},
		{"sub and main", In, path(hao, esp), flow("::1", "2001:db8:4::1", wire.TCP, 1, 2), nil, Accept, -1},
		{"sub and main, main is not kept", In, path(hao), flow("::1", "2001:db8:4::1", wire.TCP, 1, 2), nil, InTmplMismatch, -1},
		{"ICMP error, quoted flow is the state's", In, path(icmpToo), errFlow, &tcp, Accept, -1},
		{"ICMP error, quoted flow is not the state's", In, path(icmpToo), errFlow, &udp, InStateMismatch, 0},
		{"ICMP error, the state is not for that", In, path(forTCP), errFlow, &tcp, InStateMismatch, 0},
		{"ICMP error, the state takes all but has no flag", In, path(noICMP), errFlow, &tcp, InNoPols, 0},
		{"ICMP error in clear", In, nil, errFlow, &tcp, Accept, -1}, // no policy
		{"ICMP error, the quoted flow is blocked", Fwd, path(icmpToo), errFlow, &tcp, InPolBlock, -1},
	} {
		if got, at := s.Check(c.dir, c.path, &c.f, c.quoted, 0, false); got != c.want || at != c.at {
			t.Errorf("%s: %d %s at %d, want %d %s at %d", c.name, got, got, at, c.want, c.want, c.at)
		}
		if n := testing.AllocsPerRun(10, func() { s.Check(c.dir, c.path, &c.f, c.quoted, 0, false) }); n != 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
	if v, _ := s.Check(In, nil, &udp, nil, 0, true); v != InNoPols {
		t.Errorf("default block: %s", v)
	}
}

// insert applies one transformation to the headers of a packet, where Linux puts its header (xfrm A3).
func insert(chain []string, tm Template) []string {
	if tm.Mode == proto.Tunnel {
		return []string{strings.ToUpper(tm.Proto.String())} // all there was is in the payload
	}
	name := map[proto.Proto]string{proto.ESP: "ESP", proto.AH: "AH", proto.HAO: "DestOpt", proto.Route2: "RH2"}[tm.Proto]
	at := 0
	for at < len(chain) && (chain[at] == "RH2" && tm.Proto != proto.Route2 || chain[at] == "DestOpt" && (tm.Proto == proto.ESP || tm.Proto == proto.AH)) {
		at++
	}
	chain = slices.Insert(slices.Clone(chain), at, name)
	if tm.Proto == proto.ESP {
		chain = chain[:at+1] // what is behind it is hidden
	}
	return chain
}

// TestStateOrder: the headers on the wire that Linux 6.1 was seen to send for policies of each kind (xfrm
// A3), by the order in which the states are applied.
func TestStateOrder(t *testing.T) {
	kind := func(tm Template) (proto.Proto, proto.Mode) { return tm.Proto, tm.Mode }
	for _, c := range []struct {
		name      string
		sub, main *Policy
		order     string // of the states, as they are applied
		wire      string
	}{
		{"4", nil, policy(tESP, tAH), "esp ah", "AH ESP"},
		{"5", policy(tHAO), nil, "hao", "DestOpt payload"},
		{"6", policy(tRH2), nil, "route2", "RH2 payload"},
		{"a", policy(tRH2, tHAO), nil, "route2 hao", "RH2 DestOpt payload"},
		{"7", policy(tHAO), policy(tESP), "esp hao", "DestOpt ESP"},
		{"8", policy(tRH2), policy(tESP), "esp route2", "RH2 ESP"},
		{"b", policy(tHAO), policy(tAH), "hao ah", "DestOpt AH payload"},
		{"f", policy(tRH2), policy(tAH), "route2 ah", "RH2 AH payload"},
		{"9", policy(tRH2, tHAO), policy(tESP, tAH), "esp route2 hao ah", "RH2 DestOpt AH ESP"},
		{"c", policy(tHAO), policy(tTunnel), "hao esp", "ESP"},
	} {
		var m Merged
		if !m.Merge(c.sub, c.main) {
			t.Fatal(c.name)
		}
		var states []Template
		for _, tm := range m.Templates[:m.N] {
			states = append(states, *tm)
		}
		if c.sub != nil && c.main != nil {
			if n := testing.AllocsPerRun(10, func() { SortStates(states, kind) }); n != 0 {
				t.Errorf("%s: %v allocations", c.name, n)
			}
		}
		chain, order := []string{"payload"}, ""
		for _, tm := range states {
			chain, order = insert(chain, tm), order+" "+tm.Proto.String()
		}
		if got := strings.Join(chain, " "); got != c.wire || order[1:] != c.order {
			t.Errorf("%s: %s, applied%s, want %s, %s", c.name, got, order, c.wire, c.order)
		}
	}
}

// TestSorts: classes for output and input, stable within.
func TestSorts(t *testing.T) {
	comp := Template{Proto: proto.Comp}
	trigger := Template{Proto: proto.Route2, Mode: proto.InTrigger}
	ahTunnel := Template{Proto: proto.AH, Mode: proto.Tunnel}
	tBEET := Template{Proto: proto.ESP, Mode: proto.BEET}
	all := []Template{tTunnel, tAH, trigger, comp, tHAO, tESP}
	want := []Template{comp, tESP, trigger, tHAO, tAH, tTunnel}
	SortStates(all, func(tm Template) (proto.Proto, proto.Mode) { return tm.Proto, tm.Mode })
	if !slices.Equal(all, want) {
		t.Errorf("output: %+v", all)
	}
	all = []Template{tBEET, tAH, tHAO, ahTunnel, tESP, trigger}
	want = []Template{tAH, tESP, tHAO, trigger, tBEET, ahTunnel}
	var m Merged
	m.Merge(&Policy{Templates: all[:2]}, &Policy{Templates: all[2:]})
	m.SortInput()
	for i := range want {
		if *m.Templates[i] != want[i] {
			t.Errorf("input %d: %+v", i, *m.Templates[i])
		}
	}
}
