package sad

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"

	"leveret/extensions/xfrm/words"

	"leveret/extensions/xfrm/proto"
)

// option reads one of the options of add and update, with what follows it.
func (p *parser) option(w string) error {
	if done, err := p.common(w); done {
		return err
	}
	s := &p.r.State
	after := fmt.Sprintf("value after %q is invalid", w)
	switch w {
	case "enc", "auth", "auth-trunc", "aead", "comp":
		return p.algo(w)
	case "replay-window":
		p.window = true
		return p.Number32(&s.ReplayWindow, after)
	case "replay-seq", "replay-oseq", "replay-seq-hi", "replay-oseq-hi":
		return p.replay(w, after)
	case "flag":
		return p.flags(flagWords, func(bit uint8) { s.Flags |= Flags(bit) })
	case "extra-flag":
		return p.flags(extraFlagWords, func(bit uint8) { s.Extra |= ExtraFlags(bit) })
	case "sel":
		p.At++
		var err error
		s.Sel, err = p.Selector()
		p.At-- // at the last word of it
		return words.Said(err)
	case "limit":
		return p.Limit(&p.r.Life)
	case "encap":
		return p.encap()
	case "coa":
		if s.CoA.IsValid() {
			return words.Duplicate(w, w)
		}
		var err error
		s.CoA, err = p.Addr()
		return err
	case "output-mark":
		return p.Reader.Mark((*proto.Mark)(&s.OutputMark), after, after)
	case "if_id":
		return p.Number32(&s.IfID, after)
	case "tfcpad":
		return p.Number32(&s.TFCPad, after)
	}
	return words.Wrong(w, "unknown")
}

// algo reads ALGO.
func (p *parser) algo(w string) error {
	s := &p.r.State
	enc, auth, aead := s.Enc.Name != "", s.Auth.Name != "", s.AEAD.Name != ""
	var a *Algo
	var second bool
	switch w {
	case "aead":
		a, second = &s.AEAD, enc || auth || aead
	case "enc":
		a, second = &s.Enc, enc || aead
	case "auth", "auth-trunc":
		a, second = &s.Auth, auth || aead
	case "comp":
		second = s.Comp != ""
	}
	if second {
		return words.Duplicate("ALGO-TYPE", w)
	}
	name, err := p.algoArg("ALGO-NAME")
	if err != nil {
		return err
	}
	if name == "" || len(name) > 63 {
		return errors.New("ALGO-NAME value is invalid")
	}
	if w == "comp" {
		s.Comp = name
		return nil
	}
	a.Name = name
	if a.Key, err = p.key(); err != nil {
		return err
	}
	bits := map[string]string{"aead": "ALGO-ICV-LEN", "auth-trunc": "ALGO-TRUNC-LEN"}[w]
	if bits == "" {
		return nil
	}
	length, err := p.algoArg(bits)
	if err != nil {
		return err
	}
	n, ok := words.Number(length, 32)
	if a.Bits = int(n); !ok || n == 0 || n > math.MaxInt32 {
		return words.Wrong(length, bits+" value is invalid")
	}
	return nil
}

// key reads ALGO-KEYMAT, or where it is: that keys need not stand on a command line, which others see, is ours.
func (p *parser) key() (Secret, error) {
	w, err := p.algoArg("ALGO-KEYMAT")
	if err != nil {
		return Secret{}, err
	}
	read := ParseSecret
	if w == keyFile || w == "-" {
		if w == keyFile {
			if w, err = p.algoArg("PATH"); err != nil {
				return Secret{}, err
			}
		}
		b, err := p.outside.Key(w)
		if err != nil {
			return Secret{}, fmt.Errorf("%s: %w", keyFile, err)
		}
		read = func(string) (Secret, error) { return FileSecret(b) }
	}
	k, err := read(w)
	if err != nil {
		return Secret{}, errors.New("ALGO-KEYMAT value is invalid") // which iproute2 repeats
	}
	return k, nil
}

// keyFile is the word in the place of a key before the name of its file.
const keyFile = "key-file"

func (p *parser) algoArg(what string) (string, error) {
	w, err := p.Arg()
	if err != nil {
		return "", fmt.Errorf("argument %q is required", what)
	}
	return w, nil
}

