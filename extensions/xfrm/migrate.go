package xfrm

import (
	"fmt"
	"net/netip"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/extensions/xfrm/proto"
	"leveret/extensions/xfrm/sad"
	"leveret/extensions/xfrm/spd"
	"leveret/extensions/xfrm/xfrmapi"
)

// migrate moves a policy of the database and the states that it is for to other addresses, or refuses and moves none (RFC
// 4877 4.3, RFC 4555 3.5). To packets and watchers it is one change. km, which may be nil, is told to key managers.
func (m *Module) migrate(now clock.Instant, p *spd.Policy, ms []proto.Migration, km *xfrmapi.KMAddress) (*spd.Policy, []sad.Migrated, error) {
	if err := sad.CheckMigrations(ms); err != nil {
		return nil, nil, err
	}
	if err := checkKMAddress(km); err != nil {
		return nil, nil, err
	}
	moved, err := p.Migrated(ms)
	if err != nil {
		return nil, nil, err
	}
	states, err := m.sad.Migrate(ms, p.IfID)
	if err != nil {
		return nil, nil, err
	}
	m.spd.Replace(p, moved)
	for _, x := range states {
		m.left(x.Old)
		m.came(x.New)
	}
	m.changed(now)
	m.event(xfrmapi.Event{Event: "migrate", Policy: m.listedPolicy(moved), Migrate: ms, KMAddress: km, States: len(states)})
	return moved, states, nil
}

func checkKMAddress(km *xfrmapi.KMAddress) error {
	if km == nil {
		return nil
	}
	for _, a := range [...]netip.Addr{km.Local, km.Remote} {
		if !a.Is6() || a.Is4In6() || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() {
			return fmt.Errorf("%w: kmaddress local %s remote %s", sad.ErrInvalid, km.Local, km.Remote)
		}
	}
	return nil
}

func (m *Module) handleMigrate(now clock.Instant, req module.Request) (any, error) {
	var b xfrmapi.MigrateRequest
	if err := req.Decode(&b); err != nil {
		return nil, err
	}
	p, err := m.namedPolicy(b.PolicyID)
	if err != nil {
		return nil, err
	}
	p, states, err := m.migrate(now, p, b.Migrate, b.KMAddress)
	if err != nil {
		return nil, refuse(err)
	}
	return xfrmapi.Migrated{Policy: m.shownPolicies().List(p), States: len(states)}, nil
}
