package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"leveret/appliance/control/api"
)

func (c *cli) captureCommand() *cobra.Command {
	var f api.CaptureFilter
	var file string
	var count, snaplen int
	cmd := c.appliance("capture {LINK|any}", "Capture packets as pcapng",
		`Write what passes a link to a pcapng file, until interrupted: an interface of the file for each
point, "lan0/ingress", "lan0/egress" and "lan0/drop". Dropped packets have the reason as their
comment. "-w -" writes to standard output, for a pipe.`,
		`  leveret capture lan0 -w lan0.pcapng
  leveret capture any --point drop -w - | tshark -r - -T fields -e frame.comment
  leveret capture lan0 -w - | wireshark -k -i -`,
		func(ctx context.Context, args []string) error {
			if len(args) != 1 {
				return usagef("one link is required, or any.")
			}
			f.Link, f.Snaplen = args[0], strconv.Itoa(snaplen)
			return c.capture(ctx, f, file, count)
		})
	cmd.ValidArgsFunction = func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return append(c.linkNames(cmd.Context()), "any"), cobra.ShellCompDirectiveNoFileComp
	}
	fs := cmd.Flags()
	c.connectionFlags(fs)
	fs.StringVarP(&file, "write", "w", "", "file to write; - = standard output")
	fs.StringVar(&f.Point, "point", "", "ingress, egress or drop, several with commas; all if not given")
	fs.IntVarP(&count, "count", "c", 0, "packets to write; 0 = until interrupted")
	fs.IntVar(&snaplen, "snaplen", 9216, "octets kept of each packet")
	return cmd
}

func (c *cli) capture(ctx context.Context, f api.CaptureFilter, file string, count int) (err error) {
	switch {
	case count < 0:
		return usagef("invalid argument: '%d': a count is not negative", count)
	case file == "" && isTerminal(c.out):
		return usagef("standard output is a terminal: give -w FILE, or -w - for a pipe")
	}
	r, err := c.client().Stream(ctx, "/v1/capture", f, nil)
	if err != nil {
		return err
	}
	defer r.Close()
	out := c.out
	if file != "" && file != "-" {
		w, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o640)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, w.Close()) }()
		out = w
	}
	n, err := copyBlocks(ctx, out, r, count)
	fmt.Fprintf(c.err, "%d packets captured\n", n)
	return err
}

// isTerminal reports whether w is a terminal.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

const (
	blockEnhancedPacket = 6
	maxBlock            = 1 << 20
)

// copyBlocks copies whole pcapng blocks, so that a capture that is interrupted is a whole file,
// until count packets are written (0 = no bound), the stream ends or ctx does. It returns the
// packets.
func copyBlocks(ctx context.Context, w io.Writer, r io.Reader, count int) (packets int, err error) {
	in := bufio.NewReader(r)
	block := make([]byte, 8, 64<<10)
	for {
		if _, err := io.ReadFull(in, block[:8]); err != nil {
			return packets, streamEnd(ctx, err)
		}
		kind, length := binary.LittleEndian.Uint32(block), binary.LittleEndian.Uint32(block[4:])
		if length < 12 || length > maxBlock || length%4 != 0 {
			return packets, fmt.Errorf("the capture has a block of %d octets", length)
		}
		if int(length) > cap(block) {
			block = append(make([]byte, 0, length), block[:8]...)
		}
		block = block[:length]
		if _, err := io.ReadFull(in, block[8:]); err != nil {
			if errors.Is(err, io.EOF) { // the head was there: not a place to end
				err = io.ErrUnexpectedEOF
			}
			return packets, streamEnd(ctx, err)
		}
		if _, err := w.Write(block); err != nil {
			return packets, err
		}
		if kind == blockEnhancedPacket {
			if packets++; packets == count {
				return packets, nil
			}
		}
	}
}

// streamEnd tells an end from a failure.
func streamEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, io.EOF) {
		return nil
	}
	return fmt.Errorf("the capture ended early: %w", err)
}
