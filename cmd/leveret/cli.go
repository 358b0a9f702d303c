package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"leveret/appliance/control"
	"leveret/appliance/control/api"
)

// The exit codes; 65 and 69 are sysexits.h's.
const (
	exitOK          = 0
	exitUsage       = 1
	exitRefused     = 2
	exitConfig      = 65 // EX_DATAERR: the configuration has faults
	exitUnreachable = 69 // EX_UNAVAILABLE: no appliance answers
)

const (
	defaultSocket  = "/run/leveret/api.sock"
	defaultTimeout = 30 * time.Second

	// socketEnv is the environment variable of the configuration's system.control.socket: it
	// moves the socket for the appliance and its clients alike.
	socketEnv = "LEVERET_SYSTEM_CONTROL_SOCKET"
)

// cli is one run of the program: its streams and global options.
type cli struct {
	in       io.Reader
	out, err io.Writer

	json, pretty, details, oneline, timestamp bool
	showKeys                                  bool
	stats                                     int
	socket                                    string
	timeout                                   time.Duration

	// What `run` and `config` work with: see modules.go.
	claims    func() []string // parts of the configuration that the modules decode
	newRouter func(routerOptions) (router, error)
}

func newCLI(in io.Reader, out, err io.Writer) *cli {
	return &cli{in: in, out: out, err: err, claims: claims, newRouter: newRouter}
}

// main runs one command line and returns the exit code.
func (c *cli) main(ctx context.Context, args []string) int {
	root := c.root()
	full, err := expand(root, args)
	if err != nil {
		_ = root.ParseFlags(args) // for -j; what else is wrong does not matter any more
		return c.report(err)
	}
	root.SetArgs(full)
	return c.report(root.ExecuteContext(ctx))
}

// usageError is a command line that cannot be meant: exit 1.
type usageError struct{ msg string }

func (e *usageError) Error() string { return e.msg }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// refusedError is a refusal that needed no answer from the appliance: exit 2.
type refusedError struct{ msg string }

func (e *refusedError) Error() string { return e.msg }

// exitError ends with that code; what there is to say has been said.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit %d", int(e)) }

// faultsError is a configuration with faults: exit 65.
type faultsError struct {
	name   string
	faults []api.Fault
}

func (e *faultsError) Error() string {
	if len(e.faults) == 1 {
		return e.name + " has a fault"
	}
	return fmt.Sprintf("%s has %d faults", e.name, len(e.faults))
}

// report writes err, if any, to standard error and returns its exit code.
func (c *cli) report(err error) int {
	var exit exitError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &exit):
		return int(exit)
	case errors.Is(err, context.Canceled):
		return exitOK // the operator stopped what he was watching
	}
	code, faults := classify(err)
	// A socket's error may span lines; ours never do.
	msg := strings.TrimPrefix(strings.Join(strings.Fields(err.Error()), " "), "Error: ") // some of the kernel's words begin so
	if c.json {
		b, _ := json.Marshal(api.Error{Error: msg, Faults: faults}) // strings and numbers: cannot fail
		fmt.Fprintf(c.err, "%s\n", b)
		return code
	}
	for _, f := range faults {
		fmt.Fprintln(c.err, faultText(f))
	}
	begin := "Error"
	if probe := (*probeError)(nil); errors.As(err, &probe) {
		begin = probe.program
	}
	fmt.Fprintf(c.err, "%s: %s\n", begin, msg)
	return code
}

// classify returns the exit code of an error and the faults it carries.
func classify(err error) (int, []api.Fault) {
	var usage *usageError
	var refused *refusedError
	var faults *faultsError
	var status *control.StatusError
	var unreachable *control.NotReachableError
	switch {
	case errors.As(err, &usage):
		return exitUsage, nil
	case errors.As(err, &refused):
		return exitRefused, nil
	case errors.As(err, &faults):
		return exitConfig, faults.faults
	case errors.As(err, &unreachable):
		return exitUnreachable, nil
	case errors.As(err, &status):
		switch {
		case len(status.Faults) > 0:
			return exitConfig, status.Faults
		case status.Status == 400 || status.Status == 413:
			return exitUsage, nil
		}
		return exitRefused, nil
	}
	return exitUsage, nil
}

// faultText renders a fault as compilers do, so that editors can jump to it.
func faultText(f api.Fault) string {
	var b strings.Builder
	if f.File != "" {
		b.WriteString(f.File + ":")
		if f.Line > 0 {
			fmt.Fprintf(&b, "%d:", f.Line)
		}
		b.WriteByte(' ')
	}
	if f.Path != "" {
		b.WriteString(f.Path + ": ")
	}
	b.WriteString(f.Msg)
	if f.RFC != "" {
		b.WriteString(" (" + f.RFC + ")")
	}
	return b.String()
}

// client returns a client of the appliance the options name.
func (c *cli) client() *control.Client { return control.NewClient(c.socket, c.timeout) }

// connectionFlags adds the options of every command that asks an appliance.
func (c *cli) connectionFlags(fs *pflag.FlagSet) {
	fs.BoolVarP(&c.json, "json", "j", false, "JSON output, with iproute2's keys")
	fs.BoolVarP(&c.pretty, "pretty", "p", false, "indent JSON")
	fs.StringVar(&c.socket, "socket", cmp.Or(os.Getenv(socketEnv), defaultSocket), "control socket of the appliance")
	fs.DurationVar(&c.timeout, "timeout", defaultTimeout, "how long to wait for an answer")
}

// outputFlags adds iproute2's options. They may stand before the object, as in iproute2, or
// behind it.
func (c *cli) outputFlags(fs *pflag.FlagSet) {
	c.connectionFlags(fs)
	fs.CountVarP(&c.stats, "stats", "s", "show statistics (link, addr, neigh, xfrm state, flush)")
	fs.BoolVarP(&c.details, "details", "d", false, "show more (link, addr, route)")
	fs.BoolVarP(&c.oneline, "oneline", "o", false, "one record a line; '\\' stands for the line ends inside")
	fs.BoolVarP(&c.timestamp, "timestamp", "t", false, "monitor: show when")
	fs.BoolP("ipv6", "6", false, "for fingers that type ip -6: there is nothing else")
}

// printJSON writes one JSON value and a line end; indented with -p.
func (c *cli) printJSON(v any) error {
	e := json.NewEncoder(c.out)
	e.SetEscapeHTML(false)
	if c.pretty {
		e.SetIndent("", "    ")
	}
	return e.Encode(v)
}

// printRecord writes the lines of one record; with -o they become one.
func (c *cli) printRecord(lines ...string) error {
	sep := "\n"
	if c.oneline {
		sep = "\\"
	}
	_, err := fmt.Fprintln(c.out, strings.Join(lines, sep))
	return err
}

// each prints records: all as one JSON array with -j, otherwise each by f.
func each[T any](c *cli, records []T, f func(T) error) error {
	if c.json {
		if records == nil {
			records = []T{} // [], not null
		}
		return c.printJSON(records)
	}
	for _, r := range records {
		if err := f(r); err != nil {
			return err
		}
	}
	return nil
}

// flagError turns the flag parser's complaints into ours.
func flagError(cmd *cobra.Command, err error) error {
	return usagef("%v, try \"%s --help\"", err, cmd.CommandPath())
}
