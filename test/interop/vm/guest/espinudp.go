package main

import (
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// espinudp makes the kernel take what comes to a UDP port for ESP, as a key daemon does (RFC 3948, udp(7)), until it
// is killed.
func espinudp(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: espinudp PORT")
	}
	number, err := strconv.ParseUint(args[0], 10, 16)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_ENCAP, unix.UDP_ENCAP_ESPINUDP); err != nil {
		return fmt.Errorf("UDP_ENCAP: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet6{Port: int(number)}); err != nil {
		return err
	}
	for b := make([]byte, 2048); ; { // IKE and keepalives
		if _, err := unix.Read(fd, b); err != nil {
			return err
		}
	}
}
