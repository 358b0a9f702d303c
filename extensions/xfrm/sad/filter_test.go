package sad

import (
	"testing"

	"leveret/extensions/xfrm/proto"
)

// TestFilter: errors are those of iproute2 6.1, which took what is taken here, but for numbers as flags.
func TestFilter(t *testing.T) {
	states := map[string]*State{
		"esp": with(esp(0x1000), func(s *State) { s.ReqID, s.Flags = 7, ESN|NoECN }),
		"ah":  with(esp(0x2000), func(s *State) { s.Proto, s.Mode, s.SAddr = proto.AH, proto.Transport, addr("fd01::1") }),
		"acq": with(esp(0), func(s *State) { s.KM = Acq }),
	}
	for words, want := range map[string]string{
		"": "esp ah acq", "nokeys": "esp ah acq", "nokeys nokeys": "esp ah acq", "src fd00::1": "esp acq", "src fd00::/8": "esp ah acq", "src ::/0": "esp ah acq",
		"dst fd00::2 proto esp": "esp acq", "dst fd00::3": "", "src 10.0.0.1": "", "proto ah": "ah", "proto comp": "", "spi 0x1000": "esp", "spi 0": "acq",
		"mode transport": "ah", "mode tunnel mode transport": "ah", "mode ro": "", "reqid 7": "esp", "reqid 0": "ah acq", "flag esn": "esp", "flag esn icmp": "esp",
		"flag icmp": "", "flag esn mode transport": "", "reqid 7 src fd00::/64 spi 0x1000 mode tunnel flag noecn": "esp",
	} {
		f, err := ParseFilter(split(words))
		if err != nil {
			t.Errorf("%s: %v", words, err)
			continue
		}
		got := ""
		for _, name := range []string{"esp", "ah", "acq"} {
			if f.Match(states[name]) {
				got += " " + name
			}
		}
		if want != "" {
			want = " " + want
		}
		if got != want {
			t.Errorf("%q takes%s, want%s", words, got, want)
		}
	}
	for words, want := range map[string]string{
		"src": `Command line is not complete. Try option "help"`, "flag": `Command line is not complete. Try option "help"`,
		"src bogus":               `any valid prefix is expected rather than "bogus".`,
		"src any":                 `argument "any" is wrong: value after "src" has an unrecognized address family`,
		"dst default":             `argument "default" is wrong: value after "dst" has an unrecognized address family`,
		"src 10.0.0.1 dst fd00::": `argument "fd00::" is wrong: the same address family is required between values after "src" and "dst"`,
		"proto bogus":             `argument "bogus" is wrong: XFRM-PROTO value is invalid`, "spi x": `argument "x" is wrong: SPI value is invalid`,
		"mode bogus": `argument "bogus" is wrong: MODE value is invalid`, "reqid x": `argument "x" is wrong: REQID value is invalid`,
		"flag bogus": `argument "bogus" is wrong: unknown`, "bogus": `argument "bogus" is wrong: unknown`, "mark 5": `argument "mark" is wrong: unknown`,
		"spi 5 mode ro spi 6": `argument "spi" is wrong: unknown`, "proto comp spi 0x10000": `SPI value is too large with XFRM-PROTO value "comp"`,
	} {
		_, err := ParseFilter(split(words))
		mustErr(t, err, want)
	}
}

func TestParseFlush(t *testing.T) {
	for words, want := range map[string]proto.Proto{"": 0, "proto esp": proto.ESP, "proto comp": proto.Comp} {
		if got, err := ParseFlush(split(words)); err != nil || got != want {
			t.Errorf("%q: %v, %v", words, got, err)
		}
	}
	for words, want := range map[string]string{
		"proto": `Command line is not complete. Try option "help"`, "proto bogus": `argument "bogus" is wrong: XFRM-PROTO value is invalid`,
		"bogus": `argument "bogus" is wrong: unknown`, "proto esp bogus": `argument "bogus" is wrong: unknown`, "spi 5": `argument "spi" is wrong: unknown`,
	} {
		_, err := ParseFlush(split(words))
		mustErr(t, err, want)
	}
}
