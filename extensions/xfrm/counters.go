package xfrm

import (
	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/extensions/xfrm/xfrmapi"
)

// names are the counters that Linux has (/proc/net/xfrm_stat) of what can occur here, in its order.
var names = []struct {
	reason packet.Reason
	name   string
}{
	{packet.XfrmInBufferError, "XfrmInBufferError"},
	{packet.XfrmInHdrError, "XfrmInHdrError"},
	{packet.XfrmInNoStates, "XfrmInNoStates"},
	{packet.XfrmInStateProtoError, "XfrmInStateProtoError"},
	{packet.XfrmInStateModeError, "XfrmInStateModeError"},
	{packet.XfrmInStateSeqError, "XfrmInStateSeqError"},
	{packet.XfrmInStateExpired, "XfrmInStateExpired"},
	{packet.XfrmInStateMismatch, "XfrmInStateMismatch"},
	{packet.XfrmInStateInvalid, "XfrmInStateInvalid"},
	{packet.XfrmInTmplMismatch, "XfrmInTmplMismatch"},
	{packet.XfrmInNoPols, "XfrmInNoPols"},
	{packet.XfrmInPolBlock, "XfrmInPolBlock"},
	{packet.XfrmInPolError, "XfrmInPolError"},
	{packet.XfrmOutError, "XfrmOutError"},
	{packet.XfrmOutBundleGenError, "XfrmOutBundleGenError"},
	{packet.XfrmOutNoStates, "XfrmOutNoStates"},
	{packet.XfrmOutStateProtoError, "XfrmOutStateProtoError"},
	{packet.XfrmOutStateModeError, "XfrmOutStateModeError"},
	{packet.XfrmOutStateSeqError, "XfrmOutStateSeqError"},
	{packet.XfrmOutStateExpired, "XfrmOutStateExpired"},
	{packet.XfrmOutPolBlock, "XfrmOutPolBlock"},
	{packet.XfrmOutPolError, "XfrmOutPolError"},
	{packet.XfrmFwdHdrError, "XfrmFwdHdrError"},
	{packet.XfrmOutStateInvalid, "XfrmOutStateInvalid"},
	{packet.XfrmAcquireError, "XfrmAcquireError"},
	{packet.XfrmOutNoQueueSpace, "XfrmOutNoQueueSpace"},
}

// counters count what was dropped, by reason, under Linux's names.
type counters [packet.NumReasons]*module.Counter

func (c *counters) init(h module.Host) {
	for _, n := range names {
		c[n.reason] = h.Counter(n.name)
	}
}

// drop counts a packet and gives it up.
func (m *Module) drop(r packet.Reason) packet.Verdict {
	if c := m.count[r]; c != nil {
		c.Inc()
	}
	return packet.Drop(r)
}

// showStat answers GET /v1/xfrm/stat.
func (m *Module) showStat(_ clock.Instant, req module.Request) (any, error) {
	if err := req.Selectors(); err != nil {
		return nil, err
	}
	var out xfrmapi.Stat
	for _, n := range names {
		out = append(out, xfrmapi.Counter{Name: n.name, Value: m.count[n.reason].Value()})
	}
	return out, nil
}
