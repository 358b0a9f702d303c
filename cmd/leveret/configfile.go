package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.yaml.in/yaml/v3"

	"leveret/appliance/config"
	"leveret/appliance/control/api"
	"leveret/configs"
)

// builtIn is what the embedded default configuration is called.
const builtIn = "the built-in default"

// source is where the appliance's configuration comes from.
type source struct {
	file  string            // "" = the built-in default
	flags map[string]string // overrides by path
	env   []string
	parts []string // what the modules decode themselves
}

// name is what the source is called in status and faults.
func (s source) name() string {
	if s.file == "" {
		return builtIn
	}
	return s.file
}

// load reads text, or the source itself if there is none.
func (s source) load(name string, text []byte) (*config.Root, string, error) {
	o := config.Options{Name: name, Text: text, Env: s.env, Flags: s.flags, Claims: s.parts}
	if len(text) == 0 {
		name = s.name()
		o.File, o.Name, o.Text = s.file, builtIn, configs.Default
	}
	root, err := config.Load(o)
	return root, name, err
}

// asFaults makes an error of a configuration's faults the operator's: all of them, exit 65.
// Another error stays what it is.
func asFaults(name string, err error) error {
	faults, rest := config.Collect(err)
	if rest != nil || len(faults) == 0 {
		return err
	}
	e := &faultsError{name: name}
	for _, f := range faults {
		e.faults = append(e.faults, api.Fault{File: f.File, Line: f.Line, Path: f.Path, Msg: f.Msg, RFC: f.RFC})
	}
	return e
}

func (c *cli) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check, show, compare and apply configurations",
		Example: `  leveret config check -c leveret.yaml
  leveret config diff -c leveret.yaml
  leveret config apply`,
		GroupID: groupAppliance,
		Args:    cobra.ArbitraryArgs,
		RunE:    c.usage,
	}
	add := func(verb, short, long, example string, f func(ctx context.Context, file string) error) {
		var file string
		v := c.verb(verb+" [-c FILE]", short, example, words{}, func(ctx context.Context, args []string) error {
			if err := noWords(args); err != nil {
				return err
			}
			return f(ctx, file)
		})
		v.Long = long
		v.ValidArgsFunction = cobra.NoFileCompletions
		v.Flags().StringVarP(&file, "config", "c", "", "configuration file")
		c.connectionFlags(v.Flags())
		cmd.AddCommand(v)
	}
	add("check", "Check a configuration without using it",
		`Read a configuration as run would, with its conf.d and the environment, and print every fault
with its place and the RFC section it rests on. Exit 0 if there is none, 65 otherwise.`,
		"  leveret config check -c leveret.yaml", c.configCheck)
	add("show", "Show the configuration in force, or that of a file",
		`Show the configuration of the running appliance, or with -c what a file and its conf.d come to.
-j gives it as JSON.`,
		"  leveret config show\n  leveret -j config show | jq '.links[].name'", c.configShow)
	add("diff", "Show what apply would change",
		"Compare the configuration in force with a file, or with the files the appliance was started with.",
		"  leveret config diff -c leveret.yaml", c.configDiff)
	add("apply", "Make a configuration the one in force",
		`Make the running appliance equal a file, or the files it was started with, as SIGHUP does. What
did not change is left alone. A configuration with a fault changes nothing: exit 65 with every
fault; 2 if the appliance cannot have it.`,
		"  leveret config apply\n  leveret config apply -c leveret.yaml", c.configApply)
	return cmd
}

func (c *cli) configCheck(_ context.Context, file string) error {
	s := source{file: config.Find(file), env: os.Environ(), parts: c.claims()}
	root, _, err := s.load("", nil)
	if err != nil {
		return asFaults(s.name(), err)
	}
	r, err := c.newRouter(routerOptions{
		Root: root, Source: s.name(), Version: versionText(), Load: s.load,
		Logger: func(string) *zap.Logger { return zap.NewNop() },
	})
	if err == nil {
		err = r.Check(root)
	}
	return asFaults(s.name(), err)
}

func (c *cli) configShow(ctx context.Context, file string) error {
	var text []byte
	if file != "" {
		root, _, err := source{file: file, parts: c.claims()}.load("", nil)
		if err != nil {
			return asFaults(file, err)
		}
		if text, err = config.Show(root); err != nil {
			return err
		}
	} else {
		var cfg api.Config
		if err := c.client().Get(ctx, "/v1/config", nil, &cfg); err != nil {
			return err
		}
		text = []byte(cfg.YAML)
	}
	if !c.json {
		_, err := c.out.Write(text)
		return err
	}
	var tree map[string]any
	if err := yaml.Unmarshal(text, &tree); err != nil {
		return fmt.Errorf("the configuration shown is not YAML: %w", err)
	}
	return c.printJSON(tree)
}

func (c *cli) configDiff(ctx context.Context, file string) error {
	res, err := c.configPost(ctx, "/v1/config/diff", file)
	if err != nil {
		return err
	}
	return c.printChanges(res)
}

func (c *cli) configApply(ctx context.Context, file string) error {
	res, err := c.configPost(ctx, "/v1/config/apply", file)
	if err != nil {
		return err
	}
	return c.printChanges(res)
}

// configPost sends a file, or asks for the appliance's own.
func (c *cli) configPost(ctx context.Context, path, file string) (api.ConfigResult, error) {
	var req api.ConfigRequest
	var res api.ConfigResult
	if file != "" {
		text, err := c.configText(file)
		if err != nil {
			return res, err
		}
		req = api.ConfigRequest{Name: file, YAML: string(text)}
	}
	return res, c.client().Post(ctx, path, req, &res)
}

// configText returns what to send for a file: the file as it is, so that faults have its lines,
// or merged with its conf.d where there is one.
func (c *cli) configText(file string) ([]byte, error) {
	drops, err := filepath.Glob(filepath.Join(filepath.Dir(file), "conf.d", "*.yaml"))
	if err != nil {
		return nil, err
	}
	if len(drops) == 0 {
		text, err := os.ReadFile(file)
		if err == nil && len(text) == 0 { // no text means the appliance's own files
			err = asFaults(file, config.Faults{{File: file, Msg: "the file is empty"}})
		}
		return text, err
	}
	root, _, err := source{file: file, parts: c.claims()}.load("", nil)
	if err != nil {
		return nil, asFaults(file, err)
	}
	return config.Text(root)
}

func (c *cli) printChanges(res api.ConfigResult) error {
	if c.json {
		return c.printJSON(res)
	}
	for _, ch := range res.Changes {
		var text string
		switch {
		case ch.From == "":
			text = fmt.Sprintf("+ %s: %s", ch.Path, ch.To)
		case ch.To == "":
			text = fmt.Sprintf("- %s: %s", ch.Path, ch.From)
		default:
			text = fmt.Sprintf("~ %s: %s -> %s", ch.Path, ch.From, ch.To)
		}
		if _, err := fmt.Fprintln(c.out, text); err != nil {
			return err
		}
	}
	return nil
}
