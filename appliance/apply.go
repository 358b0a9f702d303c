package appliance

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.uber.org/zap"

	"leveret/appliance/clock"
	"leveret/appliance/config"
	"leveret/appliance/module"
	"leveret/appliance/netstack"
)

// Apply makes root the configuration in force: what did not change is not touched. Everything is
// prepared before anything is committed, so a configuration that cannot be had changes nothing.
func (a *Appliance) Apply(root *config.Root, source string) error {
	a.applyMu.Lock()
	defer a.applyMu.Unlock()
	if err := a.commit(root); err != nil {
		return err
	}
	a.fileRoot, a.opts.Source = root, source
	a.log.Info("configuration applied", zap.Uint64("generation", a.generation), zap.String("source", source))
	return nil
}

// commit prepares and then commits root. applyMu is held.
func (a *Appliance) commit(root *config.Root) error {
	ctx := context.Background()
	if a.generation > 0 {
		if err := sameSinceStart(&a.root.System, &root.System); err != nil {
			return err
		}
	}
	plan, err := a.planLinks(root)
	if err != nil {
		return err
	}
	commits := make([]func(clock.Instant), len(a.loops))
	var errs []error
	for i, l := range a.loops {
		cfg := a.moduleConfig(root, plan)
		err := l.on(ctx, func(clock.Instant) error {
			var err error
			commits[i], err = l.mod.Prepare(cfg)
			return err
		})
		errs = append(errs, err)
	}
	services := services(root)
	errs = append(errs, a.host.CheckServices(services))
	if err := errors.Join(errs...); err != nil {
		a.undo(plan)
		return err
	}
	if err := a.commitLinks(root, plan); err != nil {
		return err
	}
	a.path.SetParams(params(root))
	for i, l := range a.loops {
		if err := l.on(ctx, func(now clock.Instant) error { commits[i](now); return nil }); err != nil {
			return fmt.Errorf("%s: %w", l.mod.Name(), err)
		}
	}
	first := a.generation == 0
	if first {
		a.startModules()
	}
	if err := a.host.SetServices(services); err != nil {
		a.log.Error("services", zap.Error(err))
	}
	a.setCaptures(root.Capture)
	a.root, a.applied = root, a.clock.Wall()
	a.generation++
	if a.opts.OnApply != nil {
		a.opts.OnApply(root)
	}
	return nil
}

// sameSinceStart refuses a change of what is settled when the program starts.
func sameSinceStart(old, next *config.System) error {
	var changed []string
	for _, x := range []struct {
		path     string
		old, new any
	}{
		{"system.state_dir", old.StateDir, next.StateDir},
		{"system.run_dir", old.RunDir, next.RunDir},
		{"system.seed", old.Seed, next.Seed},
		{"system.log.format", old.Log.Format, next.Log.Format},
		{"system.control.socket", old.Control.Socket, next.Control.Socket},
		{"system.control.socket_mode", old.Control.SocketMode, next.Control.SocketMode},
		{"system.control.group", old.Control.Group, next.Control.Group},
	} {
		if x.old != x.new {
			changed = append(changed, fmt.Sprintf("%s: from %q to %q takes a restart: leave it, or stop and run again", x.path, fmt.Sprint(x.old), fmt.Sprint(x.new)))
		}
	}
	if changed == nil {
		return nil
	}
	return module.Refuse(strings.Join(changed, "\n"))
}

// Check reports what only the modules can find wrong with a configuration. It opens and changes
// nothing.
func (a *Appliance) Check(root *config.Root) error {
	a.applyMu.Lock()
	defer a.applyMu.Unlock()
	plan := &linkPlan{}
	for i, l := range root.Links { // indexes as they would be from a fresh start
		plan.opened = append(plan.opened, &linkState{cfg: l, index: i + 1})
	}
	cfg := a.moduleConfig(root, plan)
	var errs []error
	for _, l := range a.loops {
		errs = append(errs, l.on(context.Background(), func(clock.Instant) error {
			_, err := l.mod.Prepare(cfg)
			return err
		}))
	}
	return errors.Join(append(errs, a.host.CheckServices(services(root)))...)
}

// on runs f on the loop if that is running, else here.
func (l *loop) on(ctx context.Context, f func(clock.Instant) error) error {
	if !l.began {
		return f(l.clock.Now())
	}
	var err error
	if cerr := l.call(ctx, func(now clock.Instant) { err = f(now) }); cerr != nil {
		return cerr
	}
	return err
}

func services(root *config.Root) []netstack.Service {
	var out []netstack.Service
	for _, s := range root.Services {
		out = append(out, netstack.Service{Name: s.Name, Proto: s.Proto, Port: s.Port})
	}
	return out
}

// moduleConfig is what modules see of root.
func (a *Appliance) moduleConfig(root *config.Root, plan *linkPlan) *module.Config {
	index := map[string]int{}
	for n, s := range a.links {
		index[n] = s.index
	}
	for _, s := range plan.opened {
		index[s.cfg.Name] = s.index
	}
	c := &module.Config{
		Seed: root.System.Seed, Hostname: root.System.Hostname, StateDir: root.System.StateDir, RunDir: root.System.RunDir,
		Routing:  module.RoutingConfig{Forwarding: root.Routing.Forwarding},
		Sections: map[string]module.Section{},
	}
	for path, s := range root.Sections {
		c.Sections[path] = s
	}
	for _, l := range root.Links {
		lc := module.LinkConfig{
			Name: l.Name, Index: index[l.Name], Kind: l.Kind, MTU: l.MTU, LinkLocal: l.LinkLocal,
			Sections: map[string]module.Section{},
		}
		for key, s := range l.Sections {
			lc.Sections[key] = s
		}
		for _, ad := range l.Addresses {
			lc.Addresses = append(lc.Addresses, module.AddressConfig{
				Prefix: ad.Address, Anycast: ad.Anycast, DAD: *ad.DAD,
				Valid: ad.ValidLifetime, Preferred: ad.PreferredLifetime,
			})
		}
		c.Links = append(c.Links, lc)
	}
	return c
}
