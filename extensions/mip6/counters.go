package mip6

import (
	"strings"

	"leveret/appliance/module"
	"leveret/extensions/mip6/bcache"
	"leveret/extensions/mip6/mipapi"
	"leveret/extensions/mip6/wire"
)

// counters are what is counted: messages by type, what was wrong with others, what became of updates, and what was sent.
type counters struct {
	received      [8]*module.Counter
	faults        []*module.Counter // by wire.Reason
	reasons       []*module.Counter // by bcache.Reason
	errors        [3]*module.Counter
	ignored       *module.Counter // well-formed and not for us, or more than the rate allows
	errorsLimited *module.Counter
	tests         *module.Counter
	acks          *module.Counter
	refreshes     *module.Counter
	byName        map[string]*module.Counter
}

var messageNames = [8]string{"brr", "hoti", "coti", "hot", "cot", "bu", "ba", "be"}

func (c *counters) init(h module.Host) {
	c.byName = map[string]*module.Counter{}
	counter := func(words string) *module.Counter {
		name := strings.NewReplacer(" ", "_", ",", "", "'", "").Replace(words)
		c.byName[name] = h.Counter(name)
		return c.byName[name]
	}
	for i, n := range messageNames {
		c.received[i] = counter("received " + n)
	}
	for r := wire.Reason(0); r <= wire.BadCode; r++ {
		c.faults = append(c.faults, counter("malformed "+r.String()))
	}
	for r := bcache.Reason(0); r <= bcache.BadTimestamp; r++ {
		c.reasons = append(c.reasons, counter("update "+r.String()))
	}
	c.errors[wire.UnknownBinding], c.errors[wire.UnknownType] = counter("sent error unknown binding"), counter("sent error unknown type")
	c.ignored, c.errorsLimited = counter("ignored"), counter("errors not sent")
	c.tests, c.acks, c.refreshes = counter("sent tests"), counter("sent ba"), counter("sent brr")
}

// all returns what is not zero.
func (c *counters) all() mipapi.Counters {
	out := mipapi.Counters{}
	for name, n := range c.byName {
		if v := n.Value(); v != 0 {
			out[name] = v
		}
	}
	return out
}