// replay reads the halves of a sequence number.
func (p *parser) replay(w, after string) error {
	n, err := p.Number(32, after)
	s := &p.r.State
	switch w {
	case "replay-seq":
		s.ReplaySeq = s.ReplaySeq&^math.MaxUint32 | n
	case "replay-oseq":
		s.ReplayOSeq = s.ReplayOSeq&^math.MaxUint32 | n
	case "replay-seq-hi":
		p.hi = true
		s.ReplaySeq = s.ReplaySeq&math.MaxUint32 | n<<32
	default:
		p.hi = true
		s.ReplayOSeq = s.ReplayOSeq&math.MaxUint32 | n<<32
	}
	return err
}

// flags reads one word or more of a list; the first that is none ends it.
func (p *parser) flags(list []string, set func(uint8)) error {
	bits, n, err := p.Flags(func(w string) uint8 { return parseBit(list, w) })
	if n == 0 && err == nil {
		return words.Wrong(p.Next(), "unknown")
	}
	set(bits)
	return err
}

// encap reads ENCAP.
func (p *parser) encap() error {
	w, err := p.Arg()
	if err != nil {
		return err
	}
	e := &p.r.Encap
	var ok bool
	if e.Type, ok = parseWord(encapWords, w); !ok {
		return words.Wrong(w, "ENCAP-TYPE value is invalid")
	}
	sport, err := p.Number(16, `SPORT value after "encap" is invalid`)
	if err != nil {
		return err
	}
	dport, err := p.Number(16, `DPORT value after "encap" is invalid`)
	if err != nil {
		return err
	}
	if w, err = p.Arg(); err != nil {
		return err
	}
	a, err := netip.ParseAddr(w)
	if err != nil || a.Zone() != "" {
		return fmt.Errorf("any valid address is expected rather than %q.", w)
	}
	e.SPort, e.DPort, e.OAddr = uint16(sport), uint16(dport), a
	return nil
}

// finish checks what the words of add and update say together; what the kernel would refuse is left to
// the database.
func (p *parser) finish() error {
	s := &p.r.State
	invalid := func(what string) error { return fmt.Errorf("%s with XFRM-PROTO value %q", what, s.Proto) }
	switch {
	case s.ReplayWindow > MaxReplayWindow:
		return fmt.Errorf("replay-window (%d) > XFRMA_REPLAY_ESN_MAX (%d).", s.ReplayWindow, MaxReplayWindow)
	case s.Flags&ESN != 0 && !p.window:
		return errors.New("esn flag set without replay-window.")
	case p.hi && s.Flags&ESN == 0:
		// DEVIATION(Linux): iproute2 ignores them then.
		return errors.New("replay-seq-hi and replay-oseq-hi need flag esn")
	}
	modes := map[proto.Proto][]proto.Mode{
		proto.ESP: {proto.Transport, proto.Tunnel, proto.BEET}, proto.AH: {proto.Transport, proto.Tunnel}, proto.Comp: {proto.Transport, proto.Tunnel},
		proto.Route2: {proto.RO, proto.InTrigger}, proto.HAO: {proto.RO, proto.InTrigger},
	}
	enc, auth, aead, comp := s.Enc.Name != "", s.Auth.Name != "", s.AEAD.Name != "", s.Comp != ""
	switch {
	case !s.Proto.HasSPI() && s.Mode == proto.Transport:
		return invalid(`"mode" is required`)
	case !slices.Contains(modes[s.Proto], s.Mode):
		return invalid("MODE value is invalid")
	case s.Proto == proto.ESP && comp:
		return invalid(`ALGO-TYPE value "comp" is invalid`)
	case s.Proto == proto.ESP && !enc && !aead:
		return invalid(`ALGO-TYPE value "enc" or "aead" is required`)
	case s.Proto == proto.AH && (enc || aead || comp):
		return invalid(`ALGO-TYPE values "enc", "aead", and "comp" are invalid`)
	case s.Proto == proto.AH && !auth:
		return invalid(`ALGO-TYPE value "auth" or "auth-trunc" is required`)
	case s.Proto == proto.Comp && (enc || auth || aead):
		return invalid(`ALGO-TYPE values "enc", "auth", "auth-trunc", and "aead" are invalid`)
	case s.Proto == proto.Comp && !comp:
		return invalid(`ALGO-TYPE value "comp" is required`)
	case !s.Proto.HasSPI() && (enc || auth || aead || comp):
		return invalid("ALGO is invalid")
	case !s.Proto.HasSPI() && !s.CoA.IsValid():
		return invalid(`"coa" is required`)
	case s.Proto.HasSPI() && s.CoA.IsValid():
		return invalid(`"coa" is invalid`)
	}
	return nil
}
