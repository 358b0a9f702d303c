package interop

import (
	"fmt"
	"strings"
	"testing"
)

// node is one end of route optimization: at home it is where its home address is.
type node struct{ home, at string }

func (n node) away() bool { return n.home != n.at }

// hop is one direction between two ends, by words of "ip xfrm" and of the configuration.
type hop struct {
	from, to node
	spi      int
}

// states are what both ends have for the direction, as key and value pairs of the configuration, and as words.
func (h hop) states(secure string) (yaml, words []string) {
	add := func(src, dst, rest string, opts ...string) {
		y := fmt.Sprintf("src: %q, dst: %q", src, dst)
		w := "src " + src + " dst " + dst + " proto " + rest
		f := strings.Fields("proto " + rest)
		for i := 0; i < len(f); i += 2 {
			y += fmt.Sprintf(", %s: %q", f[i], f[i+1])
			if f[i] == "spi" {
				y = strings.ReplaceAll(y, `"`+f[i+1]+`"`, f[i+1])
			}
		}
		for i := 0; i < len(opts); i += 2 {
			y, w = y+", "+opts[i], w+" "+opts[i+1]
		}
		yaml, words = append(yaml, y), append(words, w)
	}
	src, dst := h.from.home, h.to.home
	if h.from.away() {
		add(src, dst, "hao mode ro coa "+h.from.at)
	}
	if h.to.away() {
		add(src, dst, "route2 mode ro coa "+h.to.at)
		if h.from.away() { // the source is no home address yet when the Routing header has its turn
			add("::", dst, "route2 mode ro coa "+h.to.at, "flags: [wildrecv]", "flag wildrecv")
		}
	}
	if strings.Contains(secure, "esp") {
		key := fmt.Sprintf("0x000102030405060708090a0b0c0d0e0f1011%04x", h.spi)
		add(src, dst, fmt.Sprintf("esp spi %#x mode transport", h.spi), fmt.Sprintf("replay_window: 64, aead: {name: \"rfc4106(gcm(aes))\", key: %q, icv_bits: 128}", key),
			"replay-window 64 aead 'rfc4106(gcm(aes))' "+key+" 128")
	}
	if strings.Contains(secure, "ah") {
		key := fmt.Sprintf("0x%060x%04x", 7, h.spi)
		add(src, dst, fmt.Sprintf("ah spi %#x mode transport", h.spi), fmt.Sprintf("replay_window: 64, auth: {name: \"hmac(sha256)\", key: %q, trunc_bits: 128}", key),
			"replay-window 64 auth-trunc 'hmac(sha256)' "+key+" 128")
	}
	return yaml, words
}

// policies are those of the end that sends (out) or that receives (in).
func (h hop) policies(dir, secure string) (yaml, words []string) {
	var sub []string
	if h.to.away() {
		sub = append(sub, "route2")
	}
	if h.from.away() {
		sub = append(sub, "hao")
	}
	if dir == "in" && len(sub) == 2 { // the last template is the first header
		sub[0], sub[1] = sub[1], sub[0]
	}
	for ptype, list := range map[string][]string{"sub": sub, "main": strings.Fields(secure)} {
		if len(list) == 0 {
			continue
		}
		mode := map[string]string{"sub": "ro", "main": "transport"}[ptype]
		w := fmt.Sprintf("src %s/128 dst %s/128 dir %s ptype %s priority 10", h.from.home, h.to.home, dir, ptype)
		var t []string
		for _, p := range list {
			w += " tmpl proto " + p + " mode " + mode
			t = append(t, fmt.Sprintf("{proto: %s, mode: %s}", p, mode))
		}
		words = append(words, w)
		yaml = append(yaml, fmt.Sprintf("name: %s-%s, dir: %s, sub: %s, priority: 10, action: protect, selector: {src: %q, dst: %q}, templates: [%s]",
			dir, ptype, dir, ptype, h.from.home, h.to.home, strings.Join(t, ", ")))
	}
	return yaml, words
}

// TestRouteOptimization: the kernel or Leveret or both are away from home, with AH and ESP or without: every size of ping,
// TCP, nothing refused at either end.
func TestRouteOptimization(t *testing.T) {
	const ourHome, theirHome = "2001:db8:a::1", "2001:db8:b::2"
	for _, c := range []struct {
		name   string
		us, vm node
	}{
		{"the kernel", node{ours, ours}, node{theirHome, theirs}},
		{"Leveret", node{ourHome, ours}, node{theirs, theirs}},
		{"both", node{ourHome, ours}, node{theirHome, theirs}},
	} {
		for _, secure := range strings.Split(sizes(",esp ah", ",esp,ah,esp ah"), ",") {
			t.Run(strings.TrimSpace(c.name+" "+secure), func(t *testing.T) {
				v := peer.VM(t)
				t.Cleanup(func() { v.Run("ip xfrm policy flush ptype sub") }) // which a flush leaves otherwise
				before := v.XfrmStat()
				address(v, "eth0", theirs)
				routes := ""
				if c.vm.away() {
					v.Run("ip -6 addr add " + c.vm.home + "/128 dev eth0 nodad home")
					routes = fmt.Sprintf("routing: {routes: [{to: \"%s/128\", via: %q, dev: vm0}]}\n", c.vm.home, theirs)
				}
				v.Run("ip -6 route add " + c.us.home + "/128 via " + ours + " dev eth0 src " + c.vm.home)
				out, in := hop{c.us, c.vm, 0x1001}, hop{c.vm, c.us, 0x1002}
				var states, policies []string
				for _, h := range []hop{out, in} {
					y, w := h.states(secure)
					states = append(states, y...)
					for _, x := range w {
						v.Run("ip xfrm state add " + x)
					}
					dir, theirDir := "out", "in"
					if h == in {
						dir, theirDir = "in", "out"
					}
					y, _ = h.policies(dir, secure)
					policies = append(policies, y...)
					_, w = h.policies(theirDir, secure)
					for _, x := range w {
						v.Run("ip xfrm policy add " + x)
					}
				}
				link := attach(t, v, "tap", "vm0", ours)
				if c.us.away() {
					link = strings.Replace(link, ours+"/64\"", ours+"/64\", \""+c.us.home+"/128\"", 1)
				}
				yaml := "services: [{name: echo, proto: tcp, port: 7}]\nlinks:\n" + link + routes + "ipsec:\n  states:\n"
				for _, s := range states {
					yaml += "    - {" + s + "}\n"
				}
				yaml += "  policies:\n"
				for _, p := range policies {
					yaml += "    - {" + p + "}\n"
				}
				a := start(t, yaml)
				sweep(t, v, c.us.home, sizes("0-16,1270-1290,1400-1412,1440-1512,3000", all)+" "+c.vm.home)
				for _, size := range []string{"56", "1400", "3000"} {
					a.must("ping", "-c", "1", "-W", "5", "-s", size, "-I", c.us.home, c.vm.home)
				}
				v.Run("head -c 300000 /dev/urandom >/run/sent && nc -w 5 " + c.us.home + " 7 </run/sent >/run/back; cmp /run/sent /run/back")
				for name, n := range v.XfrmStat() {
					if n != before[name] {
						t.Errorf("the VM's %s: %d more", name, n-before[name])
					}
				}
				if got := a.must("stats", "drops"); strings.Contains(got, "xfrm_") || strings.Contains(got, "home_address") || strings.Contains(got, "type2") {
					t.Errorf("Leveret dropped\n%s", got)
				}
			})
		}
	}
}
