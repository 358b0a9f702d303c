// Package ports opens a port of any kind.
package ports

import (
	"crypto/sha256"
	"fmt"

	"leveret/appliance/link"
	"leveret/appliance/link/afpacket"
	"leveret/appliance/link/dummy"
	"leveret/appliance/link/ipsec"
	"leveret/appliance/link/pipe"
	"leveret/appliance/link/tunnel"
	"leveret/appliance/link/tuntap"
)

// Spec is what a port is opened with. Two equal ones could share a port.
type Spec struct {
	Name         string
	Kind         string
	HostDevice   string
	Netns        string
	MAC          [6]byte
	UseDeviceMAC bool
	MTU          int
	Queues       int
	Offload      bool
	FD           int
}

// Open opens a port. The error names the link and says what to do.
func Open(s Spec) (link.Port, error) {
	p, err := open(s)
	if err != nil {
		return nil, fmt.Errorf("links[%s]: %s %s: %w", s.Name, s.Kind, s.HostDevice, err)
	}
	return p, nil
}

func open(s Spec) (link.Port, error) {
	switch s.Kind {
	case "tun", "tap":
		return wrap(tuntap.Open(tuntap.Options{
			Device: s.HostDevice, Netns: s.Netns, TAP: s.Kind == "tap", MAC: s.MAC, MTU: s.MTU, Queues: s.Queues, Offload: s.Offload,
		}))
	case "af_packet":
		return wrap(afpacket.Open(afpacket.Options{
			Device: s.HostDevice, Netns: s.Netns, MAC: s.MAC, UseDeviceMAC: s.UseDeviceMAC, MTU: s.MTU, Queues: s.Queues, Offload: s.Offload,
		}))
	case "fd":
		return wrap(tuntap.Adopt(s.FD, tuntap.Options{MAC: s.MAC, MTU: s.MTU, Queues: 1}))
	case "dummy":
		return dummy.New(s.MTU), nil
	case "ip6ip6", "ip6gre":
		return tunnel.New(s.Kind, s.MTU), nil
	case "ipsec":
		return ipsec.New(s.MTU), nil
	case "pipe": // without a peer: an end that nothing is connected to
		return pipe.NewEnd(pipe.Options{MAC: s.MAC, MTU: s.MTU, Ethernet: true, Checksum: true, TSO: true, USO: true}), nil
	default:
		return nil, fmt.Errorf("unknown kind %q", s.Kind)
	}
}

// wrap keeps a nil *T from becoming a non-nil Port.
func wrap[T link.Port](p T, err error) (link.Port, error) {
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Pair opens the two ends of a pipe between two links.
func Pair(a, b Spec) (link.Port, link.Port) {
	end := func(s Spec) pipe.Options {
		return pipe.Options{MAC: s.MAC, MTU: s.MTU, Ethernet: true, Checksum: true, TSO: true, USO: true}
	}
	return pipe.New(end(a), end(b))
}

// StableMAC makes a link's own Ethernet address from the node's and the link's names: locally
// administered, unicast, the same at every start.
func StableMAC(hostname, name string) [6]byte {
	h := sha256.Sum256([]byte(hostname + "\x00" + name))
	m := [6]byte(h[:6])
	m[0] = m[0]&^1 | 2
	return m
}
