package observe

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"leveret/appliance/clock"
	"leveret/appliance/module"
)

// WriteOptions are what a capture's writer needs to know of the appliance.
type WriteOptions struct {
	Clock clock.Clock
	Links func() *module.Links
}

// Stream writes what tap takes to w as one pcapng section until ctx ends, then what is left. Every
// frame is flushed as soon as there is none behind it, for those who watch live.
func Stream(ctx context.Context, tap *Tap, o WriteOptions, w io.Writer) error {
	sec, err := newSection(tap, o, w)
	if err != nil {
		return err
	}
	return drain(ctx, tap, func(s *slot) error { return sec.write(s) }, sec.flush, sec.end)
}

// drain hands every frame of tap to write and calls idle when there is none, until ctx ends; then
// it hands over the rest and calls end.
func drain(ctx context.Context, tap *Tap, write func(*slot) error, idle, end func() error) error {
	for {
		for s := tap.ring.get(); s != nil; s = tap.ring.get() {
			err := write(s)
			tap.ring.done(s)
			if err != nil {
				return err
			}
		}
		if ctx.Err() != nil {
			return end()
		}
		if err := idle(); err != nil {
			return err
		}
		select {
		case <-tap.ready:
		case <-ctx.Done():
		}
	}
}

// source is what one pcapng interface stands for: a link at a point, with one kind of frame.
type source struct {
	link     int
	point    Point
	ethernet bool
}

// section is one pcapng section: a header, interfaces and packets.
type section struct {
	tap    *Tap
	o      WriteOptions
	out    *countWriter
	ng     *pcapgo.NgWriter
	ids    map[source]int
	wall   time.Time // wall is the calendar time at instant at
	at     clock.Instant
	lost   uint64 // frames the tap lost before the last packet written
	start  time.Time
	packet uint64
}

// newSection begins a section with the interfaces that tap is about; links that appear later get
// theirs with their first frame.
func newSection(tap *Tap, o WriteOptions, w io.Writer) (*section, error) {
	s := &section{tap: tap, o: o, out: &countWriter{w: w}, ids: map[source]int{}, wall: o.Clock.Wall(), at: o.Clock.Now(), lost: tap.Lost()}
	s.start = s.wall
	for _, l := range o.Links().All() {
		if tap.link != 0 && tap.link != l.Index {
			continue
		}
		for p, on := range tap.points {
			if on {
				if err := s.addInterface(source{l.Index, Point(p), l.Ethernet && Point(p) != Dropped}); err != nil {
					return nil, err
				}
			}
		}
	}
	if s.ng == nil { // pcapgo begins a section with an interface
		if err := s.addInterface(source{tap.link, Dropped, false}); err != nil {
			return nil, err
		}
	}
	return s, s.flush()
}

// addInterface writes the description block of src, and the section header before the first.
func (s *section) addInterface(src source) error {
	name := "host"
	if l := s.o.Links().Index(src.link); l != nil {
		name = l.Name
	} else if src.link != 0 {
		name = fmt.Sprintf("link%d", src.link)
	}
	intf := pcapgo.NgInterface{
		Name:                name + "/" + src.point.String(),
		OS:                  "leveret",
		SnapLength:          uint32(s.tap.snaplen),
		TimestampResolution: 9,
		LinkType:            layers.LinkTypeIPv6,
	}
	if src.ethernet {
		intf.LinkType = layers.LinkTypeEthernet
	}
	if s.ng == nil {
		info := pcapgo.NgSectionInfo{Application: "leveret", OS: runtime.GOOS, Hardware: runtime.GOARCH}
		ng, err := pcapgo.NewNgWriterInterface(s.out, intf, pcapgo.NgWriterOptions{SectionInfo: info})
		s.ng, s.ids[src] = ng, 0
		return err
	}
	id, err := s.ng.AddInterface(intf)
	s.ids[src] = id
	return err
}

func (s *section) write(f *slot) error {
	src := source{f.meta.Link, f.meta.Point, f.meta.Ethernet}
	if _, ok := s.ids[src]; !ok {
		if err := s.addInterface(src); err != nil {
			return err
		}
	}
	opts := pcapgo.NgPacketOptions{Flags: &pcapgo.NgEpbFlags{Direction: pcapgo.NgEpbFlagDirectionInbound}}
	if f.meta.Outbound {
		opts.Flags.Direction = pcapgo.NgEpbFlagDirectionOutbound
	}
	if f.meta.Point == Dropped {
		opts.Comments = []string{dropComment(f.meta.Reason, f.meta.Ref)}
	}
	if lost := s.tap.Lost(); lost != s.lost {
		n := lost - s.lost
		s.lost, opts.DropCount = lost, &n
	}
	s.packet++
	ci := gopacket.CaptureInfo{
		Timestamp:      s.wall.Add(f.meta.At.Sub(s.at)),
		CaptureLength:  f.n,
		Length:         f.len,
		InterfaceIndex: s.ids[src],
	}
	return s.ng.WritePacketWithOptions(ci, f.data[:f.n], opts)
}

// dropComment is the packet comment that says why a packet was dropped.
func dropComment(reason, ref string) string {
	if ref == "" {
		return "drop: " + reason
	}
	return "drop: " + reason + " (" + ref + ")"
}

func (s *section) flush() error { return s.ng.Flush() }

// end writes the statistics of the capture and flushes.
func (s *section) end() error {
	now := s.wall.Add(s.o.Clock.Now().Sub(s.at))
	if err := s.ng.WriteInterfaceStats(0, pcapgo.NgInterfaceStatistics{
		LastUpdate: now, StartTime: s.start, EndTime: now,
		PacketsReceived: s.packet, PacketsDropped: s.tap.Lost(),
	}); err != nil {
		return err
	}
	return s.flush()
}

// countWriter counts the octets that reached the file.
type countWriter struct {
	w io.Writer
	n int64
}

func (c *countWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}
