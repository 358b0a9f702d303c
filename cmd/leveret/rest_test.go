package main

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"leveret/appliance/link"
	"leveret/appliance/link/pipe"
	"leveret/appliance/packet"
	"leveret/extensions/ndp/ndpapi"
	"leveret/extensions/ndp/ndwire"
)

// TestTenThousandNeighborsAtRest: the whole program, with all its threads, takes less than 1 % of a CPU while
// it knows ten thousand neighbors and nothing happens.
func TestTenThousandNeighborsAtRest(t *testing.T) {
	p := pipe.NewEnd(pipe.Options{MAC: [6]byte{2, 0, 0, 0, 0, 1}, MTU: 1500, Ethernet: true})
	a, stop := wholeRouter(t, `version: 1
links: [{name: lan0, kind: pipe, addresses: ["2001:db8:1::1/64"], dad: {transmits: 0}, nud: {max_neighbors: 20000}}]
`, map[string]link.Port{"lan0": p})
	defer stop()
	us := netip.MustParseAddr("2001:db8:1::1")
	const count = 10_000
	meet := func() {
		for i := range count {
			src := netip.MustParseAddr("2001:db8:1::").As16()
			src[8] = 1
			binary.BigEndian.PutUint32(src[12:], uint32(i))
			mac := [6]byte{2, 1, 0, 0, byte(i >> 8), byte(i)}
			f := append([]byte{2, 0, 0, 0, 0, 1}, mac[:]...)
			f = ndwire.AppendNS(append(f, 0x86, 0xdd), ndwire.NS{Src: netip.AddrFrom16(src), Dst: us, Target: us, SourceLLA: &mac})
			for !p.Inject(f, packet.GSO{}) {
				runtime.Gosched()
			}
			if i%100 == 99 { // no faster than they are taken in: a queue that is full drops
				time.Sleep(2 * time.Millisecond)
			}
		}
	}
	known := func() int {
		v, err := a.Command("GET", "/v1/neigh", map[string]string{"to": "2001:db8:1::/64"}, "")
		if err != nil {
			t.Fatal(err)
		}
		return len(v.([]ndpapi.Neigh))
	}
	for range 20 {
		if meet(); known() == count {
			break
		}
	}
	if n := known(); n != count {
		t.Fatalf("%d neighbors", n)
	}
	runtime.GC()
	used := func() time.Duration {
		var r unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
			t.Fatal(err)
		}
		return time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	const rest = 5 * time.Second
	time.Sleep(time.Second)
	before := used()
	time.Sleep(rest)
	if spent := used() - before; spent > rest/100 {
		t.Errorf("%s of CPU in %s at rest", spent, rest)
	} else {
		t.Logf("%s of CPU in %s at rest", spent, rest)
	}
}
