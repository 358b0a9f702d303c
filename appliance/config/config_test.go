package config

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the .want files")

var claims = []string{"links[].nud", "links[].dad", "links[].host", "links[].router_advertisement", "links[].nd_proxy", "links[].send_redirects", "routing.routes", "routing.nexthops", "routing.marks", "routing.rules", "routing.tables", "routing.multipath", "routing.source_selection", "routing.destination_cache",
	"ipsec.allow_legacy", "ipsec.default", "ipsec.defaults", "ipsec.larval_drop", "ipsec.nd_bypass", "ipsec.policies", "ipsec.states", "mobility.correspondent", "tunnels[]"}

// TestFaulty: each file under testdata/faulty is refused with exactly the faults beside it.
func TestFaulty(t *testing.T) {
	files, _ := filepath.Glob("testdata/faulty/*.yaml")
	if len(files) < 25 {
		t.Fatalf("only %d faulty configurations", len(files))
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".yaml"), func(t *testing.T) {
			_, err := Load(Options{File: f, Claims: claims})
			var fs Faults
			if !errors.As(err, &fs) {
				t.Fatalf("accepted: %v", err)
			}
			got := fs.Error() + "\n"
			want := strings.TrimSuffix(f, ".yaml") + ".want"
			if *update {
				if err := os.WriteFile(want, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			b, err := os.ReadFile(want)
			if err != nil {
				t.Fatal(err)
			}
			if string(b) != got {
				t.Errorf("got\n%swant\n%s", got, b)
			}
		})
	}
}

