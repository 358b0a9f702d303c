package main

import (
	"leveret/appliance"
	"leveret/appliance/module"
	"leveret/extensions/mip6"
	"leveret/extensions/ndp"
	"leveret/extensions/policyroute"
	"leveret/extensions/tunnel"
	"leveret/extensions/xfrm"
)

// modules returns the extensions. Their order is that of their hooks on each stage, and of their
// start.
func modules() []module.Module {
	x := xfrm.New()
	return []module.Module{ndp.New(), policyroute.New(), x, tunnel.New(), mip6.New(x)}
}

// claims lists the parts of the configuration that the modules decode themselves.
func claims() []string { return appliance.Claims(modules()) }

// newRouter makes an appliance with all extensions.
func newRouter(o routerOptions) (router, error) {
	return appliance.New(appliance.Options{
		Root: o.Root, Source: o.Source, Modules: modules(), Logger: o.Logger, Version: o.Version,
		Load: o.Load, OnReady: o.OnReady, OnApply: o.OnApply,
	})
}
