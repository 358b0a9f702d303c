package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// sweep is the command `sweep DESTINATION SIZES [SOURCE]`: one echo request with each number of octets of data,
// in one process, which the guest starts a hundred times faster than as many of ping. SIZES is as in 0-64,1452.
func sweep(args []string) error {
	if len(args) < 2 || len(args) > 3 {
		return errors.New("usage: sweep DESTINATION SIZES [SOURCE]")
	}
	source := "::"
	if len(args) == 3 {
		source = args[2]
	}
	conn, err := net.ListenPacket("ip6:ipv6-icmp", source)
	if err != nil {
		return err
	}
	defer conn.Close()
	dst, err := net.ResolveIPAddr("ip6", args[0])
	if err != nil {
		return err
	}
	sent, failed := 0, 0
	for part := range strings.SplitSeq(args[1], ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, err1 := strconv.Atoi(first)
		to, err2 := strconv.Atoi(last)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		for size := from; size <= to && failed < 10; size++ {
			sent++
			if err := echo(conn, dst, size, uint16(sent)); err != nil {
				fmt.Printf("%d octets: %v\n", size, err)
				failed++
			}
		}
	}
	fmt.Printf("%d sent, %d not answered\n", sent, failed)
	if failed != 0 {
		return errors.New("not all were answered")
	}
	return nil
}

// echo sends a request and wants the same data back within 3 s.
func echo(conn net.PacketConn, dst net.Addr, size int, seq uint16) error {
	request := make([]byte, 8+size)
	request[0] = 128
	binary.BigEndian.PutUint16(request[4:], uint16(os.Getpid()))
	binary.BigEndian.PutUint16(request[6:], seq)
	for i := range size {
		request[8+i] = byte(i) ^ byte(i>>8) ^ byte(size)
	}
	if _, err := conn.WriteTo(request, dst); err != nil { // the kernel does the checksum
		return err
	}
	if err := conn.SetReadDeadline(time.Now().Add(3 * time.Second)); err != nil {
		return err
	}
	for b := make([]byte, 65536); ; {
		n, _, err := conn.ReadFrom(b)
		if err != nil {
			return err
		}
		if n >= 8 && b[0] == 129 && bytes.Equal(b[4:8], request[4:8]) {
			if !bytes.Equal(b[8:n], request[8:]) {
				return errors.New("other data came back")
			}
			return nil
		}
	}
}
