package appliance

import (
	"sync"

	"leveret/appliance/module"
)

// mailQueueLen bounds the messages of one link and kind that wait for a module.
const mailQueueLen = 256

// mailbox holds what the packet path has for one module. Every link and [module.Class] has a queue
// of its own, and they take turns: a flood of one sort of message on one link fills that queue and
// takes its share of the module's time, and leaves the rest alone.
type mailbox struct {
	mu     sync.Mutex
	queues []*mailQueue // by link and class, made when first used
	turns  []*mailQueue // those with something in them, the next one first
}

// mailQueue is a ring.
type mailQueue struct {
	events [mailQueueLen]module.Event
	head   int
	n      int
}

// put adds a message; false when its queue is full.
func (b *mailbox) put(ev module.Event) bool {
	i := ev.Link*int(module.NumClasses) + int(ev.Class)
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.queues) <= i {
		b.queues = append(b.queues, nil)
	}
	q := b.queues[i]
	if q == nil {
		q = &mailQueue{}
		b.queues[i] = q
	}
	if q.n == mailQueueLen {
		return false
	}
	q.events[(q.head+q.n)%mailQueueLen] = ev
	if q.n++; q.n == 1 {
		b.turns = append(b.turns, q)
	}
	return true
}

// take fills evs with messages, one of each queue in turn, and returns how many there were.
func (b *mailbox) take(evs []module.Event) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	for n := range evs {
		if len(b.turns) == 0 {
			return n
		}
		q := b.turns[0]
		evs[n] = q.events[q.head]
		q.events[q.head] = module.Event{}
		q.head = (q.head + 1) % mailQueueLen
		copy(b.turns, b.turns[1:])
		if q.n--; q.n > 0 {
			b.turns[len(b.turns)-1] = q
		} else {
			b.turns = b.turns[:len(b.turns)-1]
		}
	}
	return len(evs)
}
