package xfrm

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"go.uber.org/zap"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/extensions/xfrm/proto"
	"leveret/extensions/xfrm/sad"
	"leveret/extensions/xfrm/selector"
	"leveret/extensions/xfrm/spd"
	"leveret/extensions/xfrm/xfrmapi"
)

// Claims implements [module.Module].
func (m *Module) Claims() []string {
	return []string{"ipsec.allow_legacy", "ipsec.default", "ipsec.defaults", "ipsec.larval_drop", "ipsec.nd_bypass", "ipsec.policies", "ipsec.states"}
}

// PolicyConfig is one item of ipsec.policies.
type PolicyConfig struct {
	Name      string           `mapstructure:"name"`
	Dir       string           `mapstructure:"dir"`
	Sub       string           `mapstructure:"sub"` // main or sub
	Priority  uint32           `mapstructure:"priority"`
	Action    string           `mapstructure:"action"` // allow, block or protect
	Flags     []string         `mapstructure:"flags"`
	Mark      string           `mapstructure:"mark"`
	IfID      uint32           `mapstructure:"if_id"` // of the link of kind ipsec that the packets go by
	Selector  SelectorConfig   `mapstructure:"selector"`
	Templates []TemplateConfig `mapstructure:"templates"`
}

// SelectorConfig is a [selector.Spec] in which numbers need no quotes.
type SelectorConfig struct {
	Src   string `mapstructure:"src"`
	Dst   string `mapstructure:"dst"`
	Proto any    `mapstructure:"proto"`
	SPort any    `mapstructure:"sport"`
	DPort any    `mapstructure:"dport"`
	Type  any    `mapstructure:"type"`
	Code  any    `mapstructure:"code"`
	Key   any    `mapstructure:"key"`
	Dev   string `mapstructure:"dev"`
}

// TemplateConfig is one template of a policy.
type TemplateConfig struct {
	Src   netip.Addr `mapstructure:"src"`
	Dst   netip.Addr `mapstructure:"dst"`
	Proto string     `mapstructure:"proto"`
	SPI   uint32     `mapstructure:"spi"`
	Mode  string     `mapstructure:"mode"` // default transport
	ReqID uint32     `mapstructure:"reqid"`
	Level string     `mapstructure:"level"` // default required
}

// DefaultConfig is ipsec.default: what becomes of packets that no policy is for.
type DefaultConfig struct {
	In  string `mapstructure:"in"`
	Out string `mapstructure:"out"`
	Fwd string `mapstructure:"fwd"`
}

// Prepare implements [module.Module]: states and policies are put into databases of their own first, which say
// what is wrong with them together.
func (m *Module) Prepare(next *module.Config) (func(clock.Instant), error) {
	legacy, err := decoded(next.Sections["ipsec.allow_legacy"], false)
	bypass, err2 := decoded(next.Sections["ipsec.nd_bypass"], true)
	block, err3 := prepareDefault(next.Sections["ipsec.default"])
	defaults, err4 := prepareDefaults(next.Sections["ipsec.defaults"], legacy)
	states, err5 := prepareStates(next, defaults)
	policies, err6 := preparePolicies(next, bypass)
	drop, err7 := decoded(next.Sections["ipsec.larval_drop"], true)
	return func(now clock.Instant) {
		if !m.keep.opened {
			m.keep.dir, m.keep.lab = next.StateDir, next.Seed != 0
		}
		was := m.block
		m.block, m.defaults, m.waits = block, defaults, !drop
		m.sad.AllowLegacy(legacy)
		m.commitStates(now, slices.Concat(states, m.mobileStates()))
		m.commitPolicies(now, slices.Concat(policies, m.mobilePolicies()))
		m.changed(now)
		if was != block {
			m.tellDefaults()
		}
	}, errors.Join(err, err2, err3, err4, err5, err6, err7)
}

// decoded reads a section that is one value or a list.
func decoded[T any](s module.Section, otherwise T) (T, error) {
	v := otherwise
	if s == nil || !s.Present() {
		return v, nil
	}
	err := s.Decode(&v)
	return v, err
}

