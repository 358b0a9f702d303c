package sad

import (
	"net/netip"
	"testing"
	"time"

	"leveret/appliance/clock"
	"leveret/appliance/wire"
	"leveret/extensions/xfrm/proto"
	"leveret/extensions/xfrm/selector"
)

// fixedWindow is a window that does not move.
type fixedWindow uint64

func (w fixedWindow) Position() (uint64, []uint32) { return uint64(w), nil }

const t0 = clock.Instant(time.Second)

func newDB() *DB {
	return New(Options{NewWork: func(s *State) (Work, error) { return fixedWindow(s.ReplaySeq), nil }, Seed: 7})
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
	return &State{ID: ID{addr("fd00::2"), spi, proto.ESP}, SAddr: addr("fd00::1"), Mode: proto.Tunnel, AEAD: Algo{"rfc4106(gcm(aes))", secret(20), 128}}
}

func hao(src, coa string) *State {
	return &State{ID: ID{addr("fd00::2"), 0, proto.HAO}, SAddr: addr(src), Mode: proto.RO, CoA: addr(coa)}
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
	return &selector.Flow{Src: addr(src).As16(), Dst: addr(dst).As16(), IPv4: addr(dst).Is4(), Proto: wire.UDP, SPort: 1, DPort: 2}
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

// outside is a world with one link and the files of readKey.
var outside = Outside{Link: noLink, Key: readKey}
