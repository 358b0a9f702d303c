package hostdev

import "testing"

func TestRelease(t *testing.T) {
	for _, c := range []struct {
		release string
		want    bool
	}{{"6.1.0-28-amd64", false}, {"6.2.0", true}, {"6.18.44", true}, {"5.19.17", false}, {"7.0-rc1", true}, {"unknown", false}} {
		if got := atLeast(c.release, 6, 2); got != c.want {
			t.Errorf("%s: %v", c.release, got)
		}
	}
	if !Release(3, 0) || Release(1000, 0) {
		t.Error("this kernel")
	}
}