func prepareDefault(s module.Section) (block [3]bool, err error) {
	c, err := decoded(s, DefaultConfig{})
	errs := []error{err}
	for _, d := range []struct {
		dir   spd.Dir
		value string
	}{{spd.In, c.In}, {spd.Out, c.Out}, {spd.Fwd, c.Fwd}} {
		switch d.value {
		case "", "allow":
		case "block":
			block[d.dir] = true
		default:
			errs = append(errs, s.Fault(d.dir.String(), fmt.Sprintf("%q: want allow or block", d.value), ""))
		}
	}
	return block, errors.Join(errs...)
}

func prepareDefaults(s module.Section, legacy bool) (sad.Defaults, error) {
	d, err := decoded(s, sad.Defaults{ReplayWindow: 32})
	d.AllowLegacy = legacy
	switch {
	case err != nil:
	case d.ReplayWindow > sad.MaxReplayWindow:
		err = s.Fault("replay_window", fmt.Sprintf("%d is outside 0..%d", d.ReplayWindow, sad.MaxReplayWindow), "")
	case d.ESN && d.ReplayWindow == 0:
		err = s.Fault("esn", "it needs a replay_window", "RFC 4303 3.4.3")
	}
	return d, err
}

func prepareStates(next *module.Config, d sad.Defaults) ([]*sad.State, error) {
	s := next.Sections["ipsec.states"]
	list, err := decoded[[]sad.StateConfig](s, nil)
	errs := []error{err}
	link := func(name string) (int, bool) {
		i := linkIndex(next, name)
		return i, i != 0
	}
	db := sad.New(sad.Options{AllowLegacy: d.AllowLegacy, MaxStates: max(len(list), 1)})
	var all []*sad.State
	for i := range list {
		at := fmt.Sprintf("[%d]", i)
		state, fault := list[i].State(d, readKey, link)
		if fault != nil {
			key := at
			if fault.Key != "" {
				key += "." + fault.Key
			}
			errs = append(errs, s.Fault(key, fault.Text, ""))
			continue
		}
		err := checkState(state)
		if err == nil {
			_, _, err = db.Add(0, state)
		}
		if errors.Is(err, sad.ErrExist) {
			err = fmt.Errorf("proto %s spi %#x at %s is a state above", state.Proto, state.SPI, state.DAddr)
		}
		if err != nil {
			errs = append(errs, s.Fault(at, err.Error(), ""))
		}
		all = append(all, state)
	}
	if len(list) > maxStates {
		errs = append(errs, s.Fault("", fmt.Sprintf("%d states are more than %d", len(list), maxStates), ""))
	}
	return all, errors.Join(errs...)
}

// maxStates bounds the SAD.
const maxStates = 1 << 17

// readKey reads the file of a key. A relative path would depend on where the program was started.
func readKey(name string) ([]byte, error) {
	if !filepath.IsAbs(name) {
		return nil, errors.New("want a path from the root") // it may be the key itself
	}
	return os.ReadFile(name)
}

func linkIndex(next *module.Config, name string) int {
	for i := range next.Links {
		if next.Links[i].Name == name {
			return next.Links[i].Index
		}
	}
	return 0
}

func preparePolicies(next *module.Config, bypass bool) ([]spd.Policy, error) {
	s := next.Sections["ipsec.policies"]
	list, err := decoded[[]PolicyConfig](s, nil)
	errs := []error{err}
	db := spd.New([2]uint64{}, nil)
	var all []spd.Policy
	add := func(p spd.Policy) error {
		err := checkPolicy(&p)
		if err == nil {
			_, err = db.Add(0, p)
		}
		if errors.Is(err, spd.ErrExists) {
			err = errors.New("a policy above is for the same packets")
		}
		if err == nil {
			all = append(all, p)
		}
		return err
	}
	for i := range list {
		at := fmt.Sprintf("[%d]", i)
		ps, key, msg := list[i].policies(func(name string) int { return linkIndex(next, name) })
		for _, p := range ps {
			if err := add(p); err != nil && msg == "" {
				key, msg = "", err.Error()
			}
		}
		if msg != "" {
			if key != "" {
				key = "." + key
			}
			errs = append(errs, s.Fault(at+key, msg, ""))
		}
	}
	if bypass {
		for _, p := range spd.NDBypass() {
			_ = add(p) // one that is there already is the operator's
		}
	}
	return all, errors.Join(errs...)
}

