package xfrm

import (
	"fmt"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/extensions/xfrm/sad"
	"leveret/extensions/xfrm/xfrmapi"
)

// handleStates adds the commands of states.
func (m *Module) handleStates(h module.Host) {
	h.Handle("GET", "/v1/xfrm/state", m.showStates)
	h.Handle("POST", "/v1/xfrm/state", m.changeState)
	h.Handle("GET", "/v1/xfrm/state/get", m.showState)
	h.Handle("GET", "/v1/xfrm/state/count", m.countStates)
	h.Handle("POST", "/v1/xfrm/state/deleteall", m.deleteSelected)
	h.Handle("POST", "/v1/xfrm/state/flush", m.flushSelected)
}

// refuse makes an error the operator's.
func refuse(err error) error {
	if err == nil {
		return nil
	}
	return module.Refuse(err.Error())
}

// viewFor is how states are shown to who asks: with keys if he asks for them and may have them.
func (m *Module) viewFor(req module.Request, showKeys string) (sad.View, error) {
	v := m.shown()
	switch showKeys {
	case "":
	case "true":
		if !req.Owner {
			return v, module.Refuse("Operation not permitted: keys are shown to root and to the user that the appliance runs as")
		}
		v.Keys = true
	default:
		return v, module.Refuse(fmt.Sprintf("show_keys is true or absent, not %q", showKeys))
	}
	return v, nil
}

func (m *Module) showStates(_ clock.Instant, req module.Request) (any, error) {
	if err := req.Selectors("src", "dst", "proto", "spi", "mode", "reqid", "flag", "show_keys"); err != nil {
		return nil, err
	}
	q := req.Query
	f, err := filter(xfrmapi.StateFilter{Src: q["src"], Dst: q["dst"], Proto: q["proto"], SPI: q["spi"], Mode: q["mode"], ReqID: q["reqid"], Flag: q["flag"]})
	if err != nil {
		return nil, err
	}
	v, err := m.viewFor(req, q["show_keys"])
	if err != nil {
		return nil, err
	}
	out := []sad.Listed{}
	for _, s := range m.states() {
		if f.Match(s) {
			out = append(out, v.List(s))
		}
	}
	return out, nil
}

func filter(f xfrmapi.StateFilter) (sad.Filter, error) {
	out, err := sad.ParseFilter(f.Words())
	return out, refuse(err)
}

func (m *Module) showState(_ clock.Instant, req module.Request) (any, error) {
	if err := req.Selectors("src", "dst", "proto", "spi", "mark", "mask", "show_keys"); err != nil {
		return nil, err
	}
	q := req.Query
	id := xfrmapi.StateID{Src: q["src"], Dst: q["dst"], Proto: q["proto"], SPI: q["spi"], Mark: q["mark"], Mask: q["mask"]}
	r, err := sad.Parse("get", id.Words(), sad.Outside{})
	if err != nil {
		return nil, refuse(err)
	}
	v, err := m.viewFor(req, q["show_keys"])
	if err != nil {
		return nil, err
	}
	s, err := m.getState(r.ID, r.SAddr, r.Mark)
	if err != nil {
		return nil, refuse(err)
	}
	return v.List(s), nil
}

func (m *Module) countStates(_ clock.Instant, req module.Request) (any, error) {
	if err := req.Selectors(); err != nil {
		return nil, err
	}
	return xfrmapi.StateCount{Count: m.sad.Count(), Buckets: sad.Buckets, MaxBuckets: sad.Buckets}, nil
}

// changeState answers xfrm state add, update, delete and allocspi.
func (m *Module) changeState(now clock.Instant, req module.Request) (any, error) {
	var b xfrmapi.StateRequest
	if err := req.Decode(&b); err != nil {
		return nil, err
	}
	s, err := b.Make(m.linkNamed)
	if err != nil {
		return nil, refuse(err)
	}
	switch b.Op {
	case "add":
		_, err = m.addState(now, s)
	case "update":
		_, err = m.updateState(now, s)
	case "delete":
		err = m.deleteState(now, s.ID, s.SAddr, s.Mark)
	case "allocspi":
		added, err := m.allocSPI(now, s, b.Min, b.Max)
		if err != nil {
			return nil, refuse(err)
		}
		return m.shown().List(added), nil
	default:
		err = fmt.Errorf("unknown operation %q", b.Op)
	}
	return struct{}{}, refuse(err)
}

func (m *Module) linkNamed(name string) (int, bool) {
	if l := m.host.Links().Name(name); l != nil {
		return l.Index, true
	}
	return 0, false
}

func (m *Module) deleteSelected(now clock.Instant, req module.Request) (any, error) {
	var b xfrmapi.StateFilter
	if err := req.Decode(&b); err != nil {
		return nil, err
	}
	f, err := filter(b)
	if err != nil {
		return nil, err
	}
	return xfrmapi.Flushed{Flushed: m.deleteStates(now, f.Match)}, nil
}

func (m *Module) flushSelected(now clock.Instant, req module.Request) (any, error) {
	var b xfrmapi.StateFlush
	if err := req.Decode(&b); err != nil {
		return nil, err
	}
	return xfrmapi.Flushed{Flushed: m.flushStates(now, b.Proto)}, nil
}
