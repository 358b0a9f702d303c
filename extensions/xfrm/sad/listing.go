package sad

import (
	"fmt"
	"strings"
	"time"

	"leveret/appliance/clock"
	"leveret/extensions/xfrm/proto"
)

// Measured is what has become of a state.
type Measured struct {
	State      KM         `json:"state"`
	Dying      bool       `json:"dying,omitempty"` // the soft limit was reached
	AntiReplay AntiReplay `json:"anti_replay"`
	Current    Current    `json:"current,omitzero"`
	Stats      *Stats     `json:"stats,omitempty"`
}

// Listed is a state to be shown: what JSON has and what [Listed.Text] prints.
type Listed struct {
	Spec
	Measured
}

// Current is how much of its lifetime a state has used.
type Current = proto.Current

// AntiReplay is where sequence numbers are.
type AntiReplay struct {
	Seq    uint64   `json:"seq"`  // the highest received
	OSeq   uint64   `json:"oseq"` // the last sent
	Bitmap []uint32 `json:"bitmap,omitempty"`
}

// Stats count refused packets: left of the replay window, duplicates, wrong ICVs.
type Stats struct {
	ReplayWindow    uint64 `json:"replay_window"`
	Replay          uint64 `json:"replay"`
	IntegrityFailed uint64 `json:"integrity_failed"`
}

// View says how states are shown.
type View struct {
	Keys bool                          // show them
	Wall func(clock.Instant) time.Time // the calendar
	Link func(int) string              // the name of a link
}

// List makes a state one to be shown. Any goroutine.
func (v View) List(s *State) Listed {
	l := s.Live
	first, last := l.Used()
	n, packets := l.Counted()
	out := Listed{v.Spec(s), Measured{
		State: s.KM, Dying: l.Dying(), AntiReplay: AntiReplay{Seq: s.ReplaySeq, OSeq: l.OSeq()},
		Current: Current{Bytes: n, Packets: packets, Added: v.Wall(l.Added), FirstUsed: v.when(first), LastUsed: v.when(last)},
		Stats:   &Stats{l.replayWindow.Load(), l.replay.Load(), l.integrityFailed.Load()},
	}}
	if l.Work != nil && s.ReplayWindow != 0 {
		out.AntiReplay.Seq, out.AntiReplay.Bitmap = l.Work.Position()
	}
	return out
}

func optional[T comparable](v T) *T {
	if v == *new(T) {
		return nil
	}
	return &v
}

func (v View) when(at clock.Instant) *time.Time {
	if at == 0 {
		return nil
	}
	t := v.Wall(at)
	return &t
}

// Text prints a state as "ip xfrm state" of iproute2 6.1 does, with stats as "ip -s xfrm state", to the
// blank. What it prints otherwise than meant is printed so, but for seq, which is shown in the wrong order
// of octets there.
func (l *Listed) Text(stats bool) string {
	return string(l.tail(l.attributes(l.head(stats), stats), stats))
}

// ExpireText is Text with what the kernel tells of a state that ends: no algorithms, no sequence numbers.
func (l *Listed) ExpireText(stats bool) string {
	b := l.head(stats)
	if m := l.Mark; m != nil {
		b = fmt.Appendf(b, "\tmark %#x/%#x \n", m.Value, m.Mask)
	}
	return string(l.tail(b, stats))
}

func (l *Listed) head(stats bool) []byte {
	b := fmt.Appendf(nil, "src %s dst %s\n\tproto %s ", l.Src, l.Dst, l.Proto)
	if l.Proto.HasSPI() || stats {
		b = fmt.Appendf(b, "spi 0x%08x", l.SPI)
		if stats {
			b = fmt.Appendf(b, "(%d)", l.SPI)
		}
		b = append(b, ' ')
	}
	b = fmt.Appendf(b, "reqid %d", l.ReqID)
	if stats {
		b = fmt.Appendf(b, "(0x%08x)", l.ReqID)
	}
	return l.flags(fmt.Appendf(b, " mode %s\n", l.Mode), stats)
}

func (l *Listed) tail(b []byte, stats bool) []byte {
	if l.Sel != "" {
		b = fmt.Appendf(b, "\tsel %s ", l.Sel)
		if stats {
			b = append(b, "uid 0"...)
		}
		b = append(b, '\n')
	}
	if stats {
		b = l.lifetimes(b)
	}
	return b
}

