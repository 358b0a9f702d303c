package sad

import (
	"errors"
	"fmt"

	"leveret/extensions/xfrm/algo"
	"leveret/extensions/xfrm/proto"
)

// kernelKinds are what the kernel calls the places for algorithms.
var kernelKinds = map[algo.Kind]string{algo.AEAD: "AEAD", algo.Enc: "CRYPT", algo.Auth: "AUTH"}

// Algo is one algorithm of a state. The zero Algo is none.
type Algo struct {
	Name string // in the kernel's words
	Key  Secret // with the salt behind it, if the algorithm has one
	Bits int    // of the ICV; 0 for ciphers
}

// Equal compares; keys in constant time.
func (a Algo) Equal(b Algo) bool { return a.Name == b.Name && a.Bits == b.Bits && a.Key.Equal(b.Key) }

// check compares an algorithm with those of its kind; a missing length of the ICV is filled in.
//
// DEVIATION(Linux): auth without a length is cut as RFC 4868 2.3 says; Linux cuts hmac(sha256) to 96 bits
// as a draft of it did.
func (a *Algo) check(kind algo.Kind, legacy bool) error {
	known, err := algo.Find(kind, a.Name, legacy)
	if err != nil {
		if _, there := algo.Find(kind, a.Name, true); there == nil { // why not is worth saying
			return fmt.Errorf("Requested %s algorithm not found.: %w", kernelKinds[kind], err)
		}
		return fmt.Errorf("Requested %s algorithm not found.", kernelKinds[kind])
	}
	if err := known.CheckKey(a.Key.Len()); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if kind == algo.Enc {
		return nil
	}
	icv, err := known.ICVLen(a.Bits)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	a.Bits = icv * 8
	return nil
}

// checkAlgorithms says whether a state has the algorithms of its protocol.
func (s *State) checkAlgorithms(legacy bool) error {
	if s.Comp != "" && s.Proto != proto.Comp {
		return fmt.Errorf("%w: %s has no comp", ErrInvalid, s.Proto)
	}
	switch s.Proto {
	case proto.Comp:
		return errors.New("Requested COMP algorithm not found.")
	case proto.ESP:
		switch {
		case s.AEAD.Name != "" && (s.Enc.Name != "" || s.Auth.Name != ""):
			return fmt.Errorf("%w: aead is both enc and auth", ErrInvalid)
		case s.AEAD.Name != "":
			return s.AEAD.check(algo.AEAD, legacy)
		case s.Enc.Name == "":
			return fmt.Errorf("%w: esp needs aead, or enc and auth", ErrInvalid)
		}
		return s.checkPair(legacy)
	case proto.AH:
		if s.AEAD.Name != "" || s.Enc.Name != "" || s.Auth.Name == "" {
			return fmt.Errorf("%w: ah has auth and no other algorithm", ErrInvalid)
		}
		if err := s.Auth.check(algo.Auth, legacy); err != nil {
			return err
		}
		if s.Auth.Bits == 0 {
			return fmt.Errorf("%w: ah without integrity (RFC 4302 3.2)", ErrInvalid)
		}
		return nil
	}
	if s.AEAD.Name != "" || s.Enc.Name != "" || s.Auth.Name != "" {
		return fmt.Errorf("%w: %s has no algorithms", ErrInvalid, s.Proto)
	}
	return nil
}

// checkPair looks at enc and auth.
func (s *State) checkPair(legacy bool) error {
	if err := s.Enc.check(algo.Enc, legacy); err != nil {
		return err
	}
	if s.Auth.Name == "" {
		// DEVIATION(Linux): it takes them. RFC 8221 4: encryption without authentication MUST NOT be
		// used; RFC 4301 4.2: nor neither.
		return fmt.Errorf("%w: esp without integrity (RFC 8221 4): enc needs auth", ErrInvalid)
	}
	if err := s.Auth.check(algo.Auth, legacy); err != nil {
		return err
	}
	enc, _ := algo.Find(algo.Enc, s.Enc.Name, legacy)
	auth, _ := algo.Find(algo.Auth, s.Auth.Name, legacy)
	if err := algo.CheckPair(enc, auth); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}
