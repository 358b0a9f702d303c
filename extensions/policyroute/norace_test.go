//go:build !race

package policyroute

const raceEnabled = false
