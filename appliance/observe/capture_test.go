package observe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/packet"
)

// echo is an ICMPv6 echo request from 2001:db8::1 to 2001:db8::2 with a right checksum.
var echo = []byte{
	0x60, 0, 0, 0, 0, 8, 58, 64,
	0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
	0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,
	128, 0, 0x24, 0x46, 0, 1, 0, 1,
}

var echoFrame = append([]byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd}, echo...)

func testOptions(clk clock.Clock) WriteOptions {
	links := module.NewLinks([]*module.Link{{Index: 1, Name: "lan0", Ethernet: true}, {Index: 2, Name: "tun0"}})
	return WriteOptions{Clock: clk, Links: func() *module.Links { return links }}
}

// stopped returns a context that has ended: writers drain what is there and return.
func stopped() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

type readPacket struct {
	intf    string
	link    layers.LinkType
	at      time.Time
	data    []byte
	length  int
	comment string
	out     bool
	lost    uint64
}

// readAll reads a pcapng file back.
func readAll(t *testing.T, r io.Reader) []readPacket {
	t.Helper()
	ng, err := pcapgo.NewNgReader(r, pcapgo.NgReaderOptions{WantMixedLinkType: true})
	if err != nil {
		t.Fatal(err)
	}
	var ps []readPacket
	for {
		data, ci, opts, err := ng.ReadPacketDataWithOptions()
		if errors.Is(err, io.EOF) {
			return ps
		}
		if err != nil {
			t.Fatal(err)
		}
		intf, err := ng.Interface(ci.InterfaceIndex)
		if err != nil {
			t.Fatal(err)
		}
		p := readPacket{intf: intf.Name, link: intf.LinkType, at: ci.Timestamp, data: data, length: ci.Length, out: opts.Flags.Direction == pcapgo.NgEpbFlagDirectionOutbound}
		if len(opts.Comments) > 0 {
			p.comment = opts.Comments[0]
		}
		if opts.DropCount != nil {
			p.lost = *opts.DropCount
		}
		ps = append(ps, p)
	}
}

func TestStreamWritesEachPointToItsInterface(t *testing.T) {
	clk := clock.NewManual()
	var taps Taps
	if taps.Active() {
		t.Error("active without a tap")
	}
	tap, err := taps.Add(TapOptions{})
	if err != nil {
		t.Fatal(err)
	}
	at := clk.Now().Add(1500 * time.Millisecond)
	reason := packet.NoRoute
	taps.Offer(&Frame{Point: Ingress, Link: 1, Ethernet: true, Data: echoFrame, At: at})
	taps.Offer(&Frame{Point: Dropped, Link: 1, Data: echo, Reason: reason.String(), Ref: reason.Ref(), At: at})
	taps.Offer(&Frame{Point: Dropped, Data: echo, Reason: "policy", Outbound: true, At: at})
	taps.Offer(&Frame{Point: Egress, Link: 2, Data: echo, Outbound: true, At: at})
	taps.Offer(&Frame{Point: Egress, Link: 9, Data: echo, Outbound: true, At: at}) // came up while capturing
	var out bytes.Buffer
	if err := Stream(stopped(), tap, testOptions(clk), &out); err != nil {
		t.Fatal(err)
	}
	got := readAll(t, &out)
	want := []readPacket{
		{intf: "lan0/ingress", link: layers.LinkTypeEthernet, data: echoFrame},
		{intf: "lan0/drop", link: layers.LinkTypeIPv6, data: echo, comment: "drop: no_route (" + reason.Ref() + ")"},
		{intf: "host/drop", link: layers.LinkTypeIPv6, data: echo, comment: "drop: policy", out: true},
		{intf: "tun0/egress", link: layers.LinkTypeIPv6, data: echo, out: true},
		{intf: "link9/egress", link: layers.LinkTypeIPv6, data: echo, out: true},
	}
	if len(got) != len(want) {
		t.Fatalf("%d packets, want %d", len(got), len(want))
	}
	wall := clk.Wall().Add(1500 * time.Millisecond)
	for i, w := range want {
		g := got[i]
		if g.intf != w.intf || g.link != w.link || !bytes.Equal(g.data, w.data) || g.length != len(w.data) || g.comment != w.comment || g.out != w.out || !g.at.Equal(wall) {
			t.Errorf("packet %d: got %+v, want %+v at %s", i, g, w, wall)
		}
	}
	tap.Close()
	if taps.Active() {
		t.Error("active after the last tap closed")
	}
}

func TestTapTakesOnlyWhatItWants(t *testing.T) {
	clk := clock.NewManual()
	var taps Taps
	tap, err := taps.Add(TapOptions{Link: 1, Points: []Point{Egress}, Snaplen: 64})
	if err != nil {
		t.Fatal(err)
	}
	long := append(bytes.Clone(echoFrame), make([]byte, 100)...)
	for _, f := range []Frame{{Point: Egress, Link: 1, Ethernet: true, Data: long}, {Point: Egress, Link: 2, Data: echo}, {Point: Ingress, Link: 1, Ethernet: true, Data: echoFrame}, {Point: Dropped, Link: 1, Data: echo}} {
		taps.Offer(&f)
	}
	var out bytes.Buffer
	if err := Stream(stopped(), tap, testOptions(clk), &out); err != nil {
		t.Fatal(err)
	}
	got := readAll(t, &out)
	if len(got) != 1 || got[0].intf != "lan0/egress" || len(got[0].data) != 64 || got[0].length != len(long) {
		t.Errorf("got %+v", got)
	}
	if _, err := taps.Add(TapOptions{Snaplen: 1}); err == nil {
		t.Error("snaplen 1 was taken")
	}
}

