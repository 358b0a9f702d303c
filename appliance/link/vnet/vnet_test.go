package vnet

import (
	"testing"

	"leveret/appliance/packet"
)

func tcpFrame(l2, payload int) []byte {
	f := make([]byte, l2+40+32+payload)
	f[l2+40+12] = 8 << 4 // 12 octets of options
	return f
}

func TestEncodeDecode(t *testing.T) {
	for _, l2 := range []int{0, 14} {
		for _, g := range []packet.GSO{
			{},
			{Csum: packet.CsumVerified},
			{Csum: packet.CsumPartial, CsumStart: 40, CsumOffset: 16},
			{Type: packet.GSOTCP6, Csum: packet.CsumPartial, CsumStart: 40, CsumOffset: 16, Size: 1428, HdrLen: 72},
			{Type: packet.GSOUDP, Csum: packet.CsumPartial, CsumStart: 40, CsumOffset: 6, Size: 1400, HdrLen: 48},
		} {
			h := make([]byte, HeaderLen)
			Encode(h, &g, l2)
			var got packet.GSO
			if !Decode(h, tcpFrame(l2, 3000), l2, &got) || got != g {
				t.Errorf("l2 %d: %+v came back as %+v", l2, g, got)
			}
		}
	}
}

func TestNonsenseIsRefused(t *testing.T) {
	for name, h := range map[string][]byte{
		"checksum past the end":                      {1, 0, 0, 0, 0, 0, 0xff, 0x7f, 16, 0},
		"checksum in the link header":                {1, 0, 0, 0, 0, 0, 4, 0, 16, 0},
		"TCP over IPv4":                              {1, 1, 54, 0, 100, 0, 54, 0, 16, 0},
		"no segment size":                            {1, 4, 54, 0, 0, 0, 54, 0, 16, 0},
		"superpacket without a checksum to complete": {0, 4, 54, 0, 100, 0, 0, 0, 0, 0},
		"unknown type":                               {1, 9, 54, 0, 100, 0, 54, 0, 16, 0},
	} {
		var g packet.GSO
		if Decode(h, tcpFrame(14, 100), 14, &g) {
			t.Errorf("%s: accepted as %+v", name, g)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{1, 4, 54, 0, 100, 0, 54, 0, 16, 0}, tcpFrame(14, 100))
	f.Fuzz(func(t *testing.T, h, frame []byte) {
		if len(h) < HeaderLen {
			return
		}
		for _, l2 := range []int{0, 14} {
			var g packet.GSO
			if Decode(h, frame, l2, &g) && (g.Type != packet.GSONone && g.HdrLen+l2 > len(frame) || g.Csum == packet.CsumPartial && l2+g.CsumStart+g.CsumOffset+2 > len(frame)) {
				t.Errorf("%+v points out of %d octets", g, len(frame))
			}
		}
	})
}
