package packet

// Reason says why a packet was dropped. Its number may change from release to release; its name
// (see [Reason.String]) is stable: it is the counter's name, the comment in captures and the word
// in `leveret stats drops`.
type Reason uint16

// The reasons, in the order of the stages that give them.
const (
	NoReason Reason = iota

	// s1_rx, s2_validate
	FrameShort
	FrameNotIPv6
	FrameNotForUs
	LinkDown
	HeaderTruncated
	HeaderVersion
	HeaderPayloadLength
	SourceMulticast
	SourceLoopback
	SourceUnspecified
	SourceOwn
	DestinationUnspecified
	DestinationLoopback
	DestinationScope
	SourceScope
	FrameMulticastUnicast
	ChainTruncated
	ChainTooMany
	ChainOrder
	ChainFirstFragment
	OptionMalformed
	OptionDiscard
	OptionUnrecognized
	JumboRefused

	// s3_classify, s4_route
	GroupNotJoined
	AddressTentative
	ForwardingOff
	MulticastForward
	NoRoute
	RouteIsBlackhole
	RouteIsUnreachable
	RouteIsProhibited
	BeyondScope
	HopLimitExceeded
	RouteLoop

	// s5..s8
	TooBig
	NeighborUnreachable
	NeighborQueueFull
	NeighborTableFull
	NeighborResolving
	TxFailed
	TxQueueFull

	// local
	NDInvalid
	MLDInvalid
	ModuleBusy
	RoutingHeaderUnrecognized
	RoutingHeaderType0
	RoutingHeaderType2
	HomeAddressInvalid
	NextHeaderUnrecognized
	NoNextHeader
	ChecksumBad
	ICMPUnknown
	ICMPQuoteInvalid
	PacketTooBigMTU
	FragmentMisaligned
	FragmentTooLong
	FragmentOverlap
	FragmentDuplicate
	FragmentECN
	FragmentTimeout
	FragmentEvicted
	FragmentLimit
	HostQueueFull
	HostNotAttached
	DummyLink

	// IPsec: Linux's counters, then what it has none for
	XfrmInBufferError
	XfrmInHdrError
	XfrmInNoStates
	XfrmInStateProtoError
	XfrmInStateModeError
	XfrmInStateSeqError
	XfrmInStateExpired
	XfrmInStateMismatch
	XfrmInStateInvalid
	XfrmInTmplMismatch
	XfrmInNoPols
	XfrmInPolBlock
	XfrmInPolError
	XfrmFwdHdrError
	XfrmAcquireError
	XfrmOutError
	XfrmOutBundleGenError
	XfrmOutNoStates
	XfrmOutNoQueueSpace
	XfrmOutStateProtoError
	XfrmOutStateModeError
	XfrmOutStateSeqError
	XfrmOutStateExpired
	XfrmOutStateInvalid
	XfrmOutPolBlock
	XfrmOutPolError
	XfrmInDummy
	XfrmInKeepalive
	TunnelECN
	TunnelUnknown
	TunnelHeader
	TunnelChecksum
	TunnelKey
	TunnelSequence
	TunnelProtocol
	TunnelLength
	TunnelSource
	TunnelLimit
	TunnelLoop
	TunnelNested
	IPsecLinkNoPolicy
	IPsecLinkLoop

	// icmperr
	ErrorRateLimited
	ErrorNotAllowed

	NumReasons
)