// policies makes one item the policies that it takes, one for each part of a range; msg says what is wrong with key.
func (c *PolicyConfig) policies(link func(string) int) (ps []spd.Policy, key, msg string) {
	p := spd.Policy{Name: c.Name, Priority: c.Priority, IfID: c.IfID}
	var ok bool
	if p.Dir, ok = spd.ParseDir(c.Dir); !ok {
		return nil, "dir", fmt.Sprintf("%q: want in, out or fwd", c.Dir)
	}
	switch c.Sub {
	case "", "main":
	case "sub":
		p.Sub = true
	default:
		return nil, "sub", fmt.Sprintf("%q: want main or sub", c.Sub)
	}
	for _, f := range c.Flags {
		switch f {
		case spd.LocalOK.String():
			p.Flags |= spd.LocalOK
		case spd.ICMP.String():
			p.Flags |= spd.ICMP
		default:
			return nil, "flags", fmt.Sprintf("%q: want localok or icmp", f)
		}
	}
	mark, ok := sad.ParseMark(c.Mark)
	if !ok {
		return nil, "mark", fmt.Sprintf("%q: want VALUE or VALUE/MASK", c.Mark)
	}
	p.Mark, p.Mask = mark.Value, mark.Mask
	if key, msg = c.action(&p); msg != "" {
		return nil, key, msg
	}
	spec, key, msg := c.Selector.spec()
	if msg != "" {
		return nil, "selector." + key, msg
	}
	sels, err := spec.Selectors(link)
	if err != nil {
		key, msg, _ = strings.Cut(err.Error(), ": ")
		return nil, "selector." + key, msg
	}
	for _, sel := range sels {
		p.Selector = sel
		ps = append(ps, p)
	}
	return ps, "", ""
}

// action reads what becomes of the packets.
func (c *PolicyConfig) action(p *spd.Policy) (key, msg string) {
	switch c.Action {
	case "allow", "block":
		if len(c.Templates) > 0 {
			return "templates", "only a policy with action protect has any"
		}
		if c.Action == "block" {
			p.Action = spd.Block
		}
	case "protect":
		if len(c.Templates) == 0 {
			return "templates", "action protect needs at least one"
		}
	default:
		return "action", fmt.Sprintf("%q: want allow, block or protect", c.Action)
	}
	for i := range c.Templates {
		t, key, msg := c.Templates[i].template()
		if msg == "" {
			if err := t.Check(p.Dir); err != nil {
				key, msg, _ = strings.Cut(err.Error(), ": ")
			}
		}
		if msg != "" {
			return fmt.Sprintf("templates[%d].%s", i, key), msg
		}
		p.Templates = append(p.Templates, t)
	}
	return "", ""
}

func (c *TemplateConfig) template() (t spd.Template, key, msg string) {
	t = spd.Template{Src: c.Src, Dst: c.Dst, SPI: c.SPI, ReqID: c.ReqID}
	var ok bool
	if t.Proto, ok = proto.Parse(c.Proto); !ok {
		return t, "proto", fmt.Sprintf("%q: want esp, ah, hao or route2", c.Proto)
	}
	if c.Mode != "" {
		if t.Mode, ok = proto.ParseMode(c.Mode); !ok {
			return t, "mode", fmt.Sprintf("%q: want transport, tunnel, beet, ro or in_trigger", c.Mode)
		}
	}
	if c.Level != "" {
		if t.Level, ok = spd.ParseLevel(c.Level); !ok {
			return t, "level", fmt.Sprintf("%q: want required or use", c.Level)
		}
	}
	return t, "", ""
}

// spec reads numbers and words alike.
func (c *SelectorConfig) spec() (s selector.Spec, key, msg string) {
	s.Src, s.Dst, s.Dev = c.Src, c.Dst, c.Dev
	for _, f := range []struct {
		key  string
		from any
		into *string
	}{{"proto", c.Proto, &s.Proto}, {"sport", c.SPort, &s.SPort}, {"dport", c.DPort, &s.DPort}, {"type", c.Type, &s.Type}, {"code", c.Code, &s.Code}, {"key", c.Key, &s.Key}} {
		switch v := f.from.(type) {
		case nil:
		case string, int, int64, uint64:
			*f.into = fmt.Sprint(v)
		default:
			return s, f.key, "want a word or a number"
		}
	}
	return s, "", ""
}

