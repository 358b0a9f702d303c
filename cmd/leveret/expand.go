package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// The groups of commands. An object is iproute2's: a prefix means the first that fits, in
// iproute2's order, so that `leveret r s` is what fingers expect. The appliance's own commands may
// be shortened as long as that is unambiguous.
const (
	groupObjects   = "objects"
	groupAppliance = "appliance"
)

// The annotations of commands.
const (
	// fullWord marks a command that is never meant by a prefix: starting or resetting a router
	// is no typo's business.
	fullWord = "full-word"
	// showWords lists the words that may follow an object directly, with `show` left out.
	showWords = "show-words"
)

// expand puts the full names in the place of abbreviated ones and `show` in the place of a
// missing verb.
func expand(root *cobra.Command, args []string) ([]string, error) {
	at := skipFlags(root, args)
	if at == len(args) || strings.HasPrefix(args[at], "__") || args[at] == "help" || args[at] == "completion" {
		return args, nil
	}
	out := longFlags(args[:at])
	object, err := findObject(root, args[at])
	if err != nil {
		return nil, err
	}
	rest, err := expandVerb(object, args[at+1:])
	return append(append(out, object.Name()), rest...), err
}

// expandVerb does so with what follows a command that has others below it: a verb, or an object with its verb.
func expandVerb(object *cobra.Command, args []string) ([]string, error) {
	if len(object.Commands()) == 0 {
		return args, nil
	}
	i := skipFlags(object, args)
	if i == len(args) {
		if object.Runnable() || wantsHelp(args) {
			return args, nil
		}
		return append([]string{"show"}, args...), nil
	}
	verb, err := findVerb(object, args[i])
	if err != nil {
		return nil, err
	}
	out := append(slices.Clone(args[:i]), verb)
	if verb == "show" && isShowWord(object, args[i]) {
		return append(out, args[i:]...), nil
	}
	rest := args[i+1:]
	for _, cmd := range object.Commands() {
		if cmd.Name() == verb {
			rest, err = expandVerb(cmd, rest)
		}
	}
	return append(out, rest...), err
}

// findObject resolves the word for an object.
func findObject(root *cobra.Command, word string) (*cobra.Command, error) {
	var own []*cobra.Command
	for _, cmd := range root.Commands() {
		switch {
		case cmd.Name() == word || cmd.HasAlias(word):
			return cmd, nil
		case !hasPrefix(cmd, word) || cmd.Annotations[fullWord] != "":
		case cmd.GroupID != groupObjects:
			own = append(own, cmd)
		}
	}
	for _, cmd := range root.Commands() {
		if cmd.GroupID == groupObjects && hasPrefix(cmd, word) {
			return cmd, nil
		}
	}
	switch len(own) {
	case 0:
		return nil, usagef(`Object %q is unknown, try "leveret help".`, word)
	case 1:
		return own[0], nil
	}
	var names []string
	for _, cmd := range own {
		names = append(names, cmd.Name())
	}
	return nil, usagef("Object %q is ambiguous: %s", word, strings.Join(names, ", "))
}

// findVerb resolves the word for a verb: exact, then the first that fits as in iproute2.
func findVerb(object *cobra.Command, word string) (string, error) {
	for _, cmd := range object.Commands() {
		if cmd.Name() == word || cmd.HasAlias(word) {
			return cmd.Name(), nil
		}
	}
	if isShowWord(object, word) {
		return "show", nil
	}
	for _, cmd := range object.Commands() {
		if hasPrefix(cmd, word) {
			return cmd.Name(), nil
		}
	}
	if word != "" && strings.HasPrefix("help", word) {
		return "--help", nil
	}
	return "", usagef(`Command %q is unknown, try "%s help".`, word, object.CommandPath())
}

func isShowWord(object *cobra.Command, word string) bool {
	for _, w := range strings.Fields(object.Annotations[showWords]) {
		if w == word {
			return true
		}
	}
	return false
}

func hasPrefix(cmd *cobra.Command, word string) bool {
	if strings.HasPrefix(cmd.Name(), word) {
		return word != ""
	}
	for _, alias := range cmd.Aliases {
		if strings.HasPrefix(alias, word) {
			return word != ""
		}
	}
	return false
}

// skipFlags returns the index of the first word that is neither an option nor an option's value.
func skipFlags(cmd *cobra.Command, args []string) int {
	for i := 0; i < len(args); i++ {
		a := args[i]
		if len(a) < 2 || a[0] != '-' {
			return i
		}
		if a == "--" {
			return i + 1
		}
		if f := cmd.Flags().Lookup(strings.TrimLeft(a, "-")); f != nil && len(f.Name) > 1 && f.NoOptDefVal == "" && !strings.Contains(a, "=") {
			i++
		}
	}
	return len(args)
}

// longFlags gives iproute2's long options, which have one dash, their second.
func longFlags(args []string) []string {
	out := make([]string, 0, len(args)+4)
	for _, a := range args {
		switch a {
		case "-json", "-pretty", "-stats", "-details", "-oneline", "-timestamp":
			a = "-" + a
		case "-statistics":
			a = "--stats"
		}
		out = append(out, a)
	}
	return out
}

func wantsHelp(args []string) bool {
	for _, a := range args {
		if a == "-h" || a == "--help" {
			return true
		}
	}
	return false
}
