package module

import (
	"net/netip"
	"testing"
)

func TestAddrsLookupKeepsLinkLocalOnItsLink(t *testing.T) {
	ll := netip.MustParseAddr("fe80::1")
	gl := netip.MustParseAddr("2001:db8::1")
	s := NewAddrs([]*Addr{{Addr: ll, Link: 1}, {Addr: gl, Link: 1}}, []Group{{Addr: netip.MustParseAddr("ff02::1"), Link: 2, Users: 1}})
	a, g, m := ll.As16(), gl.As16(), netip.MustParseAddr("ff02::1").As16()
	if s.Lookup(&a, 1) == nil || s.Lookup(&a, 2) != nil {
		t.Error("fe80::1 must be ours on link 1 only")
	}
	if s.Lookup(&g, 2) == nil {
		t.Error("a global address must be ours on every link")
	}
	if s.Member(&m, 1) || !s.Member(&m, 2) {
		t.Error("groups are joined per link")
	}
	if n := testing.AllocsPerRun(100, func() { s.Lookup(&g, 2); s.Member(&m, 2) }); n != 0 {
		t.Errorf("%v allocations a lookup", n)
	}
}

func TestAddrsPrefersTheAssignedCopy(t *testing.T) {
	a := netip.MustParseAddr("2001:db8::5")
	s := NewAddrs([]*Addr{{Addr: a, Link: 1, DADFailed: true}, {Addr: a, Link: 2, Anycast: true}}, nil)
	k := a.As16()
	if got := s.Lookup(&k, 1); got == nil || got.Link != 2 {
		t.Errorf("got %+v", got)
	}
}

func TestLinks(t *testing.T) {
	s := NewLinks([]*Link{{Index: 3, Name: "c"}, {Index: 1, Name: "a"}})
	if s.Index(1).Name != "a" || s.Index(2) != nil || s.Index(99) != nil || s.Index(-1) != nil || s.Name("c").Index != 3 || s.Name("x") != nil {
		t.Error("lookup by index and name")
	}
	if all := s.All(); len(all) != 2 || all[0].Name != "a" {
		t.Errorf("All = %v", all)
	}
}
