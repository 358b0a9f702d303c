package xfrm

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/extensions/xfrm/proto"
	"leveret/extensions/xfrm/sad"
	"leveret/extensions/xfrm/xfrmapi"
)

// made is a state of a configuration, as a command would have it.
func made(t *testing.T, c sad.StateConfig) *sad.State {
	t.Helper()
	s, fault := c.State(sad.Defaults{ReplayWindow: 32}, nil, func(string) (int, bool) { return 0, false })
	if fault != nil {
		t.Fatal(fault)
	}
	return s
}

func wantErr(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func (b *bench) add(c sad.StateConfig) *sad.State {
	b.t.Helper()
	s, err := b.m.addState(b.now(), made(b.t.(*testing.T), c))
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

// TestAddedByCommand: packets find the state at once, and IVs are begun although no configuration has a state.
func TestAddedByCommand(t *testing.T) {
	b := newBench(t)
	b.apply(sections(nil, []PolicyConfig{protect("7")}))
	b.told()
	if v := b.m.transform(clearPacket(10)); v != packet.Drop(packet.XfrmOutNoStates) {
		t.Errorf("without a state: %s", v)
	}
	b.m.Receive(b.now(), <-b.Mailbox) // the larval state
	s := b.add(gcm(0x100))
	if got := fmt.Sprint(b.told()); got != "[acquire 0x0 newsa 0x100]" || len(b.m.states()) != 1 {
		t.Errorf("%s, %d states", got, len(b.m.states()))
	}
	if v := b.m.transform(clearPacket(10)); v != packet.Forward {
		t.Errorf("with a state: %s", v)
	}
	_, err := b.m.addState(b.now(), s)
	wantErr(t, err, "File exists")
	for _, c := range []struct {
		change func(*sad.State)
		want   string
	}{
		{func(s *sad.State) { s.Proto = proto.HAO }, "Invalid argument: hao has no spi"},
		{func(s *sad.State) { s.SPI, s.Mode = 0x101, proto.BEET }, "Invalid argument: mode beet needs a sel with both addresses"},
		{func(s *sad.State) { s.SPI = 5 }, "Invalid argument: spi 0 to 255 are reserved (RFC 4303 2.1)"},
		{func(s *sad.State) { s.SPI, s.SAddr, s.DAddr = 0x101, addr("10.0.0.1"), addr("10.0.0.2") }, "Address family not supported by protocol: states have IPv6 addresses"},
	} {
		bad := *s
		c.change(&bad)
		_, err := b.m.addState(b.now(), &bad)
		wantErr(t, err, c.want)
		_, err = b.m.updateState(b.now(), &bad)
		wantErr(t, err, c.want)
	}
	if got := b.told(); len(got) != 0 || len(b.m.states()) != 1 {
		t.Errorf("refused, and told %v", got)
	}
}

// TestUpdatedByCommand: what counts goes on; a larval state gets its keys.
func TestUpdatedByCommand(t *testing.T) {
	b := newBench(t)
	old := b.add(gcm(0x100))
	old.Live.Count(b.now(), 10)
	next := made(t, change(gcm(0x100), func(c *sad.StateConfig) {
		c.Lifetime.HardPackets = 9
		c.Encap = &sad.EncapConfig{Type: "espinudp", SPort: 4500, DPort: 4500}
	}))
	updated, err := b.m.updateState(b.now(), next)
	if err != nil || updated.Live != old.Live || updated.Life.HardPackets != 9 || len(b.m.view.Load().ports) != 1 {
		t.Errorf("%+v, %v", updated, err)
	}
	_, err = b.m.updateState(b.now(), made(t, gcm(0x101)))
	wantErr(t, err, "No such process")
	larval, err := b.m.allocSPI(b.now(), made(t, gcm(0x102)), 0x200, 0x200)
	if err != nil || larval.SPI != 0x200 || larval.KM != sad.Acq {
		t.Fatal(larval, err)
	}
	_, err = b.m.allocSPI(b.now(), made(t, change(gcm(0x102), func(c *sad.StateConfig) { c.ReqID = 2 })), 0x200, 0x200)
	wantErr(t, err, "No such file or directory")
	valid, err := b.m.updateState(b.now(), made(t, gcm(0x200)))
	if err != nil || valid.KM != sad.Valid {
		t.Errorf("%+v, %v", valid, err)
	}
	if got := fmt.Sprint(b.told()); got != "[newsa 0x100 updsa 0x100 newsa 0x200 updsa 0x200]" || len(b.m.states()) != 2 {
		t.Errorf("%s, %d states", got, len(b.m.states()))
	}
}

// TestDeletedByCommand: one, those of a filter, all of a protocol; each is out of what packets see.
func TestDeletedByCommand(t *testing.T) {
	b := newBench(t)
	udp := func(c *sad.StateConfig) { c.Encap = &sad.EncapConfig{Type: "espinudp", SPort: 4500, DPort: 4500} }
	for spi := uint32(0x100); spi < 0x104; spi++ {
		b.add(change(gcm(spi), udp))
	}
	b.add(ahState(0x104, "transport"))
	b.told()
	id := sad.ID{DAddr: addr("2001:db8:f::2"), SPI: 0x100, Proto: proto.ESP}
	wantErr(t, b.m.deleteState(b.now(), id, addr("2001:db8:f::9"), sad.Mark{}), "No such process")
	if err := b.m.deleteState(b.now(), id, netip.Addr{}, sad.Mark{}); err != nil {
		t.Error(err)
	}
	wantErr(t, b.m.deleteState(b.now(), id, netip.Addr{}, sad.Mark{}), "No such process")
	if n := b.m.deleteStates(b.now(), func(s *sad.State) bool { return s.SPI == 0x101 || s.SPI == 0x102 }); n != 2 {
		t.Errorf("%d deleted", n)
	}
	if n := b.m.deleteStates(b.now(), func(*sad.State) bool { return false }); n != 0 {
		t.Errorf("%d deleted", n)
	}
	if got := fmt.Sprint(b.told()); got != "[delsa 0x100 delsa 0x102 delsa 0x101]" || len(b.m.view.Load().ports) != 1 {
		t.Errorf("%s, ports %v", got, b.m.view.Load().ports)
	}
	if n := b.m.flushStates(b.now(), proto.ESP); n != 1 || len(b.m.view.Load().ports) != 0 || len(b.m.states()) != 1 {
		t.Errorf("%d flushed, %d left", n, len(b.m.states()))
	}
	if e := b.Published; len(e) != 1 || !reflect.DeepEqual(e[0].Value, xfrmapi.Event{Event: "flushsa", Proto: "esp"}) {
		t.Errorf("%+v", e)
	}
	b.told()
	before := b.m.view.Load()
	if n := b.m.flushStates(b.now(), proto.ESP); n != 0 || len(b.told()) != 0 || b.m.view.Load() != before {
		t.Error("a flush of nothing is told")
	}
	if n := b.m.flushStates(b.now(), 0); n != 1 || fmt.Sprint(b.told()) != "[flushsa]" {
		t.Error("not all are gone")
	}
}

// call gives a handler a body or the words of a query, and returns the answer as JSON.
func (b *bench) call(what, body string, owner bool) (string, error) {
	b.t.Helper()
	h := b.Handlers[what]
	if h == nil {
		b.t.Fatalf("nothing answers %s", what)
	}
	req := module.Request{Query: map[string]string{}, Owner: owner, Decode: func(v any) error { return json.Unmarshal([]byte(body), v) }}
	if strings.HasPrefix(what, "GET") {
		for pair := range strings.FieldsSeq(body) {
			k, v, _ := strings.Cut(pair, "=")
			req.Query[k] = v
		}
	}
	v, err := h(b.now(), req)
	if err != nil {
		if refused := (*module.Refused)(nil); !errors.As(err, &refused) {
			b.t.Errorf("%s %s: %v is not the operator's", what, body, err)
		}
		return "", err
	}
	out, err := json.Marshal(v)
	if err != nil {
		b.t.Fatal(err)
	}
	return string(out), nil
}

// TestStateRequests: what a client of its own may send.
func TestStateRequests(t *testing.T) {
	b := newBench(t)
	const id = `"src":"2001:db8:f::1","dst":"2001:db8:f::2","proto":"esp","spi":4096`
	const key = "000102030405060708090a0b0c0d0e0f10111213"
	for _, c := range []struct{ what, body, want string }{
		{"POST /v1/xfrm/state", `{"op":"add",` + id + `,"mode":"tunnel","sel":"dev wan0","aead":{"name":"rfc4106(gcm(aes))","key":"` + key + `","icv_bits":128}}`, `{}`},
		{"GET /v1/xfrm/state/get", "dst=2001:db8:f::2 proto=esp spi=0x1000", `"sel":"src ::/0 dst ::/0 dev wan0"`},
		{"GET /v1/xfrm/state/get", "dst=2001:db8:f::2 proto=esp spi=0x1000 mark=5 mask=0xff show_keys=true", `"key":"` + key + `"`},
		{"GET /v1/xfrm/state", "", `"aead":{"name":"rfc4106(gcm(aes))","icv_bits":128}`},
		{"GET /v1/xfrm/state", "proto=esp show_keys=true", `"key":"` + key + `"`},
		{"GET /v1/xfrm/state", "flag=esn", `[]`},
		{"GET /v1/xfrm/state/count", "", `{"count":1,"buckets":65536,"max_buckets":65536}`},
		{"POST /v1/xfrm/state/deleteall", `{"proto":"ah"}`, `{"flushed":0}`},
		{"POST /v1/xfrm/state/flush", `{"proto":"esp"}`, `{"flushed":1}`},
		{"POST /v1/xfrm/state", `{"op":"allocspi",` + strings.Replace(id, "4096", "0", 1) + `,"min":768,"max":768}`, `"spi":768,`},
		{"POST /v1/xfrm/state", `{"op":"delete",` + strings.Replace(id, "4096", "768", 1) + `}`, `{}`},
	} {
		if got, err := b.call(c.what, c.body, true); err != nil || !strings.Contains(got, c.want) {
			t.Errorf("%s %s: %s, %v", c.what, c.body, got, err)
		}
	}
	const denied = "Operation not permitted: keys are shown to root and to the user that the appliance runs as"
	for _, c := range []struct{ what, body, want string }{
		{"GET /v1/xfrm/state", "show_keys=true", denied},
		{"GET /v1/xfrm/state/get", "dst=2001:db8:f::2 proto=esp spi=0x1000 show_keys=true", denied},
		{"GET /v1/xfrm/state", "show_keys=yes", `show_keys is true or absent, not "yes"`},
		{"GET /v1/xfrm/state", "sip=5", `unknown selector "sip"; there are: src, dst, proto, spi, mode, reqid, flag, show_keys`},
		{"GET /v1/xfrm/state", "proto=bogus", `argument "bogus" is wrong: XFRM-PROTO value is invalid`},
		{"GET /v1/xfrm/state/get", "", "Not enough information: ID is required"},
		{"GET /v1/xfrm/state/get", "dst=2001:db8:f::2 proto=esp spi=0x1000", "No such process"},
		{"GET /v1/xfrm/state/count", "a=b", `unknown selector "a"; there are: `},
		{"GET /v1/xfrm/stat", "a=b", `unknown selector "a"; there are: `},
		{"POST /v1/xfrm/state", `{"op":"frob",` + id + `}`, `unknown operation "frob"`},
		{"POST /v1/xfrm/state", `{"op":"add",` + id + `,"sel":"dev lan9"}`, `argument "lan9" is wrong: DEV value is invalid`},
		{"POST /v1/xfrm/state", `{"op":"add","proto":"esp","spi":4096}`, "Invalid argument: src and dst are required"},
		{"POST /v1/xfrm/state", `{"op":"add",` + id + `,"comp":"deflate"}`, "Invalid argument: esp has no comp"},
		{"POST /v1/xfrm/state", `{"op":"add",` + id + `,"aead":{"name":"rfc4106(gcm(aes))","key":"s3cr3t"}}`, "Invalid argument: a key is an even number of hexadecimal digits"},
		{"POST /v1/xfrm/state", `{"op":"allocspi",` + strings.Replace(id, "4096", "0", 1) + `}`, "Invalid argument: SPIs of esp from 0 to 0"},
		{"POST /v1/xfrm/state/deleteall", `{"flag":"bogus"}`, `argument "bogus" is wrong: unknown`},
	} {
		_, err := b.call(c.what, c.body, false)
		wantErr(t, err, c.want)
	}
}

// TestStatHasLinuxsOrder: that of net/xfrm/xfrm_proc.c, as /proc/net/xfrm_stat has it.
func TestStatHasLinuxsOrder(t *testing.T) {
	linux := strings.Fields(`XfrmInError XfrmInBufferError XfrmInHdrError XfrmInNoStates XfrmInStateProtoError XfrmInStateModeError XfrmInStateSeqError
		XfrmInStateExpired XfrmInStateMismatch XfrmInStateInvalid XfrmInTmplMismatch XfrmInNoPols XfrmInPolBlock XfrmInPolError XfrmOutError
		XfrmOutBundleGenError XfrmOutBundleCheckError XfrmOutNoStates XfrmOutStateProtoError XfrmOutStateModeError XfrmOutStateSeqError
		XfrmOutStateExpired XfrmOutPolBlock XfrmOutPolDead XfrmOutPolError XfrmFwdHdrError XfrmOutStateInvalid XfrmAcquireError
		XfrmOutStateDirError XfrmInStateDirError XfrmInIptfsError XfrmOutNoQueueSpace`)
	b := newBench(t)
	b.m.drop(packet.XfrmInNoStates)
	text, err := b.call("GET /v1/xfrm/stat", "", false)
	var s xfrmapi.Stat
	if err == nil {
		err = json.Unmarshal([]byte(text), &s)
	}
	if err != nil || len(s) != len(b.Counters) || !strings.Contains(text, `"XfrmInNoStates":1,`) {
		t.Fatalf("%s, %v", text, err)
	}
	for _, c := range s {
		for len(linux) > 0 && linux[0] != c.Name {
			linux = linux[1:]
		}
	}
	if len(linux) == 0 {
		t.Errorf("not Linux's names or order: %s", text)
	}
}
