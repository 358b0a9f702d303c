package xfrm

import (
	"encoding/binary"
	"net/netip"
	"time"

	"leveret/appliance/clock"
	"leveret/extensions/xfrm/sad"
	"leveret/extensions/xfrm/xfrmapi"
)

// mapping is an SA in UDP whose packets have begun to come from elsewhere: a NAT has given the peer another address or
// port (RFC 7296 2.23, XFRM_MSG_MAPPING). Key managers are told; nothing changes by itself.
type mapping struct {
	state    *sad.State
	old, now udpEnd
}

// mappingEvery is how often it is told of one SA. Who can change the addresses of packets on their way has no more to say.
const mappingEvery = time.Second

// cameFrom looks at where an authentic packet of an SA in UDP has come from. What was not told, as it was too early or too
// much, the next packet tells. w is locked.
func (m *Module) cameFrom(now clock.Instant, s *sad.State, w *work, b []byte, udpAt int) {
	from := udpEnd{[16]byte(b[8:24]), binary.BigEndian.Uint16(b[udpAt:])}
	was := w.peer
	if was == (udpEnd{}) {
		if was = (udpEnd{s.SAddr.As16(), s.Encap.SPort}); s.SAddr.IsUnspecified() { // it is from wherever the first comes
			was, w.peer = from, from
		}
	}
	if from == was || w.mapped != 0 && now.Sub(w.mapped) < mappingEvery {
		return
	}
	if m.hasMoved(mapping{s, was, from}) {
		w.peer, w.mapped = from, now
	}
}

// hasMoved tells the loop; false: it has too much to do.
func (m *Module) hasMoved(x mapping) bool {
	b := &m.inbox
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.mappings) >= inboxMax {
		return false
	}
	b.mappings = append(b.mappings, x)
	m.nudge()
	return true
}

// tellMappings tells those who watch.
func (m *Module) tellMappings(list []mapping) {
	for _, x := range list {
		if x.state.Live.Dead() || !m.host.Watched(xfrmapi.Topic) {
			continue
		}
		m.event(xfrmapi.Event{Event: "mapping", State: m.listed(x.state), Mapping: &xfrmapi.Mapping{
			OldSrc: netip.AddrFrom16(x.old.addr), OldSPort: x.old.port, NewSrc: netip.AddrFrom16(x.now.addr), NewSPort: x.now.port,
		}})
	}
}
