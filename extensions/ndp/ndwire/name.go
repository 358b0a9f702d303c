package ndwire

import "strings"

// maxName is the longest domain name on the wire (RFC 1035 3.1).
const maxName = 255

// IsDomain says whether a DNS Search List can hold name: labels of 1 to 63 letters, digits, hyphens
// and underscores, 255 octets in all; a dot at the end is allowed. Other octets are legal in DNS, but
// search lists end up in files such as resolv.conf, where they would be syntax.
func IsDomain(name string) bool {
	name = strings.TrimSuffix(name, ".")
	if len(name)+2 > maxName {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if len(label) == 0 || len(label) > 63 || strings.IndexFunc(label, foreign) >= 0 {
			return false
		}
	}
	return true
}

func foreign(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
}

// appendName appends a name, not compressed (RFC 8106 5.2); what is no name is left out.
func appendName(b []byte, name string) []byte {
	if !IsDomain(name) {
		return b
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		b = append(append(b, byte(len(label))), label...)
	}
	return append(b, 0)
}

// readName reads the name at the start of b and returns how long it was there; 0 = it is none.
// Compression, being a label of more than 63 octets, is refused (RFC 8106 5.2).
func readName(b []byte) (string, int) {
	var labels []string
	for at := 0; at < min(len(b), maxName); {
		n := int(b[at])
		if n == 0 {
			return strings.Join(labels, "."), at + 1
		}
		if n > 63 || at+1+n > len(b) {
			return "", 0
		}
		label := string(b[at+1 : at+1+n])
		if strings.IndexFunc(label, foreign) >= 0 { // a dot within it, for one
			return "", 0
		}
		labels = append(labels, label)
		at += 1 + n
	}
	return "", 0
}
