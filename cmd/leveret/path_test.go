package main

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"leveret/appliance"
	"leveret/appliance/config"
)

var update = flag.Bool("update", false, "rewrite docs/path.golden")

// TestPath: the packet path of the program is the one in docs/path.golden, and the stages in it are
// the files of the directory.
func TestPath(t *testing.T) {
	root, err := config.Load(config.Options{Name: "test", Text: []byte("version: 1\n"), Claims: claims()})
	if err != nil {
		t.Fatal(err)
	}
	a, err := appliance.New(appliance.Options{Root: root, Source: "test", Modules: modules(), Manual: true})
	if err != nil {
		t.Fatal(err)
	}
	got := a.Path().String()
	const golden = "../../docs/path.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the path is\n%swanted (-update rewrites it)\n%s", got, want)
	}

	files, err := filepath.Glob("../../appliance/datapath/s[0-9]_*.go")
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range files {
		files[i] = strings.TrimSuffix(filepath.Base(f), ".go")
	}
	var stages []string
	for l := range strings.Lines(got) {
		if name := strings.Fields(l)[0]; name != "local" {
			stages = append(stages, name)
		}
	}
	if !slices.Equal(stages, files) {
		t.Errorf("stages %v, files %v", stages, files)
	}
}
