package sad

import (
	"fmt"
	"net/netip"

	"leveret/extensions/xfrm/proto"
)

// maxMigrations is how many templates a policy has (XFRM_MAX_DEPTH).
const maxMigrations = 6

// Migration moves states to other addresses (RFC 6275 and RFC 4877 on movement; XFRM_MSG_MIGRATE).
type Migration struct {
	OldDAddr, OldSAddr, NewDAddr, NewSAddr netip.Addr
	Proto                                  proto.Proto
	Mode                                   proto.Mode
	ReqID                                  uint32 // 0 = any
}

// Migrated is one state before and after.
type Migrated struct{ Old, New *State }

func (m *Migration) takes(s *State) bool {
	return s.KM == Valid && s.DAddr == m.OldDAddr && s.SAddr == m.OldSAddr && s.Proto == m.Proto && s.Mode == m.Mode &&
		(m.ReqID == 0 || s.ReqID == m.ReqID)
}

// Migrate moves all states that the migrations name, or none. Keys, counters, sequence numbers, replay
// window and lifetimes go on: a packet that a worker sends with the old state meanwhile takes its number
// from the same counter. No snapshot has neither or both of them.
func (db *DB) Migrate(ms []Migration) ([]Migrated, error) {
	if len(ms) == 0 || len(ms) > maxMigrations {
		return nil, fmt.Errorf("%w: %d migrations, want 1 to %d", ErrInvalid, len(ms), maxMigrations)
	}
	for i, m := range ms {
		if !v6(m.NewDAddr) || !v6(m.NewSAddr) || m.NewDAddr.IsUnspecified() || m.NewSAddr.IsUnspecified() {
			return nil, fmt.Errorf("%w: migration to %s from %s", ErrInvalid, m.NewDAddr, m.NewSAddr)
		}
		for _, o := range ms[:i] {
			if o.OldDAddr == m.OldDAddr && o.OldSAddr == m.OldSAddr && o.Proto == m.Proto && o.Mode == m.Mode && o.ReqID == m.ReqID {
				return nil, fmt.Errorf("%w: the same states twice", ErrInvalid)
			}
		}
	}
	list, err := db.moves(ms)
	if err != nil {
		return nil, err
	}
	for _, m := range list {
		db.put(m.Old, m.New)
		e := m.New.Live.own
		db.unlink(e)
		db.link(e)
	}
	return list, nil
}

// moves says which states move where. None may come upon another that stays, or that comes too.
func (db *DB) moves(ms []Migration) (list []Migrated, err error) {
	type key struct {
		ID
		saddr netip.Addr
		mark  Mark
	}
	leaves, comes := map[*State]bool{}, map[key]bool{}
	for e := db.first; e != nil; e = e.next {
		for i := range ms {
			m := &ms[i]
			if m.takes(e.s) {
				c := *e.s
				c.DAddr, c.SAddr = m.NewDAddr, m.NewSAddr
				list = append(list, Migrated{e.s, &c})
				leaves[e.s] = true
				break
			}
		}
	}
	for _, m := range list {
		k := key{m.New.ID, netip.Addr{}, m.New.Mark}
		if m.New.SrcSelective || !m.New.Proto.HasSPI() {
			k.saddr = m.New.SAddr
		}
		if comes[k] || db.taken(m.New, leaves) {
			return nil, fmt.Errorf("%w: spi %#x at %s", ErrExist, m.New.SPI, m.New.DAddr)
		}
		comes[k] = true
	}
	return list, nil
}
