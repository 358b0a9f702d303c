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
	"leveret/appliance/module"
)

const (
	// resolvFile is where the learned resolvers are told to others, in run_dir, in the words of resolv.conf(5).
	resolvFile = "resolv.conf"
	// resolvPause is the least time between two versions of it: each advertisement may change it.
	resolvPause = time.Second
)

// resolvers are the learned ones as they were told to the appliance and, in a file, to others (RFC 8106 6).
type resolvers struct {
	dir   string
	text  string        // as told
	stale bool          // they may have to be told anew
	next  clock.Instant // not before this
}

// deadline returns when they are to be told.
func (r *resolvers) deadline() clock.Instant {
	if r.stale {
		return r.next
	}
	return clock.Never
}

// remove deletes the file: whoever reads it would believe it.
func (r *resolvers) remove() {
	if r.text != "" && r.dir != "" {
		_ = os.Remove(filepath.Join(r.dir, resolvFile))
	}
}

// tellResolvers tells what is new about them, if it may be told already.
func (m *Module) tellResolvers(now clock.Instant) {
	r := &m.resolvers
	if !r.stale || now < r.next {
		return
	}
	r.stale = false
	known := m.knownResolvers()
	text := resolverText(known)
	if text == r.text {
		return
	}
	r.text, r.next = text, now.Add(resolvPause)
	m.host.PublishResolvers(known)
	if r.dir == "" {
		return
	}
	if err := writeWhole(filepath.Join(r.dir, resolvFile), []byte("# learned from Router Advertisements\n"+text)); err != nil {
		m.host.Log().Warn("the learned resolvers cannot be written", zap.Error(err))
	}
}

// knownResolvers lists what all links have learned.
func (m *Module) knownResolvers() (out module.Resolvers) {
	for _, i := range m.linkOrder() {
		l := m.links[i]
		if l.host == nil {
			continue
		}
		for _, s := range l.host.routers.Servers() {
			a := s.Value
			if a.IsLinkLocalUnicast() {
				a = a.WithZone(l.cfg.name)
			}
			out.Servers = append(out.Servers, a)
		}
		for _, d := range l.host.routers.Domains() {
			if !slices.Contains(out.Domains, d.Value) {
				out.Domains = append(out.Domains, d.Value)
			}
		}
	}
	return out
}

// resolverText writes them in the words of resolv.conf(5).
func resolverText(r module.Resolvers) string {
	var b strings.Builder
	for _, s := range r.Servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(r.Domains) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(r.Domains, " "))
	}
	return b.String()
}
