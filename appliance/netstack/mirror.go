package netstack

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"go.uber.org/zap"

	"leveret/appliance/module"
	"leveret/appliance/wire"
)

// defaultMTU is what TCP reckons with while there is no link.
const defaultMTU = 1500

// mirror keeps netstack's NICs and addresses equal to the appliance's links and addresses.
type mirror struct {
	h  *Host
	mu sync.Mutex // guards the rest, and orders changes of netstack's configuration

	ports map[int]*hostPort // by link; 0 = the global NIC
	addrs map[zonedAddr]bool
	// byLink is ports for the workers.
	byLink atomic.Pointer[[]*hostPort]
}

// zonedAddr is an address with the link it belongs to; link 0 for those of global scope.
type zonedAddr struct {
	addr netip.Addr
	link int
}

func (m *mirror) init(h *Host) error {
	m.h, m.ports, m.addrs = h, map[int]*hostPort{}, map[zonedAddr]bool{}
	if err := m.addNIC(0, "host"); err != nil {
		return err
	}
	ep, err := h.stack.GetNetworkEndpoint(globalNIC, header.IPv6ProtocolNumber)
	if err != nil {
		return fmt.Errorf("global NIC: %s", err)
	}
	g := ep.(*ipv6Endpoint).hostEndpoint
	h.global.Store(&g)
	m.setRoutes()
	return nil
}

// addNIC makes the NIC of a link, or with 0 the global one.
func (m *mirror) addNIC(link int, name string) error {
	p := &hostPort{h: m.h, link: link}
	if err := m.h.stack.CreateNICWithOptions(nicOf(link), p, stack.NICOptions{Name: name}); err != nil {
		return fmt.Errorf("NIC %s: %s", name, err)
	}
	m.ports[link] = p
	return nil
}

// setRoutes makes what follows from ports. Every NIC has a default route: the packet path routes. The global NIC's comes first,
// so that a link's is taken only by sockets that name the link.
func (m *mirror) setRoutes() {
	routes := []tcpip.Route{{Destination: header.IPv6EmptySubnet, NIC: globalNIC}}
	byLink := []*hostPort{}
	for link, p := range m.ports {
		if link != 0 {
			routes = append(routes, tcpip.Route{Destination: header.IPv6EmptySubnet, NIC: nicOf(link)})
		}
		if n := link + 1 - len(byLink); n > 0 {
			byLink = append(byLink, make([]*hostPort, n)...)
		}
		byLink[link] = p
	}
	m.h.stack.SetRouteTable(routes)
	m.byLink.Store(&byLink)
}

// LinksChanged makes the host stack follow the links. Calls of LinksChanged and AddrsChanged must
// not overlap with newer ones of themselves.
func (h *Host) LinksChanged(links *module.Links) {
	m := &h.mirror
	m.mu.Lock()
	defer m.mu.Unlock()
	if h.closed.Load() {
		return
	}
	h.links.Store(links)
	mtu := 0
	changed := false
	for _, l := range links.All() {
		mtu = max(mtu, l.MTU)
		if m.ports[l.Index] != nil {
			continue
		}
		if err := m.addNIC(l.Index, l.Name); err != nil {
			h.log.Error("mirror link", zap.String("link", l.Name), zap.Error(err))
			continue
		}
		changed = true
	}
	if mtu == 0 {
		mtu = defaultMTU
	}
	h.maxMTU.Store(int64(mtu))
	for link := range m.ports {
		if link == 0 || links.Index(link) != nil {
			continue
		}
		if err := h.stack.RemoveNIC(nicOf(link)); err != nil {
			h.log.Error("mirror link", zap.Int("link", link), zap.Stringer("error", err))
		}
		delete(m.ports, link)
		for a := range m.addrs {
			if a.link == link {
				delete(m.addrs, a)
			}
		}
		changed = true
	}
	if changed {
		m.setRoutes()
		m.syncAddrs()
	}
}

// AddrsChanged makes the host stack follow the addresses. See [Host.LinksChanged].
func (h *Host) AddrsChanged(addrs *module.Addrs) {
	h.mirror.mu.Lock()
	defer h.mirror.mu.Unlock()
	if h.closed.Load() {
		return
	}
	h.addrs.Store(addrs)
	h.mirror.syncAddrs()
}

// syncAddrs adds and removes what differs. Only assigned addresses are netstack's business: it
// has no tentative ones.
func (m *mirror) syncAddrs() {
	want := map[zonedAddr]bool{}
	for _, a := range m.h.addrs.Load().All() {
		if !a.Assigned() {
			continue
		}
		z := zonedAddr{addr: a.Addr}
		if a.Addr.IsLinkLocalUnicast() {
			if z.link = a.Link; m.ports[a.Link] == nil {
				continue // its link has not been heard of yet
			}
		}
		want[z] = true
	}
	for z := range m.addrs {
		if !want[z] {
			if err := m.h.stack.RemoveAddress(nicOf(z.link), toStack(z.addr, z.link)); err != nil {
				m.h.log.Error("mirror address", zap.Stringer("address", z.addr), zap.Stringer("error", err))
			}
			delete(m.addrs, z)
		}
	}
	for z := range want {
		if m.addrs[z] {
			continue
		}
		pa := tcpip.ProtocolAddress{
			Protocol:          header.IPv6ProtocolNumber,
			AddressWithPrefix: tcpip.AddressWithPrefix{Address: toStack(z.addr, z.link), PrefixLen: 128},
		}
		if err := m.h.stack.AddProtocolAddress(nicOf(z.link), pa, stack.AddressProperties{}); err != nil {
			m.h.log.Error("mirror address", zap.Stringer("address", z.addr), zap.Stringer("error", err))
			continue
		}
		m.addrs[z] = true
	}
}

// port returns the port of a link's NIC, with 0 of the global one; nil if the link has gone.
func (m *mirror) port(link int) *hostPort {
	ports := *m.byLink.Load()
	if uint(link) >= uint(len(ports)) {
		return nil
	}
	return ports[link]
}

// mtu returns the MTU TCP may reckon with on a link, or with 0 before the link is known.
func (h *Host) mtu(link int) int {
	if link != 0 {
		if l := h.links.Load().Index(link); l != nil {
			return max(l.MTU, wire.MinMTU)
		}
	}
	return max(int(h.maxMTU.Load()), wire.MinMTU)
}

// linkByZone returns the index of the link that a zone names: a name, or its number; 0 if there is
// none.
func (h *Host) linkByZone(zone string) int {
	links := h.links.Load()
	if l := links.Name(zone); l != nil {
		return l.Index
	}
	n := 0
	for _, c := range zone {
		if c < '0' || c > '9' || n > 1<<20 {
			return 0
		}
		n = n*10 + int(c-'0')
	}
	if links.Index(n) == nil {
		return 0
	}
	return n
}

// zoneOf returns the name of a link, for addresses that need one.
func (h *Host) zoneOf(link int) string {
	if l := h.links.Load().Index(link); l != nil {
		return l.Name
	}
	return ""
}

// zoned adds the link to an address that means something there only.
func (h *Host) zoned(a netip.Addr, link int) netip.Addr {
	if link != 0 && needsLink(a) {
		return a.WithZone(h.zoneOf(link))
	}
	return a
}
