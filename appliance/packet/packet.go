// Package packet is the unit of work of the packet path: one buffer with room to grow at both
// ends, and what the stages have found out about it so far.
//
//	buf   | headroom ............ | L3 data ............ | tailroom |
//	      0                      off                    end       cap
//
// A Packet belongs to one goroutine at a time. On the packet path that is the worker that
// received it: a port copies nothing after its Tx returns, so the buffer goes back to the worker's
// [Pool] and never crosses a thread. Whoever needs the octets longer takes a [Packet.Clone].
package packet

const (
	// Headroom is what every buffer leaves before the network header: a virtio-net header (12),
	// an Ethernet header (14), an outer IPv6 header (40), UDP (8), ESP with its IV (16) and what
	// Mobile IPv6 adds, so that encapsulation never copies.
	Headroom = 192
	// linkRoom is what of the headroom is for the headers of the link: virtio-net and Ethernet.
	linkRoom = 26
	// Tailroom is what every buffer leaves after the longest packet: ESP padding and ICV.
	Tailroom = 64
	// MaxLen is the longest packet a superpacket port hands over: a 64 KiB payload and its header.
	MaxLen = 65535 + 40
)

// L2Class says whom a received frame was addressed to.
type L2Class uint8

// The classes; links without addresses leave [L2Unicast].
const (
	L2Unicast   L2Class = iota // to this link's own address
	L2Multicast                // to a group
	L2Broadcast                // to all
	L2Other                    // to somebody else (seen in promiscuous mode)
)

// Packet is one IPv6 packet on its way through the stages.
type Packet struct {
	buf      []byte
	off, end int
	home     home

	In   int // index of the link it came in on; 0 = this node made it
	Out  int // index of the link it leaves by, set by the route stage (or before it: "oif")
	Mark uint32

	SrcMAC, DstMAC [6]byte // received: as in the frame; sending: DstMAC is set by the resolve stage
	L2             L2Class

	GSO GSO

	// Set by the validate stage.
	Proto      uint8 // upper-layer protocol, or the first header nothing here walks through
	TransOff   int   // offset of that header from the network header
	ProtoField int   // offset of the Next Header octet that named it
	FragOff    int   // offset of the Fragment header; 0 = none
	FragField  int   // offset of the Next Header octet that named it (set by reassembly)
	HBH        bool  // has a Hop-by-Hop Options header
	Ext        bool  // has extension headers at all

	// Walked: the extension headers in front of this offset have had their effect, and show it: a Type 2 Routing header and
	// a Home Address option have changed places with the addresses (RFC 6275 9.3.1, 11.3.3). 0 = none has.
	Walked int

	// Set by the route stage.
	Route   *Route   // nil = no route
	NextHop [16]byte // the neighbor to resolve: the gateway or the destination itself

	Passes uint8 // times the packet entered the classify stage again
	// Nested is how many links of kind tunnel this node has put the packet into, one in the other.
	Nested uint8
	NoFrag bool // own packet that must not be fragmented (path MTU probe)
	Whole  bool // put together from fragments

	// Tunneled: it came out of a tunnel, so it was not sent on the link it came in on.
	Tunneled bool
	// Protected: the transform stage is done with it.
	Protected bool
	// MTU is how long the packet may be: where the transform stage drops it for [TooBig], and before that if the link
	// it leaves by is of kind ipsec.
	MTU int
	// Answer is the ICMPv6 error that the source of the packet is told, where the hook of a tunnel drops it.
	Answer ICMPError
	// Upper is what this packet, a fragment that this node has made, is a fragment of; the zero value: it is none.
	Upper Upper

	// Super is the superpacket that this one is a piece of, while the transform stage has the piece.
	Super *Packet

	came  *states // made when first needed, and kept with the buffer
	cameN uint8
	notes any // likewise
	noted bool
}

// Note keeps something about this packet for others to look at, such as its pieces. It is not copied with it. Who notes has
// what was noted last, about whatever packet, to use it again.
func (p *Packet) Note(n any) { p.notes, p.noted = n, true }

// Notes returns what was noted last, and whether that was about this packet.
func (p *Packet) Notes() (n any, valid bool) { return p.notes, p.noted }

// ICMPError is what an ICMPv6 error says (RFC 4443 3). Type 0 = nothing.
type ICMPError struct {
	Type, Code uint8
	Arg        uint32 // MTU or pointer
}

// MaxNested is how many tunnels of this node a packet is put into, one in the other, whatever their encapsulation limits
// say (RFC 2473 4.1.3).
const MaxNested = 5

// Upper is the protocol and the first four octets of the transport header of a packet that was fragmented before
// the transform stage, so that all its fragments go the same way.
type Upper struct {
	Set   bool
	Proto uint8
	Head  [4]byte
}

// MaxStates is how many SAs a packet can have come through.
const MaxStates = 6

type states [MaxStates]any

// Came returns the SAs that the packet has come through, the outermost first, each a pointer of the module whose they
// are. The slice is borrowed.
func (p *Packet) Came() []any {
	if p.cameN == 0 {
		return nil
	}
	return p.came[:p.cameN:p.cameN]
}

// ComeThrough notes an SA that the packet has come through. It reports false if they are too many.
func (p *Packet) ComeThrough(state any) bool {
	if p.cameN == MaxStates {
		return false
	}
	if p.came == nil {
		p.came = &states{}
	}
	p.came[p.cameN] = state
	p.cameN++
	return true
}

