package xfrm

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/xfrm/sad"
)

// scaled are two nodes with SAs from the first to as many addresses of the second, and policies that spread over them:
// number i is for what goes to prefix i.
func scaled(t testing.TB, sas, policies int) (from, to *bench) {
	from, to = newBench(t), newBench(t)
	end := func(i int) netip.Addr { return at(addr("2001:db8:f:1::"), 8, i%sas) }
	var states []sad.StateConfig
	for i := range sas {
		states = append(states, change(gcm(0x1000+uint32(i)), func(c *sad.StateConfig) {
			c.Dst, c.ReqID, c.ReplayWindow = end(i), uint32(i+1), new(uint32(1024))
		}))
	}
	var out, in []PolicyConfig
	for i := range policies {
		p := protect("7")
		p.Name = fmt.Sprint(i)
		p.Selector.Dst = netip.PrefixFrom(prefix(i), 48).String()
		p.Templates[0].Dst, p.Templates[0].ReqID = end(i), uint32(i%sas+1)
		out = append(out, p)
		p.Dir = "fwd"
		in = append(in, p)
	}
	from.apply(sections(states, out))
	to.apply(sections(states, in))
	from.m.host, to.m.host = fixedLinks{from, from.Links()}, fixedLinks{to, to.Links()}
	return from, to
}

// prefix is where packets of policy i go, at where n is in an address, as 4 octets at off.
func prefix(i int) netip.Addr { return at(addr("2001:d00::"), 2, i) }

func at(a netip.Addr, off, n int) netip.Addr {
	b := a.As16()
	binary.BigEndian.PutUint32(b[off:], binary.BigEndian.Uint32(b[off:])+uint32(n))
	return netip.AddrFrom16(b)
}

// BenchmarkScale is what many SAs and policies cost a packet to a random one of them: out, and in with the check of
// policies. All of it but the cipher is the same for 64 octets and 1300.
func BenchmarkScale(b *testing.B) {
	for _, size := range []int{64, 1300} {
		for _, n := range [][2]int{{1, 1}, {10000, 10000}, {1, 100000}, {10000, 100000}} {
			b.Run(fmt.Sprintf("%doctets/%dsas/%dpolicies", size, n[0], n[1]), func(b *testing.B) {
				from, to := scaled(b, n[0], n[1])
				benchmarkEnds(b, from, to, size, n[1])
			})
		}
	}
}

// threadTime is the processor time of this thread in nanoseconds: that on the wall is everybody's.
func threadTime() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) // there is always one
	return t.Nano()
}

func benchmarkEnds(b *testing.B, from, to *bench, size, policies int) {
	var ps [64]*packet.Packet
	for i := range ps {
		ps[i] = packet.NewBuffer(2000)
	}
	model := clearPacket(size - 48)
	rnd := rand.New(rand.NewPCG(1, 2))
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var out, in int64
	for done := 0; done < b.N; done += len(ps) {
		for _, p := range ps {
			model.CopyTo(p)
			dst := at(prefix(rnd.IntN(policies)), 12, 1).As16()
			copy(p.Bytes()[24:], dst[:])
		}
		begin := threadTime()
		from.m.aheadOfTransform(ps[:], 0)
		for _, p := range ps {
			if v := from.m.transform(p); v != packet.Forward {
				b.Fatal(v)
			}
		}
		sent := threadTime()
		to.m.aheadOfInput(ps[:], 0)
		for _, p := range ps {
			p.In, p.Proto, p.TransOff, p.ProtoField, p.Out, p.Protected = 1, wire.ESP, wire.IPv6HeaderLen, wire.NextHeaderOffset, 1, false
			if v := to.m.input(p); v != packet.Again {
				b.Fatal(v)
			}
		}
		to.m.aheadOfTransform(ps[:], 0)
		for _, p := range ps {
			if v := to.m.transform(p); v != packet.Continue {
				b.Fatal(v)
			}
		}
		out, in = out+sent-begin, in+threadTime()-sent
	}
	n := float64((b.N + len(ps) - 1) / len(ps) * len(ps))
	b.ReportMetric(float64(out)/n, "ns/out")
	b.ReportMetric(float64(in)/n, "ns/in")
	b.ReportMetric(0, "ns/op")
}
