package xfrm

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"leveret/appliance/module"
	"leveret/appliance/module/moduletest"
	"leveret/appliance/packet"
	"leveret/extensions/xfrm/spd"
	"leveret/extensions/xfrm/xfrmapi"
)

// ask runs a command's handler, with a body or, if it is a map of texts, a query.
func (b *bench) ask(where string, body any) (any, error) {
	req := module.Request{Decode: func(v any) error {
		text, err := json.Marshal(body)
		if err == nil {
			err = json.Unmarshal(text, v)
		}
		return err
	}}
	if q, ok := body.(map[string]string); ok {
		req.Query = q
	}
	return b.Handlers[where](b.now(), req)
}

// TestPoliciesByCommand: each change is seen by packets at once and told of; what is as it was is not.
func TestPoliciesByCommand(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct {
		line, told string
		verdict    packet.Verdict // for a packet that leaves
	}{
		{"policy add dir out dst 2001:db8:7::/48 priority 5 action block", "newpolicy", packet.Drop(packet.XfrmOutPolBlock)},
		{"policy update dir out dst 2001:db8:7::/48 priority 5", "updpolicy", packet.Continue},
		{"policy update dir out dst 2001:db8:7::/48 priority 5 action block", "updpolicy", packet.Drop(packet.XfrmOutPolBlock)},
		{"policy update dir out dst 2001:db8:8::/48 action block", "updpolicy", packet.Drop(packet.XfrmOutPolBlock)},
		{"policy add dir out dst 2001:db8:7::1 priority 4", "newpolicy", packet.Continue},
		{"policy delete dir out dst 2001:db8:7::1", "delpolicy", packet.Drop(packet.XfrmOutPolBlock)},
		{"policy add dir out ptype sub action block", "newpolicy", packet.Drop(packet.XfrmOutPolBlock)},
		{"policy flush", "flushpolicy", packet.Drop(packet.XfrmOutPolBlock)},
		{"policy flush", "", packet.Drop(packet.XfrmOutPolBlock)},
		{"policy deleteall ptype main", "", packet.Drop(packet.XfrmOutPolBlock)},
		{"policy deleteall ptype sub", "delpolicy", packet.Continue},
		{"policy setdefault out block", "setdefault", packet.Drop(packet.XfrmOutPolBlock)},
		{"policy setdefault out accept", "setdefault", packet.Continue},
	} {
		b.ipxfrm(c.line)
		if got := strings.ReplaceAll(strings.Join(b.told(), ","), " ", ""); got != c.told {
			t.Errorf("%s: told %q, want %q", c.line, got, c.told)
		}
		if v := b.m.transform(clearPacket(10)); v != c.verdict {
			t.Errorf("%s: %s", c.line, v)
		}
	}
	if v := b.m.view.Load(); v.idle != [3]bool{true, true, true} {
		t.Errorf("policies are left: idle %v", v.idle)
	}
}

// TestNDBypassIsSeen: the policies that let Neighbor Discovery pass are listed, changed and deleted like any other.
func TestNDBypassIsSeen(t *testing.T) {
	b := newBench(t)
	b.apply(sections(nil, nil))
	list, err := b.ask("GET /v1/xfrm/policy", map[string]string{"proto": "ipv6-icmp", "type": "135"})
	all := list.([]spd.Listed)
	if err != nil || len(all) != 2 || all[0].Name != "ndp-bypass" || all[0].Action != spd.Allow {
		t.Fatalf("%+v, %v", all, err)
	}
	const words = " proto ipv6-icmp type 135"
	b.ipxfrm("policy update dir out action block" + words)
	b.ipxfrm("policy delete dir in" + words)
	list, _ = b.ask("GET /v1/xfrm/policy", map[string]string{"proto": "ipv6-icmp", "type": "135"})
	if all := list.([]spd.Listed); len(all) != 1 || all[0].Dir != spd.Out || all[0].Action != spd.Block {
		t.Errorf("%+v", all)
	}
}

// TestPolicyExpires: it is told, softly and for good, and packets do not see it any more; time of use counts from the
// first packet, and packets are looked at for it.
func TestPolicyExpires(t *testing.T) {
	b := newBench(t)
	b.ipxfrm("policy add dir out dst 2001:db8:7::/48 action block limit time-soft 5 limit time-hard 9")
	b.told()
	b.pass(8 * time.Second)
	if v := b.m.transform(clearPacket(10)); v != packet.Drop(packet.XfrmOutPolBlock) {
		t.Error(v)
	}
	b.pass(2 * time.Second)
	if v := b.m.transform(clearPacket(10)); v != packet.Continue || !b.m.view.Load().idle[spd.Out] {
		t.Error(v)
	}
	if got := fmt.Sprint(b.told()); got != "[polexpire  polexpire ]" {
		t.Error(got)
	}
	b.ipxfrm("policy add dir out dst 2001:db8:7::/48 limit time-use-hard 9")
	b.pass(100 * time.Second)
	b.m.transform(clearPacket(10))
	used := b.now()
	b.m.transform(clearPacket(10))
	p := b.m.spd.List()[0]
	if p.Usage.First() != used {
		t.Errorf("used first at %d, not %d", p.Usage.First(), used)
	}
	b.pass(8 * time.Second)
	if b.m.spd.Len() != 1 {
		t.Error("it is gone too early")
	}
	b.pass(2 * time.Second)
	if b.m.spd.Len() != 0 {
		t.Error("it is still there")
	}
}

