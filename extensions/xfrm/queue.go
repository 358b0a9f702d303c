package xfrm

import (
	"sync"

	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/xfrm/sad"
	"leveret/extensions/xfrm/selector"
)

// queue has the packets that wait for an SA (ipsec.larval_drop false, which is Linux's xfrm_larval_drop 0), by what they
// wait for. It is bounded: the oldest of the same wait goes first.
type queue struct {
	mu     sync.Mutex
	by     map[sad.Template][]waiting
	octets int
}

// waiting is one of them.
type waiting struct {
	p    *packet.Packet
	flow selector.Flow
}

const (
	queueEach   = 16      // packets for one SA
	queueOctets = 4 << 20 // in all
)

// wait keeps a packet until there is a state for the template. On the worker that has the packet.
func (m *Module) wait(t *sad.Template, p *packet.Packet, f *selector.Flow) packet.Verdict {
	q := &m.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	list := q.by[*t]
	for len(list) > 0 && (len(list) >= queueEach || q.octets+p.Len() > queueOctets) {
		q.octets -= list[0].p.Len()
		m.giveUp(list[0].p, packet.XfrmOutNoQueueSpace)
		list[0] = waiting{}
		list = list[1:]
	}
	verdict := packet.Consumed
	if q.octets+p.Len() > queueOctets {
		verdict = m.drop(packet.XfrmOutNoQueueSpace)
	} else {
		q.octets += p.Len()
		list = append(list, waiting{p.Clone(), *f})
	}
	if q.by == nil {
		q.by = map[sad.Template][]waiting{}
	}
	if q.by[*t] = list; len(list) == 0 {
		delete(q.by, *t)
	}
	m.inbox.mu.Lock()
	m.nudge() // the state may have come meanwhile
	m.inbox.mu.Unlock()
	return verdict
}

func (m *Module) giveUp(p *packet.Packet, r packet.Reason) {
	m.drop(r)
	m.host.Drop(p, r)
}

// settle sends what the states that there are now let go, and gives up what nothing is waited for any more: who has sent
// it here is told. Loop only.
func (m *Module) settle() {
	q := &m.queue
	v := m.view.Load()
	var over []*packet.Packet
	q.mu.Lock()
	for t, list := range q.by {
		rest := list[:0]
		for _, w := range list {
			s, acquiring := v.sad.ForTemplate(&t, &w.flow)
			switch {
			case s == nil && acquiring:
				rest = append(rest, w)
				continue
			case s != nil:
				m.host.Resume(w.p)
			default:
				over = append(over, w.p)
			}
			q.octets -= w.p.Len()
		}
		if clear(list[len(rest):]); len(rest) == 0 {
			delete(q.by, t)
		} else {
			q.by[t] = rest
		}
	}
	q.mu.Unlock()
	for _, p := range over {
		if p.In == 0 {
			m.host.SendError(p, module.ICMPError{Type: wire.TypeDestinationUnreachable, Code: wire.CodeAddressUnreachable})
		}
		m.giveUp(p, packet.XfrmOutNoStates)
	}
}
