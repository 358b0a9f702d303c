package xfrm

import (
	"leveret/appliance/module"
	"leveret/appliance/packet"
)

// names are the counters that Linux has (/proc/net/xfrm_stat) of what can occur here.
var names = map[packet.Reason]string{
	packet.XfrmInBufferError: "XfrmInBufferError", packet.XfrmInHdrError: "XfrmInHdrError", packet.XfrmInNoStates: "XfrmInNoStates",
	packet.XfrmInStateProtoError: "XfrmInStateProtoError", packet.XfrmInStateModeError: "XfrmInStateModeError",
	packet.XfrmInStateSeqError: "XfrmInStateSeqError", packet.XfrmInStateExpired: "XfrmInStateExpired",
	packet.XfrmInStateMismatch: "XfrmInStateMismatch", packet.XfrmInStateInvalid: "XfrmInStateInvalid",
	packet.XfrmInTmplMismatch: "XfrmInTmplMismatch", packet.XfrmInNoPols: "XfrmInNoPols", packet.XfrmInPolBlock: "XfrmInPolBlock",
	packet.XfrmInPolError: "XfrmInPolError", packet.XfrmFwdHdrError: "XfrmFwdHdrError", packet.XfrmAcquireError: "XfrmAcquireError",
	packet.XfrmOutError: "XfrmOutError", packet.XfrmOutBundleGenError: "XfrmOutBundleGenError", packet.XfrmOutNoStates: "XfrmOutNoStates",
	packet.XfrmOutStateProtoError: "XfrmOutStateProtoError", packet.XfrmOutStateModeError: "XfrmOutStateModeError",
	packet.XfrmOutStateSeqError: "XfrmOutStateSeqError", packet.XfrmOutStateExpired: "XfrmOutStateExpired",
	packet.XfrmOutStateInvalid: "XfrmOutStateInvalid", packet.XfrmOutPolBlock: "XfrmOutPolBlock", packet.XfrmOutPolError: "XfrmOutPolError",
}

// counters count what was dropped, by reason, under Linux's names.
type counters [packet.NumReasons]*module.Counter

func (c *counters) init(h module.Host) {
	for r, name := range names {
		c[r] = h.Counter(name)
	}
}

// drop counts a packet and gives it up.
func (m *Module) drop(r packet.Reason) packet.Verdict {
	if c := m.count[r]; c != nil {
		c.Inc()
	}
	return packet.Drop(r)
}
