package proto

import (
	"fmt"
	"time"
)

// Lifetime is when a state or policy ends (hard) and when it is to be replaced (soft): octets, packets, seconds since it
// was added and since its first packet. 0 = there is no such limit.
type Lifetime struct {
	SoftBytes   uint64 `json:"soft_bytes,omitempty" mapstructure:"soft_bytes"`
	HardBytes   uint64 `json:"hard_bytes,omitempty" mapstructure:"hard_bytes"`
	SoftPackets uint64 `json:"soft_packets,omitempty" mapstructure:"soft_packets"`
	HardPackets uint64 `json:"hard_packets,omitempty" mapstructure:"hard_packets"`
	SoftAdd     uint64 `json:"soft_seconds,omitempty" mapstructure:"soft_seconds"`
	HardAdd     uint64 `json:"hard_seconds,omitempty" mapstructure:"hard_seconds"`
	SoftUse     uint64 `json:"soft_use_seconds,omitempty" mapstructure:"soft_use_seconds"`
	HardUse     uint64 `json:"hard_use_seconds,omitempty" mapstructure:"hard_use_seconds"`
}

// Current is what has become of them.
type Current struct {
	Bytes     uint64     `json:"bytes"`
	Packets   uint64     `json:"packets"`
	Added     time.Time  `json:"added"`
	FirstUsed *time.Time `json:"first_used,omitempty"`
	LastUsed  *time.Time `json:"last_used,omitempty"`
}

// Append writes both as "ip -s xfrm" does.
func (l *Lifetime) Append(b []byte, c *Current) []byte {
	limit := func(n uint64) string {
		if n == 0 {
			return "(INF)"
		}
		return fmt.Sprint(n)
	}
	used := "-"
	if c.FirstUsed != nil {
		used = c.FirstUsed.Format(time.DateTime)
	}
	b = fmt.Appendf(b, "\tlifetime config:\n\t  limit: soft %s(bytes), hard %s(bytes)\n\t  limit: soft %s(packets), hard %s(packets)\n",
		limit(l.SoftBytes), limit(l.HardBytes), limit(l.SoftPackets), limit(l.HardPackets))
	b = fmt.Appendf(b, "\t  expire add: soft %d(sec), hard %d(sec)\n\t  expire use: soft %d(sec), hard %d(sec)\n", l.SoftAdd, l.HardAdd, l.SoftUse, l.HardUse)
	return fmt.Appendf(b, "\tlifetime current:\n\t  %d(bytes), %d(packets)\n\t  add %s use %s\n", c.Bytes, c.Packets, c.Added.Format(time.DateTime), used)
}
