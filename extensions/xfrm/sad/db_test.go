package sad

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"leveret/extensions/xfrm/algo"
	"leveret/extensions/xfrm/proto"
)

func TestCheck(t *testing.T) {
	cbc := func(s *State) {
		s.AEAD, s.Enc, s.Auth = Algo{}, Algo{"cbc(aes)", secret(16), 0}, Algo{"hmac(sha256)", secret(32), 0}
	}
	ah := func(s *State) { s.Proto, s.AEAD, s.Auth = proto.AH, Algo{}, Algo{"hmac(sha1)", secret(20), 96} }
	for _, c := range []struct {
		name   string
		change func(*State)
		want   string
	}{
		{"as it is", func(*State) {}, ""},
		{"enc and auth", cbc, ""},
		{"null", func(s *State) { cbc(s); s.Enc = Algo{Name: algo.NullCipher.Name} }, ""},
		{"ah", ah, ""},
		{"no dst", func(s *State) { s.DAddr = netip.Addr{} }, "Invalid argument: src and dst are required"},
		{"v4 dst", func(s *State) { s.DAddr = addr("10.0.0.1") }, "Address family not supported by protocol: states have IPv6 addresses"},
		{"mapped src", func(s *State) { s.SAddr = addr("::ffff:10.0.0.1") }, "Address family not supported by protocol: states have IPv6 addresses"},
		{"zone", func(s *State) { s.SAddr = addr("fe80::1%lo") }, "Address family not supported by protocol: states have IPv6 addresses"},
		{"spi 255", func(s *State) { s.SPI = 255 }, "Invalid argument: spi 0 to 255 are reserved (RFC 4303 2.1)"},
		{"spi 256", func(s *State) { s.SPI = 256 }, ""},
		{"ah spi 0", func(s *State) { ah(s); s.SPI = 0 }, "Invalid argument: spi 0 to 255 are reserved (RFC 4303 2.1)"},
		{"window", func(s *State) { s.ReplayWindow = 4097 }, "Invalid argument: replay-window 4097 is above 4096"},
		{"mark", func(s *State) { s.Mark = Mark{0x10, 0xf} }, "Invalid argument: mark 0x10 has bits outside its mask 0xf"},
		{"esp ro", func(s *State) { s.Mode = proto.RO }, "Invalid argument: mode ro with proto esp"},
		{"ah beet", func(s *State) { ah(s); s.Mode = proto.BEET }, "Invalid argument: mode beet with proto ah"},
		{"protocol", func(s *State) { s.Proto = 4 }, "Invalid argument: protocol 4 has no states"},
		{"aead and auth", func(s *State) { s.Auth = Algo{"hmac(sha1)", secret(20), 96} }, "Invalid argument: aead is both enc and auth"},
		{"nothing", func(s *State) { s.AEAD = Algo{} }, "Invalid argument: esp needs aead, or enc and auth"},
		{"null alone", func(s *State) { s.AEAD, s.Enc = Algo{}, Algo{Name: algo.NullCipher.Name} }, "Invalid argument: esp without integrity (RFC 8221 4): enc needs auth"},
		{"key length", func(s *State) { s.AEAD.Key = secret(16) }, "Invalid argument: aead rfc4106(gcm(aes)): the key has 16 octets, allowed: 20, 28, 36, of which the last 4 are the salt"},
		{"unknown", func(s *State) { s.AEAD.Name = "x" }, "Requested AEAD algorithm not found."},
		{"mac", func(s *State) { ah(s); s.Auth.Name = "hmac(md5)" }, "Requested AUTH algorithm not found.: auth hmac(md5): is not used unless allow_legacy is set (RFC 8221)"},
		{"trunc", func(s *State) { ah(s); s.Auth.Bits = 128 }, "Invalid argument: auth hmac(sha1): the ICV has 128 bits, allowed: 96"},
		{"ah with enc", func(s *State) { cbc(s); s.Proto = proto.AH }, "Invalid argument: ah has auth and no other algorithm"},
		{"ah encap", func(s *State) { ah(s); s.Encap.Type = ESPInUDP }, "AH is not compatible with encapsulation."},
		{"tcp", func(s *State) { s.Encap.Type = ESPInTCP }, "Unsupported encapsulation type for ESP."},
		{"tfc", func(s *State) { s.TFCPad, s.Mode = 9, proto.Transport }, "TFC padding can only be used in tunnel mode."},
		{"coa", func(s *State) { s.CoA = addr("fd00::9") }, "Invalid argument: coa with proto esp"},
		{"esn", func(s *State) { s.Flags = ESN }, "Invalid argument: esn is for esp and ah with a replay-window"},
		{"seq", func(s *State) { s.ReplayOSeq = 1 << 32 }, "Invalid argument: sequence numbers have 32 bits without esn"},
		{"selective", func(s *State) { s.SrcSelective, s.SAddr = true, addr("::") }, "Invalid argument: src_selective is for esp and ah with a src"},
		{"families", func(s *State) {
			s.Sel.Src, s.Sel.Dst = netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")
		}, "Invalid argument: sel: src: 10.0.0.0/8 and dst fd00::/8 are not of the same family"},
		{"v4 inside", func(s *State) { s.Sel.Src = netip.MustParsePrefix("10.0.0.0/8") }, ""},
		{"v4 transport", func(s *State) { s.Sel.Src, s.Mode = netip.MustParsePrefix("10.0.0.0/8"), proto.Transport },
			"Only tunnel modes can accommodate a change of family."},
	} {
		t.Run(c.name, func(t *testing.T) { mustErr(t, with(esp(0x1000), c.change).Check(false), c.want) })
	}
	for _, c := range []struct {
		name   string
		change func(*State)
		want   string
	}{
		{"as it is", func(*State) {}, ""},
		{"any coa", func(s *State) { s.CoA = addr("::") }, ""},
		{"to any", func(s *State) { s.DAddr = addr("::") }, ""},
		{"spi", func(s *State) { s.SPI = 5 }, "Invalid argument: hao has no spi"},
		{"mode", func(s *State) { s.Mode = proto.Tunnel }, "Invalid argument: mode tunnel with proto hao"},
		{"in_trigger", func(s *State) { s.Mode = proto.InTrigger }, "Unsupported mode."},
		{"no coa", func(s *State) { s.CoA = netip.Addr{} }, "Invalid argument: hao needs a coa"},
		{"algorithm", func(s *State) { s.AEAD = Algo{"rfc4106(gcm(aes))", secret(20), 128} }, "Invalid argument: hao has no algorithms"},
		{"window", func(s *State) { s.ReplayWindow = 32 }, "Invalid argument: hao has no sequence numbers"},
	} {
		t.Run("hao "+c.name, func(t *testing.T) { mustErr(t, with(hao("fd00::1", "fd00::9"), c.change).Check(false), c.want) })
	}
	s := with(esp(0x1000), cbc)
	if err := s.Check(false); err != nil || s.Auth.Bits != 128 {
		t.Errorf("hmac(sha256) is cut to %d bits (RFC 4868 2.3: 128), %v", s.Auth.Bits, err)
	}
}

