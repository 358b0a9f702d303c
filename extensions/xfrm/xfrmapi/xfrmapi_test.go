package xfrmapi

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"leveret/extensions/xfrm/proto"
	"leveret/extensions/xfrm/sad"
)

// TestQueriesSayWhatWordsSay: what is parsed on one side is parsed to the same on the other.
func TestQueriesSayWhatWordsSay(t *testing.T) {
	for _, words := range []string{"", "src fd00::/16 dst fd00::2 proto esp spi 0 mode transport reqid 0 flag noecn esn", "dst ::/0", "mode beet", "flag icmp"} {
		f, err := sad.ParseFilter(strings.Fields(words))
		if err != nil {
			t.Fatal(err)
		}
		q := NewStateFilter(&f)
		again, err := sad.ParseFilter(q.Words())
		if err != nil || !reflect.DeepEqual(f, again) {
			t.Errorf("%q: %q, %v", words, q.Words(), err)
		}
	}
	for _, words := range []string{"src fd00::1 dst fd00::2 proto esp spi 0x1000 mark 5 mask 0xff", "dst fd00::2 proto ah spi 0x1000", "src fd00::1 dst fd00::2 proto hao"} {
		r, err := sad.Parse("get", strings.Fields(words), sad.Outside{})
		if err != nil {
			t.Fatal(err)
		}
		q := NewStateID(r)
		again, err := sad.Parse("get", q.Words(), sad.Outside{})
		if err != nil || !reflect.DeepEqual(r, again) {
			t.Errorf("%q: %q, %v", words, q.Words(), err)
		}
	}
}

func TestStatKeepsItsOrder(t *testing.T) {
	const text = `{"XfrmInNoStates":3,"XfrmInError":18446744073709551615,"A":0}`
	var s Stat
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Fatal(err)
	}
	if want := (Stat{{"XfrmInNoStates", 3}, {"XfrmInError", 1<<64 - 1}, {"A", 0}}); !reflect.DeepEqual(s, want) {
		t.Errorf("%v", s)
	}
	if b, err := json.Marshal(s); err != nil || string(b) != text {
		t.Errorf("%s, %v", b, err)
	}
	for _, bad := range []string{`[]`, `{"a":"b"}`, `{"a":-1}`, `1`} {
		if err := json.Unmarshal([]byte(bad), &s); err == nil {
			t.Errorf("%s is taken: %v", bad, s)
		}
	}
}

// TestTextIsThatOfIP: what "ip xfrm monitor file" and "ip -s xfrm monitor file" of iproute2 6.1 printed of such messages of
// the kernel (XFRM_MSG_REPORT, XFRM_MSG_MAPPING).
func TestTextIsThatOfIP(t *testing.T) {
	coa := netip.MustParseAddr("2001:db8:aa::1")
	const udp = "src 2001:db8:9::1/128 dst 2001:db8::1/128 proto udp sport 4096 dport 8192 dev lo"
	const mh = "src 2001:db8:9::1/128 dst 2001:db8::1/128 proto mobility-header type 8"
	mapping := Event{
		Event: "mapping", Mapping: &Mapping{OldSrc: netip.MustParseAddr("fd00::1"), OldSPort: 4500, NewSrc: netip.MustParseAddr("fd00::9"), NewSPort: 6000},
		State: &sad.Listed{Spec: sad.Spec{Dst: netip.MustParseAddr("fd00::2"), Proto: proto.ESP, SPI: 0x1000, ReqID: 17}},
	}
	const mapped = "Mapping change fd00::1:4500 -> fd00::9:6000\n\tdst fd00::2  reqid 0x11 protocol esp  SPI 0x1000\n"
	for _, c := range []struct {
		e            Event
		plain, stats string
	}{
		{Event{Event: "report", Proto: "hao", Sel: udp, CoA: &coa}, "report proto hao \n  sel " + udp + " \n  coa 2001:db8:aa::1\n", "report proto hao \n  sel " + udp + " uid 0\n  coa 2001:db8:aa::1\n"},
		{Event{Event: "report", Proto: "hao", Sel: udp}, "report proto hao \n  sel " + udp + " \n", "report proto hao \n  sel " + udp + " uid 0\n"},
		{Event{Event: "report", Proto: "hao", Sel: mh, CoA: &coa}, "report proto hao \n  sel " + mh + " \n  coa 2001:db8:aa::1\n", "report proto hao \n  sel " + mh + " uid 0\n  coa 2001:db8:aa::1\n"},
		{mapping, mapped, mapped},
	} {
		if got := c.e.Text(false); got != c.plain {
			t.Errorf("%q, want %q", got, c.plain)
		}
		if got := c.e.Text(true); got != c.stats {
			t.Errorf("%q, want %q", got, c.stats)
		}
	}
}
