package esp

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"

	"leveret/extensions/xfrm/algo"
	"leveret/extensions/xfrm/xfrmtest"
)

func find(t testing.TB, kind algo.Kind, name string) *algo.Algorithm {
	t.Helper()
	if name == "" {
		return nil
	}
	a, err := algo.Find(kind, name, true)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// suite is a choice of algorithms.
type suite struct {
	aead, enc, auth string
	icv             int
}

func (c suite) String() string { return fmt.Sprintf("%s%s,%s,%d", c.aead, c.enc, c.auth, c.icv*8) }

var suites = []suite{
	{"rfc4106(gcm(aes))", "", "", 16},
	{"rfc4106(gcm(aes))", "", "", 12},
	{"rfc4106(gcm(aes))", "", "", 8},
	{"rfc4309(ccm(aes))", "", "", 16},
	{"rfc4309(ccm(aes))", "", "", 8},
	{"rfc4543(gcm(aes))", "", "", 16},
	{"rfc7539esp(chacha20,poly1305)", "", "", 16},
	{"", "cbc(aes)", "hmac(sha256)", 16},
	{"", "cbc(aes)", "hmac(sha1)", 12},
	{"", "cbc(aes)", "hmac(sha512)", 32},
	{"", "cbc(aes)", "xcbc(aes)", 12},
	{"", "rfc3686(ctr(aes))", "hmac(sha384)", 24},
	{"", "cbc(des3_ede)", "hmac(md5)", 12},
	{"", "ecb(cipher_null)", "hmac(sha256)", 16},
	{"", "cbc(aes)", "digest_null", 0},
}

// sa makes an SA of a suite with keys that are nothing special.
func (c suite) sa(t testing.TB, spi uint32, esn bool) *SA {
	t.Helper()
	p := Params{SPI: spi, ESN: esn, ICV: c.icv, IVKey: bytes.Repeat([]byte{7}, IVKeyLen),
		AEAD: find(t, algo.AEAD, c.aead), Enc: find(t, algo.Enc, c.enc), Auth: find(t, algo.Auth, c.auth)}
	key := func(a *algo.Algorithm, fill byte) []byte {
		b := make([]byte, a.Keys[len(a.Keys)-1]+a.Salt)
		for i := range b {
			b[i] = fill + byte(i)*3
		}
		return b
	}
	if p.AEAD != nil {
		p.Key = key(p.AEAD, 1)
	} else {
		p.Key, p.AuthKey = key(p.Enc, 1), key(p.Auth, 99)
	}
	s, err := New(p)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSuites: what is sealed is opened, for every suite, length and TFC padding, by a clone, and the lengths are
// what was foretold.
func TestSuites(t *testing.T) {
	for _, c := range suites {
		for _, esn := range []bool{false, true} {
			s := c.sa(t, 0x1234, esn)
			peer, err := c.sa(t, 0x1234, esn).Clone()
			if err != nil {
				t.Fatal(err)
			}
			for n := range 70 {
				for _, tfc := range []int{0, 1, 300} {
					seq := uint64(n + 1)
					if esn {
						seq |= 3 << 32
					}
					const off = 40
					trailer := s.TrailerLen(n + tfc)
					pkt := bytes.Repeat([]byte{0xee}, off+s.HeaderLen()+n+tfc+trailer)
					for i := range n {
						pkt[off+s.HeaderLen()+i] = byte(i)
					}
					if trailer > s.MaxTrailerLen() || (n+tfc+trailer-s.icv)%s.block != 0 {
						t.Fatalf("%s: trailer of %d behind %d", c, trailer, n+tfc)
					}
					if err := s.Seal(pkt, off, Payload{n, tfc, 17}, seq, seq); err != nil {
						t.Fatalf("%s: %v", c, err)
					}
					o, err := peer.Open(pkt, off, seq)
					if err != nil || o != (Opened{off + s.HeaderLen(), n + tfc, 17}) {
						t.Fatalf("%s, esn %v, %d+%d: %+v, %v", c, esn, n, tfc, o, err)
					}
					for i, b := range pkt[o.Off : o.Off+o.Len] {
						if i < n && b != byte(i) || i >= n && b != 0 {
							t.Fatalf("%s, %d+%d: octet %d is %d", c, n, tfc, i, b)
						}
					}
					if !bytes.Equal(pkt[:off], bytes.Repeat([]byte{0xee}, off)) {
						t.Fatalf("%s: the octets before ESP changed", c)
					}
				}
			}
			for room := range 300 {
				n := s.MaxPayload(room)
				if n > 0 && s.HeaderLen()+n+s.TrailerLen(n) > room {
					t.Errorf("%s: payload of %d does not fit into %d", c, n, room)
				}
				if m := n + 1; s.HeaderLen()+m+s.TrailerLen(m) <= room {
					t.Errorf("%s: payload of %d would fit into %d, got %d", c, m, room, n)
				}
			}
		}
	}
}

// TestPadding: what is authentic may still be padded wrongly.
func TestPadding(t *testing.T) {
	for _, c := range suites {
		s := c.sa(t, 1, false)
		for _, bad := range []struct {
			name string
			edit func(b []byte) // payload to Next Header
			want error
		}{
			{"right", func([]byte) {}, nil},
			{"longer than the payload", func(b []byte) { b[len(b)-2] = uint8(len(b) - 1) }, ErrPadding},
			{"255", func(b []byte) { b[len(b)-2] = 255 }, ErrPadding},
			{"not 1, 2, 3", func(b []byte) { b[len(b)-3]++ }, ErrPadding},
			{"all padding", func(b []byte) {
				for i := range len(b) - 2 {
					b[i] = uint8(i + 1)
				}
				b[len(b)-2] = uint8(len(b) - 2)
			}, nil},
		} {
			n := 29 // with padding in every suite
			pkt := make([]byte, 40+s.HeaderLen()+n+s.TrailerLen(n))
			if err := s.Seal(pkt, 40, Payload{n, 0, 17}, 1, 1); err != nil {
				t.Fatal(err)
			}
			resealWith(t, s, pkt, bad.edit)
			if _, err := s.Open(pkt, 40, 1); !errors.Is(err, bad.want) {
				t.Errorf("%s: %s: %v, want %v", c, bad.name, err, bad.want)
			}
		}
	}
}

// resealWith opens pkt by hand, edits payload to Next Header and protects it again.
func resealWith(t *testing.T, s *SA, pkt []byte, edit func([]byte)) {
	t.Helper()
	if _, err := s.Open(pkt, 40, 1); err != nil {
		t.Fatal(err)
	}
	esp := pkt[40:]
	end := len(esp) - s.icv
	edit(esp[s.headerLen:end])
	switch {
	case s.gmac:
		s.aead.Seal(esp[end:end], s.nonce[:s.nonceN], nil, esp[:end])
	case s.aead != nil:
		s.aead.Seal(esp[s.headerLen:s.headerLen], s.nonce[:s.nonceN], esp[s.headerLen:end], s.header(esp, 1))
	default:
		s.cipher.Encrypt(esp[fixedLen:s.headerLen], esp[s.headerLen:end])
		copy(esp[end:], s.sum(esp[:end], 1))
	}
}

// TestCBCIV: IVs of a CBC are the secret permutation of the counter and look nothing like it (RFC 3602 3).
func TestCBCIV(t *testing.T) {
	for _, c := range []suite{{"", "cbc(aes)", "hmac(sha256)", 16}, {"", "cbc(des3_ede)", "hmac(md5)", 12}} {
		s := c.sa(t, 1, false)
		seen := map[string]bool{}
		ones := 0
		for i := range uint64(1000) {
			pkt := make([]byte, s.HeaderLen()+10+s.TrailerLen(10))
			if err := s.Seal(pkt, 0, Payload{Len: 10}, 1, i); err != nil {
				t.Fatal(err)
			}
			iv := string(pkt[fixedLen:s.HeaderLen()])
			if seen[iv] {
				t.Fatalf("%s: IV %x twice", c, iv)
			}
			seen[iv] = true
			for _, b := range []byte(iv) {
				for ; b != 0; b &= b - 1 {
					ones++
				}
			}
		}
		if bits := 1000 * s.iv * 8; ones < bits*48/100 || ones > bits*52/100 {
			t.Errorf("%s: %d of %d bits are set", c, ones, bits)
		}
		s.ivs = nil
		if err := s.Seal(make([]byte, s.HeaderLen()+10+s.TrailerLen(10)), 0, Payload{Len: 10}, 1, 1); !errors.Is(err, ErrNoIVKey) {
			t.Errorf("%s without a key for IVs: %v", c, err)
		}
	}
}

func TestSealRefused(t *testing.T) {
	s := suites[0].sa(t, 1, false)
	n := s.HeaderLen() + 10 + s.TrailerLen(10)
	for _, c := range []struct {
		len, off int
		p        Payload
		seq      uint64
		want     error
	}{
		{n + 40, 40, Payload{Len: 10}, 1, nil},
		{n + 40, 40, Payload{Len: 10}, 1 << 32, ErrSequence},
		{n + 39, 40, Payload{Len: 10}, 1, ErrRoom},
		{n + 41, 40, Payload{Len: 10}, 1, ErrRoom},
		{n, 40, Payload{Len: 10}, 1, ErrRoom},
		{0, 40, Payload{Len: 10}, 1, ErrRoom},
		{n + 40, 40, Payload{Len: 14, TFC: -4}, 1, ErrRoom},
		{n + 40, 40, Payload{Len: -1, TFC: 11}, 1, ErrRoom},
		{n - 1, -1, Payload{Len: 10}, 1, ErrRoom},
	} {
		if err := s.Seal(make([]byte, c.len), c.off, c.p, c.seq, 1); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	gmac := suite{"rfc4543(gcm(aes))", "", "", 16}.sa(t, 1, true)
	pkt := make([]byte, gmac.HeaderLen()+10+gmac.TrailerLen(10))
	if err := gmac.Seal(pkt, 0, Payload{Len: 10}, 1, 1); !errors.Is(err, ErrRoom) {
		t.Errorf("GMAC with ESN and nothing in front: %v", err)
	}
	if _, err := gmac.Open(pkt, 0, 1); !errors.Is(err, ErrShort) {
		t.Errorf("GMAC with ESN and nothing in front: %v", err)
	}
}

func TestNewRefused(t *testing.T) {
	gcm, cbc := find(t, algo.AEAD, "rfc4106(gcm(aes))"), find(t, algo.Enc, "cbc(aes)")
	sha, none := find(t, algo.Auth, "hmac(sha256)"), find(t, algo.Auth, "digest_null")
	null := find(t, algo.Enc, "ecb(cipher_null)")
	k := func(n int) []byte { return make([]byte, n) }
	for i, p := range []Params{
		{},
		{AEAD: gcm, Auth: sha, Key: k(20), AuthKey: k(32), ICV: 16},
		{AEAD: gcm, Key: k(16), ICV: 16},
		{AEAD: gcm, Key: k(20), ICV: 15},
		{AEAD: sha, Key: k(32), ICV: 16},
		{Enc: cbc, Key: k(16), ICV: 16},
		{Enc: null, Auth: none},
		{Enc: sha, Auth: cbc, Key: k(32), AuthKey: k(16), ICV: 16},
		{Enc: cbc, Auth: sha, Key: k(17), AuthKey: k(32), ICV: 16},
		{Enc: cbc, Auth: sha, Key: k(16), AuthKey: k(31), ICV: 16},
		{Enc: cbc, Auth: sha, Key: k(16), AuthKey: k(32), ICV: 32},
		{Enc: cbc, Auth: sha, Key: k(16), AuthKey: k(32), ICV: 16, IVKey: k(8)},
	} {
		if _, err := New(p); err == nil {
			t.Errorf("%d: no error", i)
		}
	}
}

func TestInnerLen(t *testing.T) {
	six := append([]byte{0x60, 0, 0, 0, 0, 4}, make([]byte, 38)...)
	four := append([]byte{0x45, 0, 0, 24}, make([]byte, 20)...)
	for _, c := range []struct {
		b    []byte
		nh   uint8
		want int
		ok   bool
	}{
		{six, 41, 44, true},
		{append(bytes.Clone(six), 0, 0, 0), 41, 44, true},
		{six[:43], 41, 0, false},
		{six[:39], 41, 0, false},
		{four, 4, 24, true},
		{append(bytes.Clone(four), 9), 4, 24, true},
		{four[:23], 4, 0, false},
		{four[:19], 4, 0, false},
		{six, 4, 0, false},
		{append(bytes.Clone(four), make([]byte, 30)...), 41, 0, false},
		{append([]byte{0x44}, four[1:]...), 4, 0, false},
		{append([]byte{0x45, 0, 0, 19}, four[4:]...), 4, 0, false},
		{append([]byte{0x47}, four[1:]...), 4, 0, false},
		{six, 17, 0, false},
	} {
		if n, ok := InnerLen(c.b, c.nh); ok != c.ok || ok && n != c.want {
			t.Errorf("%x as %d: %d %v", c.b, c.nh, n, ok)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	for _, c := range suites {
		for _, esn := range []bool{false, true} {
			s := c.sa(t, 1, esn)
			n := 1400
			pkt := make([]byte, 40+s.HeaderLen()+n+s.TrailerLen(n))
			seq := uint64(0)
			if a := testing.AllocsPerRun(100, func() {
				seq++
				if err := s.Seal(pkt, 40, Payload{n, 0, 41}, seq, seq); err != nil {
					t.Fatal(err)
				}
				if _, err := s.Open(pkt, 40, seq); err != nil {
					t.Fatal(err)
				}
				pkt[50]++
				if _, err := s.Open(pkt, 40, seq); err == nil && c.auth != "digest_null" {
					t.Fatal("a changed packet was opened")
				}
			}); a != 0 {
				t.Errorf("%s, esn %v: %v allocations", c, esn, a)
			}
		}
	}
}

// TestClones: clones share nothing that changes; the race detector watches.
func TestClones(t *testing.T) {
	for _, c := range suites {
		s := c.sa(t, 1, true)
		var wg sync.WaitGroup
		for w := range uint64(3) {
			clone, err := s.Clone()
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				const n = 300
				pkt := make([]byte, 40+clone.HeaderLen()+n+clone.TrailerLen(n))
				for i := range uint64(50) {
					seq := w<<32 | i
					if err := clone.Seal(pkt, 40, Payload{n, 0, 41}, seq, seq); err != nil {
						t.Error(err)
					}
					if _, err := clone.Open(pkt, 40, seq); err != nil {
						t.Errorf("%s: %v", c, err)
					}
				}
			})
		}
		wg.Wait()
	}
}

// FuzzESPOpen: octets that nobody sealed are not opened, and a sealed packet only without a change.
func FuzzESPOpen(f *testing.F) {
	for i := range suites {
		f.Add(uint8(i), true, uint64(1), []byte("payload"), uint16(0), uint8(0))
		f.Add(uint8(i), true, uint64(7<<32|5), []byte("payload"), uint16(9), uint8(1))
		f.Add(uint8(i), false, uint64(1), bytes.Repeat([]byte{1}, 64), uint16(0), uint8(0))
	}
	for _, v := range vectors(f) {
		pkt := xfrmtest.Hex(f, v.Protected)
		f.Add(uint8(0), false, v.Seq, pkt[where(f, &v, pkt):], uint16(0), uint8(0))
	}
	type pair struct{ in, out *SA }
	var sas []pair
	for i, c := range suites {
		sas = append(sas, pair{c.sa(f, 1, i%2 == 0), c.sa(f, 1, i%2 == 0)})
	}
	f.Fuzz(func(t *testing.T, which uint8, seal bool, seq uint64, data []byte, at uint16, flip uint8) {
		i := int(which) % len(sas)
		s, keyless := sas[i], suites[i].auth == "digest_null"
		const off = 40
		if !seal {
			pkt := append(make([]byte, off), data...)
			if _, err := s.in.Open(pkt, off, seq); err == nil && !keyless {
				t.Fatalf("%s: opened %x", suites[i], data)
			}
			return
		}
		if !s.out.esn {
			seq &= 0xffffffff
		}
		head := s.out.HeaderLen()
		pkt := make([]byte, off+head+len(data)+s.out.TrailerLen(len(data)))
		copy(pkt[off+head:], data)
		if err := s.out.Seal(pkt, off, Payload{Len: len(data), NextHeader: 41}, seq, seq); err != nil {
			t.Fatal(err)
		}
		pkt[off+int(at)%(len(pkt)-off)] ^= flip
		o, err := s.in.Open(pkt, off, seq)
		switch {
		case flip == 0 && (err != nil || !bytes.Equal(pkt[o.Off:o.Off+o.Len], data)):
			t.Fatalf("%s: %+v, %v", suites[i], o, err)
		case flip != 0 && !errors.Is(err, ErrICV) && !keyless:
			t.Fatalf("%s: changed octet: %v", suites[i], err)
		case err == nil && (o.Off != off+head || o.Len < 0 || o.Off+o.Len > len(pkt)):
			t.Fatalf("%s: %+v of %d", suites[i], o, len(pkt))
		}
	})
}

func Benchmark(b *testing.B) {
	for _, c := range []suite{suites[0], suites[6], suites[7]} {
		for _, n := range []int{64, 1400} {
			s := c.sa(b, 1, false)
			head := s.HeaderLen()
			sealed := make([]byte, 40+head+n+s.TrailerLen(n))
			if err := s.Seal(sealed, 40, Payload{n, 0, 41}, 1, 1); err != nil {
				b.Fatal(err)
			}
			b.Run(fmt.Sprintf("Seal/%s/%d", c, n), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(n))
				pkt := bytes.Clone(sealed)
				for i := range b.N {
					_ = s.Seal(pkt, 40, Payload{n, 0, 41}, 1, uint64(i))
				}
			})
			b.Run(fmt.Sprintf("Open/%s/%d", c, n), func(b *testing.B) { // with a copy of the packet
				b.ReportAllocs()
				b.SetBytes(int64(n))
				pkt := make([]byte, len(sealed))
				for range b.N {
					copy(pkt, sealed)
					if _, err := s.Open(pkt, 40, 1); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
