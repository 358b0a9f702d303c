package xfrm

import (
	"fmt"

	"leveret/extensions/xfrm/sad"
	"leveret/extensions/xfrm/spd"
	"leveret/extensions/xfrm/xfrmapi"
)

// event tells those who watch.
func (m *Module) event(e xfrmapi.Event) { m.host.Publish(xfrmapi.Topic, e) }

// listed makes a state one to be told of, if anybody listens.
func (m *Module) listed(s *sad.State) *sad.Listed {
	if !m.host.Watched(xfrmapi.Topic) {
		return nil
	}
	l := m.shown().List(s)
	return &l
}

// listPolicy makes a policy one to be shown.
func (m *Module) listPolicy(p *spd.Policy) xfrmapi.Policy {
	l := xfrmapi.Policy{
		Name: p.Name, Selector: p.Selector.Text(m.linkName), Dir: p.Dir.String(), Type: typeWord(p.Sub), Action: p.Action.String(),
		Priority: p.Priority, Index: p.Index, Flags: p.Flags.String(), Mark: p.Mark, Mask: p.Mask, IfID: p.IfID,
	}
	for i := range p.Templates {
		t := &p.Templates[i]
		lt := xfrmapi.Template{Proto: t.Proto.String(), SPI: t.SPI, ReqID: t.ReqID, Mode: t.Mode.String(), Level: t.Level.String()}
		if t.Src.IsValid() {
			lt.Src = t.Src.String()
		}
		if t.Dst.IsValid() {
			lt.Dst = t.Dst.String()
		}
		l.Templates = append(l.Templates, lt)
	}
	return l
}

func (m *Module) listedPolicy(p *spd.Policy) *xfrmapi.Policy {
	if !m.host.Watched(xfrmapi.Topic) {
		return nil
	}
	l := m.listPolicy(p)
	return &l
}

func typeWord(sub bool) string {
	if sub {
		return "sub"
	}
	return "main"
}

func linkNumber(index int) string { return fmt.Sprintf("link%d", index) }
