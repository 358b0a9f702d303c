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

// TestErrorsHaveNoKeys: a key in a wrong place is not repeated, whatever it looks like.
func TestErrorsHaveNoKeys(t *testing.T) {
	const ok = "src fd00::1 dst fd00::2 proto esp spi 0x1000 "
	for _, key := range []string{"0x000102030405060708090a0b0c0d0e0fdeadbeef", "000102030405060708090a0b0c0d0e0fdeadbeef", "0Xdeadbeefdeadbeef", "s3cr3t-octets/of-20.", `quo"ted\key of 20 . `, "-s3cr3t-octets-of-20"} {
		for _, words := range [][]string{
			{ok, "aead", "rfc4106(gcm(aes))", key + "zz", "128", "x"},
			{ok, "aead", "rfc4106(gcm(aes))", "0xzz" + key, "128"},
			{ok, "aead", "rfc4106(gcm(aes))", "128", key},
			{ok, "aead", "rfc4106(gcm(aes))", "128", "128", key},
			{ok, "aead", key, "128", "x"},
			{ok, "aead", "rfc4106(gcm(aes))", "key-file", key, "128"},
			{ok, "aead", "rfc4106(gcm(aes))", "key-file", "/hex", key},
			{ok, "enc", "cbc(aes)", "-", key},
			{ok, "enc", "cbc(aes)", "0x01", "auth-trunc", "hmac(sha256)", key, "mode", "x"},
			{ok, "enc", "cbc(aes)", key, key[:9], key[9:]},
			{ok, "mode", key},
			{"src fd00::1 dst fd00::2 proto esp spi", key},
			{"src fd00::1 dst", key},
			{"src fd00::1 dst fd00::2 proto", key},
			{ok, "encap espinudp 1 2", key},
			{ok, "encap espinudp", key},
			{ok, "flag", key},
			{ok, "limit", key},
			{ok, "limit time-soft", key},
			{ok, "sel src", key},
			{ok, "sel proto tcp sport", key},
			{ok, "sel proto tcp sport", key + "-5"},
			{ok, "sel proto tcp sport", "5-" + key},
			{ok, "sel proto gre key", key},
			{ok, "sel dev", key},
			{ok, "sel", key},
			{ok, key},
			{key},
		} {
			var all []string
			for _, w := range words {
				if w == key || w == key[:9] || strings.Contains(w, key) || w == key[9:] {
					all = append(all, w)
				} else {
					all = append(all, strings.Fields(w)...)
				}
			}
			for what, err := range map[string]error{"add": second(Parse("add", all, outside)), "list": second(ParseFilter(all)), "flush": second(ParseFlush(all))} {
				if err == nil {
					t.Errorf("%s %q is taken", what, all)
					continue
				}
				for i := range len(key) - 5 {
					if part := key[i : i+6]; !strings.Contains(strings.Join(words, " ")[:2], part) && strings.Contains(err.Error(), part) {
						t.Errorf("%s %q: %v", what, all, err)
						break
					}
				}
			}
		}
	}
}

func second[T any](_ T, err error) error { return err }

// TestKeyFile: a key may be in a file or come by the standard input.
func TestKeyFile(t *testing.T) {
	o := Outside{Link: noLink, Key: func(name string) ([]byte, error) {
		if name == "-" {
			return []byte(" 0x0102\n"), nil
		}
		return readKey(name)
	}}
	const ok = "src fd00::1 dst fd00::2 proto esp spi 0x1000 "
	for line, want := range map[string][]byte{
		ok + "aead rfc4106(gcm(aes)) key-file /hex 128": secret(20).Reveal(), ok + "aead rfc4106(gcm(aes)) key-file /raw 128": secret(20).Reveal(),
		ok + "aead rfc4106(gcm(aes)) - 128": {1, 2}, ok + "aead rfc4106(gcm(aes)) key-file - 128": {1, 2},
	} {
		r, err := Parse("add", split(line), o)
		if err != nil || !bytes.Equal(r.AEAD.Key.Reveal(), want) || r.AEAD.Bits != 128 {
			t.Errorf("%s: %v", line, err)
		}
	}
	for line, want := range map[string]string{
		ok + "aead rfc4106(gcm(aes)) key-file": `argument "PATH" is required`, ok + "aead rfc4106(gcm(aes)) key-file /hex": `argument "ALGO-ICV-LEN" is required`,
		ok + "aead rfc4106(gcm(aes)) key-file /bad 128": "ALGO-KEYMAT value is invalid", ok + "auth hmac(sha1) key-file /none": "key-file: no such file or directory",
	} {
		_, err := Parse("add", split(line), o)
		mustErr(t, err, want)
	}
}
