package simnet

import (
	"bytes"
	"os"
	"path/filepath"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"leveret/appliance/link"
	"leveret/appliance/link/pipe"
	"leveret/appliance/packet"
)

// Segment is one Ethernet: what one end sends, all others get.
type Segment struct {
	Name    string
	Latency time.Duration
	Loss    float64 // of 1, for each receiver
	Repeat  float64 // of 1: delivered twice
	MTU     int
	// Cut: nothing gets through.
	Cut    bool
	Frames []Frame // everything that was sent, in order

	net  *Net
	ends []*end
}

// Frame is one frame as it was sent.
type Frame struct {
	At   time.Duration
	From string
	Data []byte
	GSO  packet.GSO
}

type end struct {
	name    string
	deliver func(Frame)
}

// Segment makes a link.
func (n *Net) Segment(name string) *Segment {
	s := &Segment{Name: name, net: n, MTU: 1500}
	n.segments = append(n.segments, s)
	return s
}

// port makes an appliance's end.
func (s *Segment) port(name string, id int) link.Port {
	mac := [6]byte{2, 0, 0, byte(len(s.net.segments)), byte(id), byte(len(s.ends) + 1)}
	e := &end{name: name}
	p := pipe.NewEnd(pipe.Options{
		MAC: mac, MTU: s.MTU, Ethernet: true,
		OnTx: func(frame []byte, gso packet.GSO) {
			s.send(e, Frame{From: name, Data: bytes.Clone(frame), GSO: gso})
		},
	})
	e.deliver = func(f Frame) { p.Inject(f.Data, f.GSO) }
	s.ends = append(s.ends, e)
	return p
}

// send puts a frame on the link.
func (s *Segment) send(from *end, f Frame) {
	f.At = s.net.Now()
	s.Frames = append(s.Frames, f)
	if s.Cut {
		return
	}
	for _, e := range s.ends {
		if e == from || s.net.Rand.Float64() < s.Loss {
			continue
		}
		n := 1
		if s.net.Rand.Float64() < s.Repeat {
			n = 2
		}
		for range n {
			s.net.Clock.AfterFunc(s.Latency, func() { e.deliver(f) })
		}
	}
}

// Peer is a scripted host: it hears every frame on its segment and sends what it is told to.
type Peer struct {
	Name string
	MAC  [6]byte
	Seen []Frame // since the last Forget
	// OnFrame, if set, is called for every frame, after it was added to Seen.
	OnFrame func(Frame)
	seg     *Segment
	end     *end
}

// Peer puts a scripted host on the segment.
func (s *Segment) Peer(name string) *Peer {
	p := &Peer{Name: name, MAC: [6]byte{2, 0xee, 0, byte(len(s.net.segments)), 0, byte(len(s.ends) + 1)}, seg: s}
	p.end = &end{name: name, deliver: func(f Frame) {
		p.Seen = append(p.Seen, f)
		if p.OnFrame != nil {
			p.OnFrame(f)
		}
	}}
	s.ends = append(s.ends, p.end)
	return p
}

// Forget empties Seen.
func (p *Peer) Forget() { p.Seen = nil }

// Send sends an IPv6 packet to a link-layer address.
func (p *Peer) Send(dst [6]byte, pkt []byte) {
	f := make([]byte, 0, 14+len(pkt))
	f = append(append(append(f, dst[:]...), p.MAC[:]...), 0x86, 0xdd)
	p.SendRaw(append(f, pkt...))
}

// SendRaw sends a frame as it is.
func (p *Peer) SendRaw(frame []byte) {
	p.seg.send(p.end, Frame{From: p.Name, Data: frame})
}

// writeCaptures keeps every segment's frames for the one who looks into the failure.
func (n *Net) writeCaptures() {
	dir, err := os.MkdirTemp("", "simnet-")
	if err != nil {
		n.T.Logf("simnet: no captures: %v", err)
		return
	}
	for _, s := range n.segments {
		if err := s.WriteCapture(filepath.Join(dir, s.Name+".pcapng")); err != nil {
			n.T.Logf("simnet: %v", err)
		}
	}
	n.T.Logf("simnet: captures in %s", dir)
}

// WriteCapture writes what was sent on the segment to a pcapng file.
func (s *Segment) WriteCapture(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w, err := pcapgo.NewNgWriter(f, layers.LinkTypeEthernet)
	if err != nil {
		return err
	}
	epoch := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, fr := range s.Frames {
		ci := gopacket.CaptureInfo{Timestamp: epoch.Add(fr.At), CaptureLength: len(fr.Data), Length: len(fr.Data)}
		if err := w.WritePacket(ci, fr.Data); err != nil {
			return err
		}
	}
	return w.Flush()
}
