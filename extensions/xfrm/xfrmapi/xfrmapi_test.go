package xfrmapi

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"leveret/extensions/xfrm/sad"
)

// TestQueriesSayWhatWordsSay: what is parsed on one side is parsed to the same on the other.
func TestQueriesSayWhatWordsSay(t *testing.T) {
	for _, words := range []string{"", "src fd00::/16 dst fd00::2 proto esp spi 0 mode transport reqid 0 flag noecn esn", "dst ::/0", "mode beet", "flag icmp"} {
		f, err := sad.ParseFilter(strings.Fields(words))
		if err != nil {
			t.Fatal(err)
		}
		q := NewStateFilter(&f)
		again, err := sad.ParseFilter(q.Words())
		if err != nil || !reflect.DeepEqual(f, again) {
			t.Errorf("%q: %q, %v", words, q.Words(), err)
		}
	}
	for _, words := range []string{"src fd00::1 dst fd00::2 proto esp spi 0x1000 mark 5 mask 0xff", "dst fd00::2 proto ah spi 0x1000", "src fd00::1 dst fd00::2 proto hao"} {
		r, err := sad.Parse("get", strings.Fields(words), sad.Outside{})
		if err != nil {
			t.Fatal(err)
		}
		q := NewStateID(r)
		again, err := sad.Parse("get", q.Words(), sad.Outside{})
		if err != nil || !reflect.DeepEqual(r, again) {
			t.Errorf("%q: %q, %v", words, q.Words(), err)
		}
	}
}

func TestStatKeepsItsOrder(t *testing.T) {
	const text = `{"XfrmInNoStates":3,"XfrmInError":18446744073709551615,"A":0}`
	var s Stat
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Fatal(err)
	}
	if want := (Stat{{"XfrmInNoStates", 3}, {"XfrmInError", 1<<64 - 1}, {"A", 0}}); !reflect.DeepEqual(s, want) {
		t.Errorf("%v", s)
	}
	if b, err := json.Marshal(s); err != nil || string(b) != text {
		t.Errorf("%s, %v", b, err)
	}
	for _, bad := range []string{`[]`, `{"a":"b"}`, `{"a":-1}`, `1`} {
		if err := json.Unmarshal([]byte(bad), &s); err == nil {
			t.Errorf("%s is taken: %v", bad, s)
		}
	}
}