// commitStates makes the states those of the configuration. One that is the same goes on: counters, sequence numbers,
// window. What has other keys is another SA.
func (m *Module) commitStates(now clock.Instant, want []*sad.State) {
	if len(want) > 0 {
		m.openIVs()
	}
	keep := make(map[*sad.Live]bool, len(want))
	for _, s := range want {
		if old := m.sad.Updates(s); old != nil && old.KM == sad.Valid {
			if next := m.goOn(now, old, s); next != nil {
				keep[next.Live] = true
			}
		}
	}
	for _, s := range m.sad.List() {
		if s.KM == sad.Valid && !keep[s.Live] {
			m.forget(s)
		}
	}
	for _, s := range want {
		if old := m.sad.Updates(s); old != nil && old.KM == sad.Valid && keep[old.Live] {
			continue
		}
		added, _, err := m.sad.Add(now, s)
		if err != nil { // Prepare has put the same into an empty database
			m.host.Log().Error("state", zap.Stringer("proto", s.Proto), zap.Uint32("spi", s.SPI), zap.Error(err))
			continue
		}
		m.came(added)
		m.event(xfrmapi.Event{Event: "newsa", State: m.listed(added)})
	}
}

// goOn returns what old is as s, nil if it cannot go on.
func (m *Module) goOn(now clock.Instant, old, s *sad.State) *sad.State {
	if old.SAddr != s.SAddr {
		return nil
	}
	if sameState(old, s) {
		return old
	}
	updated, err := m.sad.Update(now, s)
	if err != nil {
		return nil
	}
	m.left(old)
	m.came(updated)
	m.event(xfrmapi.Event{Event: "updsa", State: m.listed(updated)})
	return updated
}

// sameState compares a state with one of the configuration, which says nothing of where numbers were when a command
// added it.
func sameState(old, s *sad.State) bool {
	c := *s
	c.ReplaySeq, c.ReplayOSeq, c.Seq = old.ReplaySeq, old.ReplayOSeq, old.Seq
	return old.Equal(&c)
}

// commitPolicies makes the policies those of the configuration, in its order.
func (m *Module) commitPolicies(now clock.Instant, want []spd.Policy) {
	have := m.spd.List()
	slices.Reverse(have)
	if slices.EqualFunc(have, want, func(a *spd.Policy, b spd.Policy) bool { return samePolicy(a, &b) }) {
		return
	}
	index := map[spd.Key]*spd.Policy{}
	for _, p := range have {
		index[p.Key()] = p
	}
	m.spd.DeleteFunc(func(*spd.Policy) bool { return true })
	m.wants = [3]int{}
	var told []xfrmapi.Event
	for _, p := range want {
		old := index[p.Key()]
		if old != nil {
			p.Index = old.Index
			if samePolicy(old, &p) {
				p.Added, p.Usage = old.Added, old.Usage
			}
			delete(index, p.Key())
		}
		added, err := m.spd.Add(now, p)
		if err != nil { // Prepare has put the same into an empty database
			m.host.Log().Error("policy", zap.String("name", p.Name), zap.Error(err))
			continue
		}
		m.want(added, 1)
		if old == nil {
			told = append(told, xfrmapi.Event{Event: "newpolicy", Policy: m.listedPolicy(added)})
		} else if !samePolicy(old, added) {
			told = append(told, xfrmapi.Event{Event: "updpolicy", Policy: m.listedPolicy(added)})
		}
	}
	for _, p := range have {
		if index[p.Key()] != nil {
			m.event(xfrmapi.Event{Event: "delpolicy", Policy: m.listedPolicy(p)})
		}
	}
	for _, e := range told {
		m.event(e)
	}
}

// samePolicy compares all but the number and what has become of them.
func samePolicy(a, b *spd.Policy) bool {
	x, y := *a, *b
	x.Added, x.Usage, y.Added, y.Usage = 0, nil, 0, nil
	x.Index, y.Index = 0, 0
	x.Selector, y.Selector = x.Selector.Normal(), y.Selector.Normal()
	if len(x.Templates) == 0 && len(y.Templates) == 0 {
		x.Templates, y.Templates = nil, nil
	}
	return reflect.DeepEqual(x, y)
}
