package ndp

import (
	"net/netip"
	"slices"
	"time"

	"leveret/appliance/clock"
)

// maxAnycastDelayTime is MAX_ANYCAST_DELAY_TIME (RFC 4861 10).
const maxAnycastDelayTime = time.Second

// maxDelayed bounds the answers that wait on a link; newcomers beyond are not given one: who wants to know
// asks again.
const maxDelayed = 256

// delayed are the answers of a link that wait: for anycast addresses and for other nodes' (RFC 4861 7.2.7,
// 7.2.8).
type delayed []answer

type answer struct {
	at     clock.Instant
	target netip.Addr
	pkt    []byte
	mac    [6]byte
}

// put adds an answer; false = there is no room.
func (d *delayed) put(a answer) bool {
	if len(*d) >= maxDelayed {
		return false
	}
	*d = append(*d, a)
	return true
}

func (d *delayed) deadline() clock.Instant {
	at := clock.Never
	for i := range *d {
		at = clock.Earliest(at, (*d)[i].at)
	}
	return at
}

// forget drops the answers for an address that is not answered for any more.
func (d *delayed) forget(target netip.Addr) {
	*d = slices.DeleteFunc(*d, func(a answer) bool { return a.target == target })
}

// due takes out what is due, in the order in which it came.
func (d *delayed) due(now clock.Instant) (out []answer) {
	*d = slices.DeleteFunc(*d, func(a answer) bool {
		if a.at <= now {
			out = append(out, a)
		}
		return a.at <= now
	})
	return out
}
