package scenarios

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	mdlayher "github.com/mdlayher/ndp"

	"leveret/appliance/wire"
	"leveret/extensions/ndp/ndwire"
	"leveret/test/script"
)

// TestEveryFrameOnTheWire: tshark finds nothing to remark in any frame of any scenario, and another
// implementation reads each message of Neighbor Discovery and writes it as it was.
func TestEveryFrameOnTheWire(t *testing.T) {
	if _, err := exec.LookPath("tshark"); err != nil {
		if os.Geteuid() == 0 {
			t.Fatal("tshark is not installed: run `make deps`")
		}
		t.Skip("tshark is not installed: run `make deps` as root")
	}
	files, _ := filepath.Glob("*.txt")
	types := map[uint8]int{}
	dir := t.TempDir()
	for _, f := range files {
		for i, s := range script.Run(t, f, modules, false).Segments() {
			name := filepath.Join(dir, fmt.Sprintf("%s-%d.pcapng", strings.TrimSuffix(f, ".txt"), i))
			if err := s.WriteCapture(name); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command("tshark", "-r", name, "-o", "ip.check_checksum:TRUE", "-Y",
				"_ws.malformed || icmpv6.checksum.status == 0 || _ws.expert.severity >= 0x00600000", "-T", "fields", "-e", "frame.number", "-e", "_ws.col.Info", "-e", "_ws.expert.message").Output()
			if err != nil {
				t.Fatal(err)
			}
			if len(out) > 0 {
				t.Errorf("%s: tshark remarks\n%s", f, out)
			}
			for _, fr := range s.Frames {
				if typ, err := readAgain(fr.Data[14:]); err != nil {
					t.Errorf("%s: a frame of %s at %s: %v", f, fr.From, fr.At, err)
				} else {
					types[typ]++
				}
			}
		}
	}
	for _, typ := range []uint8{wire.TypeRouterSolicitation, wire.TypeRouterAdvertisement, wire.TypeNeighborSolicitation, wire.TypeNeighborAdvertisement} {
		if types[typ] == 0 {
			t.Errorf("none of type %d", typ)
		}
	}
}

// readAgain lets the other implementation read a message and write it; 0 = it is none that it knows.
func readAgain(b []byte) (typ uint8, err error) {
	m, err := ndwire.Parse(b, wire.IPv6HeaderLen, false)
	if err != nil || m.Type == wire.TypeRedirect {
		return 0, nil //nolint:nilerr // not of Neighbor Discovery, or not known there
	}
	msg := b[wire.IPv6HeaderLen:]
	other, err := mdlayher.ParseMessage(msg)
	if err != nil {
		return 0, err
	}
	again, err := mdlayher.MarshalMessage(other)
	if err != nil {
		return 0, err
	}
	if !bytes.Equal(again[4:], msg[4:]) {
		return 0, fmt.Errorf("read and written again it is\n%x, was\n%x", again, msg)
	}
	return m.Type, nil
}
