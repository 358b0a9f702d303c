package api

import (
	"encoding/json"
	"time"
)

// Health is the answer of GET /v1/health.
type Health struct {
	Ready   bool     `json:"ready"`
	Waiting []string `json:"waiting"` // what is waited for, one line each; never nil
}

// Status is the answer of GET /v1/status: what fits on one screen.
type Status struct {
	Version  string    `json:"version"`
	Hostname string    `json:"hostname"`
	PID      int       `json:"pid"`
	Started  time.Time `json:"started"`
	Uptime   int64     `json:"uptime"` // seconds
	Health
	Config  ConfigState `json:"config"`
	Links   []Link      `json:"links"` // with Stats64
	Packets Packets     `json:"packets"`
	// Tables holds the number of entries of each table by its name: neighbors, routes,
	// addresses, path_mtu, ...
	Tables map[string]int `json:"tables"`
}

// ConfigState says which configuration is in force.
type ConfigState struct {
	Source     string    `json:"source"`     // a file, or "built-in default"
	Generation uint64    `json:"generation"` // 1 = the one it started with
	Applied    time.Time `json:"applied"`
}

// Packets counts what became of the packets of all links.
type Packets struct {
	Received   uint64 `json:"received"`
	Forwarded  uint64 `json:"forwarded"`
	Delivered  uint64 `json:"delivered"`  // for this node
	Originated uint64 `json:"originated"` // by this node
	Dropped    uint64 `json:"dropped"`    // for every reason
}

// ResetRequest is the body of POST /v1/reset.
type ResetRequest struct {
	Async bool `json:"async"`
}

// Stats is the answer of GET /v1/stats: every counter by group (datapath, ndp, lan0, ...) and
// name.
type Stats map[string]map[string]uint64

// Drop is one row of GET /v1/stats/drops: the packets dropped for one reason on one link.
type Drop struct {
	Reason  string `json:"reason"`
	Ref     string `json:"ref,omitempty"` // "RFC 4443 3.1"; "" where it is local policy
	Link    string `json:"link,omitempty"`
	Packets uint64 `json:"packets"`
}

// Config is the answer of GET /v1/config.
type Config struct {
	Source string `json:"source"`
	YAML   string `json:"yaml"` // the configuration in force, secrets hidden
}

// ConfigRequest is the body of POST /v1/config/apply and POST /v1/config/diff. Without YAML the
// appliance reads its own file again, as on SIGHUP.
type ConfigRequest struct {
	Name string `json:"name,omitempty"` // what faults call the text: the operator's file name
	YAML string `json:"yaml,omitempty"`
}

// ConfigResult is the answer to a [ConfigRequest].
type ConfigResult struct {
	Generation uint64   `json:"generation"`
	Changes    []Change `json:"changes"` // never nil
}

// Change is one difference between the configuration in force and another; From or To is
// empty for what is added or removed.
type Change struct {
	Path string `json:"path"`
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
}

// Fault is one fault of a configuration.
type Fault struct {
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
	Path string `json:"path,omitempty"` // as the operator typed it
	Msg  string `json:"message"`
	RFC  string `json:"rfc,omitempty"` // "RFC 4861 6.2.1"
}

// Error is the body of every answer that is not 2xx.
type Error struct {
	Error  string  `json:"error"`
	Faults []Fault `json:"faults,omitempty"`
}

// Event is one line of GET /v1/events.
type Event struct {
	Topic string          `json:"topic"` // link, addr, neigh, route, ...; "overrun" is ours
	Time  time.Time       `json:"time"`
	Event json.RawMessage `json:"event"`
}

// TopicOverrun is the topic of the event that takes the place of events a slow subscriber lost.
const TopicOverrun = "overrun"

// Overrun is the event of [TopicOverrun].
type Overrun struct {
	Overrun uint64 `json:"overrun"` // how many events were lost here
}