// reasons holds each reason's stable name and the text that says what it rests on.
var reasons = [NumReasons]struct{ name, ref string }{
	NoReason:                  {"none", ""},
	FrameShort:                {"frame_short", "RFC 2464 3"},
	FrameNotIPv6:              {"frame_not_ipv6", "RFC 2464 3"},
	FrameNotForUs:             {"frame_not_for_us", "RFC 2464 6"},
	LinkDown:                  {"link_down", ""},
	HeaderTruncated:           {"header_truncated", "RFC 8200 3"},
	HeaderVersion:             {"header_version", "RFC 8200 3"},
	HeaderPayloadLength:       {"header_payload_length", "RFC 8200 3"},
	SourceMulticast:           {"source_multicast", "RFC 4291 2.7"},
	SourceLoopback:            {"source_loopback", "RFC 4291 2.5.3"},
	SourceUnspecified:         {"source_unspecified", "RFC 4291 2.5.2"},
	SourceOwn:                 {"source_own", "RFC 4862 5.4"},
	DestinationUnspecified:    {"destination_unspecified", "RFC 4291 2.5.2"},
	DestinationLoopback:       {"destination_loopback", "RFC 4291 2.5.3"},
	DestinationScope:          {"destination_scope", "RFC 4291 2.7"},
	SourceScope:               {"source_scope", "RFC 4007 9"},
	FrameMulticastUnicast:     {"frame_multicast_unicast", "RFC 1122 3.3.6"},
	ChainTruncated:            {"chain_truncated", "RFC 8200 4"},
	ChainTooMany:              {"chain_too_many", "RFC 8504 5.3"},
	ChainOrder:                {"chain_order", "RFC 8200 4.1"},
	ChainFirstFragment:        {"chain_first_fragment", "RFC 7112 5"},
	OptionMalformed:           {"option_malformed", "RFC 8200 4.2"},
	OptionDiscard:             {"option_discard", "RFC 8200 4.2"},
	OptionUnrecognized:        {"option_unrecognized", "RFC 8200 4.2"},
	JumboRefused:              {"jumbo_refused", "RFC 2675 3"},
	GroupNotJoined:            {"group_not_joined", "RFC 4291 2.7"},
	AddressTentative:          {"address_tentative", "RFC 4862 5.4"},
	ForwardingOff:             {"forwarding_off", "RFC 8200 2"},
	MulticastForward:          {"multicast_forward", "RFC 4291 2.7"},
	NoRoute:                   {"no_route", "RFC 4443 3.1"},
	RouteIsBlackhole:          {"route_blackhole", ""},
	RouteIsUnreachable:        {"route_unreachable", "RFC 4443 3.1"},
	RouteIsProhibited:         {"route_prohibited", "RFC 4443 3.1"},
	BeyondScope:               {"beyond_scope", "RFC 4443 3.1"},
	HopLimitExceeded:          {"hop_limit_exceeded", "RFC 4443 3.3"},
	RouteLoop:                 {"route_loop", ""},
	TooBig:                    {"too_big", "RFC 4443 3.2"},
	NeighborUnreachable:       {"neighbor_unreachable", "RFC 4861 7.2.2"},
	NeighborQueueFull:         {"neighbor_queue_full", "RFC 4861 7.2.2"},
	NeighborTableFull:         {"neighbor_table_full", "RFC 6583 7.1"},
	NeighborResolving:         {"neighbor_resolving", "RFC 4861 7.2.2"},
	TxFailed:                  {"tx_failed", ""},
	TxQueueFull:               {"tx_queue_full", ""},
	NDInvalid:                 {"nd_invalid", "RFC 4861 7.1"},
	MLDInvalid:                {"mld_invalid", "RFC 3810 6.2"},
	ModuleBusy:                {"module_busy", ""},
	RoutingHeaderUnrecognized: {"routing_header_unrecognized", "RFC 8200 4.4"},
	RoutingHeaderType0:        {"routing_header_type0", "RFC 5095 3"},
	RoutingHeaderType2:        {"routing_header_type2", "RFC 6275 11.3.3"},
	HomeAddressInvalid:        {"home_address_invalid", "RFC 6275 6.3"},
	NextHeaderUnrecognized:    {"next_header_unrecognized", "RFC 8200 4"},
	NoNextHeader:              {"no_next_header", "RFC 8200 4.7"},
	ChecksumBad:               {"checksum_bad", "RFC 4443 2.3"},
	ICMPUnknown:               {"icmp_unknown", "RFC 4443 2.4"},
	ICMPQuoteInvalid:          {"icmp_quote_invalid", "RFC 8201 4"},
	PacketTooBigMTU:           {"packet_too_big_mtu", "RFC 8201 4"},
	FragmentMisaligned:        {"fragment_misaligned", "RFC 8200 4.5"},
	FragmentTooLong:           {"fragment_too_long", "RFC 8200 4.5"},
	FragmentOverlap:           {"fragment_overlap", "RFC 5722 4"},
	FragmentDuplicate:         {"fragment_duplicate", "RFC 8200 4.5"},
	FragmentECN:               {"fragment_ecn", "RFC 3168 5.3"},
	FragmentTimeout:           {"fragment_timeout", "RFC 8200 4.5"},
	FragmentEvicted:           {"fragment_evicted", ""},
	FragmentLimit:             {"fragment_limit", ""},
	HostQueueFull:             {"host_queue_full", ""},
	HostNotAttached:           {"host_not_attached", ""},
	DummyLink:                 {"dummy_link", ""},
	XfrmInBufferError:         {"xfrm_in_buffer_error", ""},
	XfrmInHdrError:            {"xfrm_in_hdr_error", "RFC 4303 3.4"},
	XfrmInNoStates:            {"xfrm_in_no_states", "RFC 4303 3.4.2"},
	XfrmInStateProtoError:     {"xfrm_in_state_proto_error", "RFC 4303 3.4.4"},
	XfrmInStateModeError:      {"xfrm_in_state_mode_error", "RFC 4301 5.2"},
	XfrmInStateSeqError:       {"xfrm_in_state_seq_error", "RFC 4303 3.4.3"},
	XfrmInStateExpired:        {"xfrm_in_state_expired", "RFC 4301 4.4.2.1"},
	XfrmInStateMismatch:       {"xfrm_in_state_mismatch", "RFC 4301 5.2"},
	XfrmInStateInvalid:        {"xfrm_in_state_invalid", "RFC 4301 5.2"},
	XfrmInTmplMismatch:        {"xfrm_in_tmpl_mismatch", "RFC 4301 5.2"},
	XfrmInNoPols:              {"xfrm_in_no_pols", "RFC 4301 5.2"},
	XfrmInPolBlock:            {"xfrm_in_pol_block", "RFC 4301 5.2"},
	XfrmInPolError:            {"xfrm_in_pol_error", "RFC 4301 4.4.1.1"},
	XfrmFwdHdrError:           {"xfrm_fwd_hdr_error", "RFC 4301 4.4.1.1"},
	XfrmAcquireError:          {"xfrm_acquire_error", ""},
	XfrmOutError:              {"xfrm_out_error", ""},
	XfrmOutBundleGenError:     {"xfrm_out_bundle_gen_error", ""},
	XfrmOutNoStates:           {"xfrm_out_no_states", "RFC 4301 5.1"},
	XfrmOutNoQueueSpace:       {"xfrm_out_no_queue_space", ""},
	XfrmOutStateProtoError:    {"xfrm_out_state_proto_error", "RFC 4303 3.3"},
	XfrmOutStateModeError:     {"xfrm_out_state_mode_error", "RFC 4303 3.1.1"},
	XfrmOutStateSeqError:      {"xfrm_out_state_seq_error", "RFC 4303 3.3.3"},
	XfrmOutStateExpired:       {"xfrm_out_state_expired", "RFC 4301 4.4.2.1"},
	XfrmOutStateInvalid:       {"xfrm_out_state_invalid", "RFC 4301 5.1"},
	XfrmOutPolBlock:           {"xfrm_out_pol_block", "RFC 4301 5.1"},
	XfrmOutPolError:           {"xfrm_out_pol_error", "RFC 4301 4.4.1.1"},
	XfrmInDummy:               {"xfrm_in_dummy", "RFC 4303 2.6"},
	XfrmInKeepalive:           {"xfrm_in_keepalive", "RFC 3948 2.3"},
	TunnelECN:                 {"tunnel_ecn", "RFC 6040 4.2"},
	TunnelUnknown:             {"tunnel_unknown", "RFC 4213 3.6"},
	TunnelHeader:              {"tunnel_header", "RFC 2784 2.3"},
	TunnelChecksum:            {"tunnel_checksum", "RFC 2784 2.5"},
	TunnelKey:                 {"tunnel_key", "RFC 2890 2.1"},
	TunnelSequence:            {"tunnel_sequence", "RFC 2890 2.2"},
	TunnelProtocol:            {"tunnel_protocol", "RFC 2473 3.3"},
	TunnelLength:              {"tunnel_length", "RFC 4213 3.6"},
	TunnelSource:              {"tunnel_source", "RFC 4213 3.6"},
	TunnelLimit:               {"tunnel_limit", "RFC 2473 4.1.1"},
	TunnelLoop:                {"tunnel_loop", "RFC 2473 4.1.2"},
	TunnelNested:              {"tunnel_nested", "RFC 2473 4.1.3"},
	IPsecLinkNoPolicy:         {"ipsec_link_no_policy", "RFC 4301 5.1"},
	IPsecLinkLoop:             {"ipsec_link_loop", ""},
	ErrorRateLimited:          {"error_rate_limited", "RFC 4443 2.4(f)"},
	ErrorNotAllowed:           {"error_not_allowed", "RFC 4443 2.4(e)"},
}

// String returns the reason's stable name.
func (r Reason) String() string {
	if r >= NumReasons {
		return "unknown"
	}
	return reasons[r].name
}

// Ref returns the RFC section the drop rests on, or "" where it is local policy.
func (r Reason) Ref() string {
	if r >= NumReasons {
		return ""
	}
	return reasons[r].ref
}
