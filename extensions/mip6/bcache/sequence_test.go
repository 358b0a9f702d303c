package bcache

import (
	"encoding/json"
	"os"
	"testing"
)

// TestSequence: the comparison modulo 2**16 of RFC 6275 9.5.1, by its vectors. They have a number that is
// exactly 32768 away accepted; the RFC has it in the range that is less than or equal, by its words and by its
// example of 15 and 32783.
func TestSequence(t *testing.T) {
	raw, err := os.ReadFile("testdata/seq.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Cases []struct {
			Last, RX uint16
			Accept   bool
		}
	}
	if err := json.Unmarshal(raw, &v); err != nil || len(v.Cases) < 20 {
		t.Fatal(err, len(v.Cases))
	}
	opposite := 0
	for _, c := range v.Cases {
		want := c.Accept
		if c.RX-c.Last == 1<<15 {
			want, opposite = false, opposite+1
		}
		if got := NewerSequence(c.RX, c.Last); got != want {
			t.Errorf("%d after %d: %v, want %v", c.RX, c.Last, got, want)
		}
	}
	if opposite != 4 {
		t.Errorf("%d of the vectors are 32768 away", opposite)
	}
	// The example of the RFC: if the last was 15, 0 through 15 and 32783 through 65535 are not greater.
	for n := range 1 << 16 {
		if got, want := NewerSequence(uint16(n), 15), n > 15 && n < 32783; got != want {
			t.Fatalf("%d after 15: %v", n, got)
		}
	}
}