// TestKeys: the key of a state is (daddr, spi, proto, mark); of those without an SPI, and of those that are
// selective by source, the source too. As Linux 6.1 answered, but for the source.
func TestKeys(t *testing.T) {
	marked := func(v uint32) *State {
		return with(esp(0x1001), func(s *State) { s.Mark = Mark{v, 0xffffffff} })
	}
	from := func(s *State, src string) *State { return with(s, func(s *State) { s.SAddr = addr(src) }) }
	selective := func(s *State) *State { return with(s, func(s *State) { s.SrcSelective = true }) }
	db := newDB()
	for i, c := range []struct {
		s    *State
		want error
	}{
		{marked(5), nil},
		{marked(6), nil},
		{marked(5), ErrExist},
		{esp(0x1001), nil}, // its mark 0 is neither of theirs
		{marked(7), ErrExist},
		{from(esp(0x1001), "fd00::9"), ErrExist},
		{from(selective(esp(0x1001)), "fd00::9"), nil},
		{from(selective(esp(0x1001)), "fd00::8"), nil},
		{from(selective(esp(0x1001)), "fd00::8"), ErrExist},
		{with(esp(0x1001), func(s *State) { s.DAddr = addr("fd00::3") }), nil},
		{with(esp(0x1001), func(s *State) { s.Proto, s.AEAD, s.Auth = proto.AH, Algo{}, Algo{"hmac(sha1)", secret(20), 96} }), nil},
		{hao("fd00::1", "fd00::9"), nil},
		{hao("fd00::5", "fd00::9"), nil},
		{hao("fd00::5", "fd00::8"), ErrExist},
		{hao("::", "fd00::9"), nil},
	} {
		if _, _, err := db.Add(t0, c.s); !errors.Is(err, c.want) {
			t.Errorf("%d: %v, want %v", i, err, c.want)
		}
	}
	var list []uint32
	for _, s := range db.List() {
		list = append(list, s.Mark.Value)
	}
	if want := []uint32{0, 0, 0, 0, 0, 0, 0, 0, 6, 5}; !slices.Equal(list, want) {
		t.Errorf("listed %v, want the newest first", list)
	}

	id := ID{addr("fd00::2"), 0x1001, proto.ESP}
	none, here := netip.Addr{}, addr("fd00::1")
	for i, c := range []struct {
		id    ID
		saddr netip.Addr
		mark  Mark
		want  error
	}{
		{id, none, Mark{}, nil},
		{id, here, Mark{}, nil},
		{id, addr("fd00::7"), Mark{}, ErrNotFound},
		{id, addr("fd00::9"), Mark{}, nil},
		{id, here, Mark{6, 0xffffffff}, nil},
		{ID{addr("fd00::2"), 0x1002, proto.ESP}, none, Mark{}, ErrNotFound},
		{ID{addr("fd00::2"), 0, proto.HAO}, none, Mark{}, nil},
		{ID{addr("fd00::2"), 0, proto.Route2}, none, Mark{}, ErrNotFound},
		{ID{addr("fd00::2"), 0, proto.HAO}, addr("fd00::5"), Mark{}, nil},
		{ID{addr("fd00::2"), 0, proto.HAO}, addr("fd00::6"), Mark{}, ErrNotFound},
	} {
		if s, err := db.Get(c.id, c.saddr, c.mark); !errors.Is(err, c.want) || err == nil && c.saddr.IsValid() && s.SAddr != c.saddr ||
			err == nil && c.id.Proto == proto.HAO && !c.saddr.IsValid() && !s.SAddr.IsUnspecified() {
			t.Errorf("get %d: %v, want %v", i, err, c.want)
		}
	}
	for i, want := range []error{nil, nil, ErrNotFound} { // mark 6 takes that one, then the one without a mark
		if s, err := db.Delete(id, here, Mark{6, 0xffffffff}); !errors.Is(err, want) || err == nil && !s.Live.Dead() {
			t.Errorf("delete %d: %v, want %v", i, err, want)
		}
	}
	if gone := db.Flush(proto.HAO); len(gone) != 3 || db.Count() != 5 {
		t.Errorf("flush: %d gone, %d left", len(gone), db.Count())
	}
	if gone := db.Flush(0); len(gone) != 5 || db.Count() != 0 || len(db.List()) != 0 || db.Snapshot().Len() != 0 {
		t.Errorf("flush: %d gone, %d left", len(gone), db.Count())
	}
}

