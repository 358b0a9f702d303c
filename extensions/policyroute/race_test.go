//go:build race

package policyroute

const raceEnabled = true
