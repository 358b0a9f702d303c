package interop

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"leveret/extensions/xfrm/sad"
	"leveret/test/interop/vm"
)

// states are Leveret's, by SPI.
func (a *appliance) states() map[uint32]sad.Listed {
	a.t.Helper()
	var list []sad.Listed
	if err := json.Unmarshal([]byte(a.must("-s", "-j", "xfrm", "state")), &list); err != nil {
		a.t.Fatal(err)
	}
	out := map[uint32]sad.Listed{}
	for _, s := range list {
		out[s.SPI] = s
	}
	return out
}

// refusals are what one end counts of what it did not take in.
type refusals struct {
	SeqError, ProtoError, // of all SAs
	Left, Replayed, Failed uint64 // of one
}

func (r refusals) minus(o refusals) refusals {
	return refusals{r.SeqError - o.SeqError, r.ProtoError - o.ProtoError, r.Left - o.Left, r.Replayed - o.Replayed, r.Failed - o.Failed}
}

var statsOf = regexp.MustCompile(`(?s)spi 0x([0-9a-f]+)\(.*?stats:\s+replay-window (\d+) replay (\d+) failed (\d+)`)

// atVM are the VM's refusals, those of an SA and of all.
func atVM(t *testing.T, v *vm.VM, spi uint32) (r refusals) {
	t.Helper()
	stat := v.XfrmStat()
	r.SeqError, r.ProtoError = stat["XfrmInStateSeqError"], stat["XfrmInStateProtoError"]
	for _, m := range statsOf.FindAllStringSubmatch(v.States(), -1) {
		if n, _ := strconv.ParseUint(m[1], 16, 32); uint32(n) == spi { // the expression takes digits only
			for i, p := range []*uint64{&r.Left, &r.Replayed, &r.Failed} {
				*p, _ = strconv.ParseUint(m[2+i], 10, 64)
			}
			return r
		}
	}
	t.Fatalf("spi %#x is not at the VM", spi)
	return r
}

// atOurs are Leveret's.
func atOurs(a *appliance, spi uint32) refusals {
	a.t.Helper()
	var stat map[string]uint64
	if err := json.Unmarshal([]byte(a.must("-j", "xfrm", "stat")), &stat); err != nil {
		a.t.Fatal(err)
	}
	s := a.states()[spi].Stats
	return refusals{stat["XfrmInStateSeqError"], stat["XfrmInStateProtoError"], s.ReplayWindow, s.Replay, s.IntegrityFailed}
}

// echoes are the echo messages that either end has taken in.
func echoes(v *vm.VM, a *appliance) string {
	a.t.Helper()
	return v.Run("grep -E 'Icmp6InEchos|Icmp6InEchoReplies' /proc/net/snmp6") + a.must("stats")
}

// TestReplay: what was on the wire once is sent again to the VM and to Leveret: inside the replay window, left of it,
// and with other numbers, so that it is not authentic any more. Both refuse all of it, count the same, and go on.
func TestReplay(t *testing.T) {
	for _, c := range []struct {
		name  string
		l     layer
		again refusals // of what follows, expected at both ends
	}{
		{"ESP, window 32", layer{proto: "esp", mode: "transport", parts: gcm128, spi: 0x1001, window: 32}, refusals{15, 7, 5, 10, 7}},
		{"ESP, window 64", layer{proto: "esp", mode: "transport", parts: cbc256, spi: 0x1001, window: 64}, refusals{15, 7, 5, 10, 7}},
		{"AH, window 64, ESN", layer{proto: "ah", mode: "transport", parts: sha256, spi: 0x1001, window: 64, esn: true}, refusals{10, 12, 0, 10, 12}}, // left of the window is the next 2^32
	} {
		t.Run(c.name, func(t *testing.T) {
			v := peer.VM(t)
			a := setup{c.l}.start(t, v, true)
			toVM, toOurs := openTap(t, v, "vm0"), openTap(t, v, "lvt-vm0")
			sweep(t, v, ours, "0-89")
			seen := toVM.protected()
			var taken string
			for _, end := range []struct {
				name   string
				frames [][]byte
				into   *tap
				count  func() refusals
			}{
				{"the VM", seen[netip.MustParseAddr(ours)], toVM, func() refusals { return atVM(t, v, c.l.spi) }},
				{"Leveret", seen[netip.MustParseAddr(theirs)], toOurs, func() refusals { return atOurs(a, c.l.spi+1) }},
			} {
				n := len(end.frames)
				if n != 90 {
					t.Fatalf("%d frames for %s", n, end.name)
				}
				before := end.count()
				taken = echoes(v, a)
				end.into.send(end.frames[n-10:]...)
				end.into.send(end.frames[:5]...)
				for i := range 7 {
					f := bytes.Clone(end.frames[n-1])
					at := seqAt(f)
					binary.BigEndian.PutUint32(f[at:], binary.BigEndian.Uint32(f[at:])+1000)
					if i%2 != 0 {
						f[len(f)-1] ^= 0x10
					}
					end.into.send(f)
				}
				var got refusals
				for wait := time.Now().Add(3 * time.Second); time.Now().Before(wait) && got != c.again; time.Sleep(20 * time.Millisecond) {
					got = end.count().minus(before)
				}
				if got != c.again {
					t.Errorf("%s counts %+v, want %+v", end.name, got, c.again)
				}
				if now := echoes(v, a); withoutTraffic(now) != withoutTraffic(taken) {
					t.Errorf("%s has taken something in:\n%s\nwas:\n%s", end.name, now, taken)
				}
			}
			sweep(t, v, ours, "0-9")
			a.must("ping", "-c", "3", "-i", "0.1", theirs)
		})
	}
}

