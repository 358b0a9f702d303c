package xfrm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sync"
	"testing"

	"leveret/appliance/module"
	"leveret/appliance/module/moduletest"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

// waiter is a node whose packets wait, with a policy for 2001:db8:7::/48 and no SA.
func waiter(t testing.TB) *bench {
	b := newBench(t)
	c := sections(nil, []PolicyConfig{protect("7")})
	c.Sections["ipsec.larval_drop"] = moduletest.Section[bool]{Value: false}
	b.apply(c)
	b.told()
	return b
}

// loop takes what workers have left.
func (b *bench) loop() {
	for len(b.Mailbox) > 0 {
		b.m.Receive(b.now(), <-b.Mailbox)
	}
}

// number is a packet with a number in it; in: the link it came in by, 0 = none.
func number(n, in int) *packet.Packet {
	p := clearPacket(100)
	p.In = in
	binary.BigEndian.PutUint16(p.Bytes()[48:], uint16(n))
	return p
}

const answer = "ip xfrm state add src 2001:db8:f::1 dst 2001:db8:f::2 proto esp spi 0x100 reqid 1 mode tunnel aead rfc4106(gcm(aes)) " + gcmKey + " 128"

// TestPacketsWait: until the state comes, which lets them go in their order, as they were; who asks for it is asked once.
func TestPacketsWait(t *testing.T) {
	b := waiter(t)
	for i := range 3 {
		if v := b.m.transform(number(i, i%2)); v != packet.Consumed {
			t.Fatalf("packet %d: %s", i, v)
		}
		b.loop()
	}
	if got := fmt.Sprint(b.told()); got != "[acquire 0x0]" || len(b.Resumed) != 0 {
		t.Errorf("%s, %d let go", got, len(b.Resumed))
	}
	b.run(answer)
	if len(b.Resumed) != 3 || b.m.queue.octets != 0 || len(b.m.queue.by) != 0 {
		t.Fatalf("%d let go, %d octets left", len(b.Resumed), b.m.queue.octets)
	}
	for i, p := range b.Resumed {
		if want := number(i, i%2); !bytes.Equal(p.Bytes(), want.Bytes()) || p.In != want.In {
			t.Errorf("packet %d: in %d, % x", i, p.In, p.Bytes())
		}
		p.Out = 1
		if v := b.m.transform(roomy(p)); v != packet.Forward {
			t.Errorf("packet %d: %s", i, v)
		}
	}
}

// TestPacketsWaitInVain: when the time is over they are dropped, and who sent them here is told; of too many the oldest
// go; without the key none waits.
func TestPacketsWaitInVain(t *testing.T) {
	b := waiter(t)
	for i := range queueEach + 4 {
		b.m.transform(number(i, i%2))
	}
	b.loop()
	if got := b.Counters["XfrmOutNoQueueSpace"].Value(); got != 4 || len(b.Dropped) != 4 {
		t.Errorf("%d of 4 dropped", got)
	}
	for range 2 {
		b.Manual.AdvanceTo(b.m.Deadline())
		b.m.Tick(b.now())
	}
	if got := b.Counters["XfrmOutNoStates"].Value(); got != queueEach || len(b.Resumed) != 0 || len(b.Errors) != queueEach/2 ||
		b.Errors[0] != (module.ICMPError{Type: wire.TypeDestinationUnreachable, Code: wire.CodeAddressUnreachable}) || b.m.queue.octets != 0 {
		t.Errorf("%d of %d dropped, errors %v", got, queueEach, b.Errors)
	}
	// In all, they have as many octets as are allowed; the last of one wait are the ones that go.
	b = newBench(t)
	var policies []PolicyConfig
	for i := range 8 {
		p := protect(fmt.Sprint(i))
		p.Templates[0].ReqID = uint32(i + 1)
		policies = append(policies, p)
	}
	c := sections(nil, policies)
	c.Sections["ipsec.larval_drop"] = moduletest.Section[bool]{Value: false}
	b.apply(c)
	const each = 60000
	consumed, dropped := 0, 0
	for i := range 8 * queueEach {
		p := clearPacket(each)
		p.Bytes()[29] = byte(i / queueEach)
		switch v := b.m.transform(p); v {
		case packet.Consumed:
			consumed++
		case packet.Drop(packet.XfrmOutNoQueueSpace):
			dropped++
		default:
			t.Fatalf("%s", v)
		}
	}
	held := 0
	for _, list := range b.m.queue.by {
		held += len(list)
	}
	if q := &b.m.queue; q.octets > queueOctets || q.octets < queueOctets-each-48 || held*(each+48) != q.octets || consumed-len(b.Dropped) != held {
		t.Errorf("%d octets of %d packets, %d consumed, %d refused, %d given up", q.octets, held, consumed, dropped, len(b.Dropped))
	}
	b = newBench(t)
	b.apply(sections(nil, []PolicyConfig{protect("7")}))
	if v := b.m.transform(number(0, 0)); v != packet.Drop(packet.XfrmOutNoStates) {
		t.Errorf("by default: %s", v)
	}
}

// TestNoPacketIsLeft: whenever the state comes, no packet stays behind.
func TestNoPacketIsLeft(t *testing.T) {
	for range 50 {
		b := waiter(t)
		var sent sync.WaitGroup
		passed := make(chan packet.Verdict, queueEach)
		for w := range 4 {
			sent.Go(func() {
				for i := range queueEach / 4 {
					passed <- b.m.transform(roomy(number(i, w%2)))
				}
			})
		}
		b.m.Receive(b.now(), <-b.Mailbox)
		b.run(answer)
		sent.Wait()
		b.loop()
		n := len(b.Resumed)
		close(passed)
		for v := range passed {
			if v == packet.Forward {
				n++
			}
		}
		if n != queueEach || b.m.queue.octets != 0 {
			t.Fatalf("%d of %d, %d octets left", n, queueEach, b.m.queue.octets)
		}
	}
}
