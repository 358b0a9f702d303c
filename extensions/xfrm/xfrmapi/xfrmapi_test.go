package xfrmapi

import (
	"encoding/json"
	"reflect"
	"testing"
)

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