// CameLike notes for p the SAs that o has come through.
func (p *Packet) CameLike(o *Packet) {
	p.Forget()
	for _, s := range o.Came() {
		p.ComeThrough(s)
	}
}

// Forget lets go of the SAs that the packet has come through: what was to be said of them has been.
func (p *Packet) Forget() {
	if p.cameN != 0 {
		*p.came, p.cameN = states{}, 0
	}
}

// home is where a packet's buffer returns to.
type home interface{ put(*Packet) }

// New returns a packet of its own that holds a copy of data, with full headroom. It is for slow
// paths: errors, control messages, tests.
func New(data []byte) *Packet {
	p := NewBuffer(len(data))
	copy(p.Extend(len(data)), data)
	return p
}

// NewBuffer returns an empty packet of its own with room for size octets.
func NewBuffer(size int) *Packet {
	return &Packet{buf: make([]byte, Headroom+size+Tailroom), off: Headroom, end: Headroom}
}

// Bytes returns the packet from its network header on (before the receive stage strips it, from
// the link header). It is borrowed: valid until the packet is reset or released.
func (p *Packet) Bytes() []byte { return p.buf[p.off:p.end:p.end] }

// Len returns the number of octets in [Packet.Bytes].
func (p *Packet) Len() int { return p.end - p.off }

// Reset empties the packet and forgets everything about it; the buffer stays.
func (p *Packet) Reset() {
	p.Forget()
	*p = Packet{buf: p.buf, home: p.home, came: p.came, notes: p.notes, off: Headroom, end: Headroom}
}

// Space returns the room behind the headroom for a port to read into, without tailroom. The port
// then calls [Packet.SetLen].
func (p *Packet) Space() []byte { return p.buf[Headroom : len(p.buf)-Tailroom] }

// SpaceBefore returns the same room with n octets of headroom in front, for a port whose reads
// begin with a header of its own.
func (p *Packet) SpaceBefore(n int) []byte { return p.buf[Headroom-n : len(p.buf)-Tailroom] }

// SetLen makes the packet the n octets that were read into [Packet.Space].
func (p *Packet) SetLen(n int) { p.off, p.end = Headroom, Headroom+n }

// Push grows the packet by n octets at the front and returns them; their content is undefined.
// It panics if the headroom is used up: stages know what they add.
func (p *Packet) Push(n int) []byte {
	p.off -= n
	return p.buf[p.off : p.off+n]
}

// Pull removes n octets from the front.
func (p *Packet) Pull(n int) { p.off += n }

// Extend grows the packet by n octets at the end and returns them; their content is undefined.
func (p *Packet) Extend(n int) []byte {
	p.end += n
	return p.buf[p.end-n : p.end]
}

// Trim cuts the packet to n octets.
func (p *Packet) Trim(n int) { p.end = p.off + n }

// Room returns how many octets [Packet.Extend] can add.
func (p *Packet) Room() int { return len(p.buf) - p.end }

// RoomBefore returns how many octets [Packet.Push] can add, less what a link header needs.
func (p *Packet) RoomBefore() int { return p.off - linkRoom }

// Clone returns a packet of its own with the same octets and metadata.
func (p *Packet) Clone() *Packet {
	c := NewBuffer(p.Len())
	p.CopyTo(c)
	return c
}

// CopyTo makes dst hold the same octets and metadata; dst must have the room.
func (p *Packet) CopyTo(dst *Packet) {
	buf, home := dst.buf, dst.home
	dst.Forget()
	came, notes := dst.came, dst.notes
	*dst = *p
	dst.buf, dst.home, dst.came, dst.cameN, dst.off, dst.end = buf, home, came, 0, Headroom, Headroom
	dst.notes, dst.noted, dst.Super = notes, false, nil
	dst.CameLike(p)
	copy(dst.Extend(p.Len()), p.Bytes())
}

// Release gives the buffer back to the pool it came from, if any. The packet must not be used
// afterwards.
func (p *Packet) Release() {
	if p.home != nil {
		p.home.put(p)
	}
}

// Zone returns the link whose zone the packet's link-scope addresses belong to: the one it came
// in on, or for a packet of this node the one it leaves by.
func (p *Packet) Zone() int {
	if p.In != 0 {
		return p.In
	}
	return p.Out
}

// Own makes the packet one of this node's own that has yet to find its way: what the receive
// stages learned is forgotten, the octets stay.
func (p *Packet) Own() {
	p.Forget()
	*p = Packet{buf: p.buf, off: p.off, end: p.end, home: p.home, came: p.came, notes: p.notes, Nested: p.Nested}
}

// Emerge makes the packet the n octets at off, which came out of the tunnel that is link in: what was learned about what
// carried them is forgotten, but for how often it was classified and what the port knows of a checksum inside.
func (p *Packet) Emerge(in, off, n int) {
	passes, g := p.Passes, p.GSO
	p.Trim(off + n)
	p.Pull(off)
	p.Own()
	p.In, p.Passes, p.Nested = in, passes, 0
	if g.Csum == CsumPartial && g.CsumStart >= off {
		g.CsumStart -= off
		g.HdrLen = max(g.HdrLen-off, 0)
		p.GSO = g
	}
}
