package xfrmapi

import (
	"fmt"
	"strings"
)

// Text prints an event as "ip xfrm monitor" of iproute2 6.1 does, with stats as "ip -s xfrm monitor". What Linux tells
// nobody of, that states have moved, is said likewise.
func (e *Event) Text(stats bool) string {
	prefix := map[string]string{"updsa": "Updated ", "delsa": "Deleted ", "updpolicy": "Updated ", "delpolicy": "Deleted "}[e.Event]
	switch {
	case e.Event == "acquire" && e.State != nil && e.Policy != nil:
		return e.acquire(stats)
	case e.Event == "expire" && e.State != nil:
		return "Expired " + e.State.ExpireText(stats) + e.hard()
	case e.Event == "polexpire" && e.Policy != nil:
		return "Expired " + e.Policy.Text(stats) + e.hard()
	case e.Event == "flushsa":
		proto := e.Proto
		if proto == "" {
			proto = "0"
		}
		return fmt.Sprintf("Flushed state proto %s\n", proto)
	case e.Event == "flushpolicy":
		return fmt.Sprintf("Flushed policy ptype %s \n", e.Type)
	case e.Event == "setdefault" && e.Default != nil:
		return e.Default.Text()
	case e.Event == "report" && e.Sel != "":
		return e.report(stats)
	case e.Event == "mapping" && e.State != nil && e.Mapping != nil:
		m, s := e.Mapping, e.State
		return fmt.Sprintf("Mapping change %s:%d -> %s:%d\n\tdst %s  reqid %#x protocol %s  SPI %#x\n", m.OldSrc, m.OldSPort, m.NewSrc, m.NewSPort, s.Dst, s.ReqID, s.Proto, s.SPI)
	case e.Event == "migrate" && e.Policy != nil:
		return e.migrated(stats)
	case e.State != nil:
		return prefix + e.State.Text(stats)
	case e.Policy != nil:
		return prefix + e.Policy.Text(stats)
	}
	return e.Event + "\n"
}

func (e *Event) hard() string {
	if e.Hard {
		return "\thard 1\n"
	}
	return "\thard 0\n"
}

// report is a packet that was refused for a header of Mobile IPv6: its flow, and where it came from.
func (e *Event) report(stats bool) string {
	b := fmt.Appendf(nil, "report proto %s \n  sel %s ", e.Proto, e.Sel)
	if stats {
		b = append(b, "uid 0"...)
	}
	b = append(b, '\n')
	if e.CoA != nil {
		b = fmt.Appendf(b, "  coa %s\n", e.CoA)
	}
	return string(b)
}

// acquire is a packet that wants a state: the template, the packet's flow, the policy.
func (e *Event) acquire(stats bool) string {
	s := e.State
	b := fmt.Appendf(nil, "acquire proto %s ", s.Proto)
	switch {
	case stats:
		b = fmt.Appendf(b, "spi 0x%08x(%d) ", s.SPI, s.SPI)
	case s.SPI != 0:
		b = fmt.Appendf(b, "spi 0x%08x ", s.SPI)
	}
	b = fmt.Appendf(b, "\n  sel %s ", s.Sel)
	if stats {
		b = append(b, "uid 0"...)
	}
	policy := strings.ReplaceAll(strings.TrimSuffix(e.Policy.Text(stats), "\n"), "\n", "\n    ")
	b = fmt.Appendf(b, "\n  policy %s\n", policy)
	if stats {
		b = fmt.Appendf(b, "  seq 0x%08d enc-mask ffffffff auth-mask ffffffff comp-mask ffffffff", s.Seq) // so iproute2 writes it
	}
	return string(append(b, '\n'))
}
