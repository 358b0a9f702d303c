package xfrm

import (
	"errors"
)

// What states.go, policies.go and migrate.go change is the loop's. Each function makes its change visible to packets as one, tells of
// it, and refuses in the words of the kernel.

// What is understood and not built.
var (
	errIPv4   = errors.New("Address family not supported by protocol: IPv4")
	errNonIKE = errors.New("Unsupported encapsulation type for ESP.: espinudp-nonike")
	errLimits = errors.New("Protocol not supported: limits of bytes and packets, which policies do not count; seconds are")
)