// withoutTraffic keeps the counters of echo messages and of what was delivered.
func withoutTraffic(counters string) string {
	var out []string
	for line := range strings.Lines(counters) {
		if strings.Contains(line, "Icmp6In") || strings.Contains(line, "echo_replies") || strings.Contains(line, "delivered") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}

// TestNumbersWrap: both ends of extended sequence numbers stand just below 2^32, or a multiple of it; traffic both ways
// goes over it and nothing is lost.
func TestNumbersWrap(t *testing.T) {
	for _, c := range []struct {
		name string
		high uint32
		l    layer
	}{
		{"ESP of an AEAD", 0, layer{proto: "esp", mode: "transport", parts: gcm128, spi: 0x1001, esn: true, window: 64}},
		{"ESP with a MAC, tunnel", 6, layer{proto: "esp", mode: "tunnel", parts: cbc256, spi: 0x1001, esn: true, window: 1024}},
		{"AH", 0xfffffffe, layer{proto: "ah", mode: "transport", parts: sha256, spi: 0x1001, esn: true, window: 32}},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := peer.VM(t)
			const below = 40
			c.l.more = fmt.Sprintf(" replay-seq %#x replay-seq-hi %#[2]x replay-oseq %#[1]x replay-oseq-hi %#[2]x", uint32(1<<32-below), c.high)
			g := setup{c.l}
			before := v.XfrmStat()
			a := g.start(t, v, false)
			to, from := c.l.sas(0)
			for _, s := range []sa{to, from} {
				a.must(append([]string{"xfrm", "state", "add"}, strings.Fields(strings.ReplaceAll(c.l.state(s), "'", ""))...)...)
			}
			dst, more := ours, ""
			ping := []string{"ping", "-c", "60", "-i", "0.01"}
			if g.tunneled() {
				dst, more = ours2, " "+theirsInner
				ping = append(ping, "-I", ours2, theirsInner)
			} else {
				ping = append(ping, theirs)
			}
			sweep(t, v, dst, "0-29"+more)
			if out := a.must(ping...); !strings.Contains(out, " 0% packet loss") {
				t.Errorf("over the border:\n%s", out)
			}
			sweep(t, v, dst, "0-99"+more)
			sameStat(t, v, before)
			states := a.states()
			for _, n := range []uint64{states[to.spi].AntiReplay.OSeq, states[from.spi].AntiReplay.Seq} {
				if want := uint64(c.high+1)<<32 + 30 + 60 + 100 - below; n < want || n > want+20 {
					t.Errorf("Leveret's number is %#x, want %#x", n, want)
				}
			}
			if out := v.States(); strings.Count(out, fmt.Sprintf("seq-hi 0x%x", c.high+1)) < 2 {
				t.Errorf("the VM's numbers:\n%s", out)
			}
		})
	}
}

// equalCounters wants the same packets and octets in each SA at both ends.
func equalCounters(t *testing.T, v *vm.VM, a *appliance) {
	t.Helper()
	var kernel, own map[uint32][2]uint64
	for wait := time.Now().Add(3 * time.Second); time.Now().Before(wait); time.Sleep(50 * time.Millisecond) {
		kernel, own = kernelCounters(v), map[uint32][2]uint64{}
		for spi, s := range a.states() {
			own[spi] = [2]uint64{s.Current.Packets, s.Current.Bytes}
		}
		if maps.Equal(kernel, own) {
			return
		}
	}
	t.Errorf("packets and octets by SPI: the VM's %v, Leveret's %v", kernel, own)
}
