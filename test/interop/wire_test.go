package interop

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"leveret/appliance/link/hostdev"
	"leveret/appliance/wire"
	"leveret/test/interop/vm"
)

// tap is a socket on a TAP device in the namespace of the VM: it sees what goes over the device and sends to whoever
// holds its other end.
type tap struct {
	t  *testing.T
	fd int
}

func openTap(t *testing.T, v *vm.VM, device string) *tap {
	t.Helper()
	s := &tap{t: t}
	err := hostdev.In(v.Netns, func() error {
		i, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		all := int(binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL)))
		if s.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, all); err != nil {
			return err
		}
		return errors.Join(unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20),
			unix.Bind(s.fd, &unix.SockaddrLinklayer{Protocol: uint16(all), Ifindex: i.Index}))
	})
	if err != nil {
		t.Fatalf("%s: %v", device, err)
	}
	t.Cleanup(func() { unix.Close(s.fd) })
	return s
}

// protected are the frames with AH or ESP since the last call, by source.
func (s *tap) protected() map[netip.Addr][][]byte {
	s.t.Helper()
	out := map[netip.Addr][][]byte{}
	for {
		b := make([]byte, 2000)
		n, err := unix.Read(s.fd, b)
		if errors.Is(err, unix.EAGAIN) {
			return out
		}
		if err != nil {
			s.t.Fatal(err)
		}
		if b = b[:n]; n > 14+wire.IPv6HeaderLen+12 && (b[20] == wire.ESP || b[20] == wire.AH) {
			src := netip.AddrFrom16([16]byte(b[22:38]))
			out[src] = append(out[src], b)
		}
	}
}

func (s *tap) send(frames ...[]byte) {
	s.t.Helper()
	for _, f := range frames {
		if _, err := unix.Write(s.fd, f); err != nil {
			s.t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
}

// seqAt is where a frame with AH or ESP has its sequence number.
func seqAt(frame []byte) int {
	if frame[20] == wire.AH {
		return 14 + wire.IPv6HeaderLen + 8
	}
	return 14 + wire.IPv6HeaderLen + 4
}
