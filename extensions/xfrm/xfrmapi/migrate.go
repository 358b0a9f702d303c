package xfrmapi

import (
	"fmt"
	"net/netip"

	"leveret/extensions/xfrm/proto"
	"leveret/extensions/xfrm/spd"
)

// MigrateRequest is the body of POST /v1/xfrm/migrate (XFRM_MSG_MIGRATE): the policy, by selector or index as PolicyID has
// it, 1 to 6 migrations, and where the key managers of both ends are from now on. The answer is a [Migrated].
type MigrateRequest struct {
	PolicyID
	Migrate   []proto.Migration `json:"migrate"`
	KMAddress *KMAddress        `json:"kmaddress,omitempty"`
}

// KMAddress is the two ends of a key manager's connection.
type KMAddress struct {
	Local  netip.Addr `json:"local"`
	Remote netip.Addr `json:"remote"`
}

// Migrated is the policy as it is now, and how many states have moved with it.
type Migrated struct {
	Policy spd.Listed `json:"policy"`
	States int        `json:"states"`
}

// migrated is the policy as it is now, what has moved where, and how many states were at the old addresses.
func (e *Event) migrated(stats bool) string {
	b := []byte("Migrated " + e.Policy.Text(stats))
	for i := range e.Migrate {
		m := &e.Migrate[i]
		b = fmt.Appendf(b, "\tmigrate src %s dst %s to src %s dst %s\n\t\tproto %s reqid %d mode %s\n", m.OldSrc, m.OldDst, m.NewSrc, m.NewDst, m.Proto, m.ReqID, m.Mode)
	}
	if k := e.KMAddress; k != nil {
		b = fmt.Appendf(b, "\tkmaddress local %s remote %s\n", k.Local, k.Remote)
	}
	return string(fmt.Appendf(b, "\tstates %d\n", e.States))
}
