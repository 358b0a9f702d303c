package differential

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// kernel is Linux in a network namespace of its own, asked and changed by netlink.
type kernel struct {
	t     *testing.T
	conn  *netlink.Conn
	links map[string]uint32
}

// newKernel makes a namespace with the links of the world, all up.
func newKernel(t *testing.T, w *world) *kernel {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes a network namespace")
	}
	name := fmt.Sprintf("lvtdiff%d-%d", os.Getpid(), w.number)
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v\n%s", args, err, out)
		}
	}
	run("netns", "add", name)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", name).Run() })
	run("-n", name, "link", "set", "lo", "up")
	for _, l := range links {
		run("-n", name, "link", "add", l, "type", "veth", "peer", "name", l+"p")
		run("-n", name, "link", "set", l+"p", "up")
		run("-n", name, "link", "set", l, "addrgenmode", "none", "up")
		for _, a := range w.addrs[l] {
			run("-n", name, "addr", "add", a.String(), "dev", l, "nodad")
		}
	}
	f, err := os.Open("/run/netns/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	k := &kernel{t: t, links: map[string]uint32{}}
	if k.conn, err = netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{NetNS: int(f.Fd())}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.conn.Close() })
	k.links = linkIndexes(t, name)
	k.settle(w)
	return k
}

