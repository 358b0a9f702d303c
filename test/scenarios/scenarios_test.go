// Package scenarios holds stories of whole appliances on a simulated network, told by script files.
package scenarios

import (
	"flag"
	"path/filepath"
	"strings"
	"testing"

	"leveret/appliance/module"
	"leveret/extensions/mip6"
	"leveret/extensions/ndp"
	"leveret/extensions/policyroute"
	"leveret/extensions/tunnel"
	"leveret/extensions/xfrm"
	"leveret/test/script"
)

var update = flag.Bool("update", false, "write the outcomes into the scenario files")

func modules() []module.Module {
	x := xfrm.New()
	return []module.Module{ndp.New(), policyroute.New(), x, tunnel.New(), mip6.New(x)}
}

func TestScenarios(t *testing.T) {
	files, _ := filepath.Glob("*.txt")
	if len(files) == 0 {
		t.Fatal("no scenarios")
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(f, ".txt"), func(t *testing.T) { script.Run(t, f, modules, *update) })
	}
}
