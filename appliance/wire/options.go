package wire

// Option types (RFC 8200 4.2, RFC 2711, RFC 2675, RFC 2473, RFC 6275).
const (
	OptPad1             = 0x00
	OptPadN             = 0x01
	OptTunnelEncapLimit = 0x04
	OptRouterAlert      = 0x05
	OptJumbo            = 0xc2
	OptHomeAddress      = 0xc9
)

// OptionAction is what to do about an option that is not recognized: its two highest bits
// (RFC 8200 4.2).
type OptionAction uint8

// The actions.
const (
	ActionSkip                       OptionAction = iota // go on
	ActionDiscard                                        // discard the packet
	ActionDiscardICMP                                    // and send a Parameter Problem, whatever the destination
	ActionDiscardICMPUnlessMulticast                     // and send one if the destination is not a group
)

// Action returns the action of an option type.
func Action(typ uint8) OptionAction { return OptionAction(typ >> 6) }

// Option is one option. Data is borrowed.
type Option struct {
	Type uint8
	Off  int // of the type octet, from the start of the packet
	Data []byte
}

// Options walks the options of one header.
type Options struct {
	pkt []byte // cut to the end of the header
	off int
	// Problem is the offset of the octet at fault when the walk ended early: the length of an
	// option that runs over its header.
	Problem int
}

// ParseOptions returns the walk over the Hop-by-Hop or Destination Options header at off; pkt ends
// with the header.
func ParseOptions(pkt []byte, off int) Options { return Options{pkt: pkt, off: off + 2} }

// HomeAddress returns the offset of the Home Address option in a Destination Options header of pkt (RFC 6275 6.3), 0 =
// it has none.
func HomeAddress(pkt []byte, h *Header) int {
	opts := ParseOptions(pkt[:h.Off+h.Len], h.Off)
	for {
		switch o, ok := opts.Next(); {
		case !ok:
			return 0
		case o.Type == OptHomeAddress:
			return o.Off
		}
	}
}

// Next returns the next option, padding included; false at the end or at a problem.
func (o *Options) Next() (Option, bool) {
	if o.off >= len(o.pkt) {
		return Option{}, false
	}
	at := o.off
	if o.pkt[at] == OptPad1 {
		o.off++
		return Option{Type: OptPad1, Off: at}, true
	}
	if at+2 > len(o.pkt) || at+2+int(o.pkt[at+1]) > len(o.pkt) {
		o.Problem = min(at+1, len(o.pkt)-1)
		o.off = len(o.pkt)
		return Option{}, false
	}
	o.off = at + 2 + int(o.pkt[at+1])
	return Option{Type: o.pkt[at], Off: at, Data: o.pkt[at+2 : o.off : o.off]}, true
}
