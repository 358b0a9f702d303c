package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker: -X main.version=...
var version = ""

// versionText returns the version, or what Go knows of the build without one.
func versionText() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

func (c *cli) versionCommand() *cobra.Command {
	cmd := c.appliance("version", "Show the version of this binary", "", "  leveret version", func(_ context.Context, args []string) error {
		if err := noWords(args); err != nil {
			return err
		}
		if c.json {
			return c.printJSON(map[string]string{"version": versionText(), "go": runtime.Version(), "arch": runtime.GOARCH})
		}
		_, err := fmt.Fprintf(c.out, "leveret %s, %s, %s/%s\n", versionText(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
		return err
	})
	c.connectionFlags(cmd.Flags())
	return cmd
}
