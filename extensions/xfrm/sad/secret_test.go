package sad

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// TestSecretsStaySecret: no way of printing a state, or what has one in it, shows a key.
func TestSecretsStaySecret(t *testing.T) {
	const key = "s3cr3t-octets-of-20."
	k, err := ParseSecret(key)
	if err != nil || string(k.Reveal()) != key || k.Len() != 20 {
		t.Fatal(k.Reveal(), err)
	}
	db := newDB()
	s := mustAdd(t, db, t0, with(esp(0x1000), func(s *State) { s.AEAD.Key = k }))
	type wrapped struct {
		inner struct{ key Secret }
		s     State
		p     *State
		l     []Algo
	}
	w := wrapped{s: *s, p: s, l: []Algo{s.AEAD}}
	w.inner.key = k
	var out strings.Builder
	for _, v := range []any{k, &k, s, *s, w, &w, s.AEAD, map[string]Secret{"k": k}, []Secret{k}, fmt.Errorf("x: %v", k), errors.New(k.String())} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
	}
	for _, v := range []any{k, &k, s.AEAD, map[string]any{"k": k}, lab.List(s)} {
		b, err := json.Marshal(v)
		if err != nil {
			t.Error(err)
		}
		out.Write(b)
	}
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "key", k, "algo", s.AEAD)
	l := lab.List(s)
	out.WriteString(l.Text(true))
	octets := k.Reveal()
	for _, shape := range []string{key, fmt.Sprintf("%x", key), fmt.Sprintf("%X", key), fmt.Sprintf("%d", octets), strings.Trim(fmt.Sprintf("%#v", octets), "[]byte{}")} {
		if i := strings.Index(out.String(), shape); i >= 0 {
			t.Errorf("shown as %q: ...%s", shape, out.String()[max(i-60, 0):i])
		}
	}
	if !k.Equal(NewSecret([]byte(key))) || k.Equal(secret(20)) || !(Secret{}).Equal(NewSecret(nil)) {
		t.Error("Equal")
	}
}

func TestParseSecret(t *testing.T) {
	for in, want := range map[string][]byte{
		"0x": {}, "": {}, "0x01fF": {1, 0xff}, "0x1ff": {1, 0xff}, "abc": []byte("abc"), "0X01": []byte("0X01"),
	} {
		if got, err := ParseSecret(in); err != nil || !bytes.Equal(got.Reveal(), want) {
			t.Errorf("%q: %x, %v", in, got.Reveal(), err)
		}
	}
	for _, in := range []string{"0xqq7", "0x01 2"} {
		if _, err := ParseSecret(in); err == nil || strings.Contains(err.Error(), in[2:3]+in[3:4]) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

// TestErrorsHaveNoKeys: a key in a wrong place is not repeated.
func TestErrorsHaveNoKeys(t *testing.T) {
	const key = "0x000102030405060708090a0b0c0d0e0fdeadbeef"
	for _, line := range []string{
		"src fd00::1 dst fd00::2 proto esp spi 0x1000 aead rfc4106(gcm(aes)) " + key + "zz 128",
		"src fd00::1 dst fd00::2 proto esp spi 0x1000 aead rfc4106(gcm(aes)) 128 " + key,
		"src fd00::1 dst fd00::2 proto esp spi 0x1000 aead rfc4106(gcm(aes)) 128 128 " + key,
		"src fd00::1 dst fd00::2 proto esp spi 0x1000 mode " + key,
		"src fd00::1 dst fd00::2 proto esp spi " + key,
		"src fd00::1 dst " + key,
		"src fd00::1 dst fd00::2 proto esp spi 0x1000 encap espinudp 1 2 " + key,
	} {
		_, err := Parse("add", split(line), noLink)
		if err == nil || strings.Contains(err.Error(), "0c0d0e0f") {
			t.Errorf("%s: %v", line, err)
		}
	}
}
