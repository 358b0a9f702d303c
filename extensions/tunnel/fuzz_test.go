package tunnel

import (
	"testing"

	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

// FuzzPackets: whatever a packet for this node, or one that is to enter, has in it, the hooks and the loop survive it, and
// what comes out is a packet within it.
func FuzzPackets(f *testing.F) {
	items := []item{{"t0", "ip6ip6", conf(nil)}, {"g0", "ip6gre", conf(nil)}, {"g5", "ip6gre", conf(func(c *Config) { c.Key, c.Csum, c.Seq = 5, ptr(true), ptr(true) })}}
	seed := newBench(f)
	seed.apply(items...)
	for i := range items {
		p := original(100)
		p.Out = 2 + i
		seed.Hooks[module.StageEnter](p)
		f.Add(turned(p.Bytes()))
		quote := p.Bytes()
		m := wire.AppendIPv6(nil, wire.IPv6Fields{PayloadLength: uint16(8 + len(quote)), NextHeader: wire.ICMPv6, Src: addr("2001:db8:e::1"), Dst: addr(local)})
		m = append(append(m, wire.TypePacketTooBig, 0, 0, 0, 0, 0, 5, 0), quote...)
		wire.UpdateICMPv6Checksum(m, 40)
		f.Add(m)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < wire.IPv6HeaderLen || b[0]>>4 != 6 || len(b) > 2000 {
			return
		}
		x := newBench(t)
		x.apply(items...)
		p := arrive(b)
		switch {
		case p.Proto == wire.ICMPv6 && p.TransOff+4 <= len(b):
			wire.UpdateICMPv6Checksum(p.Bytes(), p.TransOff)
			x.Hooks[module.StageAdmit](p)
			for len(x.Mailbox) > 0 {
				x.m.Receive(x.now(), <-x.Mailbox)
			}
		case p.Proto == wire.IPv6Encap || p.Proto == wire.GRE || p.Proto == wire.IPv4Encap:
			if v := x.Hooks[module.StageExit](p); v == packet.Arrived && (p.Len() < wire.IPv6HeaderLen || p.Len() > len(b)-wire.IPv6HeaderLen || p.Bytes()[0]>>4 != 6 || p.In < 2) {
				t.Fatalf("%d octets, % x", p.Len(), p.Bytes())
			}
		}
		q := packet.New(b)
		q.In, q.Out = 1, 2
		if v := x.Hooks[module.StageEnter](q); v == packet.Forward && (q.Len() < len(b)+wire.IPv6HeaderLen || q.Len() > len(b)+48) {
			t.Fatalf("%d octets of %d", q.Len(), len(b))
		}
	})
}
