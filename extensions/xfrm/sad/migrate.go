package sad

import (
	"fmt"
	"net/netip"

	"leveret/extensions/xfrm/proto"
)

// maxMigrations is how many templates a policy has (XFRM_MAX_DEPTH).
const maxMigrations = 6

// Migration says which states move where.
type Migration = proto.Migration

// Migrated is one state before and after.
type Migrated struct{ Old, New *State }

func takes(m *Migration, s *State, ifID uint32) bool {
	return s.KM == Valid && s.DAddr == m.OldDst && s.SAddr == m.OldSrc && s.Proto == m.Proto && s.Mode == m.Mode &&
		(m.ReqID == 0 || s.ReqID == m.ReqID) && (ifID == 0 || s.IfID == ifID)
}

// Migrate moves all states that the migrations name, or none; ifID, if it is not 0, is that of them all. Of several
// migrations that name a state the first is its. Keys, counters, sequence numbers, replay window, lifetimes and UDP
// ports go on: a packet that a worker sends with the old state meanwhile takes its number from the same counter. No
// snapshot has neither or both of them.
//
// DEVIATION(Linux): it moves one state for each migration, the first that it finds.
func (db *DB) Migrate(ms []Migration, ifID uint32) ([]Migrated, error) {
	if err := CheckMigrations(ms); err != nil {
		return nil, err
	}
	list, err := db.moves(ms, ifID)
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

// CheckMigrations refuses, in the words of the kernel, what [DB.Migrate] does whatever states there are.
func CheckMigrations(ms []Migration) error {
	if len(ms) == 0 || len(ms) > maxMigrations {
		return fmt.Errorf("%w: %d migrations, want 1 to %d", ErrInvalid, len(ms), maxMigrations)
	}
	for i, m := range ms {
		switch {
		case m.Proto != proto.ESP && m.Proto != proto.AH:
			return fmt.Errorf("%w: migration of proto %s, want esp or ah", ErrInvalid, m.Proto)
		case !v6(m.OldDst) || !v6(m.OldSrc):
			return fmt.Errorf("%w: migration from src %s dst %s", ErrInvalid, m.OldSrc, m.OldDst)
		case !v6(m.NewDst) || !v6(m.NewSrc) || m.NewDst.IsUnspecified() || m.NewSrc.IsUnspecified():
			return fmt.Errorf("%w: migration to src %s dst %s", ErrInvalid, m.NewSrc, m.NewDst)
		}
		for _, o := range ms[:i] {
			if o.OldDst == m.OldDst && o.OldSrc == m.OldSrc && o.Proto == m.Proto && o.Mode == m.Mode && o.ReqID == m.ReqID {
				return fmt.Errorf("%w: the same states twice", ErrInvalid)
			}
		}
	}
	return nil
}

// moves says which states move where. None may come upon another that stays, or that comes too.
func (db *DB) moves(ms []Migration, ifID uint32) (list []Migrated, err error) {
	type key struct {
		ID
		saddr netip.Addr
		mark  Mark
	}
	leaves, comes := map[*State]bool{}, map[key]bool{}
	for e := db.first; e != nil; e = e.next {
		for i := range ms {
			m := &ms[i]
			if takes(m, e.s, ifID) {
				c := *e.s
				c.DAddr, c.SAddr = m.NewDst, m.NewSrc
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
