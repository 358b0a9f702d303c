package ndp

import (
	"crypto/hmac"
	crand "crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"go.uber.org/zap"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/wire"
)

const (
	secretFile = "stable_secret" // in state_dir
	secretLen  = 32
)

// loadSecret returns the secret_key of RFC 7217 5: of a lab's seed, else kept in the state
// directory so that addresses survive restarts.
func (m *Module) loadSecret(cfg *module.Config) []byte {
	if cfg.Seed != 0 {
		sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("leveret rfc7217 "), cfg.Seed))
		return sum[:]
	}
	name := filepath.Join(cfg.StateDir, secretFile)
	b, err := os.ReadFile(name)
	if err == nil && len(b) == secretLen {
		return b
	}
	b = make([]byte, secretLen)
	crand.Read(b) //nolint:errcheck // never fails
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(cfg.StateDir, 0o750); err == nil {
			err = os.WriteFile(name, b, 0o600)
		}
	}
	if err != nil {
		m.host.Log().Warn("the key of stable addresses cannot be kept: link-local addresses will be others after a restart", zap.Error(err))
	}
	return b
}

// stableID is the interface identifier of RFC 7217 5: F(Prefix, Net_Iface, DAD_Counter, secret_key).
func (m *Module) stableID(prefix netip.Prefix, iface string, dadCounter int) [8]byte {
	h := hmac.New(sha256.New, m.secret)
	p := prefix.Addr().As16()
	h.Write(p[:8])
	h.Write([]byte(iface))
	h.Write([]byte{0, byte(dadCounter)})
	return [8]byte(h.Sum(nil))
}

// stableIDFrom returns the first identifier from a counter on that may be used, and its counter (RFC 7217
// 5, 6).
func (m *Module) stableIDFrom(prefix netip.Prefix, iface string, dadCounter int) (id [8]byte, counter int) {
	for {
		if id = m.stableID(prefix, iface, dadCounter); !reservedID(id) {
			return id, dadCounter
		}
		dadCounter++
	}
}

var linkLocalPrefix = netip.MustParsePrefix("fe80::/64")

// reservedID reports whether an interface identifier must not be used (RFC 5453 2.1, RFC 4291 2.6.1):
// it would be an anycast address.
func reservedID(id [8]byte) bool {
	v := binary.BigEndian.Uint64(id[:])
	return v == 0 || v >= 0xfdffffffffffff80 && v <= 0xfdffffffffffffff || v>>24 == 0x02005eff_fe
}

// addLinkLocal gives a link the link-local address that its configuration asks for.
func (m *Module) addLinkLocal(now clock.Instant, l *linkState, dadCount int) {
	a := &address{
		prefixLen: 64, link: l.index(), protocol: "kernel_ll", valid: clock.Never, preferred: clock.Never,
		generated: true, dadCount: dadCount, optimistic: l.cfg.dad.Optimistic,
	}
	if fixed, ok := l.cfg.fixedLinkLocal(); ok {
		a.addr, a.generated, a.fromConfig = fixed, false, true
	} else {
		var id [8]byte
		switch {
		case l.cfg.linkLocal == "none":
			return
		case l.cfg.linkLocal == "eui64" && l.link.Ethernet:
			id = wire.EUI64(l.link.MAC)
		default:
			id, a.dadCount = m.stableIDFrom(linkLocalPrefix, l.cfg.name, a.dadCount)
		}
		b := linkLocalPrefix.Addr().As16()
		copy(b[8:], id[:])
		a.addr = netip.AddrFrom16(b)
	}
	m.addAddress(now, a)
}

// syncAddresses makes a link's configured addresses those of its configuration.
func (m *Module) syncAddresses(now clock.Instant, l *linkState) {
	want := map[netip.Addr]module.AddressConfig{}
	for _, c := range l.cfg.addresses {
		want[c.Prefix.Addr()] = c
	}
	fixed, hasFixed := l.cfg.fixedLinkLocal()
	haveLinkLocal := false
	for _, a := range slices.Clone(m.addrs) {
		if a.link != l.index() || a.subnetRouter {
			continue
		}
		c, listed := want[a.addr]
		switch {
		case a.autoconf && !listed: // it belongs to the prefix
		case a.autoconf:
			m.removeAddress(now, a)
		case listed && a.prefixLen == c.Prefix.Bits() && a.anycast == c.Anycast && a.noDAD == !c.DAD:
			a.fromConfig = true
			delete(want, a.addr)
		case a.generated && !hasFixed && l.cfg.linkLocal != "none" && !listed:
			haveLinkLocal = true
		case hasFixed && a.addr == fixed:
			haveLinkLocal = true
		default: // gone from the configuration, changed, or added by a command
			m.removeAddress(now, a)
		}
	}
	if !haveLinkLocal {
		m.addLinkLocal(now, l, 0)
	}
	for _, c := range l.cfg.addresses { // in the order they are listed
		if _, missing := want[c.Prefix.Addr()]; !missing {
			continue
		}
		m.addAddress(now, &address{
			addr: c.Prefix.Addr(), prefixLen: c.Prefix.Bits(), link: l.index(), protocol: "static", anycast: c.Anycast, noDAD: !c.DAD,
			fromConfig: true, valid: until(now, c.Valid), preferred: until(now, c.Preferred),
		})
	}
}
