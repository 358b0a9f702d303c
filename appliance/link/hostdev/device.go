package hostdev

import (
	"errors"
	"fmt"
	"net"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Device is a host device as it was when asked.
type Device struct {
	Name  string
	Index int
	MAC   [6]byte
	MTU   int
	Flags uint32 // IFF_*
}

// Carrier reports whether the device is up and something is at its other end.
func (d Device) Carrier() bool {
	return d.Flags&unix.IFF_UP != 0 && d.Flags&unix.IFF_RUNNING != 0
}

// Lookup finds a device of the calling thread's network namespace.
func Lookup(name string) (Device, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		var oe *net.OpError
		if errors.As(err, &oe) {
			err = oe.Err
		}
		return Device{}, fmt.Errorf("no device %s: %w", name, err)
	}
	d := Device{Name: i.Name, Index: i.Index, MTU: i.MTU}
	copy(d.MAC[:], i.HardwareAddr)
	d.Flags, err = flags(name)
	return d, err
}

// ifreq is struct ifreq with a union that is read as an integer.
type ifreq struct {
	name [unix.IFNAMSIZ]byte
	data [24]byte
}

func ioctl(op uintptr, name string, set func(*ifreq)) (*ifreq, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var r ifreq
	copy(r.name[:unix.IFNAMSIZ-1], name)
	if set != nil {
		set(&r)
	}
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), op, uintptr(unsafe.Pointer(&r))); e != 0 {
		return nil, e
	}
	return &r, nil
}

func flags(name string) (uint32, error) {
	r, err := ioctl(unix.SIOCGIFFLAGS, name, nil)
	if err != nil {
		return 0, fmt.Errorf("flags of %s: %w", name, err)
	}
	return uint32(*(*uint16)(unsafe.Pointer(&r.data))), nil
}

// SetUp takes a device of the calling thread's namespace up or down.
func SetUp(name string, up bool) error {
	f, err := flags(name)
	if err != nil {
		return err
	}
	want := uint16(f) &^ unix.IFF_UP
	if up {
		want |= unix.IFF_UP
	}
	if _, err = ioctl(unix.SIOCSIFFLAGS, name, func(r *ifreq) { *(*uint16)(unsafe.Pointer(&r.data)) = want }); err != nil {
		return fmt.Errorf("taking %s up or down: %w", name, err)
	}
	return nil
}

// SetMTU changes the MTU of a device of the calling thread's namespace.
func SetMTU(name string, mtu int) error {
	if _, err := ioctl(unix.SIOCSIFMTU, name, func(r *ifreq) { *(*int32)(unsafe.Pointer(&r.data)) = int32(mtu) }); err != nil {
		return fmt.Errorf("MTU %d on %s: %w", mtu, name, err)
	}
	return nil
}
