package rr

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"leveret/appliance/clock"
	"leveret/extensions/mip6/wire"
)

type vectors struct {
	RR struct {
		Kcn         string
		Nonces      map[string]string
		Home        netip.Addr `json:"home_address"`
		CareOf      netip.Addr `json:"careof_address"`
		CN          netip.Addr
		HomeToken   string `json:"home_keygen_token"`
		CareOfToken string `json:"careof_keygen_token"`
		Kbm         string
		KbmDeletion string `json:"kbm_deletion"`
	} `json:"return_routability"`
	Messages []struct {
		Name, Packet string
		Fields       struct {
			Authenticator string
			Input         string `json:"authenticator_input"`
			Key           string `json:"mn_ha_key"`
			Data          string `json:"auth_data"`
		}
	} `json:"mobility_header"`
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func load(t testing.TB) (v vectors) {
	t.Helper()
	raw, err := os.ReadFile("testdata/rr.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

const second = clock.Instant(time.Second)

// fixed gives the octets of the vectors: an index that the next one of is 5, then keys and nonces.
func fixed(t testing.TB, v vectors) func([]byte) {
	next := [][]byte{{0, 4}, unhex(t, v.RR.Kcn), unhex(t, v.RR.Nonces["5"]), unhex(t, v.RR.Kcn), unhex(t, v.RR.Nonces["6"])}
	return func(b []byte) {
		if len(b) != len(next[0]) {
			t.Fatalf("asked for %d octets, not %d", len(b), len(next[0]))
		}
		copy(b, next[0])
		next = next[1:]
	}
}

// TestVectors: tokens and keys octet for octet.
func TestVectors(t *testing.T) {
	v := load(t)
	n := New(fixed(t, v))
	hi, home := n.Home(second, v.RR.Home)
	ci, careOf := n.CareOf(31*second, v.RR.CareOf)
	if hi != 5 || hex.EncodeToString(home[:]) != v.RR.HomeToken {
		t.Errorf("home keygen token %d %x, want %s", hi, home[:], v.RR.HomeToken)
	}
	if ci != 6 || hex.EncodeToString(careOf[:]) != v.RR.CareOfToken {
		t.Errorf("care-of keygen token %d %x, want %s", ci, careOf[:], v.RR.CareOfToken)
	}
	both, del := BindingKey(home, careOf), DeletionKey(home)
	if hex.EncodeToString(both[:]) != v.RR.Kbm || hex.EncodeToString(del[:]) != v.RR.KbmDeletion {
		t.Errorf("Kbm %x and %x", both[:], del[:])
	}
	c := Claim{Home: v.RR.Home, CareOf: v.RR.CareOf, HomeIndex: 5, CareOfIndex: 6}
	if k, s := n.Key(32*second, c); k != both || s != wire.Accepted {
		t.Errorf("Kbm made again: %x, %v", k[:], s)
	}
	c.Delete, c.CareOfIndex = true, 999
	if k, s := n.Key(32*second, c); k != del || s != wire.Accepted {
		t.Errorf("Kbm of a deletion made again: %x, %v", k[:], s)
	}
}

// TestMessages: what authenticates the messages of the vectors.
func TestMessages(t *testing.T) {
	v := load(t)
	home, careOf := Token(unhex(t, v.RR.HomeToken)), Token(unhex(t, v.RR.CareOfToken))
	signed, shared := 0, 0
	for _, x := range v.Messages {
		pkt := unhex(t, x.Packet)
		at := strings.Index(x.Packet, "3b03050")
		if at < 0 {
			at = strings.Index(x.Packet, "3b03060")
		}
		if x.Fields.Key != "" {
			at = strings.Index(x.Packet, "3b05050")
		}
		src, dst := v.RR.Home, netip.AddrFrom16([16]byte(pkt[24:]))
		if strings.HasPrefix(x.Name, "BA") {
			src, dst = v.RR.CN, v.RR.Home
		}
		m, f := wire.Parse(pkt, at/2, src, dst)
		if !f.OK() {
			t.Fatalf("%s: %v", x.Name, f.Reason)
		}
		if x.Fields.Key != "" {
			shared++
			k := NewSharedKey([SharedKeyLen]byte(unhex(t, x.Fields.Key)))
			a, ok := m.Authentication(wire.AuthHome)
			if got := k.SignHome(v.RR.CareOf, v.RR.Home, a.Covered); !ok || hex.EncodeToString(got[:]) != x.Fields.Data {
				t.Errorf("%s: %x, want %s", x.Name, got, x.Fields.Data)
			}
			if !k.VerifyHome(v.RR.CareOf, v.RR.Home, a) || k.VerifyHome(v.RR.Home, v.RR.Home, a) {
				t.Errorf("%s: not verified, or for another address", x.Name)
			}
			a.Data = a.Data[:8]
			if k.VerifyHome(v.RR.CareOf, v.RR.Home, a) {
				t.Errorf("%s: verified by eight octets", x.Name)
			}
			continue
		}
		signed++
		k := BindingKey(home, careOf)
		if strings.Contains(x.Name, "de-registration") {
			k = DeletionKey(home)
		}
		co := netip.AddrFrom16([16]byte(unhex(t, x.Fields.Input[:32])))
		mh := append([]byte(nil), m.Bytes()...)
		if !Verify(k, co, v.RR.CN, mh) {
			t.Errorf("%s: not verified", x.Name)
		}
		for _, i := range []int{0, 3, 6, 11, len(mh) - 13, len(mh) - 1} { // all but the checksum counts
			mh[i] ^= 0x10
			if Verify(k, co, v.RR.CN, mh) {
				t.Errorf("%s: octet %d can be changed", x.Name, i)
			}
			mh[i] ^= 0x10
		}
		mh[4] ^= 0xff
		if !Verify(k, co, v.RR.CN, mh) {
			t.Errorf("%s: the checksum counts", x.Name)
		}
		if Verify(k, v.RR.CN, co, mh) || Verify(Key{}, co, v.RR.CN, mh) {
			t.Errorf("%s: addresses or key do not count", x.Name)
		}
		clear(mh[len(mh)-wire.AuthenticatorLen:])
		Sign(k, co, v.RR.CN, mh)
		if got := hex.EncodeToString(mh[len(mh)-wire.AuthenticatorLen:]); got != x.Fields.Authenticator {
			t.Errorf("%s: %s, want %s", x.Name, got, x.Fields.Authenticator)
		}
	}
	if signed != 4 || shared != 1 {
		t.Errorf("%d and %d messages", signed, shared)
	}
	if short := make([]byte, 16); Verify(Key{}, v.RR.CN, v.RR.CN, short) {
		t.Error("a message without authenticator is verified")
	}
	Sign(Key{}, v.RR.CN, v.RR.CN, nil)
}

func seeded(seed uint64) func([]byte) {
	r := rand.New(rand.NewPCG(seed, seed))
	return func(b []byte) {
		for i := range b {
			b[i] = byte(r.Uint32())
		}
	}
}

// TestLifetimes: a token is good for 210 s at least and 240 s at most (RFC 6275 5.2.7), whenever it was given.
func TestLifetimes(t *testing.T) {
	home, careOf := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8:1::1")
	n := New(seeded(1))
	for i, given := range []time.Duration{0, time.Second, 29 * time.Second, 30*time.Second - 1} {
		start := clock.Instant(time.Hour) * clock.Instant(2*i+1)
		n.Home(start, home) // makes the nonce
		at := start.Add(given)
		hi, ht := n.Home(at, home)
		ci, ct := n.CareOf(at, careOf)
		c := Claim{Home: home, CareOf: careOf, HomeIndex: hi, CareOfIndex: ci}
		for after, want := range map[time.Duration]wire.Status{
			0: wire.Accepted, MaxTokenLifetime: wire.Accepted, MaxNonceLifetime - given - 1: wire.Accepted,
			MaxNonceLifetime - given: wire.ExpiredNonces, time.Hour: wire.ExpiredNonces,
		} {
			k, s := n.Key(at.Add(after), c)
			if s != want || s.OK() && k != BindingKey(ht, ct) {
				t.Errorf("given at %v, used after %v: %v, want %v", given, after, s, want)
			}
		}
		if got := n.Known(at, hi); got != start.Add(MaxNonceLifetime) {
			t.Errorf("known until %v", got)
		}
		if got := n.Known(at, hi+1); got != at {
			t.Errorf("an unknown one is known until %v", got)
		}
	}
}

// TestExpiredNonces: which of the statuses (RFC 6275 9.5.1).
func TestExpiredNonces(t *testing.T) {
	home, careOf := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8:1::1")
	n := New(seeded(2))
	old, _ := n.Home(second, home)
	young, _ := n.CareOf(200*second, careOf)
	for _, c := range []struct {
		home, careOf uint16
		del          bool
		want         wire.Status
	}{
		{young, young, false, wire.Accepted}, {old, young, false, wire.ExpiredHomeNonce}, {young, old, false, wire.ExpiredCareOfNonce},
		{old, old, false, wire.ExpiredNonces}, {young, old, true, wire.Accepted}, {old, young, true, wire.ExpiredHomeNonce},
		{old, old, true, wire.ExpiredHomeNonce}, {young + 1, young, false, wire.ExpiredHomeNonce},
	} {
		if _, got := n.Key(250*second, Claim{home, careOf, c.home, c.careOf, c.del}); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// TestRenewal: at most eight nonces are kept, the indices count up and around, keys change with them, what is
// too old is gone.
func TestRenewal(t *testing.T) {
	home := netip.MustParseAddr("2001:db8::1")
	first := true
	r := seeded(3)
	n := New(func(b []byte) {
		r(b)
		if first { // begin just before the indices start again
			b[0], b[1], first = 0xff, 0xfd, false
		}
	})
	if len(n.List(second)) != 0 || n.Deadline() != clock.Never {
		t.Error("nonces before anybody has asked")
	}
	var last uint16 = 0xfffd
	tokens := map[Token]bool{}
	now := second
	for i := range 50 {
		index, token := n.Home(now, home)
		if index != last+1 {
			t.Fatalf("%d: index %d after %d", i, index, last)
		}
		if again, same := n.Home(now.Add(NonceInterval-1), home); again != index || same != token {
			t.Fatalf("%d: index %d within the interval", i, again)
		}
		if tokens[token] {
			t.Fatalf("%d: the same token", i)
		}
		if list := n.List(now); len(list) != min(i+1, 8) || list[0].Index != index || list[0].Since != now {
			t.Fatalf("%d: %+v", i, list)
		}
		tokens[token] = true
		last = index
		now = now.Add(NonceInterval)
	}
	for range kept {
		n.Expire(n.Deadline())
	}
	if n.Deadline() != clock.Never || len(n.List(now)) != 0 {
		t.Error("something is left")
	}
	for i := range n.ring {
		if n.ring[i].kcn != [keyLen]byte{} || n.ring[i].value != [nonceLen]byte{} {
			t.Error("a key is left of a nonce that expired")
		}
	}
	if index, _ := n.Home(now.Add(time.Hour), home); index != last+1 {
		t.Errorf("index %d after %d", index, last)
	}
}

// TestStateless: whoever asks, one nonce answers, and the same question gets the same token.
func TestStateless(t *testing.T) {
	n := New(seeded(4))
	a := [16]byte{0: 0x20}
	before, first := n.Home(second, netip.AddrFrom16(a))
	for i := range uint64(100_000) {
		binary.BigEndian.PutUint64(a[8:], i+1)
		n.Home(second, netip.AddrFrom16(a))
		n.CareOf(second, netip.AddrFrom16(a))
	}
	binary.BigEndian.PutUint64(a[8:], 0)
	if after, again := n.Home(second, netip.AddrFrom16(a)); len(n.List(second)) != 1 || after != before || again != first {
		t.Errorf("%d nonces, index %d, then %d", len(n.List(second)), before, after)
	}
}

// TestHidden: no verb shows a key.
func TestHidden(t *testing.T) {
	k, tok, s := Key{1: 0xab}, Token{1: 0xab}, NewSharedKey([16]byte{1: 0xab})
	for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%d", "%s", "%q"} {
		for _, v := range []any{k, tok, s, []any{k}} {
			if got := fmt.Sprintf(verb, v); strings.Contains(strings.ToLower(got), "ab") || strings.Contains(got, "171") {
				t.Errorf("%s shows %s", verb, got)
			}
		}
	}
}

// TestTimestamp: RFC 4285 6.
func TestTimestamp(t *testing.T) {
	const now = 0xe5000000_80000000
	for _, c := range []struct {
		name     string
		ts, last uint64
		ok       bool
		answer   uint64
	}{
		{"the same time", now, 0, true, now},
		{"7 s ahead", now + 7<<32, 0, true, now + 7<<32},
		{"more than 7 s ahead", now + 7<<32 + 1, 0, false, now&^0xffffffff | (now+1)&0xffffffff},
		{"7 s behind", now - 7<<32, 0, true, now - 7<<32},
		{"more than 7 s behind", now - 7<<32 - 1, 0, false, 0xe5000000_7fffffff},
		{"seen before", now, now, false, now},
		{"before the last", now - 1, now, false, 0xe5000000_7fffffff},
		{"after the last", now + 1, now, true, now + 1},
		{"never set", 0, 0, false, 0xe5000000_00000000},
	} {
		if ok, answer := Timestamp(c.ts, c.last, now, DefaultTimestampWindow); ok != c.ok || answer != c.answer {
			t.Errorf("%s: %v, %x; want %v, %x", c.name, ok, answer, c.ok, c.answer)
		}
	}
}

// FuzzVerify: whatever the message, there is no panic, and what was signed is verified.
func FuzzVerify(f *testing.F) {
	f.Add(make([]byte, 40))
	f.Add([]byte{})
	a, b := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8:1::1")
	f.Fuzz(func(t *testing.T, mh []byte) {
		k := Key{1, 2, 3}
		Verify(k, a, b, mh)
		if len(mh) < minSigned {
			return
		}
		mh = append([]byte(nil), mh...)
		Sign(k, a, b, mh)
		if !Verify(k, a, b, mh) || Verify(k, b, a, mh) {
			t.Fatalf("%x", mh)
		}
	})
}
