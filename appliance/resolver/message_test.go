package resolver

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

var hostExample = dnsmessage.MustNewName("host.example.")

// octets reads hexadecimal with spaces; "text" stands for itself.
func octets(t testing.TB, s string) (out []byte) {
	t.Helper()
	for _, f := range strings.Fields(s) {
		if text, ok := strings.CutPrefix(f, `"`); ok {
			out = append(out, strings.TrimSuffix(text, `"`)...)
			continue
		}
		b, err := hex.DecodeString(f)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b...)
	}
	return out
}

const question = ` 04 "host" 07 "example" 00 001c 0001 `

// TestQuery: the octets of RFC 1035 4.1, AAAA (RFC 3596 2.1), and the OPT record of RFC 6891 6.1.2.
func TestQuery(t *testing.T) {
	for _, c := range []struct {
		edns bool
		want string
	}{
		{false, "1234 0100 0001 0000 0000 0000" + question},
		{true, "1234 0100 0001 0000 0000 0001" + question + "00 0029 04d0 00000000 0000"},
	} {
		if got, err := query(0x1234, hostExample, c.edns); err != nil || !bytes.Equal(got, octets(t, c.want)) {
			t.Errorf("EDNS0 %v: %x %v", c.edns, got, err)
		}
	}
}

// record is one in the answer section, of 300 seconds.
func record(owner, typ, data string) string {
	return owner + " " + typ + " 0001 0000012c " + data + " "
}

const (
	aaaa1 = "0010 20010db8000000000000000000000001"
	aaaa2 = "0010 20010db8000000000000000000000002"
	self  = "c00c" // the question's name
	// aliased is the target of the CNAME that is the first record, "a" below example.
	aliased = "c02a"
)

// TestParse: what is believed of a message, what is not, and what says to wait for another one.
func TestParse(t *testing.T) {
	cname := record(self, "0005", `0004 01 "a" c011`)
	for _, c := range []struct {
		name, msg string
		want      string // addresses, or what else it says
	}{
		{"one address", "1234 8180 0001 0001 0000 0000" + question + record(self, "001c", aaaa1), "2001:db8::1"},
		{"letters of another case", `1234 8180 0001 0001 0000 0000 04 "HoSt" 07 "EXAMPLE" 00 001c 0001 ` + record(self, "001c", aaaa1), "2001:db8::1"},
		{"two addresses in order", "1234 8180 0001 0002 0000 0000" + question + record(self, "001c", aaaa2) + record(self, "001c", aaaa1), "2001:db8::2 2001:db8::1"},
		{"an alias", "1234 8180 0001 0002 0000 0000" + question + cname + record(aliased, "001c", aaaa1), "2001:db8::1"},
		{"an alias behind its address", `1234 8180 0001 0002 0000 0000` + question + record(`01 "a" c011`, "001c", aaaa1) + record(self, "0005", `0004 01 "a" c011`), "2001:db8::1"},
		{"an alias that leads nowhere", "1234 8180 0001 0001 0000 0000" + question + cname, "none"},
		{"an alias of itself", "1234 8180 0001 0001 0000 0000" + question + record(self, "0005", "0002 c00c"), "none"},
		{"the address of another name", "1234 8180 0001 0001 0000 0000" + question + record("c011", "001c", aaaa1), "none"},
		{"another type", "1234 8180 0001 0002 0000 0000" + question + record(self, "0001", "0004 c0000201") + record(self, "001c", aaaa1), "2001:db8::1"},
		{"another class", "1234 8180 0001 0001 0000 0000" + question + "c00c 001c 0003 0000012c " + aaaa1, "none"},
		{"addresses that are none", "1234 8180 0001 0002 0000 0000" + question + record(self, "001c", "0010 00000000000000000000ffffc0000201") +
			record(self, "001c", "0010 00000000000000000000000000000000"), "none"},
		{"the section of authorities is not read", "1234 8180 0001 0000 0001 0000" + question + "ff", "none"},
		{"no such name", "1234 8183 0001 0000 0000 0000" + question, "RCodeNameError"},
		{"server failure", "1234 8182 0001 0000 0000 0000" + question, "RCodeServerFailure"},
		{"format error without the question", "1234 8001 0000 0000 0000 0000", "RCodeFormatError"},
		{"truncated", "1234 8380 0001 0001 0000 0000" + question + record(self, "001c", aaaa1), "truncated"},
		{"it does not ask others", "1234 8100 0001 0000 0000 0000" + question, "lame"},
		{"it knows by itself", "1234 8500 0001 0000 0000 0000" + question, "none"},

		{"another identifier", "1235 8180 0001 0001 0000 0000" + question + record(self, "001c", aaaa1), "other"},
		{"a query", "1234 0100 0001 0001 0000 0000" + question + record(self, "001c", aaaa1), "other"},
		{"another operation", "1234 a980 0001 0001 0000 0000" + question + record(self, "001c", aaaa1), "other"},
		{"another name", `1234 8180 0001 0001 0000 0000 04 "hosT" 08 "examples" 00 001c 0001` + record(self, "001c", aaaa1), "other"},
		{"another type asked", `1234 8180 0001 0001 0000 0000 04 "host" 07 "example" 00 0001 0001 ` + record(self, "001c", aaaa1), "other"},
		{"another class asked", `1234 8180 0001 0001 0000 0000 04 "host" 07 "example" 00 001c 0003 ` + record(self, "001c", aaaa1), "other"},
		{"no question", "1234 8180 0000 0001 0000 0000" + record(`04 "host" 07 "example" 00`, "001c", aaaa1), "other"},
		{"two questions", "1234 8180 0002 0001 0000 0000" + question + question + record(self, "001c", aaaa1), "other"},
		{"half a header", "1234 8180 0001", "other"},
		{"nothing", "", "other"},

		{"a record that is missing", "1234 8180 0001 0002 0000 0000" + question + record(self, "001c", aaaa1), "malformed"},
		{"a short address", "1234 8180 0001 0001 0000 0000" + question + record(self, "001c", "0010 2001"), "malformed"},
		{"an address of 4 octets", "1234 8180 0001 0002 0000 0000" + question + record(self, "001c", "0004 c0000201") + record(self, "001c", aaaa1), "malformed"},
		{"a name that points to itself", "1234 8180 0001 0001 0000 0000" + question + record("c01e", "001c", aaaa1), "malformed"},
		{"a length beyond the end", "1234 8180 0001 0001 0000 0000" + question + record(self, "0010", "ffff 00"), "malformed"},
	} {
		if got := outcome(parse(octets(t, c.msg), 0x1234, hostExample)); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func outcome(r reply, err error) string {
	var list []string
	for _, a := range r.addrs {
		list = append(list, a.String())
	}
	switch {
	case errors.Is(err, errOther):
		return "other"
	case errors.Is(err, errMalformed):
		return "malformed"
	case r.truncated:
		return "truncated"
	case r.rcode != dnsmessage.RCodeSuccess:
		return r.rcode.String()
	case r.lame:
		return "lame"
	case list == nil:
		return "none"
	}
	return strings.Join(list, " ")
}

// answer builds the answer to a query, with those records.
func answer(t testing.TB, q []byte, rcode dnsmessage.RCode, records ...dnsmessage.Resource) []byte {
	t.Helper()
	var m dnsmessage.Message
	if err := m.Unpack(q); err != nil {
		t.Fatal(err)
	}
	m.Response, m.RecursionAvailable, m.RCode, m.Additionals = true, true, rcode, nil
	m.Answers = records
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func aaaa(owner, addr string) dnsmessage.Resource {
	return dnsmessage.Resource{
		Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(owner), Class: dnsmessage.ClassINET, TTL: 300},
		Body:   &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr(addr).As16()},
	}
}

func alias(owner, to string) dnsmessage.Resource {
	return dnsmessage.Resource{
		Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(owner), Class: dnsmessage.ClassINET, TTL: 300},
		Body:   &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(to)},
	}
}

