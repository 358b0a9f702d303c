// Package config turns files, environment and flags into one checked tree. viper does the merging
// and is used nowhere else; decoding is strict, and every fault is found at once and named by the
// path the operator typed, with file and line where there is one.
//
//	file ◀ conf.d/*.yaml ◀ LEVERET_* ◀ flags      (the right one wins; lists are replaced whole)
//	  └─▶ Root: typed, checked, defaults filled in
//	  └─▶ Section: the parts that extensions claimed, decoded by them
package config

import (
	"net/netip"
	"time"
)

// Root is the configuration of the appliance. It is not changed once it was loaded.
type Root struct {
	Version  int       `mapstructure:"version"`
	System   System    `mapstructure:"system"`
	ICMPv6   ICMPv6    `mapstructure:"icmpv6"`
	Services []Service `mapstructure:"services"`
	Links    []Link    `mapstructure:"links"`   // and behind them, once loaded, those of tunnels
	Tunnels  []Link    `mapstructure:"tunnels"` // links too; nil once loaded
	Routing  Routing   `mapstructure:"routing"`
	IPsec    struct{}  `mapstructure:"ipsec"`    // all of it is an extension's
	Mobility struct{}  `mapstructure:"mobility"` // likewise
	Capture  []Capture `mapstructure:"capture"`

	// Sections are the parts below the top that extensions claimed, by path ("routing.routes").
	Sections map[string]*Section `mapstructure:"-"`

	raw map[string]any // what was merged, for Show and Diff
}

// System is the process itself.
type System struct {
	Hostname string  `mapstructure:"hostname"`
	StateDir string  `mapstructure:"state_dir"` // what survives a restart
	RunDir   string  `mapstructure:"run_dir"`   // what does not
	Seed     uint64  `mapstructure:"seed"`      // 0 = system randomness
	Log      Log     `mapstructure:"log"`
	Control  Control `mapstructure:"control"`
	Sandbox  Sandbox `mapstructure:"sandbox"`
}

// Log says what is logged.
type Log struct {
	Level   string            `mapstructure:"level"`
	Format  string            `mapstructure:"format"` // json or console; "" = console on a terminal, json elsewhere
	Modules map[string]string `mapstructure:"modules"`
}

// Control is the control socket.
type Control struct {
	Socket     string `mapstructure:"socket"`
	SocketMode string `mapstructure:"socket_mode"` // octal
	Group      string `mapstructure:"group"`
}

// Sandbox is accepted with its defaults only.
type Sandbox struct {
	User             string `mapstructure:"user"`
	Seccomp          string `mapstructure:"seccomp"`
	Landlock         string `mapstructure:"landlock"`
	DropCapabilities bool   `mapstructure:"drop_capabilities"`
}

// ICMPv6 is what RFC 4443 leaves to the operator.
type ICMPv6 struct {
	ErrorRate          int  `mapstructure:"error_rate"`  // errors a second; 0 = no limit
	ErrorBurst         int  `mapstructure:"error_burst"` // errors at once
	EchoReplyMulticast bool `mapstructure:"echo_reply_multicast"`
}

// Service is one small server inside the appliance.
type Service struct {
	Name  string `mapstructure:"name"`  // echo, discard, chargen
	Proto string `mapstructure:"proto"` // tcp, udp
	Port  uint16 `mapstructure:"port"`
}

// Link is one link.
type Link struct {
	Name       string    `mapstructure:"name"`
	Kind       string    `mapstructure:"kind"`
	HostDevice string    `mapstructure:"host_device"`
	Netns      string    `mapstructure:"netns"` // where host_device is: a name below /run/netns, or a path
	FD         int       `mapstructure:"fd"`    // kind fd: the inherited descriptor
	Peer       string    `mapstructure:"peer"`  // kind pipe: the link at the other end
	IfID       uint32    `mapstructure:"if_id"` // kind ipsec: of its SAs and policies
	MAC        MAC       `mapstructure:"mac"`
	MTU        int       `mapstructure:"mtu"`
	Queues     int       `mapstructure:"queues"`
	Offload    *bool     `mapstructure:"offload"` // virtio-net header and superpackets; never nil once loaded
	Addresses  []Address `mapstructure:"addresses"`
	LinkLocal  string    `mapstructure:"link_local"`
	Forwarding *bool     `mapstructure:"forwarding"` // never nil once loaded

	// Sections are the link's parts that extensions claimed, by key ("nud").
	Sections map[string]*Section `mapstructure:"-"`
}

// Address is one address of a link. In YAML it is "a/len" or a map.
type Address struct {
	Address           netip.Prefix  `mapstructure:"address"` // host bits kept
	Anycast           bool          `mapstructure:"anycast"`
	DAD               *bool         `mapstructure:"dad"`                // never nil once loaded
	ValidLifetime     time.Duration `mapstructure:"valid_lifetime"`     // 0 = forever
	PreferredLifetime time.Duration `mapstructure:"preferred_lifetime"` // 0 = forever
}

// MAC is a link-layer address, or "device" for the host device's own.
type MAC struct {
	Addr   [6]byte
	Set    bool
	Device bool
}

// Routing is what the packet path reads of the routing section.
type Routing struct {
	Forwarding bool   `mapstructure:"forwarding"`
	HopByHop   string `mapstructure:"hop_by_hop"` // process or ignore (RFC 8200 4.3)
}

// Capture is one capture that runs as long as it is configured.
type Capture struct {
	Name     string `mapstructure:"name"`
	Link     string `mapstructure:"link"`
	Filter   string `mapstructure:"filter"` // all or dropped
	File     string `mapstructure:"file"`
	MaxBytes Size   `mapstructure:"max_bytes"`
}

// Size is a number of octets, written plain or with KiB, MiB, GiB.
type Size int64

// defaults is the tree before anything is read.
func defaults() *Root {
	return &Root{
		System: System{
			Hostname: "leveret", StateDir: "/var/lib/leveret", RunDir: "/run/leveret",
			Log:     Log{Level: "info"},
			Control: Control{SocketMode: "0660"},
			Sandbox: Sandbox{Seccomp: "off", Landlock: "off"},
		},
		ICMPv6:  ICMPv6{ErrorRate: 100, ErrorBurst: 50, EchoReplyMulticast: true},
		Routing: Routing{Forwarding: true, HopByHop: "process"},
	}
}

// fill gives what depends on other keys its default.
func (r *Root) fill() {
	if r.System.Control.Socket == "" {
		r.System.Control.Socket = r.System.RunDir + "/api.sock"
	}
	for i := range r.Links {
		l := &r.Links[i]
		switch {
		case l.MTU != 0:
		case IsTunnel(l.Kind): // as much as the path of the tunnel takes
			l.MTU = maxMTU
		default:
			l.MTU = 1500
		}
		if l.Queues == 0 {
			l.Queues = 1
		}
		if l.LinkLocal == "" {
			l.LinkLocal = "auto"
		}
		if l.Offload == nil {
			l.Offload = ptr(true)
		}
		if l.Forwarding == nil {
			l.Forwarding = ptr(r.Routing.Forwarding)
		}
		for j := range l.Addresses {
			if a := &l.Addresses[j]; a.DAD == nil {
				a.DAD = ptr(!a.Anycast)
			}
			if a := &l.Addresses[j]; a.PreferredLifetime == 0 {
				a.PreferredLifetime = a.ValidLifetime
			}
		}
	}
	for i := range r.Capture {
		if r.Capture[i].Filter == "" {
			r.Capture[i].Filter = "all"
		}
	}
}

func ptr[T any](v T) *T { return &v }