func TestUpdate(t *testing.T) {
	db := newDB()
	old := mustAdd(t, db, t0, with(esp(0x1001), func(s *State) {
		s.ReplayWindow, s.ReplaySeq, s.ReplayOSeq, s.ReqID, s.Life.SoftPackets = 64, 100, 50, 3, 1
	}))
	before := db.Snapshot()
	if n, _ := old.NextSeq(); n != 51 {
		t.Errorf("the first number is %d", n)
	}
	old.Live.Count(t0, 100)
	db.Reached(old, old.Before(1), nil)
	if !old.Live.Dying() {
		t.Error("not dying")
	}
	change := func(f func(*State)) *State {
		s := with(esp(0x1001), func(s *State) { s.ReplayWindow = 64 })
		f(s)
		return s
	}
	for _, c := range []struct {
		name string
		s    *State
		want string
	}{
		{"other spi", change(func(s *State) { s.SPI = 0x1002 }), "No such process"},
		{"other mark", change(func(s *State) { s.Mark = Mark{1, 1} }), "No such process"},
		{"other src", change(func(s *State) { s.SAddr = addr("fd00::7") }), "No such process"},
		{"selective", change(func(s *State) { s.SrcSelective = true }), "No such process"},
		{"window", change(func(s *State) { s.ReplayWindow = 32 }), "Invalid argument: replay-window and esn are not changed by an update"},
		{"esn", change(func(s *State) { s.Flags = ESN }), "Invalid argument: replay-window and esn are not changed by an update"},
		{"oseq", change(func(s *State) { s.ReplayOSeq = 1 }), "Invalid argument: sequence numbers are not changed by an update"},
		{"key", change(func(s *State) { s.AEAD.Key = secret(36) }), "Invalid argument: algorithms and keys are not changed by an update"},
		{"nonsense", change(func(s *State) { s.AEAD.Name = "" }), "Invalid argument: esp needs aead, or enc and auth"},
	} {
		_, err := db.Update(t0, c.s)
		mustErr(t, err, c.want)
	}
	if db.Snapshot() != before {
		t.Error("what was refused has changed something")
	}
	next, err := db.Update(t0, change(func(s *State) { s.SAddr, s.ReqID = addr("::"), 4 }))
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := next.NextSeq(); n != 52 || next.Live != old.Live || next.SAddr != addr("fd00::1") || next.Live.Dying() {
		t.Errorf("number %d, source %s, dying %t after the update", n, next.SAddr, next.Live.Dying())
	}
	after := db.Snapshot()
	by := func(sn *Snapshot, reqid uint32) *State {
		s, _ := sn.ForTemplate(&Template{DAddr: old.DAddr, SAddr: old.SAddr, Proto: proto.ESP, Mode: proto.Tunnel, ReqID: reqid}, flow("fd01::1", "fd02::1"))
		return s
	}
	if after.Genid() == before.Genid() || by(before, 3) != old || by(after, 3) != nil || by(after, 4) != next || by(before, 4) != nil {
		t.Error("snapshots do not find the state by its template")
	}
	if after.ByID(old.DAddr, old.SAddr, 0x1001, proto.ESP, 0) != next || before.ByID(old.DAddr, old.SAddr, 0x1001, proto.ESP, 0) != old {
		t.Error("snapshots do not find the state by its SPI")
	}
	if len(db.List()) != 1 || db.List()[0] != next {
		t.Error("not listed once")
	}
}