// TestReloadTellsDefaults: where they are others.
func TestReloadTellsDefaults(t *testing.T) {
	b := newBench(t)
	c := sections(nil, nil)
	c.Sections["ipsec.nd_bypass"] = moduletest.Section[bool]{Value: false}
	c.Sections["ipsec.default"] = moduletest.Section[DefaultConfig]{Value: DefaultConfig{In: "block"}}
	b.apply(c)
	b.apply(c)
	var e xfrmapi.Event
	if len(b.Published) == 1 {
		e = b.Published[0].Value.(xfrmapi.Event)
	}
	if e.Text(false) != "Default policies:\n in:  block\n fwd: accept\n out: accept\n" {
		t.Errorf("%+v", b.Published)
	}
}

// TestReloadKeepsTimes: a policy that the new configuration has as it was goes on.
func TestReloadKeepsTimes(t *testing.T) {
	b := newBench(t)
	b.apply(sections(nil, []PolicyConfig{protect("7"), protect("8")}))
	b.m.transform(clearPacket(10))
	b.pass(time.Second)
	other := protect("8")
	other.Priority = 3
	b.apply(sections(nil, []PolicyConfig{protect("7"), other}))
	get := func(dst string) *spd.Policy {
		f, err := spd.ParseFilter([]string{"dst", dst}, b.m.linkNamed)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range b.m.spd.List() {
			if f.Match(p) {
				return p
			}
		}
		t.Fatal("no policy for " + dst)
		return nil
	}
	if p := get("2001:db8:7::/48"); p.Usage.First() == 0 || p.Added >= b.now() {
		t.Errorf("the same: added %d, used %d", p.Added, p.Usage.First())
	}
	if p := get("2001:db8:8::/48"); p.Usage.First() != 0 || p.Added != b.now() {
		t.Errorf("changed: added %d, used %d", p.Added, p.Usage.First())
	}
}

