package sad

import (
	"errors"
	"net/netip"
	"reflect"
	"testing"

	"leveret/appliance/wire"
	"leveret/extensions/xfrm/proto"

	"github.com/go-viper/mapstructure/v2"
	"go.yaml.in/yaml/v3"
)

var defaults = Defaults{ReplayWindow: 1024, ESN: true}

func readKey(name string) ([]byte, error) {
	switch name {
	case "/hex":
		return []byte("0x0102030405060708090a0b0c0d0e0f1011121314\n"), nil
	case "/raw":
		return secret(20).Reveal(), nil
	case "/bad":
		return []byte("0xqq"), nil
	}
	return nil, errors.New("no such file or directory")
}

// item decodes one as the appliance's configuration is decoded, and makes a state of it.
func item(t *testing.T, text string) (*State, *Fault) {
	t.Helper()
	var tree any
	var c StateConfig
	d, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{Result: &c, ErrorUnused: true, DecodeHook: mapstructure.TextUnmarshallerHookFunc()})
	if err == nil {
		err = yaml.Unmarshal([]byte(text), &tree)
	}
	if err == nil {
		err = d.Decode(tree)
	}
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return c.State(defaults, readKey, noLink)
}

const (
	espItem = `{src: "fd00::1", dst: "fd00::2", proto: esp, spi: 0x1000, mode: tunnel, aead: {name: "rfc4106(gcm(aes))", key_file: /hex}`
	ahItem  = `{src: "fd00::1", dst: "fd00::2", proto: ah, spi: 0x2000, auth: {name: "hmac(sha1)", key_file: /hex}`
	haoItem = `{src: "fd00::1", dst: "fd00::2", proto: hao, mode: ro, coa: "fd00::9"`
)

func TestConfig(t *testing.T) {
	base := with(esp(0x1000), func(s *State) { s.ReplayWindow, s.Flags = 1024, ESN })
	for _, c := range []struct {
		text string
		want *State
	}{
		{espItem + `}`, base},
		{espItem + `, reqid: 1, esn: false, replay_window: 0, lifetime: {soft_seconds: 3000, hard_seconds: 3600, hard_bytes: 0, hard_packets: 0}}`,
			with(esp(0x1000), func(s *State) { s.ReqID, s.Life.SoftAdd, s.Life.HardAdd = 1, 3000, 3600 })},
		{espItem + `, replay_window: 0}`, esp(0x1000)},
		{espItem + `, esn: false}`, with(esp(0x1000), func(s *State) { s.ReplayWindow = 1024 })},
		{espItem + `, lifetime: {soft_bytes: 1, hard_bytes: 2, soft_packets: 3, hard_packets: 4, soft_use_seconds: 5, hard_use_seconds: 6}}`,
			with(base, func(s *State) {
				s.Life = Lifetime{SoftBytes: 1, HardBytes: 2, SoftPackets: 3, HardPackets: 4, SoftUse: 5, HardUse: 6}
			})},
		{espItem + `, flags: [noecn, af-unspec, oseq-may-wrap], mark: "0x5/0xff", output_mark: "7", if_id: 3, tfcpad: 100}`,
			with(base, func(s *State) {
				s.Flags, s.Extra, s.Mark, s.OutputMark = NoECN|AFUnspec|ESN, OSeqMayWrap, Mark{5, 0xff}, Mark{7, 0xffffffff}
				s.IfID, s.TFCPad = 3, 100
			})},
		{espItem + `, encap: {type: espinudp, sport: 4500, dport: 4501}, sel: "src fd01::/16 proto tcp dport 80", src_selective: true}`,
			with(base, func(s *State) {
				s.Encap, s.SrcSelective = Encap{ESPInUDP, 4500, 4501, addr("::")}, true
				s.Sel.Src, s.Sel.Dst = netip.MustParsePrefix("fd01::/16"), netip.MustParsePrefix("::/0")
				s.Sel.Proto, s.Sel.DPort, s.Sel.DPortMask = wire.TCP, 80, 0xffff
			})},
		{ahItem + `}`, with(base, func(s *State) {
			s.Proto, s.SPI, s.Mode, s.AEAD, s.Auth = proto.AH, 0x2000, proto.Transport, Algo{}, Algo{"hmac(sha1)", secret(20), 96}
		})},
		{haoItem + `, flags: [wildrecv]}`, with(hao("fd00::1", "fd00::9"), func(s *State) { s.Flags = WildRecv })},
	} {
		got, f := item(t, c.text)
		if f != nil {
			t.Errorf("%s: %v", c.text, f)
		} else if !got.Equal(c.want) {
			t.Errorf("%s\ngot  %+v\nwant %+v", c.text, got.plain(), c.want.plain())
		} else if _, _, err := newDB().Add(t0, got); err != nil {
			t.Errorf("%s: %v", c.text, err)
		}
	}
}

