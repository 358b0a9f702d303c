package ndp

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
)

func addrN(i int) (a [16]byte) {
	a[0], a[1] = 0xfe, 0x80
	binary.BigEndian.PutUint32(a[12:], uint32(i))
	return a
}

// TestTableAgreesWithAMap: whatever is put and removed, in whatever order.
func TestTableAgreesWithAMap(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	tab, want := newTable(), map[int]byte{}
	for range 50000 {
		i, v := r.IntN(2000), byte(r.IntN(256))
		if r.IntN(3) == 0 {
			tab.remove(netip.AddrFrom16(addrN(i)))
			delete(want, i)
			continue
		}
		tab.put(&neighbor{addr: addrN(i), lla: [6]byte{v}})
		want[i] = v
	}
	for i := range 2000 {
		a := addrN(i)
		n := tab.lookup(&a)
		v, ok := want[i]
		if (n != nil) != ok || ok && n.lla[0] != v {
			t.Fatalf("entry %d: %v, want %v %v", i, n, v, ok)
		}
	}
	if tab.live != len(want) {
		t.Errorf("live %d, want %d", tab.live, len(want))
	}
	a := addrN(1)
	if n := testing.AllocsPerRun(100, func() { tab.lookup(&a) }); n != 0 {
		t.Errorf("%v allocations a lookup", n)
	}
}