// TestPolicyRequests: what a client may send that the command does not.
func TestPolicyRequests(t *testing.T) {
	b := newBench(t)
	add := func(text string) (any, error) { return b.ask("POST /v1/xfrm/policy", json.RawMessage(text)) }
	got, err := add(`{"op":"add","dir":"out","dst":"2001:db8:7::/48","dev":"wan0","proto":"tcp","dport":"80","action":"allow","tmpl":[{"proto":"esp","mode":"transport","level":"required"}]}`)
	l, ok := got.(spd.Listed)
	if err != nil || !ok || l.Index == 0 || l.Text(false) != "src ::/0 dst 2001:db8:7::/48 proto tcp dport 80 dev wan0 \n\tdir out priority 0 ptype main \n"+
		"\ttmpl src :: dst ::\n\t\tproto esp reqid 0 mode transport\n" {
		t.Errorf("%+v, %v", got, err)
	}
	for text, want := range map[string]string{
		`{"op":"put","dir":"in","action":"allow"}`:                                      `unknown operation "put"`,
		`{"op":"add","dir":"in","action":"allow","ptype":"x"}`:                          `argument "x" is wrong: PTYPE value is invalid`,
		`{"op":"add","dir":"in","action":"allow","dev":"nope"}`:                         `argument "nope" is wrong: DEV value is invalid`,
		`{"op":"add","dir":"in","action":"allow","src":"::/0 dst fd00::/8"}`:            `inet6 prefix is expected rather than "::/0 dst fd00::/8".`,
		`{"op":"add","dir":"in","action":"allow","proto":"tcp","dport":"1-9"}`:          `argument "1-9" is wrong: value after "dport" is invalid`,
		`{"op":"add","dir":"in","action":"allow","src":"10.0.0.0/8"}`:                   "Address family not supported by protocol: IPv4",
		`{"op":"add","dir":"in","action":"allow","lifetime":{"hard_bytes":5}}`:          errLimits.Error(),
		`{"op":"add","dir":"in","action":"block","tmpl":[{"proto":"esp"}]}`:             "tmpl: a policy that blocks sends nothing through a template",
		`{"op":"add","dir":"in","action":"allow","tmpl":[{"mode":"tunnel"}]}`:           "Invalid XFRM protocol in template.",
		`{"op":"add","dir":"in","action":"allow","index":9}`:                            "Policy index doesn't match direction.",
		`{"op":"update","dir":"in","action":"allow","mark":{"value":5,"mask":2}}`:       "mark: 0x5 has bits outside of its mask 0x2",
		`{"op":"add","dir":"in","action":"allow","proto":"icmpv6","type":"1 code 999"}`: `argument "1 code 999" is wrong: value after "type" is invalid`,
	} {
		if _, err := add(text); err == nil || err.Error() != want {
			t.Errorf("%s\n got  %v\n want %s", text, err, want)
		}
	}
	for _, c := range []struct {
		where string
		body  any
		want  string
	}{
		{"GET /v1/xfrm/policy", map[string]string{"frob": "1"}, "unknown selector \"frob\"; there are: dir, ptype, action, priority, index, flag, src, dst, proto, sport, dport, type, code, key, dev"},
		{"GET /v1/xfrm/policy", map[string]string{"dir": "in action block"}, `argument "in action block" is wrong: DIR value is invalid`},
		{"GET /v1/xfrm/policy/get", map[string]string{"dir": "in"}, "Not enough information: either SELECTOR or INDEX is required."},
		{"GET /v1/xfrm/policy/get", map[string]string{"dir": "in", "index": "9"}, "No such file or directory"},
		{"GET /v1/xfrm/policy/get", map[string]string{"x": "1"}, "unknown selector \"x\"; there are: dir, index, ptype, mark, mask, if_id, src, dst, proto, sport, dport, type, code, key, dev"},
		{"GET /v1/xfrm/policy/count", map[string]string{"x": "1"}, "unknown selector \"x\"; there are: "},
		{"GET /v1/xfrm/policy/default", map[string]string{"x": "1"}, "unknown selector \"x\"; there are: "},
		{"POST /v1/xfrm/policy/delete", xfrmapi.PolicyID{}, "Not enough information: DIR is required."},
		{"POST /v1/xfrm/policy/deleteall", xfrmapi.PolicyFilter{Flag: "nope"}, `argument "nope" is wrong: unknown`},
		{"POST /v1/xfrm/policy/flush", xfrmapi.PolicyFlush{Type: "x"}, `argument "x" is wrong: PTYPE value is invalid`},
		{"POST /v1/xfrm/policy/default", xfrmapi.PolicyDefault{}, `Command line is not complete. Try option "help"`},
		{"POST /v1/xfrm/policy/default", xfrmapi.PolicyDefault{In: "drop"}, `argument "drop" is wrong: in policy value is invalid`},
	} {
		if _, err := b.ask(c.where, c.body); err == nil || err.Error() != c.want {
			t.Errorf("%s %v\n got  %v\n want %s", c.where, c.body, err, c.want)
		}
	}
	if n := b.m.spd.Count(); n != (spd.Counts{Out: 1}) {
		t.Errorf("refused, and there: %+v", n)
	}
	b.told()
	if got, err := b.ask("POST /v1/xfrm/policy/default", xfrmapi.PolicyDefault{Fwd: "block"}); err != nil || got != (xfrmapi.PolicyDefault{In: "accept", Fwd: "block", Out: "accept"}) {
		t.Errorf("%+v, %v", got, err)
	}
	if e := b.Published; len(e) != 1 || !reflect.DeepEqual(e[0].Value, xfrmapi.Event{Event: "setdefault", Default: &xfrmapi.PolicyDefault{In: "accept", Fwd: "block", Out: "accept"}}) {
		t.Errorf("%+v", e)
	}
}

// TestAcquireNamesItsPolicy: the one whose template wants a state, of the two that a packet may have.
func TestAcquireNamesItsPolicy(t *testing.T) {
	b := newBench(t)
	b.ipxfrm("policy add dir out dst 2001:db8:7::/48 ptype sub priority 1 tmpl proto esp reqid 1 level use")
	b.ipxfrm("policy add dir out dst 2001:db8::/32 priority 2 tmpl src 2001:db8:f::1 dst 2001:db8:f::2 proto esp mode tunnel reqid 2")
	for _, want := range []uint32{2, 1} {
		b.Published = nil
		if v := b.m.transform(clearPacket(10)); v != packet.Drop(packet.XfrmOutNoStates) {
			t.Fatal(v)
		}
		b.m.Receive(b.now(), <-b.Mailbox)
		e := b.Published[0].Value.(xfrmapi.Event)
		if e.Event != "acquire" || e.Policy.Priority != want || e.State.ReqID != want {
			t.Errorf("%+v %+v", e.Policy, e.State)
		}
		b.ipxfrm("policy update dir out dst 2001:db8:7::/48 ptype sub priority 1 tmpl proto esp reqid 1")
		b.m.flushStates(b.now(), 0)
	}
}

// TestUseDoesNotAllocate: nor does a policy without templates that is looked at for its use.
func TestUseDoesNotAllocate(t *testing.T) {
	b := newBench(t)
	b.ipxfrm("policy add dir out dst 2001:db8:7::/48 limit time-use-hard 9")
	b.ipxfrm("policy add dir out ptype sub")
	p := clearPacket(10)
	if n := testing.AllocsPerRun(100, func() {
		if v := b.m.transform(p); v != packet.Continue {
			t.Fatal(v)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
