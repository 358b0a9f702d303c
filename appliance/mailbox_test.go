package appliance

import (
	"testing"

	"leveret/appliance/module"
)

// TestMailboxTakesTurns: a link that floods one class fills that queue and delays nobody else by
// more than a turn.
func TestMailboxTakesTurns(t *testing.T) {
	var b mailbox
	flood := module.Event{Kind: 1, Link: 3, Class: module.ClassSolicitation}
	accepted := 0
	for range 10 * mailQueueLen {
		if b.put(flood) {
			accepted++
		}
	}
	if accepted != mailQueueLen {
		t.Errorf("%d messages of one queue were taken, want %d", accepted, mailQueueLen)
	}
	others := []module.Event{
		{Kind: 2, Link: 3, Class: module.ClassAdvertisement}, {Kind: 3, Link: 1, Class: module.ClassSolicitation}, {Kind: 4, Link: 0, Class: module.ClassOwn},
	}
	for _, ev := range others {
		if !b.put(ev) {
			t.Errorf("%+v was refused", ev)
		}
	}
	evs := make([]module.Event, 8)
	if n := b.take(evs); n != 8 || evs[0].Kind != 1 || evs[1].Kind != 2 || evs[2].Kind != 3 || evs[3].Kind != 4 || evs[4].Kind != 1 {
		t.Errorf("took %d: %+v", n, evs)
	}
	got := 8
	for n := b.take(evs); n > 0; n = b.take(evs) {
		got += n
	}
	if got != mailQueueLen+len(others) {
		t.Errorf("took %d in all", got)
	}
	if !b.put(flood) || b.take(evs) != 1 {
		t.Error("an emptied queue is not used again")
	}
}

// TestMailboxKeepsOrder of one queue.
func TestMailboxKeepsOrder(t *testing.T) {
	var b mailbox
	evs := make([]module.Event, 5)
	next, sent := 0, 0
	for range 300 {
		for range 3 {
			if b.put(module.Event{Kind: sent, Link: 1}) {
				sent++
			}
		}
		for _, ev := range evs[:b.take(evs[:2])] {
			if ev.Kind != next {
				t.Fatalf("got %d, want %d", ev.Kind, next)
			}
			next++
		}
	}
}
