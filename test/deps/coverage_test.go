package deps

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// testNames are the test and fuzz functions of the module.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, f := range files(t) {
		if !strings.HasSuffix(f.path, "_test.go") {
			continue
		}
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
				names[fn.Name.Name] = true
			}
		}
	}
	return names
}

var rfcCell = regexp.MustCompile(`^RFC \d+( [\w.()/, -]+)?$`)

// TestRFCCoverage: every row of docs/coverage names an RFC section, code that exists and tests that
// exist, and every document of the folder is listed in docs/rfc-coverage.md.
func TestRFCCoverage(t *testing.T) {
	index, err := os.ReadFile(filepath.Join(root, "docs/rfc-coverage.md"))
	if err != nil {
		t.Fatal(err)
	}
	names := testNames(t)
	docs, _ := filepath.Glob(filepath.Join(root, "docs/coverage/*.md"))
	rows := 0
	for _, doc := range docs {
		if !strings.Contains(string(index), "coverage/"+filepath.Base(doc)) {
			t.Errorf("%s is not listed in docs/rfc-coverage.md", doc)
		}
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			if !strings.HasPrefix(line, "| RFC") {
				continue
			}
			rows++
			cells := strings.Split(strings.Trim(line, "| "), "|")
			if len(cells) != 4 {
				t.Errorf("%s:%d: %d cells, want section, requirement, code, tests", doc, i+1, len(cells))
				continue
			}
			if s := strings.TrimSpace(cells[0]); !rfcCell.MatchString(s) {
				t.Errorf("%s:%d: %q is no RFC section", doc, i+1, s)
			}
			for _, code := range strings.Split(cells[2], ",") {
				if _, err := os.Stat(filepath.Join(root, strings.TrimSpace(code))); err != nil {
					t.Errorf("%s:%d: %s does not exist", doc, i+1, strings.TrimSpace(code))
				}
			}
			for _, test := range strings.Split(cells[3], ",") {
				test, _, _ = strings.Cut(strings.TrimSpace(test), "/")
				if !names[test] {
					t.Errorf("%s:%d: no test %q", doc, i+1, test)
				}
			}
		}
	}
	if rows < 100 {
		t.Errorf("only %d rows", rows)
	}
}
