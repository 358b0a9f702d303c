package sad

import (
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"leveret/extensions/xfrm/algo"
)

// keywords are what a word in an error may be and is no part of a key.
var keywords = slices.Concat(flagWords, extraFlagWords, strings.Fields(`src dst proto spi mode reqid seq mark mask min max
	comp replay-window replay-seq replay-oseq replay-seq-hi replay-oseq-hi flag extra-flag sel sport dport type code key dev limit time-soft time-hard
	time-use-soft time-use-hard byte-soft byte-hard packet-soft packet-hard encap espinudp-nonike coa output-mark if_id tfcpad mobility-header nokeys`))

// hide takes out of an error what may be a key, or a part of one, in a wrong place: of the words behind an algorithm all up
// to the next keyword, and everywhere long ones that can be nothing else. (AES has keys of 16 octets and more.)
func hide(err error, words []string) error {
	text := err.Error()
	secrets := suspects(words)
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) }) // none is left half of another
	for _, w := range secrets {
		text = strings.ReplaceAll(text, strconv.Quote(w), `"..."`)
		text = strings.ReplaceAll(text, w, "...")
	}
	return errors.New(text)
}

// suspects are the words that may be keys, and the parts that are read of them.
func suspects(words []string) (out []string) {
	algorithm := 0 // words since its keyword
	for _, w := range words {
		switch {
		case slices.Contains([]string{"enc", "auth", "auth-trunc", "aead"}, w):
			algorithm = 1
			continue
		case slices.Contains(keywords, w):
			algorithm = 0
			continue
		case w == keyFile:
			continue
		case algorithm > 0:
			algorithm++
		}
		if algorithm > 2 || len(w) > 15 && !harmless(w) {
			out = append(out, w)
			for _, sep := range []string{"-", "/"} { // ranges and masks
				a, b, _ := strings.Cut(w, sep)
				out = append(out, a, b)
			}
		}
	}
	return slices.DeleteFunc(out, func(w string) bool { return len(w) < 4 })
}

// harmless reports whether a long word is an address, a prefix or an algorithm's name.
func harmless(w string) bool {
	_, addr := netip.ParseAddr(w)
	_, prefix := netip.ParsePrefix(w)
	return addr == nil || prefix == nil || slices.ContainsFunc(algo.All(), func(a *algo.Algorithm) bool { return a.Name == w || a.Alias == w })
}
