// Command leveret is an isolated virtual IPv6 router in one binary: `leveret run` is the
// appliance, every other command asks a running one over its control socket.
//
// The words, options, output and JSON keys are those of iproute2 where iproute2 has the thing.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(realMain()) }

func realMain() int {
	// `run` listens to signals itself: its first one stops cleanly, the second at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return newCLI(os.Stdin, os.Stdout, os.Stderr).main(ctx, os.Args[1:])
}
