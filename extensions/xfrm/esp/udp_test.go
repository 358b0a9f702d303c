package esp

import (
	"bytes"
	"encoding/binary"
	"testing"
)

func TestClassify(t *testing.T) {
	for _, c := range []struct {
		b    []byte
		want UDPContent
	}{
		{[]byte{0xff}, Keepalive},
		{[]byte{0xfe}, Malformed},
		{nil, Malformed},
		{[]byte{0xff, 0xff}, Malformed},
		{make([]byte, 7), Malformed},
		{make([]byte, 32), IKE},
		{[]byte{0, 0, 0x10, 1, 0, 0, 0, 1}, ESP},
	} {
		if got := Classify(c.b); got != c.want {
			t.Errorf("%x: %d, want %d", c.b, got, c.want)
		}
	}
}

func TestUDP(t *testing.T) {
	six := append(append([]byte{0x60, 0, 0, 0, 0, 17, 17, 64}, bytes.Repeat([]byte{0x20, 1, 0xd, 0xb8}, 8)...), make([]byte, 8+9)...)
	four := append([]byte{0x45, 0, 0, 37, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 198, 51, 100, 2}, make([]byte, 8+9)...)
	for i := range 9 {
		six[48+i], four[28+i] = byte(i)*31, byte(i)*31
	}
	checksum := func(pkt []byte, off int) uint16 { return binary.BigEndian.Uint16(pkt[off+6:]) }

	PutUDP(six, 40, 4500, 4501, WholeChecksum)
	if sum := checksum(six, 40); sum == 0 || binary.BigEndian.Uint32(six[40:]) != 4500<<16|4501 || six[45] != 17 {
		t.Errorf("header %x", six[40:48])
	}
	if b, e, ok := UDPPayload(six, 40, false); !ok || b != 48 || e != 57 {
		t.Errorf("%d to %d %v", b, e, ok)
	}
	for bit := 40 * 8; bit < len(six)*8; bit++ { // one's complement sees every single bit
		bad := bytes.Clone(six)
		if bad[bit/8] ^= 1 << (bit % 8); checksum(bad, 40) == 0 {
			continue
		}
		if _, _, ok := UDPPayload(bad, 40, false); ok {
			t.Errorf("bit %d was not seen", bit)
		}
	}
	PutUDP(six, 40, 4500, 4500, ZeroChecksum)
	_, _, strict := UDPPayload(six, 40, false)
	if _, _, ok := UDPPayload(six, 40, true); checksum(six, 40) != 0 || !ok || strict {
		t.Errorf("without a checksum: %v %v", ok, strict)
	}
	PutUDP(four, 20, 4500, 4500, WholeChecksum)
	if _, _, ok := UDPPayload(four, 20, false); checksum(four, 20) != 0 || !ok {
		t.Error("IPv4 without a checksum was not accepted")
	}
	// RFC 768 by hand: sum of addresses, protocol, length, ports, length, data.
	binary.BigEndian.PutUint16(four[26:], 1)
	if _, _, ok := UDPPayload(four, 20, false); ok {
		t.Error("IPv4 with a wrong checksum was accepted")
	}
	sum := 0
	binary.BigEndian.PutUint16(four[26:], 0)
	for _, half := range [][]byte{four[12:20], {0, 17, 0, 17}, append(bytes.Clone(four[20:]), 0)} {
		for i := 0; i < len(half); i += 2 {
			sum += int(binary.BigEndian.Uint16(half[i:]))
		}
	}
	binary.BigEndian.PutUint16(four[26:], ^uint16(sum%0xffff))
	if _, _, ok := UDPPayload(four, 20, false); !ok {
		t.Error("IPv4 with a right checksum was not accepted")
	}
	for _, c := range []struct {
		pkt []byte
		off int
	}{{six[:47], 40}, {six[:56], 40}, {six, 60}, {six, -1}, {six, 0}, {nil, 40}} {
		if _, _, ok := UDPPayload(c.pkt, c.off, true); ok {
			t.Errorf("%d octets at %d were accepted", len(c.pkt), c.off)
		}
	}
	binary.BigEndian.PutUint16(six[44:], 7)
	if _, _, ok := UDPPayload(six, 40, true); ok {
		t.Error("a length below the header was accepted")
	}
}
