package netstack

import "leveret/appliance/module"

// counters are the host stack's own. Any goroutine.
type counters struct {
	tcpIn, tcpOut, superIn, superOut      module.Counter
	udpIn, udpOut, rawIn, rawOut          module.Counter
	queueFull, checksum, malformed        module.Counter
	udpNoPort, socketFull, noSource       module.Counter
	errorsIn, errorsIgnored, pmtuTooLow   module.Counter
	services, serviceRefused, serviceIdle module.Counter
	serviceLoops                          module.Counter
}

// Stats are the host stack's counters, since the start.
type Stats struct {
	TCPSegmentsIn, TCPSegmentsOut uint64 // as handed over: a superpacket counts once
	SuperpacketsIn                uint64
	SuperpacketsOut               uint64
	UDPIn, UDPOut                 uint64
	RawIn, RawOut                 uint64
	QueueFull                     uint64 // packets refused because netstack did not keep up
	ChecksumErrors                uint64
	Malformed                     uint64 // shorter than their headers say
	UDPNoPort                     uint64
	SocketFull                    uint64 // datagrams lost to a full socket
	NoSource                      uint64 // sends for which no source address was found
	ErrorsIn                      uint64 // ICMPv6 errors that reached a socket
	ErrorsIgnored                 uint64 // ICMPv6 errors about nothing of ours
	PacketTooBigIgnored           uint64 // Packet Too Big below 1280 (RFC 8201 4)
	ServiceConnections            uint64
	ServiceRefused                uint64 // above the limit
	ServiceIdle                   uint64 // closed because nothing came
	ServiceLoops                  uint64 // requests from the port of another small service
	TCPRetransmits                uint64
	TCPResetsSent                 uint64
	TCPEstablished                uint64 // connections now
}

// Stats returns the counters. Any goroutine.
func (h *Host) Stats() Stats {
	c := &h.count
	t := h.stack.Stats().TCP
	return Stats{
		TCPSegmentsIn: c.tcpIn.Value(), TCPSegmentsOut: c.tcpOut.Value(),
		SuperpacketsIn: c.superIn.Value(), SuperpacketsOut: c.superOut.Value(),
		UDPIn: c.udpIn.Value(), UDPOut: c.udpOut.Value(),
		RawIn: c.rawIn.Value(), RawOut: c.rawOut.Value(),
		QueueFull: c.queueFull.Value(), ChecksumErrors: c.checksum.Value(), Malformed: c.malformed.Value(),
		UDPNoPort: c.udpNoPort.Value(), SocketFull: c.socketFull.Value(), NoSource: c.noSource.Value(),
		ErrorsIn: c.errorsIn.Value(), ErrorsIgnored: c.errorsIgnored.Value(), PacketTooBigIgnored: c.pmtuTooLow.Value(),
		ServiceConnections: c.services.Value(), ServiceRefused: c.serviceRefused.Value(),
		ServiceIdle: c.serviceIdle.Value(), ServiceLoops: c.serviceLoops.Value(),
		TCPRetransmits: t.Retransmits.Value(), TCPResetsSent: t.ResetsSent.Value(), TCPEstablished: t.CurrentEstablished.Value(),
	}
}

// Map returns the counters by name, as `leveret stats` shows them.
func (s Stats) Map() map[string]uint64 {
	return map[string]uint64{
		"tcp_in": s.TCPSegmentsIn, "tcp_out": s.TCPSegmentsOut,
		"superpackets_in": s.SuperpacketsIn, "superpackets_out": s.SuperpacketsOut,
		"udp_in": s.UDPIn, "udp_out": s.UDPOut, "raw_in": s.RawIn, "raw_out": s.RawOut,
		"queue_full": s.QueueFull, "checksum_errors": s.ChecksumErrors, "malformed": s.Malformed,
		"udp_no_port": s.UDPNoPort, "socket_full": s.SocketFull, "no_source": s.NoSource,
		"errors_in": s.ErrorsIn, "errors_ignored": s.ErrorsIgnored, "packet_too_big_ignored": s.PacketTooBigIgnored,
		"service_connections": s.ServiceConnections, "service_refused": s.ServiceRefused,
		"service_idle": s.ServiceIdle, "service_loops": s.ServiceLoops,
		"tcp_retransmits": s.TCPRetransmits, "tcp_resets_sent": s.TCPResetsSent, "tcp_established": s.TCPEstablished,
	}
}
