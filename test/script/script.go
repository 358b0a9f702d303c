// Package script runs scenario files over a simulated network: a human writes the commands, the
// program writes what comes out of them, indented, and the file is the test.
//
//	segment lan            an Ethernet (options: mtu N, latency D, loss F, cut, heal)
//	node r1 lan0=lan       an appliance; its YAML configuration follows, up to a line "."
//	peer p lan             a scripted host
//	advance 5s             let time pass; frames and changes of tables are printed with their time
//	send p ns TARGET [nonce|from ADDR]   and na TARGET [to ADDR] [override] [router], echo DST SIZE [via ROUTER],
//	                       rs, ra, redirect: see sendrouter.go
//	show r1 neigh|addr|maddr|route|ra    a table
//	do r1 POST /v1/neigh {"op": ...}     a command
//	drops r1               the drops since the last time
package script

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"leveret/appliance/packet"
	"leveret/test/simnet"
)

// runner is the state of one scenario.
type runner struct {
	t        testing.TB
	net      *simnet.Net
	modules  simnet.Modules
	segments map[string]*simnet.Segment
	nodes    map[string]*simnet.Node
	peers    map[string]*simnet.Peer
	seen     map[string]int // frames printed of each segment
	drops    map[string][packet.NumReasons]uint64
	out      []string
}

// Run runs a scenario file and compares its output with what is written in it, or with update
// writes it anew. It returns the network as it was at the end.
func Run(t testing.TB, file string, modules simnet.Modules, update bool) *simnet.Net {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	r := &runner{
		t: t, net: simnet.New(t, 1), modules: modules, segments: map[string]*simnet.Segment{}, nodes: map[string]*simnet.Node{},
		peers: map[string]*simnet.Peer{}, seen: map[string]int{}, drops: map[string][packet.NumReasons]uint64{},
	}
	var got strings.Builder
	lines := bufio.NewScanner(strings.NewReader(string(text)))
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "    ") { // output of the last run
			continue
		}
		got.WriteString(line + "\n")
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(line, "#") {
			continue
		}
		var block strings.Builder
		if fields[0] == "node" {
			for lines.Scan() && lines.Text() != "." {
				block.WriteString(lines.Text() + "\n")
			}
			got.WriteString(block.String() + ".\n")
		}
		r.out = nil
		if err := r.command(fields, line, block.String()); err != nil {
			t.Fatalf("%s: %s: %v", file, line, err)
		}
		for _, o := range r.out {
			got.WriteString("    " + o + "\n")
		}
	}
	if update {
		if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return r.net
	}
	if got.String() != string(text) {
		t.Errorf("%s: the outcome is another (go test ./test/scenarios -update writes it):\n%s", file, diff(string(text), got.String()))
	}
	return r.net
}

// diff shows the first lines that differ.
func diff(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		a, b := line(w, i), line(g, i)
		if a != b {
			return fmt.Sprintf("line %d\n- %s\n+ %s", i+1, a, b)
		}
	}
	return ""
}

func line(ls []string, i int) string {
	if i < len(ls) {
		return ls[i]
	}
	return "(end)"
}

func (r *runner) print(format string, args ...any) {
	r.out = append(r.out, fmt.Sprintf(format, args...))
}

func (r *runner) command(f []string, line, block string) error {
	switch f[0] {
	case "segment":
		return r.segment(f[1:])
	case "node":
		at := map[string]*simnet.Segment{}
		for _, x := range f[2:] {
			link, seg, _ := strings.Cut(x, "=")
			if r.segments[seg] == nil {
				return fmt.Errorf("no segment %q", seg)
			}
			at[link] = r.segments[seg]
		}
		r.nodes[f[1]] = r.net.Node(f[1], block, r.modules, at)
		return nil
	case "peer":
		r.peers[f[1]] = r.segments[f[2]].Peer(f[1])
		return nil
	case "advance":
		d, err := time.ParseDuration(f[1])
		if err != nil {
			return err
		}
		r.net.Advance(d)
		r.frames()
		return nil
	case "send":
		err := r.send(f[1], f[2], f[3:])
		r.net.Settle()
		r.frames()
		return err
	case "show":
		return r.show(f[1], f[2], f[3:])
	case "do":
		body := ""
		if i := strings.Index(line, "{"); i >= 0 {
			body = line[i:]
		}
		_, err := r.nodes[f[1]].Command(f[2], f[3], nil, body)
		if err != nil {
			r.print("refused: %v", err)
		}
		r.net.Settle()
		r.frames()
		return nil
	case "drops":
		r.showDrops(f[1])
		return nil
	default:
		return fmt.Errorf("unknown command %q", f[0])
	}
}

func (r *runner) segment(f []string) error {
	s := r.segments[f[0]]
	if s == nil {
		s = r.net.Segment(f[0])
		r.segments[f[0]] = s
	}
	for i := 1; i < len(f); i++ {
		var err error
		switch f[i] {
		case "cut":
			s.Cut = true
		case "heal":
			s.Cut = false
		case "mtu":
			i++
			s.MTU, err = strconv.Atoi(f[i])
		case "latency":
			i++
			s.Latency, err = time.ParseDuration(f[i])
		case "loss":
			i++
			s.Loss, err = strconv.ParseFloat(f[i], 64)
		default:
			err = fmt.Errorf("unknown option %q", f[i])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// frames prints what was sent since the last time, by time.
func (r *runner) frames() {
	type sent struct {
		simnet.Frame
		seg string
	}
	var all []sent
	for _, name := range slices.Sorted(maps.Keys(r.segments)) {
		fs := r.segments[name].Frames
		for _, f := range fs[r.seen[name]:] {
			all = append(all, sent{f, name})
		}
		r.seen[name] = len(fs)
	}
	slices.SortStableFunc(all, func(a, b sent) int { return int(a.At - b.At) })
	for _, f := range all {
		r.print("%s %s %s", stamp(f.At), f.From, Describe(f.Data))
	}
}

// stamp writes a time with milliseconds.
func stamp(d time.Duration) string { return fmt.Sprintf("%.3fs", d.Seconds()) }

// show prints a table, one entry a line, in a fixed order of keys.
func (r *runner) show(node, table string, selectors []string) error {
	n := r.nodes[node]
	if n == nil {
		return fmt.Errorf("no node %q", node)
	}
	query := map[string]string{}
	for _, s := range selectors {
		k, v, _ := strings.Cut(s, "=")
		query[k] = v
	}
	v, err := n.Command("GET", "/v1/"+table, query, "")
	if err != nil {
		return err
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var rows []json.RawMessage
	if b[0] != '[' {
		rows = []json.RawMessage{b}
	} else if err := json.Unmarshal(b, &rows); err != nil {
		return err
	}
	for _, row := range rows {
		r.print("%s", row)
	}
	return nil
}

func (r *runner) showDrops(node string) {
	s := r.nodes[node].Path().Stats()
	old := r.drops[node]
	for i, n := range s.Drops {
		if d := n - old[i]; d != 0 {
			r.print("%d %s", d, packet.Reason(i))
		}
	}
	r.drops[node] = s.Drops
}
