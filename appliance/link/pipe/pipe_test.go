package pipe

import (
	"testing"

	"leveret/appliance/link"
	"leveret/appliance/packet"
)

func TestPairCarriesFramesAndSegmentation(t *testing.T) {
	a, b := New(Options{MTU: 1500, Ethernet: true}, Options{MTU: 1500, Ethernet: true})
	p := packet.New([]byte("a frame"))
	p.GSO = packet.GSO{Type: packet.GSOTCP6, Size: 1440}
	if n := a.NewTx().Tx([]*packet.Packet{p}); n != 1 {
		t.Fatalf("sent %d", n)
	}
	q := packet.NewBuffer(2000)
	n, err := b.Rx(0).Rx([]*packet.Packet{q})
	if n != 1 || err != nil || string(q.Bytes()) != "a frame" || q.GSO != p.GSO {
		t.Errorf("%d %v %q %+v", n, err, q.Bytes(), q.GSO)
	}
}

func TestFullQueueRefusesAndDoesNotAllocate(t *testing.T) {
	a, b := New(Options{}, Options{})
	tx, rx := a.NewTx(), b.Rx(0)
	ps := []*packet.Packet{packet.New(make([]byte, 100))}
	got := []*packet.Packet{packet.NewBuffer(200)}
	for range queueLen {
		tx.Tx(ps)
	}
	if n := tx.Tx(ps); n != 0 {
		t.Error("a full queue took a frame")
	}
	if n := testing.AllocsPerRun(100, func() { rx.Rx(got); tx.Tx(ps) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestCloseWakesTheReceiverAndDropsTheCarrier(t *testing.T) {
	a, b := New(Options{MTU: 1500}, Options{MTU: 1500})
	seen := make(chan link.State, 1)
	b.Watch(func(s link.State) { seen <- s })
	done := make(chan bool)
	go func() { done <- a.Rx(0).Wait() }()
	a.Close()
	if <-done {
		t.Error("Wait on a closed port is true")
	}
	if s := <-seen; s.Carrier || s.MTU != 1500 {
		t.Errorf("the other end saw %+v", s)
	}
}

func TestWake(t *testing.T) {
	e := NewEnd(Options{})
	e.Rx(0).Wake()
	if !e.Rx(0).Wait() {
		t.Error("Wait after Wake is false on an open port")
	}
}
