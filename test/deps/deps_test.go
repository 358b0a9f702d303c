// Package deps checks the rules that no compiler checks: who may import whom, what a core must not
// contain, and that the documents cite what exists.
package deps

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const root = "../.."

// pure are the cores and wire packages.
var pure = []string{
	"appliance/wire", "extensions/ndp/nud", "extensions/ndp/dad", "extensions/ndp/mld", "extensions/ndp/ndwire",
	"extensions/ndp/radv", "extensions/ndp/rtrsol", "extensions/ndp/slaac", "extensions/ndp/routers",
	"extensions/mip6/bcache", "extensions/mip6/bulist", "extensions/mip6/cn", "extensions/mip6/halist", "extensions/mip6/rr", "extensions/mip6/wire",
	"extensions/policyroute/fib", "extensions/policyroute/nexthop", "extensions/policyroute/rule", "extensions/policyroute/srcsel",
	"extensions/tunnel/encap",
	"extensions/xfrm/ah", "extensions/xfrm/algo", "extensions/xfrm/esp", "extensions/xfrm/proto", "extensions/xfrm/replay", "extensions/xfrm/selector", "extensions/xfrm/spd", "extensions/xfrm/words",
}

// rules says for the files below a folder what they may not import, and why.
var rules = []struct {
	below, except, forbidden, reason string
}{
	{"appliance", "", "leveret/extensions", "the appliance does not know its extensions: only cmd/leveret joins them"},
	{"extensions/ndp", "", "leveret/extensions/policyroute", "extensions know each other by interfaces that cmd/leveret joins"},
	{"extensions/ndp", "", "leveret/extensions/xfrm", "extensions know each other by interfaces that cmd/leveret joins"},
	{"extensions/policyroute", "", "leveret/extensions/xfrm", "extensions know each other by interfaces that cmd/leveret joins"},
	{"extensions/xfrm", "", "leveret/extensions/ndp", "extensions know each other by interfaces that cmd/leveret joins"},
	{"extensions/xfrm", "", "leveret/extensions/policyroute", "extensions know each other by interfaces that cmd/leveret joins"},
	{"extensions/ndp", "", "leveret/extensions/tunnel", "extensions know each other by interfaces that cmd/leveret joins"},
	{"extensions/policyroute", "", "leveret/extensions/tunnel", "extensions know each other by interfaces that cmd/leveret joins"},
	{"extensions/xfrm", "", "leveret/extensions/tunnel", "extensions know each other by interfaces that cmd/leveret joins"},
	{"extensions/tunnel", "", "leveret/extensions/ndp", "extensions know each other by interfaces that cmd/leveret joins"},
	{"extensions/tunnel", "", "leveret/extensions/policyroute", "extensions know each other by interfaces that cmd/leveret joins"},
	{"extensions/tunnel", "", "leveret/extensions/xfrm", "extensions know each other by interfaces that cmd/leveret joins"},
	{"extensions/tunnel", "", "leveret/extensions/mip6", "extensions know each other by interfaces that cmd/leveret joins"},
	{"extensions/policyroute", "", "leveret/extensions/ndp", "extensions know each other by interfaces that cmd/leveret joins"},
	{"extensions/mip6", "", "leveret/extensions/ndp", "extensions know each other by interfaces that cmd/leveret joins"},
	{"extensions/mip6", "", "leveret/extensions/policyroute", "extensions know each other by interfaces that cmd/leveret joins"},
	{"extensions/mip6", "", "leveret/extensions/xfrm", "extensions know each other by interfaces that cmd/leveret joins"},
	{"extensions/mip6", "", "leveret/extensions/tunnel", "extensions know each other by interfaces that cmd/leveret joins"},
	{"extensions/ndp", "", "leveret/extensions/mip6", "extensions know each other by interfaces that cmd/leveret joins"},
	{"extensions/policyroute", "", "leveret/extensions/mip6", "extensions know each other by interfaces that cmd/leveret joins"},
	{"extensions/xfrm", "", "leveret/extensions/mip6", "extensions know each other by interfaces that cmd/leveret joins"},
	{"extensions", "", "leveret/appliance/datapath", "an extension sees the packet path through module.Host"},
	{"extensions", "", "leveret/appliance/config", "an extension sees its configuration through module.Section"},
	{"extensions", "", "leveret/appliance/netstack", "an extension sees the host stack through the packet path"},
	{"", "appliance/netstack test/bench", "gvisor.dev/gvisor", "netstack is the host inside the router and nothing else; test/bench measures against its forwarding"},
	{"", "", "gopkg.in/yaml.v3", "archived: go.yaml.in/yaml/v3 is maintained"},
	{"", "", "github.com/google/gopacket", "unmaintained: github.com/gopacket/gopacket is its successor"},
	{"", "appliance/config", "github.com/spf13/viper", "configuration is merged in one place"},
}