func load(t *testing.T, text string, env ...string) *Root {
	t.Helper()
	r, err := Load(Options{Name: "test", Text: []byte(text), Env: env, Claims: claims})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestDefaultsAreFilledIn(t *testing.T) {
	r := load(t, `
version: 1
links:
  - {name: lan0, kind: tap, host_device: tap0, addresses: ["2001:db8::1/64", {address: "2001:db8::/64", anycast: true}]}
`)
	l := r.Links[0]
	if l.MTU != 1500 || l.Queues != 1 || !*l.Offload || !*l.Forwarding || l.LinkLocal != "auto" {
		t.Errorf("link %+v", l)
	}
	if !*l.Addresses[0].DAD || *l.Addresses[1].DAD || l.Addresses[0].Address != netip.MustParsePrefix("2001:db8::1/64") {
		t.Errorf("addresses %+v", l.Addresses)
	}
	if r.System.Control.Socket != "/run/leveret/api.sock" || r.ICMPv6.ErrorRate != 100 || r.Routing.HopByHop != "process" {
		t.Errorf("root %+v", r)
	}
}

// TestMergeOrder: file, then conf.d in lexical order, then environment, then flags.
func TestMergeOrder(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("leveret.yaml", "version: 1\nsystem: {hostname: file, state_dir: /file, run_dir: /file, seed: 1}\n")
	write("conf.d/10-a.yaml", "system: {state_dir: /a, run_dir: /a, seed: 2}\n")
	write("conf.d/20-b.yaml", "system: {run_dir: /b, seed: 3}\n")
	r, err := Load(Options{
		File: filepath.Join(dir, "leveret.yaml"), Env: []string{"LEVERET_SYSTEM_SEED=4", "HOME=/root"},
		Flags: map[string]string{"system.log.level": "debug"},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := r.System
	if s.Hostname != "file" || s.StateDir != "/a" || s.RunDir != "/b" || s.Seed != 4 || s.Log.Level != "debug" {
		t.Errorf("%+v", s)
	}
}

func TestEnvironmentTakesListsAsJSON(t *testing.T) {
	r := load(t, "version: 1\n", `LEVERET_SERVICES=[{"name":"echo","proto":"tcp","port":7}]`, "LEVERET_ROUTING_FORWARDING=false")
	if len(r.Services) != 1 || r.Services[0].Port != 7 || r.Routing.Forwarding {
		t.Errorf("%+v %+v", r.Services, r.Routing)
	}
	_, err := Load(Options{Text: []byte("version: 1\n"), Env: []string{"LEVERET_SYSTEM_LOGLEVEL=debug"}})
	if err == nil || !strings.Contains(err.Error(), "LEVERET_SYSTEM_LOG_LEVEL") {
		t.Errorf("an unknown variable: %v", err)
	}
}

func TestSectionDecodesStrictly(t *testing.T) {
	r := load(t, `
version: 1
links: [{name: lan0, kind: dummy, nud: {retrans_timer: 500ms, reachabel_time: 3s}}]
routing:
  routes:
    - {to: "::/0", metric: ten}
`)
	type nud struct {
		RetransTimer  time.Duration `mapstructure:"retrans_timer"`
		ReachableTime time.Duration `mapstructure:"reachable_time"`
	}
	var n nud
	err := r.Links[0].Sections["nud"].Decode(&n)
	want := `test:3: links[lan0].nud.reachabel_time: unknown key; did you mean "reachable_time"?`
	if err == nil || err.Error() != want || n.RetransTimer != 500*time.Millisecond {
		t.Errorf("got %v, want %s; %+v", err, want, n)
	}
	var routes []struct {
		To     string `mapstructure:"to"`
		Metric uint32 `mapstructure:"metric"`
	}
	err = r.Sections["routing.routes"].Decode(&routes)
	if want := `test:6: routing.routes[0].metric: want a whole number, got the text "ten"`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if r.Links[0].Sections["dad"].Present() || r.Links[0].Sections["dad"].Decode(&n) != nil {
		t.Error("a section nobody wrote is present")
	}
	f := r.Sections["routing.routes"].Fault("[0].to", "no", "RFC 1 2")
	if want := "test:6: routing.routes[0].to: no (RFC 1 2)"; f.Error() != want {
		t.Errorf("got %v, want %s", f, want)
	}
}

func TestTextLoadsToTheSameTree(t *testing.T) {
	for _, f := range []string{"../../configs/default.yaml", "../../configs/leveret.yaml", "../../configs/minimal.yaml", "../../configs/lab/two-taps.yaml"} {
		r, err := Load(Options{File: f, Claims: claims})
		if err != nil {
			t.Fatal(err)
		}
		b, err := Text(r)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Load(Options{Name: "text", Text: b, Claims: claims})
		if err != nil {
			t.Fatalf("%s: %v\n%s", f, err, b)
		}
		if !reflect.DeepEqual(r.raw, again.raw) || len(Diff(r, again)) != 0 {
			t.Errorf("%s: differs after Text: %v", f, Diff(r, again))
		}
	}
}

// TestSecretsAreHidden: keys of IPsec are neither shown nor compared where it is seen, nor in faults.
func TestSecretsAreHidden(t *testing.T) {
	text := func(aead string) string {
		return `{version: 1, ipsec: {policies: [{selector: {key: 7}}], states: [{name: a, aead: ` + aead + `, auth: {name: y, key_file: /k}}]}}`
	}
	a, b := load(t, text(`{name: x, key: "0x0102"}`)), load(t, text(`{name: x, key: "0x0103"}`))
	shown, err := Show(a)
	if err != nil || strings.Contains(string(shown), "0102") || !strings.Contains(string(shown), "key: <hidden>") || !strings.Contains(string(shown), "key: 7") ||
		!strings.Contains(string(shown), "key_file: /k") {
		t.Errorf("%s, %v", shown, err)
	}
	if got, want := Diff(a, b), []Change{{"ipsec.states[a].aead.key", "<hidden>", "<hidden>"}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
	if got := Diff(a, a); len(got) != 0 {
		t.Errorf("got %v", got)
	}
	// Nor is what stands in a wrong place.
	none := load(t, "{version: 1}")
	for _, aead := range []string{`"0x0102"`, `{name: "0x0102"}`, `{key_file: "0x0102"}`, `{key: ["0x0102"]}`, `{keyy: "0x0102"}`, `{icv_bits: "0x0102"}`, `{icv_bits: 20102}`} {
		r := load(t, text(aead))
		if shown, err := Show(r); err != nil || strings.Contains(string(shown), "0102") || strings.Contains(fmt.Sprint(Diff(none, r)), "0102") {
			t.Errorf("%s: %v\n%s%v", aead, err, shown, Diff(none, r))
		}
	}
	if got := fmt.Sprint(Diff(none, load(t, text(`{name: x, icv_bits: 128}`)))); !strings.Contains(got, `"x"`) || !strings.Contains(got, "128") || !strings.Contains(got, `"/k"`) {
		t.Errorf("got %s", got)
	}
	for aead, want := range map[string]string{
		`{name: x, key: 0x0102}`: "ipsec.states[a].aead.key: want text", `{name: x, key_file: 0x0102}`: "ipsec.states[a].aead.key_file: want text",
		`"0x0102"`: "ipsec.states[a].aead: want keys and values", `{name: 258}`: "ipsec.states[a].aead.name: want text, got the number 258",
	} {
		r := load(t, text(aead))
		var states []struct {
			Name string `mapstructure:"name"`
			AEAD struct {
				Name    string `mapstructure:"name"`
				Key     string `mapstructure:"key"`
				KeyFile string `mapstructure:"key_file"`
			} `mapstructure:"aead"`
			Auth map[string]string `mapstructure:"auth"`
		}
		if err := r.Sections["ipsec.states"].Decode(&states); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %v", aead, err)
		}
	}
}

func TestDiff(t *testing.T) {
	a := load(t, "version: 1\nlinks: [{name: lan0, kind: dummy, mtu: 1500}]\n")
	b := load(t, "version: 1\nlinks: [{name: lan0, kind: dummy, mtu: 1400}, {name: x, kind: dummy}]\n")
	want := []Change{{"links[lan0].mtu", "1500", "1400"}, {"links[x].kind", "", `"dummy"`}, {"links[x].name", "", `"x"`}}
	if got := Diff(a, b); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestCollect(t *testing.T) {
	err := errors.Join(Faults{{Path: "a"}}, errors.Join(Fault{Path: "b"}), nil)
	if fs, rest := Collect(err); len(fs) != 2 || rest != nil {
		t.Errorf("%v %v", fs, rest)
	}
	if fs, rest := Collect(errors.New("x")); len(fs) != 0 || rest == nil {
		t.Errorf("%v %v", fs, rest)
	}
}

func FuzzLoad(f *testing.F) {
	files, _ := filepath.Glob("testdata/faulty/*.yaml")
	for _, name := range append(files, "../../configs/leveret.yaml") {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Load(Options{Name: "fuzz", Text: b, Claims: claims})
		if err == nil && r.Version != 1 {
			t.Error("accepted a wrong version")
		}
	})
}

func TestNumbersKeepTheir64Bits(t *testing.T) {
	if r := load(t, "version: 1\n", "LEVERET_SYSTEM_SEED=9007199254740993"); r.System.Seed != 9007199254740993 {
		t.Errorf("seed %d", r.System.Seed)
	}
	if r := load(t, "version: 1\nsystem: {seed: 18446744073709551615}\n"); r.System.Seed != 1<<64-1 {
		t.Errorf("seed %d", r.System.Seed)
	}
}

// TestForeignVariablesAreLeftAlone: what Kubernetes sets for a service named leveret.
func TestForeignVariablesAreLeftAlone(t *testing.T) {
	load(t, "version: 1\n", "LEVERET_PORT=tcp://10.0.0.1:80", "LEVERET_SERVICE_HOST=10.0.0.1", "LEVERET_CONFIG=/x")
}

func TestPreferredLifetimeDefaultsToValid(t *testing.T) {
	r := load(t, "version: 1\nlinks: [{name: a, kind: dummy, addresses: [{address: \"2001:db8::1/64\", valid_lifetime: 1h}]}]\n")
	if a := r.Links[0].Addresses[0]; a.PreferredLifetime != time.Hour {
		t.Errorf("%+v", a)
	}
}

func TestDiffTellsServicesOfOneNameApart(t *testing.T) {
	a := load(t, "version: 1\nservices: [{name: echo, proto: tcp, port: 7}, {name: echo, proto: udp, port: 7}]\n")
	b := load(t, "version: 1\nservices: [{name: echo, proto: tcp, port: 8}, {name: echo, proto: udp, port: 7}]\n")
	if got := Diff(a, b); len(got) != 1 || got[0].Path != "services[echo].port" {
		t.Errorf("%v", got)
	}
}

// TestReplacedListLeavesNoTraces: what an earlier file had at the same place is not blamed.
func TestReplacedListLeavesNoTraces(t *testing.T) {
	dir := t.TempDir()
	os.MkdirAll(filepath.Join(dir, "conf.d"), 0o755)
	os.WriteFile(filepath.Join(dir, "leveret.yaml"), []byte("version: 1\nlinks: [{name: a, kind: dummy, host: {}}]\n"), 0o644)
	os.WriteFile(filepath.Join(dir, "conf.d", "a.yaml"), []byte("links: [{name: b, kind: dummy}]\n"), 0o644)
	if _, err := Load(Options{File: filepath.Join(dir, "leveret.yaml")}); err != nil {
		t.Error(err)
	}
}

// TestTunnels: they are links behind the others, as long as their path lets them be, and their module gets the keys that
// other links do not have.
func TestTunnels(t *testing.T) {
	r := load(t, `
version: 1
links: [{name: wan0, kind: dummy}]
tunnels:
  - {name: t0, kind: ip6ip6, mtu: auto, local: "2001:db8::1", encap_limit: 2, addresses: ["2001:db8:7::1/64"], nud: {queue_packets: 5}}
  - {name: t1, kind: ip6gre, mtu: 1400}
`)
	if len(r.Links) != 3 || r.Tunnels != nil || r.Links[1].Name != "t0" || r.Links[1].MTU != 65535 || r.Links[2].MTU != 1400 || len(r.Links[1].Addresses) != 1 {
		t.Fatalf("%+v", r.Links)
	}
	if r.Links[0].Sections["tunnel"] != nil || !r.Links[1].Sections["nud"].Present() || r.Links[2].Sections["nud"].Present() {
		t.Error("sections")
	}
	var v struct {
		Local      netip.Addr `mapstructure:"local"`
		EncapLimit int        `mapstructure:"encap_limit"`
	}
	if err := r.Links[1].Sections["tunnel"].Decode(&v); err != nil || v.EncapLimit != 2 || v.Local != netip.MustParseAddr("2001:db8::1") {
		t.Errorf("%+v %v", v, err)
	}
	var none struct{}
	err := r.Links[1].Sections["tunnel"].Decode(&none)
	if want := "test:5: tunnels[t0].encap_limit: unknown key\ntest:5: tunnels[t0].local: unknown key"; err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
	if again, err := Show(r); err != nil || !strings.Contains(string(again), "mtu: auto") {
		t.Errorf("%v\n%s", err, again)
	}
}
