package interop

import (
	"fmt"
	"strings"
	"testing"
)

// TestMigrate: Leveret's end of a tunnel gets another address while the tunnel stays. The VM is told what it needs to go
// on with: where the other end is and which numbers were used. It refuses what begins anew, as all of that is left of its
// window.
func TestMigrate(t *testing.T) {
	const moved = "2001:db8:1::9"
	v := peer.VM(t)
	l := layer{proto: "esp", mode: "tunnel", parts: gcm128, spi: 0x1001, window: 64}
	g := setup{l}
	before := v.XfrmStat()
	a := g.start(t, v, true)
	sweep(t, v, ours2, "0-199 "+theirsInner)
	to, from := l.sas(0)
	was := a.states()

	a.must("addr", "add", moved+"/64", "dev", "vm0")
	local, remote := g.selectors()
	for _, p := range []struct{ dir, src, dst, oldSrc, oldDst, newSrc, newDst string }{
		{"out", local, remote, ours, theirs, moved, theirs}, {"in", remote, local, theirs, ours, theirs, moved}, {"fwd", remote, local, theirs, ours, theirs, moved},
	} {
		sh(t, `curl -sS --fail-with-body --unix-socket %s/api.sock http://localhost/v1/xfrm/migrate -d '{"dir": %q, "src": %q, "dst": %q, `+
			`"migrate": [{"old_src": %q, "old_dst": %q, "new_src": %q, "new_dst": %q, "proto": "esp", "mode": "tunnel", "reqid": 1}]}'`,
			a.dir, p.dir, p.src, p.dst, p.oldSrc, p.oldDst, p.newSrc, p.newDst)
	}
	to.src, from.dst = moved, moved
	l.more = fmt.Sprintf(" replay-seq %d", was[to.spi].AntiReplay.OSeq)
	lines := []string{"set -e", "ip xfrm state flush", "ip xfrm state add " + l.state(to)}
	l.more = fmt.Sprintf(" replay-oseq %d", was[from.spi].AntiReplay.Seq)
	lines = append(lines, "ip xfrm state add "+l.state(from))
	for _, p := range g.policies()[:2] {
		lines = append(lines, strings.NewReplacer("policy add", "policy update", "tmpl src "+ours, "tmpl src "+moved, "dst "+ours+" proto", "dst "+moved+" proto").Replace(p))
	}
	v.Run(strings.Join(lines, "\n"))

	sweep(t, v, ours2, "0-29 "+theirsInner)
	a.must("ping", "-c", "10", "-i", "0.05", "-I", ours2, theirsInner)
	sameStat(t, v, before)
	is := a.states()
	for _, s := range []sa{to, from} {
		if n := is[s.spi].Current.Packets; n != was[s.spi].Current.Packets+40 || is[s.spi].Dst.String() != s.dst || is[s.spi].Src.String() != s.src {
			t.Errorf("spi %#x from %s to %s: %d packets, %d before", s.spi, is[s.spi].Src, is[s.spi].Dst, n, was[s.spi].Current.Packets)
		}
	}
	if n, m := is[to.spi].AntiReplay.OSeq, is[from.spi].AntiReplay.Seq; n != was[to.spi].AntiReplay.OSeq+40 || m != was[from.spi].AntiReplay.Seq+40 {
		t.Errorf("numbers: %d and %d, %d and %d before", n, m, was[to.spi].AntiReplay.OSeq, was[from.spi].AntiReplay.Seq)
	}
}
