package hostdev

import (
	"errors"
	"fmt"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"leveret/appliance/link"
)

// Watch follows one device by rtnetlink.
type Watch struct {
	fd    int
	stop  int // eventfd
	index int
	name  string

	mu      sync.Mutex
	state   link.State
	changed func(link.State)
	done    chan struct{}
}

// NewWatch begins to follow a device of the calling thread's network namespace.
func NewWatch(d Device) (*Watch, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("rtnetlink: %w", err)
	}
	w := &Watch{fd: fd, index: d.Index, name: d.Name, done: make(chan struct{}), state: link.State{Carrier: d.Carrier(), MTU: d.MTU}}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("rtnetlink: %w", err)
	}
	if w.stop, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	// What happened between the look at the device and the subscription is asked for here.
	if err := w.ask(); err != nil {
		unix.Close(fd)
		unix.Close(w.stop)
		return nil, err
	}
	go w.run()
	return w, nil
}

// State returns the device's state as last heard.
func (w *Watch) State() link.State {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state
}

// Name returns the device's present name.
func (w *Watch) Name() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.name
}

// OnChange sets who is told of changes, from the watch's goroutine.
func (w *Watch) OnChange(f func(link.State)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.changed = f
}

// Close ends the watch and waits for its goroutine.
func (w *Watch) Close() {
	one := [8]byte{1}
	_, _ = unix.Write(w.stop, one[:]) // cannot fail: the counter is far from full
	<-w.done
	unix.Close(w.fd)
	unix.Close(w.stop)
}

// ask requests the device's present state.
func (w *Watch) ask() error {
	type request struct {
		hdr unix.NlMsghdr
		msg unix.IfInfomsg
	}
	r := request{
		hdr: unix.NlMsghdr{Len: uint32(unsafe.Sizeof(request{})), Type: unix.RTM_GETLINK, Flags: unix.NLM_F_REQUEST},
		msg: unix.IfInfomsg{Index: int32(w.index)},
	}
	b := unsafe.Slice((*byte)(unsafe.Pointer(&r)), unsafe.Sizeof(r))
	if err := unix.Sendto(w.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("rtnetlink: %w", err)
	}
	return nil
}

func (w *Watch) run() {
	defer close(w.done)
	buf := make([]byte, 64<<10)
	fds := []unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}, {Fd: int32(w.stop), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		if fds[1].Revents != 0 {
			return
		}
		n, _, err := unix.Recvfrom(w.fd, buf, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.ENOBUFS): // messages were lost: ask for what is true now
			if w.ask() != nil {
				return
			}
		case err == nil:
			w.read(buf[:n])
		}
	}
}

// read takes in one datagram of messages.
func (w *Watch) read(b []byte) {
	msgs, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		return
	}
	for i := range msgs {
		m := &msgs[i]
		if len(m.Data) < unix.SizeofIfInfomsg {
			continue
		}
		info := (*unix.IfInfomsg)(unsafe.Pointer(&m.Data[0]))
		if int(info.Index) != w.index {
			continue
		}
		switch m.Header.Type {
		case unix.RTM_NEWLINK:
			w.mu.Lock()
			s, name := w.state, w.name
			w.mu.Unlock()
			s.Carrier = info.Flags&unix.IFF_UP != 0 && info.Flags&unix.IFF_RUNNING != 0
			attrs, err := syscall.ParseNetlinkRouteAttr(m)
			if err != nil {
				continue
			}
			for _, a := range attrs {
				switch {
				case a.Attr.Type == unix.IFLA_MTU && len(a.Value) >= 4:
					s.MTU = int(*(*uint32)(unsafe.Pointer(&a.Value[0])))
				case a.Attr.Type == unix.IFLA_IFNAME && len(a.Value) > 1:
					name = string(a.Value[:len(a.Value)-1])
				}
			}
			w.set(s, name)
		case unix.RTM_DELLINK: // deleted, or moved to another namespace
			s := w.State()
			s.Carrier = false
			w.set(s, w.Name())
		}
	}
}

func (w *Watch) set(s link.State, name string) {
	w.mu.Lock()
	same := w.state == s
	w.state, w.name = s, name
	f := w.changed
	w.mu.Unlock()
	if !same && f != nil {
		f(s)
	}
}
