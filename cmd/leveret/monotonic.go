package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// monotonic is the time a service manager wants with RELOADING=1 (sd_notify(3)).
func monotonic() string {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return "MONOTONIC_USEC=0"
	}
	return fmt.Sprintf("MONOTONIC_USEC=%d", ts.Nano()/1000)
}
