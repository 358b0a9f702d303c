package appliance

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"leveret/appliance/control"
	"leveret/appliance/control/api"
	"leveret/appliance/module"
	"leveret/appliance/netstack"
	"leveret/appliance/resolver"
)

// seconds turns a number of the API into a duration.
func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// probeLink resolves the link a probe is bound to: by name, or by the destination's zone.
func (a *Appliance) probeLink(dev string, dst netip.Addr) (int, error) {
	if dev == "" {
		dev = dst.Zone()
	}
	if dev == "" {
		return 0, nil
	}
	l := a.linkSnap.Load().Name(dev)
	if l == nil {
		return 0, noDevice(dev)
	}
	return l.Index, nil
}

// newResolver makes the resolver of this node, which asks by sockets of the host stack.
func (a *Appliance) newResolver(seed [32]byte) *resolver.Resolver {
	seed[30] ^= 1 // no other has this one
	return resolver.New(resolver.Options{
		Known: func() module.Resolvers { return *a.resolvers.Load() },
		DialUDP: func(server netip.AddrPort, port uint16) (net.Conn, error) {
			return a.host.DialUDP(server, netstack.SocketOptions{Local: netip.AddrPortFrom(netip.Addr{}, port)})
		},
		DialTCP: func(ctx context.Context, server netip.AddrPort) (net.Conn, error) {
			return a.host.DialTCP(ctx, server, netstack.SocketOptions{})
		},
		Clock: a.clock, Seed: seed,
	})
}

// destination returns where a probe goes: the address asked for, or that of the name's which is to be tried
// first (RFC 6724 6).
func (a *Appliance) destination(ctx context.Context, dst netip.Addr, name string) (netip.Addr, error) {
	switch {
	case dst.IsValid() == (name != ""):
		return dst, control.BadRequest("one of dst and name is wanted")
	case name == "":
		return dst, nil
	}
	list, err := a.names.Lookup(ctx, name)
	switch {
	case ctx.Err() != nil:
		return dst, ctx.Err()
	case err != nil:
		return dst, module.Refuse(err.Error())
	}
	if a.router != nil {
		list = a.router.SortDestinations(list)
	}
	return list[0], nil
}

func (a *Appliance) linkName(i int) string {
	if l := a.linkSnap.Load().Index(i); l != nil {
		return l.Name
	}
	return ""
}

// millis is a round trip as the API has it.
func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// ping answers `leveret ping`.
func (a *Appliance) ping(ctx context.Context, req module.Request, w io.Writer) error {
	var r api.PingRequest
	if err := req.Decode(&r); err != nil {
		return err
	}
	link, err := a.probeLink(r.Dev, r.Dst)
	if err != nil {
		return err
	}
	dst, err := a.destination(ctx, r.Dst, r.Name)
	if err != nil {
		return err
	}
	enc, ctx, fail := lines(ctx, w)
	err = a.host.Ping(ctx, netstack.PingOptions{
		Dst: dst.WithZone(""), Source: r.Source, Link: link, Size: r.Size, Count: r.Count, Interval: seconds(r.Interval),
		Timeout: seconds(r.Timeout), HopLimit: r.HopLimit, DontFragment: r.DontFragment,
	}, func(e netstack.PingEvent) {
		out := api.PingEvent{
			Seq: e.Seq, From: e.From, Source: e.Source, Dev: a.linkName(e.Link), Bytes: e.Size, HopLimit: e.HopLimit,
			Time: millis(e.RTT), Dup: e.Dup, Type: e.Type, Code: e.Code, Arg: e.Arg,
		}
		switch e.Kind {
		case netstack.PingStarted:
			out.Event, out.Dst = api.PingStart, dst
		case netstack.PingSent:
			out.Event = api.PingSent
		case netstack.PingReplied:
			out.Event = api.PingReply
		case netstack.PingErrored:
			out.Event = api.PingError
		case netstack.PingFailed:
			out.Event, out.Error = api.PingError, e.Err.Error()
		case netstack.PingCorrupted:
			out.Event, out.Error = api.PingError, "the reply carries other data than was sent"
		case netstack.PingTimedOut: // the client knows: it counts what was sent
			return
		}
		fail(enc.Encode(out))
	})
	return probeError(err)
}

// traceroute answers `leveret traceroute`.
func (a *Appliance) traceroute(ctx context.Context, req module.Request, w io.Writer) error {
	var r api.TraceRequest
	if err := req.Decode(&r); err != nil {
		return err
	}
	link, err := a.probeLink(r.Dev, r.Dst)
	if err != nil {
		return err
	}
	dst, err := a.destination(ctx, r.Dst, r.Name)
	if err != nil {
		return err
	}
	enc, ctx, fail := lines(ctx, w)
	if r.Name != "" {
		fail(enc.Encode(api.TraceEvent{Dst: dst}))
	}
	err = a.host.Traceroute(ctx, netstack.TracerouteOptions{
		Dst: dst.WithZone(""), Source: r.Source, Link: link, FirstHop: r.FirstHop, MaxHops: r.MaxHops, Probes: r.Probes,
		Timeout: seconds(r.Timeout), Size: r.Size,
	}, func(e netstack.HopEvent) {
		out := api.TraceEvent{
			Hop: e.Hop, Probe: e.Probe, From: e.From, Time: millis(e.RTT), Type: e.Type, Code: e.Code, Reached: e.Reached,
		}
		if e.Err != nil {
			out.Error = e.Err.Error()
		}
		fail(enc.Encode(out))
	})
	return probeError(err)
}

// lines returns an encoder of JSON lines to a client, and a context that ends when it has gone.
func lines(ctx context.Context, w io.Writer) (*json.Encoder, context.Context, func(error)) {
	ctx, cancel := context.WithCancel(ctx)
	return json.NewEncoder(w), ctx, func(err error) {
		if err != nil {
			cancel()
		}
	}
}

// probeError turns a refusal to probe into one for the operator; being stopped is none.
func probeError(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return nil
	}
	return module.Refuse(err.Error())
}
