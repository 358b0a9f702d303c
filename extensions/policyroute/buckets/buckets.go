// Package buckets is resilient hashing: a group of next hops whose members come and go while the flows of
// those that stay keep their way.
package buckets

import (
	"sync/atomic"
	"time"

	"leveret/appliance/clock"
	"leveret/extensions/policyroute/nexthop"
)

// Group divides the space of hashes into buckets, each of which belongs to a member. When members
// come or go, the buckets of those who are gone move at once, and of those who have too many only what
// has been idle: flows of members that stay keep their way.
//
// Select is for any goroutine and changes nothing but the time of use; the rest is for the one that owns
// the group.
type Group struct {
	args    nexthop.ResilientArgs
	buckets []bucket
	// unbalancedSince some member has fewer buckets than its share; Never = none has.
	unbalancedSince clock.Instant
}

type bucket struct {
	member atomic.Uint32
	used   atomic.Int64 // clock.Instant
}

// usedGrain is how exact the time of use is: within it a bucket's line is not written again.
const usedGrain = 10 * time.Millisecond

// New returns a group whose buckets belong to nobody until [Group.Balance].
func New(a nexthop.ResilientArgs) *Group {
	return &Group{args: a, buckets: make([]bucket, a.Buckets), unbalancedSince: clock.Never}
}

// Args returns the group's parameters.
func (g *Group) Args() nexthop.ResilientArgs { return g.args }

// BucketOf returns the index of a hash's bucket.
func (g *Group) BucketOf(h uint64) int {
	return int(uint64(nexthop.Bucket(h)) * uint64(len(g.buckets)) >> 31)
}

// Peek returns the member that a hash's bucket belongs to; 0 = nobody.
func (g *Group) Peek(h uint64) (member uint32) { return g.buckets[g.BucketOf(h)].member.Load() }

// Select is Peek for a packet: the bucket is in use at now. It does not allocate.
func (g *Group) Select(h uint64, now clock.Instant) (member uint32) {
	b := &g.buckets[g.BucketOf(h)]
	if now.Sub(clock.Instant(b.used.Load())) >= usedGrain {
		b.used.Store(int64(now))
	}
	return b.member.Load()
}

// Bucket returns a bucket's member, and for how long no packet has used it.
func (g *Group) Bucket(i int, now clock.Instant) (member uint32, idle time.Duration) {
	b := &g.buckets[i]
	return b.member.Load(), max(now.Sub(clock.Instant(b.used.Load())), 0)
}

// Unbalanced returns for how long some member has had fewer buckets than its share; 0 = none has.
func (g *Group) Unbalanced(now clock.Instant) time.Duration {
	if g.unbalancedSince == clock.Never {
		return 0
	}
	return now.Sub(g.unbalancedSince)
}

// Balance gives the buckets to members by their weights, as far as flows in use allow, and returns when
// that is to be tried again, clock.Never = all have their share. Without members nothing changes: there
// is nobody better.
func (g *Group) Balance(members []nexthop.Member, now clock.Instant) (next clock.Instant) {
	if len(members) == 0 {
		return clock.Never
	}
	lack, at := g.lacking(members)
	forced := g.args.UnbalancedTimer > 0 && g.unbalancedSince != clock.Never && g.Unbalanced(now) >= g.args.UnbalancedTimer
	next = clock.Never
	for _, idleToo := range []bool{false, true} { // whose member is gone comes first
		for i := range g.buckets {
			owner, idle := g.Bucket(i, now)
			k, known := at[owner]
			switch {
			case !known && !idleToo:
			case !known || !idleToo || lack[k] >= 0:
				continue
			case idle < g.args.IdleTimer && !forced:
				next = clock.Earliest(next, now.Add(g.args.IdleTimer-idle))
				continue
			default:
				lack[k]++
			}
			g.move(i, members, lack, now)
		}
	}
	balanced := true
	for _, n := range lack {
		balanced = balanced && n <= 0
	}
	switch {
	case balanced:
		g.unbalancedSince, next = clock.Never, clock.Never
	case g.unbalancedSince == clock.Never || forced:
		g.unbalancedSince = now
	}
	if !balanced && g.args.UnbalancedTimer > 0 {
		next = clock.Earliest(next, g.unbalancedSince.Add(g.args.UnbalancedTimer))
	}
	return next
}

// lacking returns how many buckets each member has less than its share, and where each member is.
func (g *Group) lacking(members []nexthop.Member) (lack []int, at map[uint32]int) {
	at = make(map[uint32]int, len(members))
	lack = make([]int, len(members))
	total, sum, before := 0, 0, 0
	for _, m := range members {
		total += int(m.Weight)
	}
	for i, m := range members {
		at[m.ID] = i
		sum += int(m.Weight)
		end := (len(g.buckets)*sum + total/2) / total
		lack[i], before = end-before, end
	}
	for i := range g.buckets {
		if k, ok := at[g.buckets[i].member.Load()]; ok {
			lack[k]--
		}
	}
	return lack, at
}

// move gives a bucket to the first member that lacks one.
func (g *Group) move(i int, members []nexthop.Member, lack []int, now clock.Instant) {
	for k := range members {
		if lack[k] > 0 {
			lack[k]--
			g.buckets[i].member.Store(members[k].ID)
			g.buckets[i].used.Store(int64(now))
			return
		}
	}
}
