package xfrm

import (
	"fmt"

	"leveret/extensions/xfrm/sad"
	"leveret/extensions/xfrm/spd"
)

// Topic is where the events are published.
const Topic = "xfrm"

// Event is one message of the topic, in the words of "ip xfrm monitor": newsa, updsa, delsa, flushsa, expire,
// acquire, migrate, newpolicy, updpolicy, delpolicy, flushpolicy.
type Event struct {
	Event  string        `json:"event"`
	Hard   bool          `json:"hard,omitempty"`  // of expire: the state is gone
	Proto  string        `json:"proto,omitempty"` // of flushsa; "" = all
	Type   string        `json:"ptype,omitempty"` // of flushpolicy
	State  *sad.Listed   `json:"state,omitempty"` // of acquire: the larval state, whose selector is the flow
	Old    *sad.Listed   `json:"old,omitempty"`   // of migrate
	Policy *ListedPolicy `json:"policy,omitempty"`
}

// ListedPolicy is a policy to be shown: what JSON has, in iproute2's words.
type ListedPolicy struct {
	Name      string           `json:"name,omitempty"`
	Selector  string           `json:"selector"` // as "ip xfrm policy" prints it
	Dir       string           `json:"dir"`
	Type      string           `json:"ptype"`
	Action    string           `json:"action"`
	Priority  uint32           `json:"priority"`
	Index     uint32           `json:"index"`
	Flags     string           `json:"flags,omitempty"`
	Mark      uint32           `json:"mark,omitempty"`
	Mask      uint32           `json:"mask,omitempty"`
	Templates []ListedTemplate `json:"templates,omitempty"`
}

// ListedTemplate is a template of a policy.
type ListedTemplate struct {
	Src   string `json:"src,omitempty"`
	Dst   string `json:"dst,omitempty"`
	Proto string `json:"proto"`
	SPI   uint32 `json:"spi,omitempty"`
	ReqID uint32 `json:"reqid"`
	Mode  string `json:"mode"`
	Level string `json:"level"`
}

// event tells those who watch.
func (m *Module) event(e Event) { m.host.Publish(Topic, e) }

// listed makes a state one to be told of, if anybody listens.
func (m *Module) listed(s *sad.State) *sad.Listed {
	if !m.host.Watched(Topic) {
		return nil
	}
	l := m.shown().List(s)
	return &l
}

// listPolicy makes a policy one to be shown.
func (m *Module) listPolicy(p *spd.Policy) ListedPolicy {
	l := ListedPolicy{
		Name: p.Name, Selector: p.Selector.Text(m.linkName), Dir: p.Dir.String(), Type: typeWord(p.Sub), Action: p.Action.String(),
		Priority: p.Priority, Index: p.Index, Flags: p.Flags.String(), Mark: p.Mark, Mask: p.Mask,
	}
	for i := range p.Templates {
		t := &p.Templates[i]
		lt := ListedTemplate{Proto: t.Proto.String(), SPI: t.SPI, ReqID: t.ReqID, Mode: t.Mode.String(), Level: t.Level.String()}
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

func (m *Module) listedPolicy(p *spd.Policy) *ListedPolicy {
	if !m.host.Watched(Topic) {
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
