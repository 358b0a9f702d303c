package interop

import (
	"fmt"
	"strings"
	"testing"

	"leveret/extensions/xfrm/algo"
)

// key is one for the algorithm, in iproute2's words; the name's own octets make it differ.
func key(a *algo.Algorithm, octets int) string {
	var b strings.Builder
	for i := range octets + a.Salt {
		fmt.Fprintf(&b, "%02x", byte(i*7)+a.Name[i%len(a.Name)]) // 3DES wants its three keys different
	}
	if b.Len() == 0 {
		return "''"
	}
	return "0x" + b.String()
}

// authWords are an auth algorithm's words with each ICV length it may have.
func authWords(a *algo.Algorithm) (words []string) {
	if a == algo.NullDigest {
		return []string{"auth digest_null ''"}
	}
	for _, icv := range a.ICVs {
		words = append(words, fmt.Sprintf("auth-trunc '%s' %s %d", a.Name, key(a, a.Keys[0]), icv*8))
	}
	return words
}

// TestAlgorithms: the kernel takes every algorithm that Leveret has, by the name Leveret calls it, with every
// key and ICV length, every pair, and extended sequence numbers.
func TestAlgorithms(t *testing.T) {
	v := peer.VM(t)
	var esp, ah []string
	for _, a := range algo.All() {
		switch a.Kind {
		case algo.AEAD:
			for _, k := range a.Keys {
				for _, icv := range a.ICVs {
					esp = append(esp, fmt.Sprintf("aead '%s' %s %d", a.Name, key(a, k), icv*8))
				}
			}
		case algo.Enc:
			for _, b := range algo.All() {
				if b.Kind != algo.Auth || algo.CheckPair(a, b) != nil {
					continue
				}
				for _, w := range authWords(b) {
					for _, k := range a.Keys {
						esp = append(esp, fmt.Sprintf("enc '%s' %s %s", a.Name, key(a, k), w))
					}
				}
			}
		case algo.Auth:
			if a != algo.NullDigest { // AH is its ICV
				ah = append(ah, authWords(a)...)
			}
		}
	}
	var states []string
	for _, proto := range []struct {
		name  string
		words []string
	}{{"esp", esp}, {"ah", ah}} {
		for i, w := range proto.words {
			for j, esn := range []string{"", " replay-window 64 flag esn"} {
				mode := []string{"transport", "tunnel"}[(i+j)%2]
				states = append(states, fmt.Sprintf("xfrm state add src %s dst %s proto %s spi %#x mode %s %s%s",
					theirs, ours, proto.name, 0x1000+len(states), mode, w, esn))
			}
		}
	}
	if len(states) < 150 {
		t.Errorf("only %d states", len(states))
	}
	for taken := 0; ; { // a batch ends at the first that is refused
		out, err := v.Try("cat >/run/batch <<'EOF'\n" + strings.Join(states, "\n") + "\nEOF\nip -batch /run/batch")
		now := strings.Count(v.Run("ip xfrm state list"), "\tproto ")
		if err == nil {
			if now-taken != len(states) {
				t.Errorf("%d of the last %d states are there", now-taken, len(states))
			}
			break
		}
		if now-taken >= len(states) {
			t.Fatalf("%v\n%s", err, out)
		}
		t.Errorf("ip %s: %v, %s", states[now-taken], err, out)
		states, taken = states[now-taken+1:], now
	}
}
