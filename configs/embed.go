// Package configs holds the configurations that come with the program.
package configs

import _ "embed"

// Default is what runs without a configuration file.
//
//go:embed default.yaml
var Default []byte