// TestParseBounds: addresses, records and aliases beyond the bounds are left out.
func TestParseBounds(t *testing.T) {
	q, err := query(1, hostExample, true)
	if err != nil {
		t.Fatal(err)
	}
	chain := func(n int) (out []dnsmessage.Resource) {
		names := []string{"host.example."}
		for i := range n {
			names = append(names, strings.Repeat("x", i+1)+".example.")
			out = append(out, alias(names[i], names[i+1]))
		}
		return append(out, aaaa(names[n], "2001:db8::1"))
	}
	many := func(n int) []dnsmessage.Resource {
		return slices.Repeat([]dnsmessage.Resource{aaaa("host.example.", "2001:db8::1")}, n)
	}
	others := slices.Repeat([]dnsmessage.Resource{aaaa("other.example.", "2001:db8::1")}, maxRecords)
	for _, c := range []struct {
		name    string
		records []dnsmessage.Resource
		want    int
	}{
		{"addresses", many(maxAddrs + 1), maxAddrs},
		{"records", append(others, many(1)...), 0},
		{"aliases", chain(maxAliases), 1},
		{"too many aliases", chain(maxAliases + 1), 0},
	} {
		r, err := parse(answer(t, q, dnsmessage.RCodeSuccess, c.records...), 1, hostExample)
		if err != nil || len(r.addrs) != c.want {
			t.Errorf("%s: %d addresses, want %d; %v", c.name, len(r.addrs), c.want, err)
		}
	}
}

// FuzzParse: no message makes it fail, and what it believes is within the bounds.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"1234 8180 0001 0001 0000 0000" + question + record(self, "001c", aaaa1),
		"1234 8180 0001 0002 0000 0000" + question + record(self, "0005", `0004 01 "a" c011`) + record(aliased, "001c", aaaa1),
		"1234 8380 0001 0000 0000 0000" + question,
		"1234 8001 0000 0000 0000 0000",
		"1234 8180 0001 0001 0000 0000" + question + record("c01e", "001c", aaaa1),
	} {
		f.Add(octets(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parse(b, 0x1234, hostExample)
		if len(r.addrs) > maxAddrs || len(r.addrs) > 0 && (err != nil || r.rcode != 0 || r.truncated || r.lame) {
			t.Errorf("%+v %v", r, err)
		}
		for _, a := range r.addrs {
			if !a.Is6() || a.Is4In6() || a.IsUnspecified() || a.Zone() != "" {
				t.Errorf("address %s", a)
			}
		}
	})
}
