package xfrm

import (
	"testing"

	"leveret/appliance/packet"
	"leveret/extensions/xfrm/sad"
)

// Benchmark is what leaves: past a policy without templates, with one that wants something of other packets; through an SA.
func Benchmark(b *testing.B) {
	for _, c := range []struct {
		name    string
		dst     string
		verdict packet.Verdict
	}{{"bypass", "2001:db8:7::/64", packet.Continue}, {"esp", "2001:db8:7:1::/64", packet.Forward}} {
		b.Run(c.name, func(b *testing.B) {
			from, _ := ends(b, gcm(0x1001))
			pass := PolicyConfig{Name: "pass", Dir: "out", Action: "allow", Priority: 1, Selector: SelectorConfig{Dst: c.dst}}
			from.apply(sections([]sad.StateConfig{gcm(0x1001)}, []PolicyConfig{pass, protect("7")}))
			from.m.host = fixedLinks{from, from.Links()}
			model, p := clearPacket(500), packet.NewBuffer(2000)
			b.ReportAllocs()
			for b.Loop() {
				model.CopyTo(p)
				if v := from.m.transform(p); v != c.verdict {
					b.Fatal(v)
				}
			}
		})
	}
}
