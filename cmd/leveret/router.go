package main

import (
	"context"

	"go.uber.org/zap"

	"leveret/appliance/config"
	"leveret/appliance/control"
)

// router is what `run` and `config check` need of an appliance.
type router interface {
	// RegisterAPI adds the appliance's commands to a server that is not serving yet.
	RegisterAPI(*control.Server)
	// Check reports what makes a configuration impossible to have that only the modules can
	// see. It opens and changes nothing. Faults come as [config.Faults], joined or not.
	Check(*config.Root) error
	// Run starts the appliance and returns when ctx has ended and everything is put back, or
	// when it cannot start.
	Run(context.Context) error
	// Apply makes a configuration the one in force; source is where it came from. On an error
	// nothing has changed.
	Apply(root *config.Root, source string) error
}

// routerOptions are what an appliance is made of.
type routerOptions struct {
	Root    *config.Root // the configuration to start with
	Source  string       // where it came from
	Version string
	// Logger returns the logger of a module or part.
	Logger func(name string) *zap.Logger
	// Load reads a configuration: text, which faults call name, or if that is empty the files
	// the appliance was started with.
	Load func(name string, text []byte) (root *config.Root, source string, err error)
	// OnReady is called once: links are up, addresses have passed DAD.
	OnReady func()
	// OnApply is called after each change of configuration, also the first.
	OnApply func(*config.Root)
}