// allowedInPure are the imports of cores beside the standard library.
var allowedInPure = []string{"leveret/appliance/clock", "leveret/appliance/wire", "leveret/extensions/ndp/ndwire", "leveret/extensions/mip6/bcache", "leveret/extensions/mip6/rr", "leveret/extensions/mip6/wire", "github.com/gaissmai/bart", "github.com/dchest/siphash",
	"leveret/extensions/xfrm/algo", "leveret/extensions/xfrm/proto", "leveret/extensions/xfrm/selector", "leveret/extensions/xfrm/words", "golang.org/x/crypto/chacha20poly1305"}

// forbiddenInPure are the parts of the standard library that make a core impure.
var forbiddenInPure = []string{"context", "sync", "sync/atomic", "math/rand", "math/rand/v2", "crypto/rand", "net", "os", "log"}

type file struct {
	path string // from the root, with slashes
	dir  string
	ast  *ast.File
}

// files parses every Go file of the module.
func files(t *testing.T) []file {
	t.Helper()
	var out []file
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && len(d.Name()) > 2 {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		out = append(out, file{filepath.ToSlash(rel), filepath.ToSlash(filepath.Dir(rel)), f})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func below(dir, folder string) bool {
	return folder == "" || dir == folder || strings.HasPrefix(dir, folder+"/")
}

func TestImports(t *testing.T) {
	for _, f := range files(t) {
		for _, im := range f.ast.Imports {
			path, _ := strconv.Unquote(im.Path.Value)
			for _, r := range rules {
				except := slices.ContainsFunc(strings.Fields(r.except), func(e string) bool { return below(f.dir, e) })
				if below(f.dir, r.below) && !except && (path == r.forbidden || strings.HasPrefix(path, r.forbidden+"/")) {
					t.Errorf("%s imports %s: %s", f.path, path, r.reason)
				}
			}
		}
	}
}

// TestCoresArePure: no goroutine, clock, lock, randomness or I/O; they take now and return effects.
func TestCoresArePure(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range files(t) {
		if !slices.Contains(pure, f.dir) || strings.HasSuffix(f.path, "_test.go") {
			continue
		}
		seen[f.dir] = true
		for _, im := range f.ast.Imports {
			path, _ := strconv.Unquote(im.Path.Value)
			std := !strings.Contains(strings.SplitN(path, "/", 2)[0], ".") && !strings.HasPrefix(path, "leveret/")
			if !std && !slices.Contains(allowedInPure, path) || std && slices.Contains(forbiddenInPure, path) {
				t.Errorf("%s imports %s: a core is pure", f.path, path)
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch x := n.(type) {
			case *ast.GoStmt, *ast.SelectStmt, *ast.ChanType:
				t.Errorf("%s has a goroutine or a channel: a core has one owner", f.path)
			case *ast.SelectorExpr:
				if p, ok := x.X.(*ast.Ident); ok && p.Name == "time" && slices.Contains([]string{"Now", "After", "Sleep", "Tick", "NewTimer"}, x.Sel.Name) {
					t.Errorf("%s asks for the time: a core takes now", f.path)
				}
			}
			return true
		})
	}
	if len(seen) != len(pure) {
		t.Errorf("only %d of %d cores were found", len(seen), len(pure))
	}
}
