// Package hostdev is what ports need to know of the host's network devices: their state, followed
// by rtnetlink, in whatever network namespace they are. Nothing of the host's addressing is ever
// read or changed.
package hostdev

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// In runs f in a network namespace: a name below /run/netns, a path, or "" for this one. Sockets
// and descriptors opened in f stay in that namespace.
func In(netns string, f func() error) error {
	if netns == "" {
		return f()
	}
	path := netns
	if !strings.Contains(netns, "/") {
		path = "/run/netns/" + netns
	}
	done := make(chan error, 1)
	go func() {
		// The thread is never unlocked: it ends with the goroutine and nothing else runs there.
		runtime.LockOSThread()
		h, err := os.Open(path)
		if err != nil {
			done <- fmt.Errorf("network namespace %s: %w", netns, err)
			return
		}
		defer h.Close()
		if err := unix.Setns(int(h.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("network namespace %s: %w", netns, err)
			return
		}
		done <- f()
	}()
	return <-done
}
