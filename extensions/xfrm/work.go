package xfrm

import (
	"math"
	"sync"

	crand "crypto/rand"

	"leveret/appliance/clock"
	"leveret/extensions/xfrm/ah"
	"leveret/extensions/xfrm/algo"
	"leveret/extensions/xfrm/esp"
	"leveret/extensions/xfrm/proto"
	"leveret/extensions/xfrm/replay"
	"leveret/extensions/xfrm/sad"
)

// work is what packets of one SA are made and opened with. It implements [sad.Work]. An SA is sequential by nature -
// numbers are given and checked in an order -, so one lock is held for a packet (docs/adr/0005).
type work struct {
	mu     sync.Mutex
	esp    *esp.SA // or
	ah     *ah.SA
	window *replay.Window
	iv     uint64 // the last one that was used; its high half is of ivs

	peer   udpEnd        // where packets in UDP come from; zero: from where the state says
	mapped clock.Instant // when it was told last that this has changed; 0 = never
}

// newWork makes that of a state that [sad.State.Check] has nothing against.
func (m *Module) newWork(s *sad.State) (sad.Work, error) {
	one := &struct { // of a piece, as each has lines of memory that a packet waits for
		work
		sa     esp.SA
		window replay.Window
	}{}
	w := &one.work
	esn := s.Flags&sad.ESN != 0
	state := replay.State{Size: int(s.ReplayWindow), ESN: esn, Top: s.ReplaySeq, Seen: make([]uint64, (s.ReplayWindow+63)/64)}
	for i := range state.Seen { // what is up to the number that the SA goes on from was received elsewhere
		if s.ReplaySeq != 0 {
			state.Seen[i] = math.MaxUint64
		}
	}
	window, err := replay.Restore(state)
	if err != nil {
		return nil, err
	}
	one.window = *window
	w.window = &one.window
	if s.Proto == proto.AH {
		p := ah.Params{SPI: s.SPI, ESN: esn, Key: s.Auth.Key.Reveal(), ICV: s.Auth.Bits / 8}
		if p.Auth, err = algo.Find(algo.Auth, s.Auth.Name, true); err == nil {
			w.ah, err = ah.New(p)
		}
		return w, err
	}
	p := esp.Params{SPI: s.SPI, ESN: esn, IVKey: make([]byte, esp.IVKeyLen)}
	crand.Read(p.IVKey) //nolint:errcheck // never fails
	if s.AEAD.Name != "" {
		p.Key, p.ICV = s.AEAD.Key.Reveal(), s.AEAD.Bits/8
		p.AEAD, err = algo.Find(algo.AEAD, s.AEAD.Name, true)
	} else {
		p.Key, p.AuthKey, p.ICV = s.Enc.Key.Reveal(), s.Auth.Key.Reveal(), s.Auth.Bits/8
		if p.Enc, err = algo.Find(algo.Enc, s.Enc.Name, true); err == nil {
			p.Auth, err = algo.Find(algo.Auth, s.Auth.Name, true)
		}
	}
	if err != nil {
		return nil, err
	}
	sa, err := esp.New(p)
	if err != nil {
		return nil, err
	}
	one.sa = *sa
	w.esp = &one.sa
	return w, nil
}

// Position implements [sad.Work].
func (w *work) Position() (top uint64, bitmap []uint32) {
	w.mu.Lock()
	s := w.window.State()
	w.mu.Unlock()
	bitmap = make([]uint32, (s.Size+31)/32)
	for i := range bitmap {
		bitmap[i] = uint32(s.Seen[i/2] >> (i % 2 * 32))
	}
	return s.Top, bitmap
}

// nextIV returns a number that no packet with this key has had, in any run; false: there is none now. w is locked.
func (w *work) nextIV(m *Module) (uint64, bool) {
	if uint32(w.iv) == math.MaxUint32 || w.iv == 0 {
		high, ok := m.ivs.take()
		if m.ivs.low() {
			m.wantIVs()
		}
		if !ok {
			return 0, false
		}
		w.iv = uint64(high) << 32
	}
	w.iv++
	return w.iv, true
}