func TestConfigFaults(t *testing.T) {
	aead := func(rest string) string {
		return `{src: "fd00::1", dst: "fd00::2", proto: esp, spi: 0x1000, aead: {` + rest + `}}`
	}
	for _, c := range []struct{ text, key, want string }{
		{`{proto: esp, dst: "fd00::2"}`, "src", "an IPv6 address is required"},
		{`{src: "fd00::2", dst: "10.0.0.1"}`, "dst", "an IPv6 address is required"},
		{`{src: "fd00::2", dst: "fd00::1"}`, "proto", `"": want esp, ah, hao or route2`},
		{`{src: "fd00::1", dst: "fd00::2", proto: esp, mode: x}`, "mode", `"x": want transport, tunnel, beet or ro`},
		{aead(`key: "0x01"`), "aead.name", "it is required, in the words of ip xfrm"},
		{aead(`name: x, key: "0x01"`), "aead", "Requested AEAD algorithm not found."},
		{aead(`name: "rfc4106(gcm(aes))"`), "aead.key_file", "a key is required"},
		{aead(`name: "rfc4106(gcm(aes))", key: a, key_file: b`), "aead.key", "there is a key_file too"},
		{aead(`name: "rfc4106(gcm(aes))", key_file: /none`), "aead.key_file", "no such file or directory"},
		{aead(`name: "rfc4106(gcm(aes))", key: 0xzz`), "aead.key", "it has other than hexadecimal digits"},
		{aead(`name: "rfc4106(gcm(aes))", key: "0x0102"`), "aead", "Invalid argument: aead rfc4106(gcm(aes)): the key has 2 octets, allowed: 20, 28, 36, of which the last 4 are the salt"},
		{aead(`name: "rfc4106(gcm(aes))", key_file: /raw, icv_bits: 100`), "aead", "Invalid argument: aead rfc4106(gcm(aes)): the ICV has 100 bits, allowed: 128, 96, 64"},
		{aead(`name: "rfc4106(gcm(aes))", key_file: /raw, trunc_bits: 96`), "aead.trunc_bits", "it is of auth"},
		{ahItem + `, enc: {name: "cbc(aes)", key: x, icv_bits: 9}}`, "enc.icv_bits", "it is of aead"},
		{espItem + `, auth: {name: "hmac(sha1)", key_file: /hex}}`, "aead", "an SA has either aead, or enc and auth"},
		{espItem + `, flags: [esn]}`, "flags", "esn is a key of its own"},
		{espItem + `, flags: [bogus]}`, "flags", `"bogus" is unknown`},
		{espItem + `, mark: "1/x"}`, "mark", `"1/x": want VALUE or VALUE/MASK`},
		{espItem + `, output_mark: "-1"}`, "output_mark", `"-1": want VALUE or VALUE/MASK`},
		{espItem + `, mark: "16/15"}`, "", "Invalid argument: mark 0x10 has bits outside its mask 0xf"},
		{espItem + `, replay_window: 5000}`, "replay_window", "5000 is outside 0..4096"},
		{espItem + `, replay_window: 0, esn: true}`, "esn", "it needs a replay_window"},
		{espItem + `, encap: {type: udp}}`, "encap.type", `"udp": want espinudp or espinudp-nonike`},
		{espItem + `, sel: "proto bogus"}`, "sel", `proto: "bogus" is no protocol`},
		{espItem + `, sel: "proto tcp reqid 5"}`, "sel", `argument "reqid" is wrong: unknown`},
		{haoItem + `, spi: 5}`, "", "Invalid argument: hao has no spi"},
		{haoItem + `, esn: true}`, "esn", "it needs a replay_window"},
	} {
		_, f := item(t, c.text)
		if f == nil || !reflect.DeepEqual(*f, Fault{c.key, c.want}) {
			t.Errorf("%s\ngot  %+v\nwant %s: %s", c.text, f, c.key, c.want)
		}
	}
}
