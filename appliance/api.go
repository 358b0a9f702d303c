package appliance

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"leveret/appliance/clock"
	"leveret/appliance/config"
	"leveret/appliance/control"
	"leveret/appliance/control/api"
	"leveret/appliance/datapath"
	"leveret/appliance/module"
	"leveret/appliance/packet"
)

// RegisterAPI adds every command of the appliance and its modules to a server.
func (a *Appliance) RegisterAPI(s *control.Server) {
	for _, h := range a.handlers {
		s.Handle(h.method, h.path, func(ctx context.Context, req module.Request) (any, error) {
			if !a.up.Load() {
				return nil, errNotUp
			}
			var v any
			err := h.loop.on(ctx, func(now clock.Instant) (err error) {
				v, err = h.f(now, req)
				return err
			})
			return v, err
		})
	}
	s.Handle("GET", "/v1/link", a.getLink)
	s.Handle("POST", "/v1/link", a.setLink)
	s.Handle("POST", "/v1/link/make", a.makeLink)
	s.Handle("GET", "/v1/status", a.getStatus)
	s.Handle("GET", "/v1/health", a.getHealth)
	s.Handle("POST", "/v1/reset", a.postReset)
	s.Handle("GET", "/v1/stats", a.getStats)
	s.Handle("GET", "/v1/stats/drops", a.getDrops)
	s.Handle("GET", "/v1/config", a.getConfig)
	s.Handle("POST", "/v1/config/apply", a.postApply)
	s.Handle("POST", "/v1/config/diff", a.postDiff)
	s.Handle("GET", "/v1/route/cache", a.getCache)
	s.Handle("POST", "/v1/route/cache/flush", a.flushCache)
	s.Stream("GET", "/v1/events", "application/jsonl", a.events)
	s.Stream("GET", "/v1/capture", "application/x-pcapng", a.captureStream)
	s.Stream("POST", "/v1/ping", "application/jsonl", a.ping)
	s.Stream("POST", "/v1/traceroute", "application/jsonl", a.traceroute)
}

// errNotUp answers commands before the start and after the stop.
var errNotUp = module.Refuse("the appliance is starting or stopping")

func noDevice(name string) error {
	return module.Refuse(fmt.Sprintf("Cannot find device %q", name))
}

func (a *Appliance) linkList() []api.Link {
	st := a.path.Stats()
	out := []api.Link{}
	for _, l := range a.linkSnap.Load().All() {
		j := linkJSON(l)
		c := st.Links[l.Index]
		j.Stats64 = &api.Stats64{
			RX: api.Direction{Bytes: c.RxOctets, Packets: c.RxPackets},
			TX: api.Direction{
				Bytes: c.TxOctets, Packets: c.TxPackets, Errors: c.TxCarrier + c.TxCollisions, Dropped: c.TxFailed + c.TxCarrier + c.TxCollisions,
				CarrierErrors: c.TxCarrier, Collisions: c.TxCollisions,
			},
		}
		out = append(out, j)
	}
	return out
}

func (a *Appliance) getLink(_ context.Context, req module.Request) (any, error) {
	if err := req.Selectors("dev"); err != nil {
		return nil, err
	}
	list := a.linkList()
	dev := req.Query["dev"]
	if dev == "" {
		return list, nil
	}
	for _, l := range list {
		if l.IfName == dev {
			return []api.Link{l}, nil
		}
	}
	return nil, noDevice(dev)
}

func (a *Appliance) setLink(_ context.Context, req module.Request) (any, error) {
	var r api.LinkRequest
	if err := req.Decode(&r); err != nil {
		return nil, err
	}
	a.applyMu.Lock()
	defer a.applyMu.Unlock()
	if !a.up.Load() {
		return nil, errNotUp
	}
	s := a.links[r.Dev]
	if s == nil {
		return nil, noDevice(r.Dev)
	}
	if r.MTU != nil {
		if *r.MTU < 1280 || *r.MTU > 65535 {
			return nil, module.Refuse("Invalid argument: the MTU must be 1280 to 65535 (RFC 8200 5)")
		}
		if err := s.port.SetMTU(*r.MTU); err != nil {
			return nil, module.Refuse(err.Error())
		}
		s.mtu = *r.MTU
		s.state = a.stateOf(s)
	}
	if r.Up != nil {
		s.up = *r.Up
	}
	a.publishLinks()
	return struct{}{}, nil
}

