package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/fdbased"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"leveret/appliance/link/hostdev"
)

// forwardWithNetstack is the subject to beat: gVisor's own forwarding between two devices, set up as
// well as it can be: batched receive on packet sockets, plain reads on TUN.
func forwardWithNetstack(tun bool, devs []string) error {
	s := stack.New(stack.Options{NetworkProtocols: []stack.NetworkProtocolFactory{ipv6.NewProtocol}})
	for i, arg := range devs {
		ns, dev, _ := strings.Cut(arg, ":")
		o := &fdbased.Options{MTU: 1500, ProcessorsPerChannel: 1, RXChecksumOffload: true}
		err := hostdev.In(ns, func() error {
			var fd int
			var err error
			if tun {
				fd, err = openTUN(dev)
			} else {
				var hw net.HardwareAddr
				fd, hw, err = openPacket(dev)
				o.EthernetHeader, o.Address, o.PacketDispatchMode = true, tcpip.LinkAddress(hw), fdbased.RecvMMsg
			}
			o.FDs = []int{fd}
			return err
		})
		if err != nil {
			return err
		}
		ep, err := fdbased.New(o)
		if err != nil {
			return err
		}
		nic := tcpip.NICID(i + 1)
		own := []string{genRtr, sinkRtr}[i]
		if terr := s.CreateNIC(nic, ep); terr != nil {
			return fmt.Errorf("NIC %s: %s", dev, terr)
		}
		pa := tcpip.ProtocolAddress{Protocol: ipv6.ProtocolNumber, AddressWithPrefix: tcpip.AddressWithPrefix{Address: address(own), PrefixLen: 64}}
		if terr := s.AddProtocolAddress(nic, pa, stack.AddressProperties{}); terr != nil {
			return fmt.Errorf("address %s: %s", own, terr)
		}
		if !tun && i == 1 {
			mac, err := net.ParseMAC(nobodyMAC)
			if err != nil {
				return err
			}
			if terr := s.AddStaticNeighbor(nic, ipv6.ProtocolNumber, address(nobody), tcpip.LinkAddress(mac)); terr != nil {
				return fmt.Errorf("neighbor: %s", terr)
			}
		}
	}
	var routes []tcpip.Route
	for i, p := range []string{genRtr, sinkRtr} {
		sn, err := tcpip.NewSubnet(address(netip.PrefixFrom(netip.MustParseAddr(p), 64).Masked().Addr().String()), tcpip.MaskFromBytes(net.CIDRMask(64, 128)))
		if err != nil {
			return err
		}
		routes = append(routes, tcpip.Route{Destination: sn, NIC: tcpip.NICID(i + 1)})
	}
	s.SetRouteTable(routes)
	if err := s.SetForwardingDefaultAndAllNICs(header.IPv6ProtocolNumber, true); err != nil {
		return fmt.Errorf("forwarding: %s", err)
	}
	fmt.Println("ready")
	c := make(chan os.Signal, 1)
	signal.Notify(c, unix.SIGTERM, unix.SIGINT)
	<-c
	return nil
}

func address(s string) tcpip.Address { return tcpip.AddrFrom16(netip.MustParseAddr(s).As16()) }

func openPacket(dev string) (int, net.HardwareAddr, error) {
	i, err := net.InterfaceByName(dev)
	if err != nil {
		return -1, nil, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, nil, err
	}
	for _, o := range [][3]int{
		{unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8 << 20}, {unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 8 << 20},
		{unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1}, {unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1},
	} {
		if err := unix.SetsockoptInt(fd, o[0], o[1], o[2]); err != nil {
			return -1, nil, err
		}
	}
	return fd, i.HardwareAddr, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: i.Index})
}

func openTUN(dev string) (int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	var req struct {
		name  [unix.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}
	copy(req.name[:], dev)
	req.flags = unix.IFF_TUN | unix.IFF_NO_PI
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TUNSETIFF, uintptr(unsafe.Pointer(&req))); e != 0 {
		return -1, e
	}
	return fd, hostdev.SetUp(dev, true)
}
