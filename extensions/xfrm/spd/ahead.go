package spd

import "leveret/extensions/xfrm/selector"

// Probe is a lookup among many policies in steps, each of which begins where it would wait for memory: when those of a
// vector of packets take each step together, they wait together. It finds what [Snapshot.Lookup] finds, or nothing:
// only the largest group is looked into. Its methods are called in their order.
type Probe struct {
	bucket *[]slot
	slots  []slot
	hash   uint64
	entry  *entry
}

// Many reports whether the policies of a direction, of type main, are so many that a lookup waits for memory.
func (s *Snapshot) Many(dir Dir) bool { return s.tables[dir][kind(false)].n > 512 }

// Begin begins a lookup among policies of type main.
func (s *Snapshot) Begin(p *Probe, dir Dir, f *selector.Flow) {
	*p = Probe{}
	t := &s.tables[dir][kind(false)]
	if t.groups == nil {
		p.entry = t.find(s.seed, f, 0)
		return
	}
	var g *group
	for _, x := range t.groups {
		if x.shape.concerns(f) && (g == nil || x.n > g.n) {
			g = x
		}
	}
	if g != nil {
		p.hash = g.shape.hash(s.seed, f, 0)
		p.bucket = &g.buckets[p.hash&uint64(len(g.buckets)-1)]
	}
}

// Bucket waits for where the candidates are.
func (p *Probe) Bucket() {
	if p.bucket != nil {
		p.slots = *p.bucket
	}
}

// Slots waits for the candidates' hashes; what it returns is to be used for nothing but that they are waited for.
func (p *Probe) Slots() (x uint64) {
	for i := 0; i < len(p.slots); i += 4 { // one for each line of memory
		x += p.slots[i].hash
	}
	return x
}

// Entry chooses the candidate and waits for its selector.
func (p *Probe) Entry() uint64 {
	for i := range p.slots {
		if p.slots[i].hash == p.hash {
			p.entry = p.slots[i].entry
			break
		}
	}
	if p.entry == nil {
		return 0
	}
	s := &p.entry.sel
	return s.Src.Hi + s.Dst.MLo + uint64(s.Family) + uint64(s.Selector.DPort) + p.entry.hash
}

// Action waits for what the policy says.
func (p *Probe) Action() uint64 {
	if p.entry == nil {
		return 0
	}
	return uint64(p.entry.policy.Action) + uint64(len(p.entry.policy.Templates))
}

// Template waits for the first template and returns it; nil = there is none.
func (p *Probe) Template() (*Template, uint64) {
	if p.entry == nil || len(p.entry.policy.Templates) == 0 {
		return nil, 0
	}
	t := &p.entry.policy.Templates[0]
	return t, uint64(t.ReqID) + uint64(t.Src.BitLen())
}
