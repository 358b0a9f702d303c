package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"leveret/appliance/config"
	"leveret/appliance/control"
	"leveret/appliance/observe"
)

// exitKilled is the code after a second signal, as a shell has it for SIGINT.
const exitKilled = 130

func (c *cli) runCommand() *cobra.Command {
	var file, level, format string
	var cmd *cobra.Command
	cmd = c.appliance("run [-c FILE]", "Be the appliance, in the foreground",
		`Run the appliance until SIGTERM or SIGINT; a second one ends it at once. Without -c the
configuration is $LEVERET_CONFIG, else /etc/leveret/leveret.yaml if that is there, else a built-in
one: a TUN device "leveret0" with an address of a unique local prefix behind it, which leaves the
host's own routes alone.

A file is completed by conf.d/*.yaml beside it, then by environment variables such as
LEVERET_SYSTEM_LOG_LEVEL, then by options. SIGHUP reads all of it again and makes the running
appliance equal to it; if there is a fault nothing changes.`,
		`  leveret run
  leveret run -c leveret.yaml --log-level debug
  LEVERET_SYSTEM_LOG_FORMAT=json leveret run`,
		func(ctx context.Context, args []string) error {
			if err := noWords(args); err != nil {
				return err
			}
			s := source{file: config.Find(file), env: os.Environ(), parts: c.claims(), flags: map[string]string{}}
			for flag, path := range map[string]string{"log-level": "system.log.level", "log-format": "system.log.format", "socket": "system.control.socket"} {
				if f := cmd.Flags().Lookup(flag); f.Changed {
					s.flags[path] = f.Value.String()
				}
			}
			return c.run(ctx, s)
		})
	cmd.Annotations = map[string]string{fullWord: "yes"}
	fl := cmd.Flags()
	fl.StringVarP(&file, "config", "c", "", "configuration file")
	fl.StringVar(&level, "log-level", "", "overrides system.log.level: debug, info, warn, error")
	fl.StringVar(&format, "log-format", "", "overrides system.log.format: json or console")
	fl.StringVar(&c.socket, "socket", "", "overrides system.control.socket")
	return cmd
}

// run loads the configuration, then runs the appliance and its control socket until a signal.
func (c *cli) run(ctx context.Context, s source) error {
	root, name, err := s.load("", nil)
	if err != nil {
		return asFaults(s.name(), err)
	}
	logger, err := c.logger(root)
	if err != nil {
		return err
	}
	log := logger.Module("run")
	r, err := c.newRouter(routerOptions{
		Root: root, Source: name, Version: versionText(), Load: s.load, Logger: logger.Module,
		OnReady: func() {
			c.notify(log, daemon.SdNotifyReady)
			if s.file == "" {
				c.printHints(root)
			}
		},
		OnApply: func(next *config.Root) {
			if err := logger.SetLevels(logLevels(next)); err != nil {
				log.Error("log levels not changed", zap.Error(err))
			}
		},
	})
	if err != nil {
		return asFaults(name, err)
	}
	server, err := listen(root, r, logger.Module("control"))
	if err != nil {
		return err
	}
	defer func() {
		if err := server.Close(); err != nil {
			log.Warn("control socket not closed", zap.Error(err))
		}
	}()
	return c.serve(ctx, s, r, server, log)
}

// listen opens the control socket with the appliance's commands on it.
func listen(root *config.Root, r router, log *zap.Logger) (*control.Server, error) {
	mode, err := strconv.ParseUint(root.System.Control.SocketMode, 8, 32)
	if err != nil {
		return nil, fmt.Errorf("system.control.socket_mode: %w", err)
	}
	server := control.NewServer(log)
	r.RegisterAPI(server)
	return server, server.Listen(control.SocketOptions{
		Path: root.System.Control.Socket, Mode: fs.FileMode(mode), Group: root.System.Control.Group,
	})
}

// serve runs the appliance until ctx ends, a signal says so or a part fails.
func (c *cli) serve(ctx context.Context, s source, r router, server *control.Server, log *zap.Logger) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)

	served := make(chan error, 1)
	go func() { served <- server.Serve() }()
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()

	var failed error
	stopping := false
	for {
		select {
		case sig := <-signals:
			switch {
			case sig == syscall.SIGHUP:
				c.reload(s, r, log)
			case stopping:
				log.Warn("stopped at once", zap.Stringer("signal", sig))
				return exitError(exitKilled)
			default:
				stopping = true
				log.Info("stopping", zap.Stringer("signal", sig))
				c.notify(log, daemon.SdNotifyStopping)
				stop()
			}
		case err := <-served: // before the appliance has ended: a failure
			failed, served = err, nil
			stop()
		case err := <-ended:
			return errors.Join(err, failed)
		}
	}
}

// reload makes the appliance equal its files again. What is wrong goes to the log.
func (c *cli) reload(s source, r router, log *zap.Logger) {
	c.notify(log, daemon.SdNotifyReloading+"\n"+monotonic())
	defer c.notify(log, daemon.SdNotifyReady)
	root, name, err := s.load("", nil)
	if err == nil {
		err = r.Apply(root, name)
	}
	faults, rest := config.Collect(err)
	for _, f := range faults {
		log.Error("configuration not applied", zap.String("fault", f.Error()))
	}
	if rest != nil {
		log.Error("configuration not applied", zap.Error(rest))
	}
}

// notify tells the service manager, if there is one (sd_notify(3)).
func (c *cli) notify(log *zap.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("service manager not told", zap.Error(err))
	}
}

// printHints shows what to try on the built-in configuration.
func (c *cli) printHints(root *config.Root) {
	if len(root.Links) == 0 || len(root.Links[0].Addresses) == 0 {
		return
	}
	l := root.Links[0]
	p := l.Addresses[0].Address
	peer := p.Addr().Next()
	fmt.Fprintf(c.out, "\nleveret is %s behind the device %s. Try, in another terminal:\n\n", p.Addr(), l.HostDevice)
	fmt.Fprintf(c.out, "  ip -6 addr add %s/%d dev %s\n", peer, p.Bits(), l.HostDevice)
	fmt.Fprintf(c.out, "  ping -c 3 %s\n", p.Addr())
	fmt.Fprintf(c.out, "  %s%s -s link\n\n", c.program(), socketOption(root))
}

// program is how this binary was started, if that is how to start it again.
func (c *cli) program() string {
	if filepath.Base(os.Args[0]) == os.Args[0] {
		return os.Args[0]
	}
	if p, err := os.Executable(); err == nil {
		return p
	}
	return "leveret"
}

func socketOption(root *config.Root) string {
	if root.System.Control.Socket == defaultSocket {
		return ""
	}
	return " --socket " + root.System.Control.Socket
}

// logger logs as configured: by default for a person on a terminal, as JSON elsewhere.
func (c *cli) logger(root *config.Root) (*observe.Logger, error) {
	o := observe.LogOptions{Format: root.System.Log.Format, Levels: logLevels(root), Output: c.out}
	if o.Format == "" {
		o.Format = observe.FormatJSON
		if isTerminal(c.err) {
			o.Format = observe.FormatConsole
		}
	}
	if o.Format == observe.FormatConsole {
		o.Output = c.err
	}
	return observe.NewLogger(o)
}

func logLevels(root *config.Root) observe.Levels {
	return observe.Levels{Default: root.System.Log.Level, Modules: root.System.Log.Modules}
}
