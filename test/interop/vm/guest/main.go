// Command guest is all the user space that the test VM starts: process 1, which mounts, loads the kernel's
// modules and collects orphans; the agent, which runs the harness's commands; `sweep`, a ping of many
// sizes; and `espinudp`, the socket that ESP in UDP comes to.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"leveret/test/interop/vm/channel"
)

func main() {
	name := filepath.Base(os.Args[0])
	if command := map[string]func([]string) error{"sweep": sweep, "espinudp": espinudp}[name]; command != nil {
		if err := command(os.Args[1:]); err != nil {
			fmt.Println(name+":", err)
			os.Exit(1)
		}
		return
	}
	run := agent
	if os.Getpid() == 1 {
		run = initialize
	}
	err := run()
	fmt.Println("guest:", err)
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// initialize is process 1. It returns when the guest is of no use any more.
func initialize() error {
	os.Setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
	os.Setenv("HOME", "/")
	for _, m := range [][2]string{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}, {"tmpfs", "/run"}} {
		if err := unix.Mount(m[0], m[1], m[0], 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m[1], err)
		}
	}
	for _, s := range [][2]string{
		{"net/core/fb_tunnels_only_for_init_net", "2"},                                 // no ip6tnl0, sit0 ... unasked
		{"net/ipv6/conf/all/accept_ra", "0"}, {"net/ipv6/conf/default/accept_ra", "0"}, // a test says what the guest has
		{"kernel/panic", "-1"}, {"kernel/panic_on_oops", "1"},
	} {
		if err := os.WriteFile("/proc/sys/"+s[0], []byte(s[1]), 0); err != nil {
			return err
		}
	}
	list, err := os.ReadFile("/modules.load")
	if err != nil {
		return err
	}
	for _, m := range strings.Fields(string(list)) {
		if err := load(m); err != nil {
			fmt.Printf("guest: %s: %v\n", m, err) // TestModules says which are missed
		}
	}
	if _, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("ip link set lo up: %w", err)
	}
	a := exec.Command("/init")
	a.Stdout, a.Stderr = os.Stdout, os.Stderr
	if err := a.Start(); err != nil {
		return err
	}
	for {
		pid, err := unix.Wait4(-1, nil, 0, nil)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if pid == a.Process.Pid {
			return errors.New("the agent has ended")
		}
	}
}

func load(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), "", 0)
}

// port is the virtio-serial port by plain system calls: the driver gives an end of file while the host is
// not there.
type port int

func (p port) Read(b []byte) (int, error) {
	n, err := unix.Read(int(p), b)
	if err == nil && n == 0 {
		return 0, errors.New("the host has left")
	}
	return max(n, 0), err
}

func (p port) Write(b []byte) (n int, err error) {
	for n < len(b) { // the driver takes 32 KiB at a time
		k, err := unix.Write(int(p), b[n:])
		if err != nil {
			return n, err
		}
		n += k
	}
	return n, nil
}

func open() (port, error) {
	for range 500 {
		names, _ := filepath.Glob("/sys/class/virtio-ports/*/name")
		for _, n := range names {
			if b, err := os.ReadFile(n); err == nil && strings.TrimSpace(string(b)) == channel.Port {
				fd, err := unix.Open("/dev/"+filepath.Base(filepath.Dir(n)), unix.O_RDWR|unix.O_CLOEXEC, 0)
				return port(fd), err
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	return 0, errors.New("no virtio-serial port")
}

func agent() error {
	p, err := open()
	if err != nil {
		return err
	}
	var mu sync.Mutex
	reply := func(r channel.Reply) {
		b, _ := json.Marshal(r) // numbers, strings and bytes always marshal
		mu.Lock()
		defer mu.Unlock()
		if _, err := p.Write(append(b, '\n')); err != nil {
			fmt.Println("guest: reply:", err)
		}
	}
	up, _ := os.ReadFile("/proc/uptime")
	alone := time.AfterFunc(time.Minute, func() { _ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF) })
	reply(channel.Reply{Output: up}) // blocks until the host is there
	alone.Stop()
	for lines := bufio.NewReader(p); ; {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return err
		}
		var r channel.Request
		if err := json.Unmarshal(line, &r); err != nil {
			return fmt.Errorf("request: %w", err)
		}
		go func() { reply(execute(r)) }()
	}
}

// execute runs one command. Its output goes to a file and not into a pipe, which what it leaves in the
// background would keep open.
func execute(r channel.Request) channel.Reply {
	out := channel.Reply{ID: r.ID}
	name := fmt.Sprintf("/run/out.%d", r.ID)
	f, err := os.Create(name)
	if err != nil {
		out.Fault = err.Error()
		return out
	}
	defer os.Remove(name)
	defer f.Close()
	c := exec.Command("/bin/sh", "-c", r.Command)
	c.Stdout, c.Stderr = f, f
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(); err != nil {
		out.Fault = err.Error()
		return out
	}
	done := make(chan struct{})
	go func() { _ = c.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(time.Duration(r.Milliseconds) * time.Millisecond):
		out.TimedOut = true
		_ = unix.Kill(-c.Process.Pid, unix.SIGKILL)
		<-done
	}
	out.Code = c.ProcessState.ExitCode()
	if w, ok := c.ProcessState.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		out.Code = 128 + int(w.Signal())
	}
	if out.Output, err = os.ReadFile(name); err != nil {
		out.Fault = err.Error()
	}
	return out
}