// OneLine makes a text that of option -o.
func OneLine(text string) string { return strings.ReplaceAll(text, "\n", `\`) + "\n" }

// wide reports whether the replay window is not one of the first kind: of 32 packets at most, without ESN.
func (l *Listed) wide() bool { return l.Flags&ESN != 0 || l.ReplayWindow > 32 }

func (l *Listed) flags(b []byte, stats bool) []byte {
	w := l.ReplayWindow
	if l.wide() {
		w = 0 // it is with the context
	}
	b = fmt.Appendf(b, "\treplay-window %d ", w)
	if stats {
		b = fmt.Appendf(b, "seq 0x%08x ", l.Seq)
	}
	if stats || l.Flags != 0 {
		b = fmt.Appendf(b, "flag %s", l.Flags)
	}
	if stats && l.ExtraFlags != 0 {
		b = fmt.Appendf(b, "extra_flag %s", l.ExtraFlags)
	}
	if stats {
		b = fmt.Appendf(b, " (0x%08b)", uint8(l.Flags))
	}
	return append(b, '\n')
}

func (l *Listed) attributes(b []byte, stats bool) []byte {
	if l.Mark != nil || l.OutputMark != nil {
		b = append(b, '\t')
		if m := l.Mark; m != nil {
			b = fmt.Appendf(b, "mark %#x/%#x ", m.Value, m.Mask)
		}
		if m := l.OutputMark; m != nil {
			b = fmt.Appendf(b, "output-mark %#x/%#x", m.Value, m.Mask)
		}
		b = append(b, '\n')
	}
	b = l.Auth.text(b, "auth-trunc", stats)
	b = l.AEAD.text(b, "aead", stats)
	b = l.Enc.text(b, "enc", stats)
	if e := l.Encap; e != nil {
		b = fmt.Appendf(b, "\tencap type %s sport %d dport %d addr %s\n", e.Type, e.SPort, e.DPort, e.OAddr)
	}
	if l.CoA != nil {
		b = fmt.Appendf(b, "\tcoa %s\n", l.CoA)
	}
	if l.Current.LastUsed != nil && !l.Proto.HasSPI() { // the kernel notes it for these
		b = fmt.Appendf(b, "\tlastused %s\n", l.Current.LastUsed.Format(time.DateTime))
	}
	b = l.antiReplay(b)
	if l.IfID != 0 {
		b = fmt.Appendf(b, "\tif_id %#x\n", l.IfID)
	}
	if l.TFCPad != 0 {
		b = fmt.Appendf(b, "\ttfcpad %d\n", l.TFCPad)
	}
	return b
}

func (a *AlgoSpec) text(b []byte, kind string, stats bool) []byte {
	if a == nil {
		return b
	}
	b = fmt.Appendf(b, "\t%s %s ", kind, a.Name)
	switch {
	case a.Key == nil:
		b = append(b, hidden...)
	case *a.Key != "":
		b = fmt.Appendf(b, "0x%s", *a.Key)
		if stats {
			b = fmt.Appendf(b, " (%d bits)", 4*len(*a.Key))
		}
	}
	if a.Bits != 0 {
		b = fmt.Appendf(b, " %d", a.Bits)
	}
	return append(b, '\n')
}

func (l *Listed) antiReplay(b []byte) []byte {
	r := &l.AntiReplay
	bitmap := make([]uint32, max((l.ReplayWindow+31)/32, 1))
	copy(bitmap, r.Bitmap)
	if !l.wide() {
		return fmt.Appendf(b, "\tanti-replay context: seq 0x%x, oseq 0x%x, bitmap 0x%08x\n", uint32(r.Seq), uint32(r.OSeq), bitmap[0])
	}
	b = fmt.Appendf(b, "\tanti-replay esn context:\n\t seq-hi 0x%x, seq 0x%x, oseq-hi 0x%x, oseq 0x%x\n",
		r.Seq>>32, uint32(r.Seq), r.OSeq>>32, uint32(r.OSeq))
	b = fmt.Appendf(b, "\t replay_window %d, bitmap-length %d", l.ReplayWindow, len(bitmap))
	for i, w := range bitmap {
		if i%8 == 0 {
			b = append(b, "\n\t "...)
		}
		b = fmt.Appendf(b, "%08x ", w)
	}
	return append(b, '\n')
}

func (l *Listed) lifetimes(b []byte) []byte {
	b = l.Lifetime.Append(b, &l.Current)
	n := value(l.Stats)
	return fmt.Appendf(b, "\tstats:\n\t  replay-window %d replay %d failed %d\n", n.ReplayWindow, n.Replay, n.IntegrityFailed)
}
