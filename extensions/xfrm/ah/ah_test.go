package ah

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"leveret/appliance/wire"
	"leveret/extensions/xfrm/algo"
	"leveret/extensions/xfrm/xfrmtest"
)

func find(t testing.TB, name string) *algo.Algorithm {
	t.Helper()
	for _, a := range algo.All() {
		if a.Name == name {
			return a
		}
	}
	t.Fatalf("no algorithm %s", name)
	return nil
}

var algorithms = []string{"hmac(sha1)", "hmac(sha256)", "hmac(sha384)", "hmac(sha512)", "hmac(md5)", "xcbc(aes)", "rfc4543(gcm(aes))"}

// sa makes an SA with a key that is nothing special.
func sa(t testing.TB, name string, esn bool) *SA {
	t.Helper()
	a := find(t, name)
	key := make([]byte, a.Keys[0]+a.Salt)
	for i := range key {
		key[i] = byte(i)*5 + 3
	}
	s, err := New(Params{SPI: 0x2001, ESN: esn, Auth: a, Key: key, ICV: a.ICVs[0]})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// packet returns an IPv6 packet with these extension headers, whose next header octets are filled in, AH of n octets and
// data, and where AH is.
func packet(n int, data []byte, headers ...[]byte) (pkt []byte, off int) {
	pkt = append([]byte{0x6a, 0xbc, 0xde, 0xf0, 0, 0, 0, 63}, bytes.Repeat([]byte{0x20, 1, 0xd, 0xb8, 0, 1, 2, 3}, 4)...)
	field := 6
	for _, h := range headers {
		pkt[field] = h[0]
		field = len(pkt)
		pkt = append(pkt, h...)
	}
	pkt[field] = wire.AH
	off = len(pkt)
	pkt = append(append(pkt, make([]byte, n)...), data...)
	binary.BigEndian.PutUint16(pkt[4:], uint16(len(pkt)-40))
	return pkt, off
}

// ext returns an extension header of that protocol: its number for packet, its length, and what is in it.
func ext(proto uint8, body ...byte) []byte {
	return append([]byte{proto, uint8((len(body)+2)/8 - 1)}, body...)
}

// TestAlgorithms: what is sealed is opened by a clone of the other end, with each algorithm, and the header is as RFC 4302
// 2.2 and 2.6 have it.
func TestAlgorithms(t *testing.T) {
	for _, name := range algorithms {
		for _, esn := range []bool{false, true} {
			s := sa(t, name, esn)
			peer, err := sa(t, name, esn).Clone()
			if err != nil {
				t.Fatal(err)
			}
			for n := range 70 {
				data := bytes.Repeat([]byte{byte(n)}, n)
				seq := uint64(n + 1)
				if esn {
					seq |= 9 << 32
				}
				pkt, off := packet(s.HeaderLen(), data, ext(wire.HopByHop, 5, 2, 0, 0, 1, 0))
				pkt = append(pkt, "tail"...)[:len(pkt)] // what is behind the packet stays
				if err := s.Seal(pkt, off, 17, seq, seq); err != nil {
					t.Fatal(err)
				}
				if s.HeaderLen()%8 != 0 || pkt[off] != 17 || int(pkt[off+1]) != s.HeaderLen()/4-2 || pkt[off+2] != 0 || pkt[off+3] != 0 {
					t.Fatalf("%s: header %x", name, pkt[off:][:s.HeaderLen()])
				}
				if o, err := peer.Open(pkt, off, seq); err != nil || o != (Opened{17, s.HeaderLen()}) {
					t.Fatalf("%s, esn %v, %d: %+v, %v", name, esn, n, o, err)
				}
				if _, err := peer.Open(pkt, off, seq^1<<32); (err != nil) != esn {
					t.Fatalf("%s, esn %v: another high half: %v", name, esn, err)
				}
				if string(pkt[len(pkt):len(pkt)+4]) != "tail" || pkt[0] != 0x6a || pkt[3] != 0xf0 || pkt[7] != 63 {
					t.Fatalf("%s: octets changed", name)
				}
			}
		}
	}
}

// TestGMAC: RFC 4543 4, put together by hand. The IV is in front of the ICV and covered, the ICV is zero.
func TestGMAC(t *testing.T) {
	for _, esn := range []bool{false, true} {
		key := xfrmtest.Hex(t, "000102030405060708090a0b0c0d0e0fdeadbeef")
		s, err := New(Params{SPI: 5, ESN: esn, Auth: algo.GMAC, Key: key, ICV: 16})
		if err != nil {
			t.Fatal(err)
		}
		pkt, off := packet(40, []byte("data"))
		pkt = append(pkt, 1, 2, 3, 4)[:len(pkt)]
		if err := s.Seal(pkt, off, 17, 0x10, 0x0102030405060708); err != nil {
			t.Fatal(err)
		}
		input := bytes.Clone(pkt)
		copy(input, []byte{0x60, 0, 0, 0})
		input[7] = 0
		want := slices.Concat(xfrmtest.Hex(t, "11080000 00000005 00000010 0102030405060708"), make([]byte, 20))
		copy(input[off:], want)
		if esn {
			input = append(input, 0, 0, 0, 0)
		}
		block, err := aes.NewCipher(key[:16])
		if err != nil {
			t.Fatal(err)
		}
		gcm, err := cipher.NewGCM(block)
		if err != nil {
			t.Fatal(err)
		}
		copy(want[20:], gcm.Seal(nil, xfrmtest.Hex(t, "deadbeef0102030405060708"), nil, input))
		if !bytes.Equal(pkt[off:off+40], want) {
			t.Errorf("esn %v: %x\nwant %x", esn, pkt[off:off+40], want)
		}
		if tight := slices.Clip(bytes.Clone(pkt)); esn {
			if _, err := s.Open(tight[:len(tight):len(tight)], off, 0x10); !errors.Is(err, ErrRoom) || s.TailRoom() != 4 {
				t.Errorf("without tail room: %v", err)
			}
		}
	}
}

// TestOptions: data of options that may change does not count, their type and length do, and so does all of the others.
func TestOptions(t *testing.T) {
	s := sa(t, "hmac(sha256)", false)
	options := []byte{0x3e, 2, 0xaa, 0xbb, 0x1e, 2, 0xcc, 0xdd, 1, 1, 0, 0, 0x3e, 0} // may change, may not, PadN, 2 Pad1, empty
	for _, proto := range []uint8{wire.HopByHop, wire.DestOpts} {
		pkt, off := packet(s.HeaderLen(), []byte("data"), ext(proto, options...))
		if err := s.Seal(pkt, off, 17, 1, 0); err != nil {
			t.Fatal(err)
		}
		for i := range options {
			changed := bytes.Clone(pkt)
			changed[42+i] ^= 0x40 // keeps the types well-formed
			_, err := s.Open(changed, off, 1)
			if mutable := i == 2 || i == 3; (err == nil) != mutable {
				t.Errorf("header %d, octet %d: %v", proto, i, err)
			}
		}
	}
}

// TestRoutingHeader: for every number of addresses and segments left the sender's ICV is right where the packet ends.
func TestRoutingHeader(t *testing.T) {
	s := sa(t, "hmac(sha256)", false)
	for n := range 6 {
		for left := 0; left <= n; left++ {
			body := append([]byte{0, uint8(left), 0, 0, 0, 0}, make([]byte, 16*n)...)
			for i := range 16 * n {
				body[6+i] = byte(i*7 + 1)
			}
			pkt, off := packet(s.HeaderLen(), []byte("data"), ext(wire.Routing, body...), ext(wire.DestOpts, 1, 4, 0, 0, 0, 0))
			sent := bytes.Clone(pkt[:off])
			if err := s.Seal(pkt, off, 17, 1, 0); err != nil || !bytes.Equal(pkt[:off], sent) {
				t.Fatalf("%d of %d: %v", left, n, err)
			}
			if _, err := s.Open(received(pkt, off), off, 1); err != nil {
				t.Errorf("%d of %d: %v", left, n, err)
			}
			if _, err := s.Open(pkt, off, 1); (err == nil) != (left == 0) {
				t.Errorf("%d of %d, not yet arrived: %v", left, n, err)
			}
		}
	}
}

func TestHeadersRefused(t *testing.T) {
	s := sa(t, "hmac(sha256)", false)
	hao := append([]byte{1, 2, 0, 0, 0xc9, 16}, make([]byte, 16)...)
	long := ext(wire.DestOpts, append([]byte{1, 0, 0, 0, 0, 0}, make([]byte, 2040)...)...)
	for _, c := range []struct {
		name       string
		headers    [][]byte
		seal, open error
	}{
		{"none", nil, nil, nil},
		{"Fragment", [][]byte{ext(wire.Fragment, 0, 0, 0, 0, 0, 1)}, ErrHeaders, ErrHeaders},
		{"ESP", [][]byte{ext(wire.ESP, 0, 0, 0, 0, 0, 1)}, ErrHeaders, ErrHeaders},
		{"option over the end", [][]byte{ext(wire.HopByHop, 5, 9, 0, 0, 0, 0)}, ErrHeaders, ErrHeaders},
		{"header over AH", [][]byte{{wire.DestOpts, 1, 1, 4, 0, 0, 0, 0}}, ErrHeaders, ErrHeaders},
		{"half a header", [][]byte{{wire.DestOpts, 0, 1, 4}}, ErrHeaders, ErrHeaders},
		{"segments to go", [][]byte{ext(wire.Routing, append([]byte{2, 1, 0, 0, 0, 0}, make([]byte, 16)...)...)}, nil, ErrHeaders},
		{"too many segments", [][]byte{ext(wire.Routing, append([]byte{0, 2, 0, 0, 0, 0}, make([]byte, 16)...)...)}, ErrHeaders, ErrHeaders},
		{"odd length", [][]byte{ext(wire.Routing, append([]byte{0, 1, 0, 0, 0, 0}, make([]byte, 24)...)...)}, ErrHeaders, ErrHeaders},
		{"type 2 with two", [][]byte{ext(wire.Routing, append([]byte{2, 1, 0, 0, 0, 0}, make([]byte, 32)...)...)}, ErrHeaders, ErrHeaders},
		{"unknown type", [][]byte{ext(wire.Routing, append([]byte{4, 1, 0, 0, 0, 0}, make([]byte, 16)...)...)}, ErrHeaders, ErrHeaders},
		{"unknown type, arrived", [][]byte{ext(wire.Routing, append([]byte{4, 0, 0, 0, 0, 0}, make([]byte, 16)...)...)}, nil, nil},
		{"two home addresses", [][]byte{ext(wire.DestOpts, hao...), ext(wire.DestOpts, hao...)}, ErrHeaders, ErrICV},
		{"short home address", [][]byte{ext(wire.DestOpts, 0xc9, 4, 0, 0, 0, 0)}, ErrHeaders, ErrICV},
		{"too long", [][]byte{long, long, ext(wire.DestOpts, 1, 4, 0, 0, 0, 0)}, ErrHeaders, ErrHeaders},
		{"long", [][]byte{long}, nil, nil},
	} {
		pkt, off := packet(s.HeaderLen(), []byte("data"), c.headers...)
		before := bytes.Clone(pkt[:off])
		if err := s.Seal(pkt, off, 17, 1, 0); !errors.Is(err, c.seal) || !bytes.Equal(pkt[:off], before) {
			t.Errorf("%s: Seal: %v, want %v", c.name, err, c.seal)
		}
		before = bytes.Clone(pkt)
		if _, err := s.Open(pkt, off, 1); !errors.Is(err, c.open) || !bytes.Equal(pkt, before) {
			t.Errorf("%s: Open: %v, want %v", c.name, err, c.open)
		}
	}
}

func TestRefused(t *testing.T) {
	s := sa(t, "hmac(sha256)", false)
	pkt, off := packet(s.HeaderLen(), nil)
	if err := s.Seal(pkt, off, 17, 1<<32, 0); !errors.Is(err, ErrSequence) {
		t.Errorf("33 bits without ESN: %v", err)
	}
	for _, at := range []int{-1, 0, 39, off + 1, 1000} {
		if err := s.Seal(bytes.Clone(pkt), at, 17, 1, 0); !errors.Is(err, ErrShort) {
			t.Errorf("Seal at %d: %v", at, err)
		}
		if _, err := s.Open(bytes.Clone(pkt), at, 1); err == nil {
			t.Errorf("Open at %d", at)
		}
	}
	if err := s.Seal(pkt, off, 17, 1, 0); err != nil {
		t.Fatal(err)
	}
	for _, n := range []byte{0, 5, 7, 8, 10, 255} {
		pkt[off+1] = n
		if _, err := s.Open(pkt, off, 1); !errors.Is(err, ErrLength) {
			t.Errorf("Payload Len %d: %v", n, err)
		}
	}
	sha := find(t, "hmac(sha256)")
	for i, p := range []Params{
		{},
		{Auth: algo.NullDigest},
		{Auth: algo.NullCipher},
		{Auth: find(t, "rfc4106(gcm(aes))"), Key: make([]byte, 20), ICV: 16},
		{Auth: algo.GMAC, Key: make([]byte, 16), ICV: 16},
		{Auth: algo.GMAC, Key: make([]byte, 20), ICV: 12},
		{Auth: sha, Key: make([]byte, 31), ICV: 16},
		{Auth: sha, Key: make([]byte, 32), ICV: 13},
	} {
		if _, err := New(p); err == nil {
			t.Errorf("%d: no error", i)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	for _, name := range algorithms {
		for _, esn := range []bool{false, true} {
			s := sa(t, name, esn)
			hao := append([]byte{1, 2, 0, 0, 0xc9, 16}, make([]byte, 16)...)
			pkt, off := packet(s.HeaderLen(), make([]byte, 1400), ext(wire.DestOpts, hao...))
			pkt = append(pkt, 0, 0, 0, 0)[:len(pkt)]
			got := received(pkt, off)
			got = append(got, 0, 0, 0, 0)[:len(got)]
			seq := uint64(0)
			if a := testing.AllocsPerRun(100, func() {
				seq++
				if err := s.Seal(pkt, off, 17, seq, seq); err != nil {
					t.Fatal(err)
				}
				copy(got[off:], pkt[off:])
				if _, err := s.Open(got, off, seq); err != nil {
					t.Fatal(err)
				}
				got[len(got)-1]++
				if _, err := s.Open(got, off, seq); !errors.Is(err, ErrICV) {
					t.Fatal(err)
				}
			}); a != 0 {
				t.Errorf("%s, esn %v: %v allocations", name, esn, a)
			}
		}
	}
}

// TestClones: clones share nothing that changes; the race detector watches.
func TestClones(t *testing.T) {
	for _, name := range algorithms {
		s := sa(t, name, true)
		var wg sync.WaitGroup
		for w := range uint64(3) {
			clone, err := s.Clone()
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				pkt, off := packet(clone.HeaderLen(), make([]byte, 300))
				pkt = append(pkt, 0, 0, 0, 0)[:len(pkt)]
				for i := range uint64(50) {
					seq := w<<32 | i
					if err := clone.Seal(pkt, off, 17, seq, seq); err != nil {
						t.Error(err)
					}
					if _, err := clone.Open(pkt, off, seq); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				}
			})
		}
		wg.Wait()
	}
}

// FuzzAHOpen: packets that nobody sealed are not opened, and sealed ones only with changes where the ICV does not look; no
// packet comes back changed.
func FuzzAHOpen(f *testing.F) {
	var sas []*SA
	for i, name := range algorithms {
		sas = append(sas, sa(f, name, i%2 == 0))
	}
	for _, v := range vectors(f) {
		pkt := xfrmtest.Hex(f, v.Protected)
		off, _ := where(f, pkt)
		for i := range sas {
			f.Add(uint8(i), false, v.Seq, pkt, uint16(off), uint16(0), uint8(0))
			f.Add(uint8(i), true, v.Seq, pkt[40:off], uint16(0), uint16(9), uint8(1))
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, seal bool, seq uint64, data []byte, at, flipAt uint16, flip uint8) {
		s := sas[int(which)%len(sas)]
		data = append(bytes.Clone(data), 0, 0, 0, 0)[:len(data)]
		if !seal {
			before := bytes.Clone(data)
			if _, err := s.Open(data, int(at), seq); err == nil {
				t.Fatalf("opened %x", data)
			}
			if !bytes.Equal(data, before) {
				t.Fatal("the packet was changed")
			}
			return
		}
		// data are the extension headers, right or wrong
		if len(data) > 5000 {
			return
		}
		pkt, off := packet(s.HeaderLen(), []byte("payload"))
		pkt = slices.Concat(pkt[:off], data, pkt[off:])
		if len(data) != 0 {
			pkt[6] = []byte{wire.HopByHop, wire.DestOpts, wire.Routing}[at%3]
		}
		off += len(data)
		binary.BigEndian.PutUint16(pkt[4:], uint16(len(pkt)-40))
		pkt = append(pkt, 0, 0, 0, 0)[:len(pkt)]
		if !s.esn {
			seq &= 0xffffffff
		}
		before := bytes.Clone(pkt[:off])
		err := s.Seal(pkt, off, 17, seq, seq)
		if !bytes.Equal(pkt[:off], before) {
			t.Fatal("the headers were changed")
		}
		if err != nil {
			return
		}
		pkt = received(pkt, off)
		input := bytes.Clone(pkt)
		if !hide(input, off, false) {
			t.Fatalf("sealed, but %x cannot be opened", pkt)
		}
		pkt[int(flipAt)%len(pkt)] ^= flip
		pkt = append(pkt, 0, 0, 0, 0)[:len(pkt)]
		_, err = s.Open(pkt, off, seq)
		changed := bytes.Clone(pkt)
		same := hide(changed, off, false) && bytes.Equal(changed, input)
		if (err == nil) != same {
			t.Fatalf("octet %d changed by %#x: %v, same for the ICV: %v", int(flipAt)%len(pkt), flip, err, same)
		}
	})
}

func Benchmark(b *testing.B) {
	for _, name := range []string{"hmac(sha256)", "rfc4543(gcm(aes))"} {
		for _, n := range []int{64, 1400} {
			s := sa(b, name, false)
			pkt, off := packet(s.HeaderLen(), make([]byte, n))
			rand.NewChaCha8([32]byte{}).Read(pkt[off+s.HeaderLen():])
			b.Run(fmt.Sprintf("Seal/%s/%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(n))
				for i := range b.N {
					_ = s.Seal(pkt, off, 17, 1, uint64(i))
				}
			})
			b.Run(fmt.Sprintf("Open/%s/%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(n))
				for range b.N {
					if _, err := s.Open(pkt, off, 1); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
