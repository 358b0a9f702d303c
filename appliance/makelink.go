package appliance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"leveret/appliance/clock"
	"leveret/appliance/config"
	"leveret/appliance/control/api"
	"leveret/appliance/module"
)

func (a *Appliance) makeLink(ctx context.Context, req module.Request) (any, error) {
	var r api.LinkMake
	if err := req.Decode(&r); err != nil {
		return nil, err
	}
	return struct{}{}, a.MakeLink(ctx, r)
}

// MakeLink lets a link come, change or go that a module makes. What is so made lasts until the configuration is applied
// again. A refusal is the operator's.
func (a *Appliance) MakeLink(ctx context.Context, r api.LinkMake) error {
	a.applyMu.Lock()
	defer a.applyMu.Unlock()
	if !a.up.Load() {
		return errNotUp
	}
	s := a.links[r.Dev]
	switch {
	case r.Op == "add" && s != nil:
		return module.Refuse("File exists")
	case r.Op == "add":
		return a.addLink(ctx, r)
	case s == nil:
		return noDevice(r.Dev)
	case !config.IsTunnel(s.cfg.Kind):
		return module.Refuse(fmt.Sprintf("Operation not supported: %s is of kind %s", r.Dev, s.cfg.Kind))
	case r.Op == "change" && r.Kind != "" && r.Kind != s.cfg.Kind:
		return module.Refuse(fmt.Sprintf("Invalid argument: %s is of kind %s: delete it, and add another", r.Dev, s.cfg.Kind))
	case r.Op == "change":
		commit, err := a.prepareLink(ctx, r, s.cfg.Kind, s.index)
		if err == nil {
			err = commit()
		}
		return err
	case r.Op == "del":
		delete(a.links, r.Dev)
		a.publishLinks()
		a.close(s)
		return nil
	}
	return module.Refuse(fmt.Sprintf("%q: want add, change or del", r.Op))
}

func (a *Appliance) addLink(ctx context.Context, r api.LinkMake) error {
	cfg := a.root.NewTunnel(r.Dev, r.Kind)
	if cfg == nil {
		return module.Refuse(fmt.Sprintf("Invalid argument: no link of kind %q can have the name %q", r.Kind, r.Dev))
	}
	index := a.freeIndex(&linkPlan{})
	if index == 0 {
		return module.Refuse("No buffer space available: there are too many links")
	}
	commit, err := a.prepareLink(ctx, r, r.Kind, index)
	if err != nil {
		return err
	}
	s, err := a.openLink(a.root, *cfg, index)
	if err != nil {
		return err
	}
	a.install(s)
	a.publishLinks()
	return commit()
}

// prepareLink asks the module whether a link can be so.
func (a *Appliance) prepareLink(ctx context.Context, r api.LinkMake, kind string, index int) (commit func() error, err error) {
	decode := func(v any) error {
		if len(r.Spec) == 0 {
			return nil
		}
		d := json.NewDecoder(bytes.NewReader(r.Spec))
		d.DisallowUnknownFields()
		if err := d.Decode(v); err != nil {
			return module.Refuse(err.Error())
		}
		return nil
	}
	for _, l := range a.loops {
		m, ok := l.mod.(module.LinkMaker)
		if !ok {
			continue
		}
		var f func(clock.Instant)
		err := l.on(ctx, func(clock.Instant) (err error) { f, err = m.MakeLink(r.Dev, kind, index, decode); return err })
		return func() error {
			return l.on(ctx, func(now clock.Instant) error { f(now); return nil })
		}, err
	}
	return nil, module.Refuse("Operation not supported: no part of this program makes links")
}