func TestBounds(t *testing.T) {
	db := New(Options{MaxStates: 2})
	mustAdd(t, db, t0, esp(0x1001))
	mustAdd(t, db, t0, esp(0x1002))
	_, _, err := db.Add(t0, esp(0x1003))
	mustErr(t, err, ErrFull.Error())
	db.Flush(0)
	mustAdd(t, db, t0, esp(0x1003))
}

func TestEqual(t *testing.T) {
	db := newDB()
	a := mustAdd(t, db, t0, esp(0x1001))
	if !a.Equal(esp(0x1001)) || a.Equal(esp(0x1002)) || a.Equal(with(esp(0x1001), func(s *State) { s.AEAD.Key = secret(36) })) {
		t.Error("Equal")
	}
}

// TestLegacy: what RFC 8221 has for MUST NOT is taken where it was asked for, and nothing without integrity
// in place of it.
func TestLegacy(t *testing.T) {
	db := newDB()
	s := with(esp(0x1000), func(s *State) {
		s.AEAD = Algo{}
		s.Enc, s.Auth = Algo{Name: "cbc(des3_ede)", Key: secret(24)}, Algo{Name: "hmac(md5)", Key: secret(16)}
	})
	_, _, err := db.Add(t0, s)
	mustErr(t, err, "Requested CRYPT algorithm not found.: enc cbc(des3_ede): is not used unless allow_legacy is set (RFC 8221)")
	db.AllowLegacy(true)
	if added := mustAdd(t, db, t0, s); added.Auth.Bits != 96 {
		t.Errorf("the ICV has %d bits", added.Auth.Bits)
	}
	null := Algo{Name: "digest_null"}
	_, _, err = db.Add(t0, with(s, func(s *State) { s.SPI, s.Enc, s.Auth = 0x1001, Algo{Name: "cipher_null"}, null }))
	mustErr(t, err, "Invalid argument: enc ecb(cipher_null) with auth digest_null: neither encryption nor integrity (RFC 4303 3.2)")
	_, _, err = db.Add(t0, with(s, func(s *State) {
		s.ID, s.Mode, s.Enc, s.Auth = ID{addr2, 0x1002, proto.AH}, proto.Transport, Algo{}, null
	}))
	mustErr(t, err, "Invalid argument: ah without integrity (RFC 4302 3.2)")
}
