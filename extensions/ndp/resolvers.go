package ndp

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"leveret/appliance/clock"
)

const (
	// resolvFile is where the learned resolvers are told to others, in run_dir, in the words of resolv.conf(5).
	resolvFile = "resolv.conf"
	// resolvPause is the least time between two versions of the file: each advertisement may change it.
	resolvPause = time.Second
)

// resolvers is the file of learned resolvers (RFC 8106 6).
type resolvers struct {
	dir   string
	text  string        // as written
	stale bool          // it may have to be written anew
	next  clock.Instant // not before this
}

// deadline returns when the file is to be written.
func (r *resolvers) deadline() clock.Instant {
	if r.stale {
		return r.next
	}
	return clock.Never
}

// remove deletes the file: whoever reads it would believe it.
func (r *resolvers) remove() {
	if r.text != "" {
		_ = os.Remove(filepath.Join(r.dir, resolvFile))
	}
}

// writeResolvers brings the file up to date, if it may be written already.
func (m *Module) writeResolvers(now clock.Instant) {
	r := &m.resolvers
	if !r.stale || now < r.next {
		return
	}
	r.stale = false
	text := m.resolverText()
	if text == r.text || r.dir == "" {
		return
	}
	r.text, r.next = text, now.Add(resolvPause)
	if err := writeWhole(filepath.Join(r.dir, resolvFile), []byte("# learned from Router Advertisements\n"+text)); err != nil {
		m.host.Log().Warn("the learned resolvers cannot be written", zap.Error(err))
	}
}

// resolverText lists what all links have learned.
func (m *Module) resolverText() string {
	var b strings.Builder
	var domains []string
	for _, i := range m.linkOrder() {
		l := m.links[i]
		if l.host == nil {
			continue
		}
		for _, s := range l.host.routers.Servers() {
			zone := ""
			if s.Value.IsLinkLocalUnicast() {
				zone = "%" + l.cfg.name
			}
			fmt.Fprintf(&b, "nameserver %s%s\n", s.Value, zone)
		}
		for _, d := range l.host.routers.Domains() {
			if !slices.Contains(domains, d.Value) {
				domains = append(domains, d.Value)
			}
		}
	}
	if len(domains) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(domains, " "))
	}
	return b.String()
}
