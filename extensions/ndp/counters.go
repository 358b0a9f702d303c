package ndp

import (
	"errors"
	"fmt"

	"leveret/appliance/module"
	"leveret/appliance/wire"
	"leveret/extensions/ndp/ndwire"
)

// counters are the module's, as `leveret stats` shows them.
type counters struct {
	rx, tx           map[uint8]*module.Counter
	invalids         map[error]*module.Counter
	noSource         *module.Counter // a solicitation that could not be sent: the link has no address yet
	conflicts        *module.Counter // NAs of others for an address of ours
	dadFailed        *module.Counter
	contradictions   *module.Counter // RAs that say something else than ours (RFC 4861 6.2.7)
	redirectsRefused *module.Counter // Redirects that are not from the next hop (RFC 4861 8.1)
	answersRefused   *module.Counter // delayed answers for which there was no room
	dadLooped        *module.Counter // our own probes that came back (RFC 7527 4.2)
}

var messageNames = map[uint8]string{
	wire.TypeRouterSolicitation: "rs", wire.TypeRouterAdvertisement: "ra", wire.TypeNeighborSolicitation: "ns",
	wire.TypeNeighborAdvertisement: "na", wire.TypeRedirect: "redirect", wire.TypeMLDv2Report: "mldv2_report",
	wire.TypeMLDv1Report: "mldv1_report", wire.TypeMLDv1Done: "mldv1_done",
}

var invalidNames = map[error]string{
	ndwire.ErrHopLimit: "hop_limit", ndwire.ErrChecksum: "checksum", ndwire.ErrCode: "code", ndwire.ErrLength: "length",
	ndwire.ErrOption: "option", ndwire.ErrTarget: "target", ndwire.ErrUnspecified: "unspecified_source",
	ndwire.ErrDestination: "destination", ndwire.ErrSource: "source", ndwire.ErrSolicited: "solicited", ndwire.ErrFragmented: "fragmented",
}

func newCounters(h module.Host) counters {
	c := counters{
		rx: map[uint8]*module.Counter{}, tx: map[uint8]*module.Counter{}, invalids: map[error]*module.Counter{},
		noSource: h.Counter("ns_without_source"), conflicts: h.Counter("address_conflicts"),
		contradictions: h.Counter("ra_contradictions"), redirectsRefused: h.Counter("redirects_refused"),
		answersRefused: h.Counter("delayed_na_refused"),
		dadFailed:      h.Counter("dad_failed"), dadLooped: h.Counter("dad_looped_back"),
	}
	for t, n := range messageNames {
		c.rx[t], c.tx[t] = h.Counter("rx_"+n), h.Counter("tx_"+n)
	}
	for e, n := range invalidNames {
		c.invalids[e] = h.Counter("invalid_" + n)
	}
	return c
}

func (c *counters) invalid(err error) {
	for e, n := range c.invalids {
		if errors.Is(err, e) {
			n.Inc()
			return
		}
	}
}

func (c *counters) received(typ uint8) { c.rx[typ].Inc() }

// sent counts a message of ours, a whole packet: the type is behind the Hop-by-Hop header of MLD.
func (c *counters) sent(b []byte) {
	off := wire.IPv6HeaderLen
	if b[wire.NextHeaderOffset] == wire.HopByHop {
		off += 8
	}
	c.tx[b[off]].Inc()
}

func macText(m [6]byte) string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}
