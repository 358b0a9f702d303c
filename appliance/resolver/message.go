package resolver

import (
	"errors"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// The bounds of what is taken from one message.
const (
	maxUDP     = 1232 // octets of a datagram: whole on every path (1280 less the headers), asked for with EDNS0 (RFC 6891 6.2.3)
	maxRecords = 128
	maxAddrs   = 32
	maxAliases = 8
)

var (
	// errOther: the message is none that answers the question. Somebody else sent it, or it is late.
	errOther = errors.New("not the answer")
	// errMalformed: it answers the question, but what it says cannot be read.
	errMalformed = errors.New("a malformed answer")
)

// reply is what a server said.
type reply struct {
	rcode     dnsmessage.RCode
	truncated bool // it did not fit: nothing else is to be believed
	lame      bool // the server neither knows nor asks others
	addrs     []netip.Addr
}

// query writes the question for the IPv6 addresses of a name (RFC 3596 2.1), to a server that asks others.
func query(id uint16, name dnsmessage.Name, edns bool) ([]byte, error) {
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: name, Type: dnsmessage.TypeAAAA, Class: dnsmessage.ClassINET}},
	}
	if edns {
		var h dnsmessage.ResourceHeader
		if err := h.SetEDNS0(maxUDP, dnsmessage.RCodeSuccess, false); err != nil {
			return nil, err
		}
		m.Additionals = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.OPTResource{}}}
	}
	return m.Pack()
}

// parse reads what came back to a question. errOther says to wait for another message.
func parse(msg []byte, id uint16, name dnsmessage.Name) (r reply, err error) {
	var p dnsmessage.Parser
	h, err := p.Start(msg)
	if err != nil || h.ID != id || !h.Response || h.OpCode != 0 {
		return r, errOther
	}
	qs, err := p.AllQuestions()
	if err == nil && len(qs) == 0 && h.RCode == dnsmessage.RCodeFormatError { // it could not read the question either
		return reply{rcode: h.RCode}, nil
	}
	if err != nil || len(qs) != 1 || qs[0].Type != dnsmessage.TypeAAAA || qs[0].Class != dnsmessage.ClassINET || fold(qs[0].Name) != fold(name) {
		return r, errOther
	}
	r = reply{rcode: h.RCode, truncated: h.Truncated}
	if h.Truncated || h.RCode != dnsmessage.RCodeSuccess {
		return r, nil
	}
	aliases, addrs := map[string]string{}, map[string][]netip.Addr{}
	for n := 0; ; n++ {
		rh, err := p.AnswerHeader()
		switch {
		case errors.Is(err, dnsmessage.ErrSectionDone) || n == maxRecords:
			r.lame = n == 0 && !h.Authoritative && !h.RecursionAvailable
			r.addrs = follow(fold(name), aliases, addrs)
			return r, nil
		case err != nil:
			return r, errMalformed
		case rh.Class == dnsmessage.ClassINET && rh.Type == dnsmessage.TypeAAAA:
			a, err := p.AAAAResource()
			if err != nil || rh.Length != 16 {
				return r, errMalformed
			}
			addr := netip.AddrFrom16(a.AAAA)
			if owner := fold(rh.Name); len(addrs[owner]) < maxAddrs && !addr.IsUnspecified() && !addr.Is4In6() {
				addrs[owner] = append(addrs[owner], addr)
			}
		case rh.Class == dnsmessage.ClassINET && rh.Type == dnsmessage.TypeCNAME:
			c, err := p.CNAMEResource()
			if err != nil {
				return r, errMalformed
			}
			aliases[fold(rh.Name)] = fold(c.CNAME)
		default:
			if p.SkipAnswer() != nil {
				return r, errMalformed
			}
		}
	}
}

// follow goes from a name by its aliases to addresses (RFC 1034 3.6.2). A server that asks others sends the
// whole way.
func follow(name string, aliases map[string]string, addrs map[string][]netip.Addr) []netip.Addr {
	for range maxAliases + 1 {
		if list := addrs[name]; len(list) > 0 {
			return list
		}
		next, ok := aliases[name]
		if !ok {
			return nil
		}
		name = next
	}
	return nil
}

// fold makes names that are equal (RFC 4343 3) the same text.
func fold(n dnsmessage.Name) string { return strings.ToLower(n.String()) }
