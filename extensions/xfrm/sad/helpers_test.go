package sad

import (
	"net/netip"
	"testing"
	"time"

	"leveret/appliance/clock"
	"leveret/extensions/xfrm/selector"
)

// matches is the plain reading of a selector.
func matches(s *selector.Selector, f *selector.Flow) bool {
	in := func(p netip.Prefix, a [16]byte) bool { return !p.IsValid() || p.Contains(netip.AddrFrom16(a).Unmap()) }
	return in(s.Src, f.Src) && in(s.Dst, f.Dst) && (s.Proto == 0 || s.Proto == f.Proto) && (s.Link == 0 || s.Link == f.Link) &&
		(s.SPortMask|s.DPortMask == 0 || !f.Opaque) &&
		f.SPort&s.SPortMask == s.SPort&s.SPortMask && f.DPort&s.DPortMask == s.DPort&s.DPortMask
}

// fixedWindow is a window that does not move.
type fixedWindow uint64

func (w fixedWindow) Position() (uint64, []uint32) { return uint64(w), nil }

const t0 = clock.Instant(time.Second)

func newDB() *DB {
	return New(Options{Matches: matches, NewWindow: func(s *State) Window { return fixedWindow(s.ReplaySeq) }, Seed: 7})
}

var addr = netip.MustParseAddr

func secret(n int) Secret {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i + 1)
	}
	return NewSecret(b)
}

// esp is an SA of fd00::1 to fd00::2.
func esp(spi uint32) *State {
	return &State{ID: ID{addr("fd00::2"), spi, ESP}, SAddr: addr("fd00::1"), Mode: ModeTunnel, AEAD: Algo{"rfc4106(gcm(aes))", secret(20), 128}}
}

func hao(src, coa string) *State {
	return &State{ID: ID{addr("fd00::2"), 0, DSTOPTS}, SAddr: addr(src), Mode: ModeRO, CoA: addr(coa)}
}

// with returns a changed copy.
func with(s *State, change func(*State)) *State {
	c := *s
	change(&c)
	return &c
}

func mustAdd(t testing.TB, db *DB, now clock.Instant, s *State) *State {
	t.Helper()
	added, _, err := db.Add(now, s)
	if err != nil {
		t.Fatal(err)
	}
	return added
}

func flow(src, dst string) *selector.Flow {
	return &selector.Flow{Src: addr(src).As16(), Dst: addr(dst).As16(), Proto: protoUDP, SPort: 1, DPort: 2}
}

func mustErr(t *testing.T, err error, text string) {
	t.Helper()
	switch {
	case text == "" && err != nil:
		t.Errorf("refused: %v", err)
	case text != "" && err == nil:
		t.Errorf("taken, want %q", text)
	case text != "" && err.Error() != text:
		t.Errorf("got  %q\nwant %q", err, text)
	}
}

func noLink(name string) (int, bool) { return 1, name == "lo" }
