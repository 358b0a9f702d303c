package config

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// LogModules are the names that system.log.modules can have.
var LogModules = []string{"appliance", "control", "ndp", "netstack", "policyroute", "run", "tunnel"}

var linkName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$`)

// check finds what the types cannot say.
func (l *loader) check(r *Root) {
	at := func(path string) place { return place{path, path} }
	if r.Version != 1 {
		l.fault(at("version"), fmt.Sprintf("%d: this program reads version 1", r.Version), "")
	}
	l.checkSystem(r, at)
	if r.ICMPv6.ErrorRate < 0 || r.ICMPv6.ErrorRate > 1e6 {
		l.fault(at("icmpv6.error_rate"), fmt.Sprintf("%d is outside 0..1000000", r.ICMPv6.ErrorRate), "RFC 4443 2.4(f)")
	}
	if r.ICMPv6.ErrorBurst < 1 || r.ICMPv6.ErrorBurst > 1e6 {
		l.fault(at("icmpv6.error_burst"), fmt.Sprintf("%d is outside 1..1000000", r.ICMPv6.ErrorBurst), "RFC 4443 2.4(f)")
	}
	l.oneOf(at("routing.hop_by_hop"), r.Routing.HopByHop, "process", "ignore")
	l.checkServices(r)
	l.checkLinks(r)
	l.checkCaptures(r)
}

func (l *loader) oneOf(at place, v string, words ...string) {
	if !slices.Contains(words, v) {
		l.fault(at, fmt.Sprintf("%q: want %s", v, strings.Join(words, ", ")), "")
	}
}

func (l *loader) checkSystem(r *Root, at func(string) place) {
	s := r.System
	for path, dir := range map[string]string{"system.state_dir": s.StateDir, "system.run_dir": s.RunDir, "system.control.socket": s.Control.Socket} {
		if !filepath.IsAbs(dir) {
			l.fault(at(path), fmt.Sprintf("%q is not an absolute path", dir), "")
		}
	}
	if len(s.Control.Socket) > 107 {
		l.fault(at("system.control.socket"), "longer than a UNIX socket's name can be (107 octets)", "")
	}
	if m, err := strconv.ParseUint(s.Control.SocketMode, 8, 32); err != nil || m > 0o777 {
		l.fault(at("system.control.socket_mode"), fmt.Sprintf("%q is not an octal mode such as \"0660\"", s.Control.SocketMode), "")
	}
	if s.Hostname == "" || len(s.Hostname) > 253 {
		l.fault(at("system.hostname"), "want a name of 1 to 253 octets", "")
	}
	levels := []string{"debug", "info", "warn", "error"}
	l.oneOf(at("system.log.level"), s.Log.Level, levels...)
	l.oneOf(at("system.log.format"), s.Log.Format, "", "json", "console")
	for _, name := range sortedKeys(s.Log.Modules) {
		p := at("system.log.modules." + name)
		if !slices.Contains(LogModules, name) {
			l.fault(p, "no such module"+didYouMean(name, LogModules), "")
			continue
		}
		l.oneOf(p, s.Log.Modules[name], levels...)
	}
}

func (l *loader) checkServices(r *Root) {
	seen := map[Service]bool{}
	for i, s := range r.Services {
		at := place{fmt.Sprintf("services[%s]", s.Name), fmt.Sprintf("services[%d]", i)}
		l.oneOf(at.child("name"), s.Name, "echo", "discard", "chargen")
		l.oneOf(at.child("proto"), s.Proto, "tcp", "udp")
		if s.Port == 0 {
			l.fault(at.child("port"), "want 1 to 65535", "")
		}
		socket := Service{Proto: s.Proto, Port: s.Port}
		if seen[socket] {
			l.fault(at.child("port"), fmt.Sprintf("%s port %d is taken by a service above", s.Proto, s.Port), "")
		}
		seen[socket] = true
	}
}

// maxLinks is what the packet path has room for.
const maxLinks = 255

// kinds says for each kind of link which keys it needs and which it may have.
var kinds = map[string]struct{ needs, may []string }{
	"tun":       {[]string{"host_device"}, []string{"netns", "queues", "offload"}},
	"tap":       {[]string{"host_device"}, []string{"netns", "queues", "offload", "mac"}},
	"af_packet": {[]string{"host_device"}, []string{"netns", "queues", "offload", "mac"}},
	"fd":        {[]string{"fd"}, []string{"offload", "mac"}},
	"pipe":      {nil, []string{"mac", "peer"}},
	"dummy":     {nil, nil},
	"ipsec":     {[]string{"if_id"}, nil},
}

// tunnelKinds are the kinds of items of tunnels.
var tunnelKinds = []string{"ip6gre", "ip6ip6"}

// IsTunnel reports whether a kind of link is one of tunnels.
func IsTunnel(kind string) bool { return slices.Contains(tunnelKinds, kind) }

// NewTunnel returns the configuration of a link that is made by a command; nil if it cannot have that name or kind.
func (r *Root) NewTunnel(name, kind string) *Link {
	if !validName(name) || !IsTunnel(kind) {
		return nil
	}
	t := &Root{Routing: r.Routing, Links: []Link{{Name: name, Kind: kind}}}
	t.fill()
	return &t.Links[0]
}

// validName reports whether a link can have that name.
func validName(s string) bool { return linkName.MatchString(s) && s != "any" && s != "none" }

// linkKeys are the keys that a tunnel has because it is a link; it has others of its own.
var linkKeys = []string{"name", "kind", "mtu", "addresses", "link_local", "forwarding"}

// maxMTU is the longest packet of IPv6 that is no jumbogram, less its header.
const maxMTU = 65535

func (l *loader) checkLinks(r *Root) {
	if len(r.Links) > maxLinks {
		l.fault(place{"links", "links"}, fmt.Sprintf("%d links: %d is the limit", len(r.Links), maxLinks), "")
	}
	seen, ifIDs := map[string]bool{}, map[uint32]string{}
	raw, _ := r.raw["links"].([]any)
	tunnels, _ := r.raw["tunnels"].([]any)
	raw = append(slices.Clone(raw), tunnels...)
	for i := range r.Links {
		k := &r.Links[i]
		at := l.linkPlace(i, map[string]any{"name": k.Name})
		if !validName(k.Name) {
			l.fault(at.child("name"), fmt.Sprintf("%q is not a link name: 1 to 15 letters, digits, \"_\", \".\" or \"-\"", k.Name), "")
		}
		if seen[k.Name] {
			l.fault(at.child("name"), fmt.Sprintf("%q is a link above", k.Name), "")
		}
		seen[k.Name] = true
		l.checkKind(at, k, raw[i], i >= l.links)
		if k.Kind == "ipsec" && k.IfID != 0 {
			if other := ifIDs[k.IfID]; other != "" {
				l.fault(at.child("if_id"), fmt.Sprintf("%#x is that of link %s above", k.IfID, other), "")
			}
			ifIDs[k.IfID] = k.Name
		}
		for _, key := range []string{"mtu", "queues", "if_id"} { // zero stands for "not written"
			if m, _ := raw[i].(map[string]any); fmt.Sprint(m[key]) == "0" {
				l.fault(at.child(key), "0 is too small", "")
			}
		}
		if k.MTU < 1280 || k.MTU > maxMTU {
			l.fault(at.child("mtu"), fmt.Sprintf("%d is outside 1280..65535", k.MTU), "RFC 8200 5")
		}
		if k.Queues < 1 || k.Queues > 16 {
			l.fault(at.child("queues"), fmt.Sprintf("%d is outside 1..16", k.Queues), "")
		}
		if k.MAC.Set && !k.MAC.Device && (k.MAC.Addr[0]&1 != 0 || k.MAC.Addr == [6]byte{}) {
			l.fault(at.child("mac"), "not a unicast address", "")
		}
		if k.MAC.Device && k.Kind != "af_packet" {
			l.fault(at.child("mac"), "device: only kind af_packet has a device whose address can be used", "")
		}
		l.checkLinkLocal(at, k)
		l.checkAddresses(at, k)
	}
	l.checkPeers(r)
}

func (l *loader) checkKind(at place, k *Link, raw any, tunnel bool) {
	if tunnel {
		switch k.Kind {
		case "ipip6", "sit", "6in4", "gre":
			l.fault(at.child("kind"), k.Kind+": not built yet: it needs IPv4, which this program has none of", "")
		default:
			l.oneOf(at.child("kind"), k.Kind, tunnelKinds...)
		}
		return
	}
	rules, ok := kinds[k.Kind]
	switch {
	case ok:
	case IsTunnel(k.Kind):
		l.fault(at.child("kind"), k.Kind+": links of that kind are items of tunnels", "")
		return
	default:
		l.fault(at.child("kind"), fmt.Sprintf("%q: want %s", k.Kind, strings.Join(sortedKeys(kinds), ", ")), "")
		return
	}
	written, _ := raw.(map[string]any)
	for _, key := range rules.needs {
		if _, ok := written[key]; !ok {
			l.fault(at.child(key), fmt.Sprintf("kind %s needs it", k.Kind), "")
		}
	}
	for _, key := range []string{"host_device", "netns", "fd", "peer", "mac", "queues", "offload", "if_id"} {
		if _, ok := written[key]; ok && !slices.Contains(rules.needs, key) && !slices.Contains(rules.may, key) {
			l.fault(at.child(key), fmt.Sprintf("kind %s does not have it", k.Kind), "")
		}
	}
	if len(k.HostDevice) > 15 {
		l.fault(at.child("host_device"), fmt.Sprintf("%q is longer than a device's name can be (15 octets)", k.HostDevice), "")
	}
	if k.Kind == "fd" && k.FD < 3 {
		l.fault(at.child("fd"), fmt.Sprintf("%d: inherited descriptors begin at 3", k.FD), "")
	}
}

func (l *loader) checkPeers(r *Root) {
	byName := map[string]*Link{}
	for i := range r.Links {
		byName[r.Links[i].Name] = &r.Links[i]
	}
	for i := range r.Links {
		k := &r.Links[i]
		if k.Peer == "" {
			continue
		}
		at := place{"links", "links"}.item(i, map[string]any{"name": k.Name}).child("peer")
		if o := byName[k.Peer]; o == nil || o.Kind != "pipe" || o == k || o.Peer != k.Name {
			l.fault(at, fmt.Sprintf("%q is not another link of kind pipe whose peer is %q", k.Peer, k.Name), "")
		}
	}
}

func (l *loader) checkLinkLocal(at place, k *Link) {
	switch k.LinkLocal {
	case "auto", "none":
		return
	case "eui64":
		if k.Kind == "tun" || k.Kind == "dummy" || k.Kind == "ipsec" || IsTunnel(k.Kind) {
			l.fault(at.child("link_local"), "eui64: the link has no Ethernet address to make it from", "RFC 4291 2.5.1")
		}
		return
	}
	if a, err := netip.ParseAddr(k.LinkLocal); err != nil || !a.IsLinkLocalUnicast() || !a.Is6() || a.Zone() != "" {
		l.fault(at.child("link_local"), fmt.Sprintf("%q: want auto, eui64, none or an address in fe80::/10", k.LinkLocal), "RFC 4291 2.5.6")
	}
}

func (l *loader) checkAddresses(at place, k *Link) {
	seen := map[netip.Addr]bool{}
	for i, a := range k.Addresses {
		p := at.child("addresses").item(i, nil)
		ip := a.Address.Addr()
		bad := func(msg, rfc string) { l.fault(p, fmt.Sprintf("%s %s", a.Address, msg), rfc) }
		switch {
		case !a.Address.IsValid(): // said by the decoder, unless the key is missing
			if len(l.faults) == 0 {
				l.fault(p.child("address"), "missing", "")
			}
		case !ip.Is6() || ip.Is4In6():
			bad("is not an IPv6 address", "")
		case ip.IsMulticast():
			bad("is a multicast address", "RFC 4291 2.7")
		case ip.IsUnspecified(), ip.IsLoopback():
			bad("cannot be assigned to a link", "RFC 4291 2.5.2")
		case a.Address.Bits() == 0:
			bad("has prefix length 0: the prefix would be the whole Internet", "RFC 4291 2.3")
		case seen[ip]:
			bad("is listed twice", "")
		case a.PreferredLifetime != 0 && a.ValidLifetime != 0 && a.PreferredLifetime > a.ValidLifetime:
			l.fault(p.child("preferred_lifetime"), "longer than valid_lifetime", "RFC 4862 5.5.3")
		case a.Anycast && *a.DAD:
			l.fault(p.child("dad"), "there is no duplicate address detection for anycast addresses", "RFC 4862 5.4")
		case !a.Anycast && a.Address.Bits() < 127 && a.Address == a.Address.Masked():
			bad("is the Subnet-Router anycast address of its prefix", "RFC 4291 2.6.1")
		}
		seen[ip] = true
	}
}

func (l *loader) checkCaptures(r *Root) {
	names := map[string]bool{}
	for _, k := range r.Links {
		names[k.Name] = true
	}
	for i, c := range r.Capture {
		at := place{"capture", "capture"}.item(i, map[string]any{"name": c.Name})
		if c.Name == "" {
			l.fault(at.child("name"), "missing", "")
		}
		if c.Link != "any" && !names[c.Link] {
			l.fault(at.child("link"), fmt.Sprintf("%q is not a link; any is all of them", c.Link), "")
		}
		l.oneOf(at.child("filter"), c.Filter, "all", "dropped")
		if !filepath.IsAbs(c.File) {
			l.fault(at.child("file"), fmt.Sprintf("%q is not an absolute path", c.File), "")
		}
		if c.MaxBytes != 0 && c.MaxBytes < 256<<10 {
			l.fault(at.child("max_bytes"), fmt.Sprintf("%d is below 256KiB", c.MaxBytes), "")
		}
	}
}
