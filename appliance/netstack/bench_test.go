package netstack

import (
	"io"
	"testing"

	"leveret/appliance/clock"
)

// BenchmarkTCP is one connection's bulk transfer through two host stacks, superpackets passing
// whole; b.SetBytes gives octets of payload per second.
func BenchmarkTCP(b *testing.B) {
	x, y := newPair(b, clock.NewReal())
	client, server := connectPair(b, x, y, at(addrB, 80), SocketOptions{})
	const chunk = 64 << 10
	done := make(chan error, 1)
	b.SetBytes(chunk)
	b.ReportAllocs()
	b.ResetTimer()
	go func() {
		_, err := io.CopyN(io.Discard, struct{ io.Reader }{server}, int64(b.N)*chunk)
		done <- err
	}()
	data := make([]byte, chunk)
	for range b.N {
		if _, err := client.Write(data); err != nil {
			b.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

// BenchmarkUDPDeliver is one datagram from the path to its reader.
func BenchmarkUDPDeliver(b *testing.B) {
	x, _ := newPair(b, clock.NewReal())
	c := listenUDP(b, x, SocketOptions{Local: at(addrA, 9)})
	p := udpPacket(b, func([]byte) {})
	buf := make([]byte, 100)
	b.ReportAllocs()
	for b.Loop() {
		x.Deliver(p)
		if _, _, err := c.ReadMsg(buf, nil); err != nil {
			b.Fatal(err)
		}
	}
}
