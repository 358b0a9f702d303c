package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/observe"
)

// pcapng returns a capture of n packets as the appliance sends it.
func pcapng(t testing.TB, n int) []byte {
	t.Helper()
	links := module.NewLinks([]*module.Link{{Index: 1, Name: "lan0", Ethernet: true}})
	clk := clock.NewManual()
	var taps observe.Taps
	tap, err := taps.Add(observe.TapOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		taps.Offer(&observe.Frame{Point: observe.Dropped, Link: 1, Data: make([]byte, 60), Reason: "no_route", At: clk.Now()})
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var b bytes.Buffer
	if err := observe.Stream(ctx, tap, observe.WriteOptions{Clock: clk, Links: func() *module.Links { return links }}, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// blocks returns the types of the blocks of a capture, all of which must be whole.
func blocks(t *testing.T, b []byte) (kinds []uint32) {
	t.Helper()
	for len(b) > 0 {
		n := int(binary.LittleEndian.Uint32(b[4:]))
		if n > len(b) {
			t.Fatalf("the last block has %d of %d octets", len(b), n)
		}
		kinds = append(kinds, binary.LittleEndian.Uint32(b))
		b = b[n:]
	}
	return kinds
}

func TestCaptureWritesWholeBlocks(t *testing.T) {
	whole := pcapng(t, 5)
	dir := t.TempDir()
	sock, file := filepath.Join(dir, "api.sock"), filepath.Join(dir, "lan0.pcapng")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	var query string
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query = r.URL.RawQuery
		_, _ = w.Write(whole)
	})}
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()
	var out, stderr bytes.Buffer
	run := func(args ...string) int {
		out.Reset()
		stderr.Reset()
		return newCLI(nil, &out, &stderr).main(t.Context(), append([]string{"--socket", sock, "capture"}, args...))
	}
	if code := run("lan0", "-w", "-", "--point", "drop", "--snaplen", "100"); code != exitOK || !bytes.Equal(out.Bytes(), whole) || query != "link=lan0&point=drop&snaplen=100" {
		t.Errorf("code %d, %d of %d octets, query %s, %s", code, out.Len(), len(whole), query, stderr.String())
	}
	if stderr.String() != "5 packets captured\n" {
		t.Errorf("said %q", stderr.String())
	}
	if code := run("any", "-w", file, "-c", "2"); code != exitOK || stderr.String() != "2 packets captured\n" || out.Len() != 0 {
		t.Errorf("code %d, said %q", code, stderr.String())
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if kinds := blocks(t, b); strings.Count(string(b), "no_route") != 2 || kinds[len(kinds)-1] != blockEnhancedPacket {
		t.Errorf("blocks %x", kinds)
	}
	whole = whole[:len(whole)-5] // the appliance dies in the middle of a block
	if code := run("lan0"); code != exitUsage || !strings.Contains(stderr.String(), "the capture ended early") || len(blocks(t, out.Bytes())) == 0 {
		t.Errorf("code %d, said %q", code, stderr.String())
	}
	if code := run(); code != exitUsage {
		t.Errorf("without a link: code %d", code)
	}
	if code := run("lan0", "-c", "-1"); code != exitUsage {
		t.Errorf("count -1: code %d", code)
	}
}

// An interrupt ends a capture between two blocks, without an error.
func TestInterruptedCaptureIsWhole(t *testing.T) {
	b := pcapng(t, 3)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out bytes.Buffer
	if _, err := copyBlocks(ctx, &out, bytes.NewReader(b[:len(b)-50]), 0); err != nil {
		t.Error(err)
	}
	blocks(t, out.Bytes())
}

func FuzzCopyBlocks(f *testing.F) {
	b := pcapng(f, 2)
	f.Add(b, 0)
	f.Add(b[:len(b)-3], 1)
	f.Add([]byte{6, 0, 0, 0, 255, 255, 255, 255}, 0)
	f.Add([]byte{6, 0, 0, 0, 4, 0, 0, 0}, 0)
	f.Fuzz(func(t *testing.T, b []byte, count int) {
		var out bytes.Buffer
		n, err := copyBlocks(t.Context(), &out, bytes.NewReader(b), count)
		if !bytes.HasPrefix(b, out.Bytes()) {
			t.Error("what came out is not what went in")
		}
		if count > 0 && n > count || err == nil && count <= 0 && out.Len() != len(b) {
			t.Errorf("%d packets, %d of %d octets, %v", n, out.Len(), len(b), err)
		}
	})
}

// Whatever is typed, the answer is a command to run or an error, never a panic.
func FuzzCommandLine(f *testing.F) {
	f.Add("route add blackhole 2001:db8::/32 metric 1")
	f.Add("-j -s a a ::1/64 dev lan0 valid_lft forever")
	f.Add("--socket x n fl all")
	f.Add("link set dev lan0 mtu 0x500 up")
	f.Add("maddr add ff02::1 dev")
	f.Fuzz(func(t *testing.T, s string) {
		c := newCLI(nil, new(bytes.Buffer), new(bytes.Buffer))
		args, err := expand(c.root(), strings.Fields(s))
		if err != nil || len(args) == 0 {
			return
		}
		for _, w := range []words{new(linkChange).words(), new(addrChange).words(), new(neighChange).words(), new(routeChange).words(),
			new(routeQuery).words(), new(routeSelect).words(), new(neighSelect).words(), new(addrSelect).words(), new(maddrChange).words()} {
			_ = w.parse(args)
		}
	})
}