func TestFullRingCountsAndTheFileTells(t *testing.T) {
	clk := clock.NewManual()
	var taps Taps
	tap, err := taps.Add(TapOptions{Snaplen: MaxSnaplen})
	if err != nil {
		t.Fatal(err)
	}
	n := len(tap.ring.slots)
	for range n + 7 {
		taps.Offer(&Frame{Point: Egress, Link: 2, Data: echo})
	}
	if tap.Lost() != 7 {
		t.Errorf("lost %d, want 7", tap.Lost())
	}
	var out bytes.Buffer
	sec, err := newSection(tap, testOptions(clk), &out)
	if err != nil {
		t.Fatal(err)
	}
	sec.lost = 0 // as if the section had begun before
	if err := drain(stopped(), tap, sec.write, sec.flush, sec.end); err != nil {
		t.Fatal(err)
	}
	got := readAll(t, &out)
	if len(got) != n || got[0].lost != 7 || got[1].lost != 0 {
		t.Errorf("%d packets, first says %d lost, second %d", len(got), got[0].lost, got[1].lost)
	}
}

func TestOfferDoesNotAllocate(t *testing.T) {
	var taps Taps
	f := &Frame{Point: Dropped, Link: 1, Data: echo, Reason: packet.NoRoute.String(), Ref: packet.NoRoute.Ref()}
	if n := testing.AllocsPerRun(100, func() { taps.Offer(f) }); n != 0 {
		t.Errorf("%v allocations without a tap", n)
	}
	if _, err := taps.Add(TapOptions{}); err != nil {
		t.Fatal(err)
	}
	// More than the ring holds: both ways out of put are taken.
	if n := testing.AllocsPerRun(maxSlots, func() { taps.Offer(f) }); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
}

// Many workers offer while one writer drains: every frame arrives once, whole, in its worker's
// order.
func TestRingUnderManySenders(t *testing.T) {
	const workers, each = 4, 5000
	r := newRing(64, 16)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				b := []byte(fmt.Sprintf("%d %d", w, i))
				for !r.put(&Frame{Link: w, Data: b}) {
				}
			}
		})
	}
	next := make([]int, workers)
	for got := 0; got < workers*each; {
		s := r.get()
		if s == nil {
			continue
		}
		w := s.meta.Link
		if want := fmt.Sprintf("%d %d", w, next[w]); string(s.data[:s.n]) != want {
			t.Fatalf("got %q, want %q", s.data[:s.n], want)
		}
		next[w]++
		got++
		r.done(s)
	}
	wg.Wait()
	if r.get() != nil {
		t.Error("one too many")
	}
}

func TestTapsAreBounded(t *testing.T) {
	var taps Taps
	for range MaxTaps {
		if _, err := taps.Add(TapOptions{Snaplen: 64}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := taps.Add(TapOptions{}); !errors.Is(err, ErrTooManyTaps) {
		t.Errorf("err = %v", err)
	}
}

func TestFileRotatesWithinItsBound(t *testing.T) {
	clk := clock.NewManual()
	var taps Taps
	tap, err := taps.Add(TapOptions{})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "drops.pcapng")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- File(ctx, tap, testOptions(clk), path, MinFileBytes) }()
	frame := make([]byte, 1500)
	copy(frame, echo)
	const frames = 1000 // a megabyte and a half
	for range frames {
		for !tap.ring.put(&Frame{Point: Egress, Link: 2, Data: frame}) {
		}
		select {
		case tap.ready <- struct{}{}:
		default:
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	var octets int64
	var packets int
	for _, name := range []string{path, path + ".1"} {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		fi, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		octets += fi.Size()
		n := len(readAll(t, f))
		if n == 0 {
			t.Errorf("%s has no packets", name)
		}
		packets += n
	}
	if octets > MinFileBytes || packets == 0 || packets >= frames {
		t.Errorf("%d octets and %d packets are kept", octets, packets)
	}
	if err := File(ctx, tap, testOptions(clk), path, 1000); err == nil {
		t.Error("a bound of 1000 octets was taken")
	}
}

// Somebody else's reader must understand the file.
func TestTsharkReadsACapture(t *testing.T) {
	tshark, err := exec.LookPath("tshark")
	switch {
	case err != nil && os.Geteuid() == 0:
		t.Fatal("tshark is not installed: run `make deps`")
	case err != nil:
		t.Skip("tshark is not installed: run `make deps` as root")
	}
	clk := clock.NewManual()
	var taps Taps
	tap, err := taps.Add(TapOptions{})
	if err != nil {
		t.Fatal(err)
	}
	taps.Offer(&Frame{Point: Ingress, Link: 1, Ethernet: true, Data: echoFrame, At: clk.Now()})
	taps.Offer(&Frame{Point: Dropped, Link: 1, Data: echo, Reason: "no_route", Ref: "RFC 4443 3.1", At: clk.Now()})
	path := filepath.Join(t.TempDir(), "c.pcapng")
	if err := File(stopped(), tap, testOptions(clk), path, 0); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(tshark, "-r", path, "-o", "ipv6.use_geoip:FALSE", "-T", "fields", "-E", "separator=|",
		"-e", "frame.interface_name", "-e", "frame.encap_type", "-e", "icmpv6.type", "-e", "icmpv6.checksum.status", "-e", "frame.packet_flags_direction", "-e", "frame.comment", "-e", "_ws.malformed").Output()
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSpace(string(out)), "\n")
	want := []string{"lan0/ingress|1|128|1|0x00000001||", "lan0/drop|130|128|1|0x00000001|drop: no_route (RFC 4443 3.1)|"}
	if !slices.Equal(got, want) {
		t.Errorf("tshark shows\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