// settle waits until every address is the namespace's own: the kernel makes them so in the background.
func (k *kernel) settle(w *world) {
	for end := time.Now().Add(10 * time.Second); ; {
		left := 0
		for _, as := range w.addrs {
			for _, a := range as[1:] { // behind the link-local one
				if got := k.ask(&question{dst: a.Addr()}); got.table != unix.RT_TABLE_LOCAL {
					left++
				}
			}
		}
		if left == 0 {
			return
		}
		if time.Now().After(end) {
			k.t.Fatalf("%d addresses are not in use", left)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// linkIndexes lists the links of a namespace.
func linkIndexes(t *testing.T, ns string) map[string]uint32 {
	runtime.LockOSThread() // ends with the thread: its namespace is another one now
	done := make(chan map[string]uint32)
	go func() {
		runtime.LockOSThread()
		out := map[string]uint32{}
		f, err := os.Open("/run/netns/" + ns)
		if err == nil {
			defer f.Close()
			err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
		}
		if err != nil {
			t.Error(err)
		}
		for _, l := range append([]string{"lo"}, links...) {
			i, err := ifIndex(l)
			if err != nil {
				t.Error(l, err)
			}
			out[l] = i
		}
		done <- out
	}()
	defer runtime.UnlockOSThread()
	return <-done
}

func ifIndex(name string) (uint32, error) {
	s, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(s)
	r, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	err = unix.IoctlIfreq(s, unix.SIOCGIFINDEX, r)
	return r.Uint32(), err
}

// call sends one request and returns the answers; an error is the kernel's.
func (k *kernel) call(typ netlink.HeaderType, flags netlink.HeaderFlags, header []byte, attrs func(*netlink.AttributeEncoder)) ([]netlink.Message, error) {
	e := netlink.NewAttributeEncoder()
	attrs(e)
	b, err := e.Encode()
	if err != nil {
		k.t.Fatal(err)
	}
	m := netlink.Message{Header: netlink.Header{Type: typ, Flags: netlink.Request | flags}, Data: append(header, b...)}
	return k.conn.Execute(m)
}

const (
	findSource = 0x00010000 // FIB_RULE_FIND_SADDR: which iproute2 cannot set
	invert     = 0x2        // FIB_RULE_INVERT
)

// The numbers of actions (linux/fib_rules.h).
var ruleActions = map[string]uint8{"lookup": 1, "goto": 2, "nop": 3, "blackhole": 6, "unreachable": 7, "prohibit": 8}

func (k *kernel) rule(typ netlink.HeaderType, flags netlink.HeaderFlags, r *ruleCase) error {
	action := r.spec.Action
	if action == "" {
		action = "lookup"
		if r.spec.Goto != 0 {
			action = "goto"
		}
	}
	h := make([]byte, 12) // struct fib_rule_hdr
	h[0], h[7] = unix.AF_INET6, ruleActions[action]
	h[1], h[2], h[3] = uint8(max(r.to.Bits(), 0)), uint8(max(r.from.Bits(), 0)), r.dsField
	f := uint32(findSource)
	if r.spec.Not {
		f |= invert
	}
	binary.NativeEndian.PutUint32(h[8:], f)
	_, err := k.call(typ, flags, h, func(e *netlink.AttributeEncoder) {
		e.Uint32(unix.FRA_PRIORITY, *r.spec.Priority)
		if r.from.IsValid() {
			e.Bytes(unix.FRA_SRC, r.from.Addr().AsSlice())
		}
		if r.to.IsValid() {
			e.Bytes(unix.FRA_DST, r.to.Addr().AsSlice())
		}
		if r.spec.IIF != "" {
			e.String(unix.FRA_IIFNAME, r.spec.IIF)
		}
		if r.spec.OIF != "" {
			e.String(unix.FRA_OIFNAME, r.spec.OIF)
		}
		if r.spec.FwMark != "" {
			e.Uint32(unix.FRA_FWMARK, r.mark)
			e.Uint32(unix.FRA_FWMASK, r.mask)
		}
		if r.proto != 0 {
			e.Uint8(unix.FRA_IP_PROTO, r.proto)
		}
		for t, p := range map[uint16][2]uint16{unix.FRA_SPORT_RANGE: r.sport, unix.FRA_DPORT_RANGE: r.dport} {
			if p[1] != 0 {
				b := make([]byte, 4)
				binary.NativeEndian.PutUint16(b, p[0])
				binary.NativeEndian.PutUint16(b[2:], p[1])
				e.Bytes(t, b)
			}
		}
		switch action {
		case "lookup":
			e.Uint32(unix.FRA_TABLE, r.table)
			if r.spec.Suppress != nil {
				e.Uint32(unix.FRA_SUPPRESS_PREFIXLEN, uint32(*r.spec.Suppress))
			}
		case "goto":
			e.Uint32(unix.FRA_GOTO, r.spec.Goto)
		}
	})
	return err
}

// The numbers of route types (linux/rtnetlink.h).
var routeTypes = map[string]uint8{"": 1, "unicast": 1, "local": 2, "anycast": 4, "multicast": 5, "blackhole": 6, "unreachable": 7, "prohibit": 8, "throw": 9}

func (k *kernel) route(typ netlink.HeaderType, flags netlink.HeaderFlags, r *routeCase) error {
	h := make([]byte, 12) // struct rtmsg
	h[0], h[1], h[2] = unix.AF_INET6, uint8(r.to.Bits()), uint8(max(r.from.Bits(), 0))
	h[4], h[5], h[6], h[7] = unix.RT_TABLE_UNSPEC, unix.RTPROT_STATIC, unix.RT_SCOPE_UNIVERSE, routeTypes[r.cfg.Type]
	_, err := k.call(typ, flags, h, func(e *netlink.AttributeEncoder) {
		e.Uint32(unix.RTA_TABLE, r.table)
		e.Bytes(unix.RTA_DST, r.to.Addr().AsSlice())
		if r.from.IsValid() {
			e.Bytes(unix.RTA_SRC, r.from.Addr().AsSlice())
		}
		e.Uint32(unix.RTA_PRIORITY, *r.cfg.Metric)
		if r.cfg.Dev != "" {
			e.Uint32(unix.RTA_OIF, k.links[r.cfg.Dev])
		}
		if r.cfg.Via.IsValid() {
			e.Bytes(unix.RTA_GATEWAY, r.cfg.Via.AsSlice())
		}
		if r.cfg.Src.IsValid() {
			e.Bytes(unix.RTA_PREFSRC, r.cfg.Src.AsSlice())
		}
	})
	return err
}

// configure puts a configuration in the place of the one before.
func (k *kernel) configure(old, next *policy) {
	const create = netlink.Acknowledge | netlink.Create | netlink.Excl
	for i := range old.rules {
		if err := k.rule(unix.RTM_DELRULE, netlink.Acknowledge, &old.rules[i]); err != nil {
			k.t.Fatalf("delete of rule %+v: %v", old.rules[i].spec, err)
		}
	}
	for i := range old.routes {
		if err := k.route(unix.RTM_DELROUTE, netlink.Acknowledge, &old.routes[i]); err != nil {
			k.t.Fatalf("delete of route %+v: %v", old.routes[i].cfg, err)
		}
	}
	for i := range next.rules {
		if err := k.rule(unix.RTM_NEWRULE, create, &next.rules[i]); err != nil {
			k.t.Fatalf("rule %+v: %v", next.rules[i].spec, err)
		}
	}
	for i := range next.routes {
		if err := k.route(unix.RTM_NEWROUTE, create, &next.routes[i]); err != nil {
			k.t.Fatalf("route %+v: %v", next.routes[i].cfg, err)
		}
	}
}

// ask is "ip -6 route get".
func (k *kernel) ask(q *question) answer {
	h := make([]byte, 12)
	h[0], h[1], h[3] = unix.AF_INET6, 128, q.dsField
	if q.src.IsValid() {
		h[2] = 128
	}
	msgs, err := k.call(unix.RTM_GETROUTE, 0, h, func(e *netlink.AttributeEncoder) {
		e.Bytes(unix.RTA_DST, q.dst.AsSlice())
		if q.src.IsValid() {
			e.Bytes(unix.RTA_SRC, q.src.AsSlice())
		}
		if q.in != "" {
			e.Uint32(unix.RTA_IIF, k.links[q.in])
		}
		if q.out != "" {
			e.Uint32(unix.RTA_OIF, k.links[q.out])
		}
		if q.mark != 0 {
			e.Uint32(unix.RTA_MARK, q.mark)
		}
		if q.proto != 0 {
			e.Uint8(unix.RTA_IP_PROTO, q.proto)
			for t, p := range map[uint16]uint16{unix.RTA_SPORT: q.sport, unix.RTA_DPORT: q.dport} {
				if p != 0 {
					e.Bytes(t, binary.BigEndian.AppendUint16(nil, p))
				}
			}
		}
	})
	if err != nil {
		var errno syscall.Errno
		if !errors.As(err, &errno) {
			k.t.Fatal(err)
		}
		return answer{refused: errno.Error()}
	}
	return k.answer(msgs[0].Data)
}

func (k *kernel) answer(b []byte) (a answer) {
	for name, n := range routeTypes {
		if n == b[7] && name != "" {
			a.typ = name
		}
	}
	d, err := netlink.NewAttributeDecoder(b[12:])
	if err != nil {
		k.t.Fatal(err)
	}
	addr := func() netip.Addr { x, _ := netip.AddrFromSlice(d.Bytes()); return x }
	for d.Next() {
		switch d.Type() {
		case unix.RTA_OIF:
			for name, i := range k.links {
				if i == d.Uint32() {
					a.dev = name
				}
			}
		case unix.RTA_GATEWAY:
			a.gateway = addr()
		case unix.RTA_TABLE:
			a.table = d.Uint32()
		case unix.RTA_PRIORITY:
			a.metric = d.Uint32()
		case unix.RTA_PREFSRC:
			a.source = addr()
		case unix.RTA_SRC:
			if s := addr(); !s.IsUnspecified() {
				a.from = s
			}
		}
	}
	return a
}