// Waiting names what is still waited for before the appliance is ready. Any goroutine.
func (a *Appliance) Waiting(ctx context.Context) ([]string, error) {
	if !a.up.Load() {
		return []string{"the appliance: starting or stopping"}, nil
	}
	waiting := []string{}
	for _, l := range a.linkSnap.Load().All() {
		switch {
		case !l.Up: // somebody took it down: not waited for
		case !l.Carrier:
			waiting = append(waiting, fmt.Sprintf("link %s: no carrier", l.Name))
		}
	}
	for _, l := range a.loops {
		if r, ok := l.mod.(module.Readier); ok {
			if err := l.on(ctx, func(clock.Instant) error { waiting = append(waiting, r.Waiting()...); return nil }); err != nil {
				return nil, err
			}
		}
	}
	return waiting, nil
}

func (a *Appliance) getHealth(ctx context.Context, _ module.Request) (any, error) {
	w, err := a.Waiting(ctx)
	if err != nil {
		return nil, err
	}
	return api.Health{Ready: len(w) == 0, Waiting: w}, nil
}

// announceReady logs once that the appliance is ready, and what it waits for until then.
func (a *Appliance) announceReady(ctx context.Context) {
	t := time.NewTicker(100 * time.Millisecond)
	defer t.Stop()
	var last []string
	for {
		w, err := a.Waiting(ctx)
		if err != nil {
			return
		}
		if len(w) == 0 {
			a.log.Info("ready", zap.Int("links", len(a.linkSnap.Load().All())))
			if a.opts.OnReady != nil {
				a.opts.OnReady()
			}
			return
		}
		if !slices.Equal(w, last) {
			a.log.Info("waiting", zap.Strings("for", w))
			last = w
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (a *Appliance) getStatus(ctx context.Context, req module.Request) (any, error) {
	health, err := a.getHealth(ctx, req)
	if err != nil {
		return nil, err
	}
	st := a.path.Stats()
	s := api.Status{
		Version: a.opts.Version, PID: os.Getpid(), Started: a.started,
		Uptime: int64(a.clock.Wall().Sub(a.started) / time.Second), Health: health.(api.Health),
		Links: a.linkList(),
		Tables: map[string]int{
			"addresses": len(a.addrSnap.Load().All()), "groups": len(a.addrSnap.Load().Groups()),
			"path_mtu": len(a.path.PathMTU().All(a.clock.Now())),
		},
		Packets: api.Packets{
			Forwarded: st.Get(datapath.Forwarded), Delivered: st.Get(datapath.Delivered), Originated: st.Get(datapath.Originated),
		},
	}
	for _, l := range st.Links {
		s.Packets.Received += l.RxPackets
	}
	for _, n := range st.Drops {
		s.Packets.Dropped += n
	}
	a.applyMu.Lock()
	s.Hostname = a.root.System.Hostname
	s.Config = api.ConfigState{Source: a.opts.Source, Generation: a.generation, Applied: a.applied}
	a.applyMu.Unlock()
	return s, nil
}

func (a *Appliance) postReset(_ context.Context, req module.Request) (any, error) {
	var r api.ResetRequest
	if err := req.Decode(&r); err != nil {
		return nil, err
	}
	if !a.up.Load() {
		return nil, errNotUp
	}
	if r.Async {
		go func() {
			if err := a.Reset(context.Background()); err != nil {
				a.log.Error("reset", zap.Error(err))
			}
		}()
		return struct{}{}, nil
	}
	// The work is finished even if the client goes away: half a reset is no state to be in.
	return struct{}{}, a.Reset(context.Background())
}

func (a *Appliance) getStats(context.Context, module.Request) (any, error) {
	st := a.path.Stats()
	out := api.Stats{"datapath": {}, "drops": {}, "icmp6": {}, "netstack": a.host.Stats().Map()}
	st.Each(func(name string, v uint64) { out["datapath"][name] = v })
	for r, n := range st.Drops {
		if r != 0 {
			out["drops"][packet.Reason(r).String()] = n
		}
	}
	for t := range 256 {
		if n := st.ICMPIn[t]; n != 0 {
			out["icmp6"][fmt.Sprintf("in_type_%d", t)] = n
		}
		if n := st.ICMPOut[t]; n != 0 {
			out["icmp6"][fmt.Sprintf("out_type_%d", t)] = n
		}
	}
	for i, h := range a.hosts {
		g := map[string]uint64{}
		for name, c := range h.counters {
			g[name] = c.Value()
		}
		out[a.loops[i].mod.Name()] = g
	}
	for _, l := range a.linkSnap.Load().All() {
		c := st.Links[l.Index]
		out["link/"+l.Name] = map[string]uint64{
			"rx_packets": c.RxPackets, "rx_bytes": c.RxOctets, "tx_packets": c.TxPackets, "tx_bytes": c.TxOctets, "tx_dropped": c.TxFailed,
			"tx_carrier_errors": c.TxCarrier, "tx_collisions": c.TxCollisions,
		}
	}
	return out, nil
}

func (a *Appliance) getDrops(context.Context, module.Request) (any, error) {
	out := []api.Drop{}
	for r, n := range a.path.Stats().Drops {
		if n != 0 {
			out = append(out, api.Drop{Reason: packet.Reason(r).String(), Ref: packet.Reason(r).Ref(), Packets: n})
		}
	}
	return out, nil
}

func (a *Appliance) getConfig(context.Context, module.Request) (any, error) {
	a.applyMu.Lock()
	defer a.applyMu.Unlock()
	text, err := config.Show(a.root)
	if err != nil {
		return nil, err
	}
	return api.Config{Source: a.opts.Source, YAML: string(text)}, nil
}

// loadRequest returns the configuration a request means.
func (a *Appliance) loadRequest(req module.Request) (root *config.Root, source string, err error) {
	var r api.ConfigRequest
	if err := req.Decode(&r); err != nil {
		return nil, "", err
	}
	if a.opts.Load == nil {
		return nil, "", module.Refuse("this appliance has no configuration files")
	}
	root, source, err = a.opts.Load(r.Name, []byte(r.YAML))
	if faults, rest := config.Collect(err); rest == nil && len(faults) > 0 {
		return nil, "", faultError(faults)
	}
	return root, source, err
}

func faultError(fs config.Faults) error {
	e := &control.FaultError{}
	for _, f := range fs {
		e.Faults = append(e.Faults, api.Fault{File: f.File, Line: f.Line, Path: f.Path, Msg: f.Msg, RFC: f.RFC})
	}
	return e
}

func (a *Appliance) postApply(_ context.Context, req module.Request) (any, error) {
	root, source, err := a.loadRequest(req)
	if err != nil {
		return nil, err
	}
	if !a.up.Load() {
		return nil, errNotUp
	}
	changes := a.diff(root)
	if err := a.Apply(root, source); err != nil {
		if faults, rest := config.Collect(err); rest == nil && len(faults) > 0 {
			return nil, faultError(faults)
		}
		return nil, module.Refuse(strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	a.applyMu.Lock()
	defer a.applyMu.Unlock()
	return api.ConfigResult{Generation: a.generation, Changes: changes}, nil
}

func (a *Appliance) postDiff(_ context.Context, req module.Request) (any, error) {
	root, _, err := a.loadRequest(req)
	if err != nil {
		return nil, err
	}
	changes := a.diff(root)
	a.applyMu.Lock()
	defer a.applyMu.Unlock()
	return api.ConfigResult{Generation: a.generation, Changes: changes}, nil
}

func (a *Appliance) diff(root *config.Root) []api.Change {
	a.applyMu.Lock()
	defer a.applyMu.Unlock()
	out := []api.Change{}
	for _, c := range config.Diff(a.root, root) {
		out = append(out, api.Change{Path: c.Path, From: c.Old, To: c.New})
	}
	return out
}

// events streams what happens, one JSON object a line.
func (a *Appliance) events(ctx context.Context, req module.Request, w io.Writer) error {
	if err := req.Selectors("topics"); err != nil {
		return err
	}
	var topics []string
	if t := req.Query["topics"]; t != "" {
		topics = strings.Split(t, ",")
	}
	sub, err := a.bus.Subscribe(topics...)
	if err != nil {
		return module.Refuse(err.Error())
	}
	defer sub.Close()
	if _, err := w.Write(nil); err != nil {
		return err
	}
	enc := json.NewEncoder(w)
	for {
		ev, err := sub.Next(ctx)
		if err != nil {
			return nil //nolint:nilerr // the subscriber has gone
		}
		out := api.Event{Topic: ev.Topic, Time: ev.Time}
		data := ev.Data
		if ev.Lost > 0 {
			out.Topic, data = api.TopicOverrun, api.Overrun{Overrun: ev.Lost}
		}
		if out.Event, err = json.Marshal(data); err != nil {
			return err
		}
		if err := enc.Encode(out); err != nil {
			return err
		}
	}
}
