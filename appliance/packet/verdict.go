package packet

// Verdict is what a stage decides about a packet. Only the packet path acts on it. The zero
// Verdict is invalid, so that a forgotten decision is found at once.
type Verdict uint16

// The verdicts; a drop is dropBit plus its reason.
const (
	Continue  Verdict = iota + 1 // go on with the next stage
	Consumed                     // somebody else has taken it (a copy, or what it was for)
	Discovery                    // an ND or MLD message for this node
	Local                        // for this node
	Forward                      // for somebody else
	Taken                        // ownership has passed on: not even to be released
	Again                        // it is another packet now: from the validate stage on again
	Split                        // to be cut into segments, its checksums completed, and to come again
	Arrived                      // it is another packet now, that came in on link In: from the receive stage on again
)

const dropBit Verdict = 1 << 15

// Drop returns the verdict that drops a packet for reason r.
func Drop(r Reason) Verdict { return dropBit | Verdict(r) }

// Dropped reports whether v drops, and why.
func (v Verdict) Dropped() (Reason, bool) { return Reason(v &^ dropBit), v&dropBit != 0 }

func (v Verdict) String() string {
	if r, ok := v.Dropped(); ok {
		return "drop " + r.String()
	}
	return [...]string{"invalid", "continue", "consumed", "discovery", "local", "forward", "taken", "again", "split", "arrived"}[v]
}
