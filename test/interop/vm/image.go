package vm

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// kernels are the roots below which a Debian cloud kernel may be: where scripts/deps.sh unpacks it, and
// where the package installs it.
var kernels = []string{"/var/cache/leveret/kernel", "/"}

// loaded are the modules the guest loads when it starts; what is built into the kernel is not among them.
// There is no modprobe, so all that a test may ask for by name (crypto algorithms, kinds of link) is here.
var loaded = strings.Fields(`
	virtio_pci virtio_console virtio_net
	sha3_generic jitterentropy_rng drbg seqiv echainiv ctr gcm ccm ecb crypto_null authenc authencesn cmac xcbc md5
	sha512_generic ghash_generic chacha_generic poly1305_generic chacha20poly1305 des_generic aesni_intel
	xfrm_user esp6 ah6 ipcomp6 xfrm6_tunnel ip6_tunnel sit ip6_gre ip6_vti tun dummy veth sch_netem
	udp_diag tcp_diag`)

// later are there to be loaded by a test, with insmod /modules/<name>.ko: while xfrm_interface is loaded the
// receiver drops ESP behind a Home Address option or a type 2 routing header (XfrmInNoPols in 6.1).
var later = []string{"xfrm_interface"}

// programs come from the machine, with their libraries. The shell is dash: busybox's runs its own ip and ping.
var programs = []string{"busybox", "dash", "ip", "tc", "ss", "bridge", "ping", "sysctl", "iperf3"}

// protocols are the names that ip takes in selectors.
const protocols = `ip 0
icmp 1
ipencap 4
tcp 6
udp 17
ipv6 41
ipv6-route 43
ipv6-frag 44
gre 47
esp 50
ah 51
ipv6-icmp 58 icmpv6
ipv6-nonxt 59
ipv6-opts 60
sctp 132
mobility-header 135 mh
`

// find looks for a program also where only root's PATH goes.
func find(program string) (string, error) {
	if p, err := exec.LookPath(program); err == nil {
		return p, nil
	}
	return exec.LookPath("/usr/sbin/" + program)
}

// kernel returns the newest cloud kernel and the folder of its modules.
func kernel() (image, modules string, err error) {
	for _, root := range kernels {
		images, _ := filepath.Glob(filepath.Join(root, "boot/vmlinuz-*-cloud-amd64"))
		slices.Sort(images)
		for _, image := range slices.Backward(images) {
			modules := filepath.Join(root, "lib/modules", strings.TrimPrefix(filepath.Base(image), "vmlinuz-"))
			if _, err := os.Stat(filepath.Join(modules, "kernel")); err == nil {
				return image, modules, nil
			}
		}
	}
	return "", "", errors.New("no Debian cloud kernel (linux-image-cloud-amd64)")
}

// missing says what the machine does not have for a VM.
func missing() error {
	if os.Geteuid() != 0 {
		return errors.New("needs root: a VM on TAP devices")
	}
	for _, p := range append([]string{"qemu-system-x86_64", "ldd"}, programs...) {
		if _, err := find(p); err != nil {
			return fmt.Errorf("%s is not installed: run `make deps` as root", p)
		}
	}
	if _, _, err := kernel(); err != nil {
		return fmt.Errorf("%w: run `make deps` as root", err)
	}
	return nil
}

// moduleSet finds the files of modules.
type moduleSet struct {
	files   map[string]string // by name, "-" as "_"
	builtin map[string]bool
}

func readModules(dir string) (*moduleSet, error) {
	s := &moduleSet{files: map[string]string{}, builtin: map[string]bool{}}
	name := func(file string) string {
		return strings.ReplaceAll(strings.TrimSuffix(filepath.Base(file), ".ko"), "-", "_")
	}
	b, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return nil, err
	}
	for _, f := range strings.Fields(string(b)) {
		s.builtin[name(f)] = true
	}
	return s, filepath.WalkDir(filepath.Join(dir, "kernel"), func(p string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(p, ".ko") {
			s.files[name(p)] = p
		}
		return err
	})
}

// order appends the module's files to list: what it needs first.
func (s *moduleSet) order(list []string, module string) ([]string, error) {
	file := s.files[module]
	switch {
	case s.builtin[module] || slices.Contains(list, file):
		return list, nil
	case file == "":
		return nil, fmt.Errorf("module %s: not built in, and no file of it", module)
	}
	f, err := elf.Open(file)
	if err != nil {
		return nil, fmt.Errorf("module %s: %w", module, err)
	}
	defer f.Close()
	section := f.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("module %s: no .modinfo", module)
	}
	info, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("module %s: %w", module, err)
	}
	for field := range bytes.SplitSeq(info, []byte{0}) {
		depends, ok := strings.CutPrefix(string(field), "depends=")
		if !ok || depends == "" {
			continue
		}
		for _, d := range strings.Split(depends, ",") {
			if list, err = s.order(list, strings.ReplaceAll(d, "-", "_")); err != nil {
				return nil, err
			}
		}
	}
	return append(list, file), nil
}

var library = regexp.MustCompile(`(/\S+) \(0x`)

// host adds a file of this machine, and the libraries a program needs.
func (c *cpio) host(file string) error {
	b, err := os.ReadFile(file) // links followed
	if err != nil {
		return err
	}
	c.add(file, modeFile, string(b))
	out, err := exec.Command("ldd", file).CombinedOutput()
	if err != nil { // static
		return nil
	}
	for _, m := range library.FindAllStringSubmatch(string(out), -1) {
		b, err := os.ReadFile(m[1])
		if err != nil {
			return err
		}
		c.add(m[1], modeFile, string(b))
	}
	return nil
}

// buildImage writes the guest's root file system to file.
func buildImage(file, modules string) error {
	guest := file + ".guest"
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", guest, "leveret/test/interop/vm/guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build of the guest's agent: %w\n%s", err, out)
	}
	defer os.Remove(guest)
	agent, err := os.ReadFile(guest)
	if err != nil {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	c := newCpio(f)
	for _, d := range []string{"dev", "proc", "sys", "run", "tmp", "usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "var"} {
		c.add(d, modeDir, "")
	}
	for _, d := range []string{"bin", "sbin", "lib", "lib64"} {
		c.add(d, modeLink, "usr/"+d)
	}
	c.add("var/run", modeLink, "/run")
	c.device("dev/console", 5, 1)
	c.device("dev/null", 1, 3)
	c.add("init", modeFile, string(agent))
	c.add("usr/bin/sweep", modeLink, "/init")
	c.add("usr/bin/espinudp", modeLink, "/init")
	c.add("etc/passwd", modeFile, "root:x:0:0::/:/bin/sh\n")
	c.add("etc/hosts", modeFile, "::1 localhost\n")
	c.add("etc/protocols", modeFile, protocols)
	for _, p := range programs {
		path, err := find(p)
		if err != nil {
			return err
		}
		if err := c.host(path); err != nil {
			return err
		}
	}
	c.add("usr/bin/sh", modeLink, "dash")
	if err := c.modules(modules); err != nil {
		return err
	}
	applets, err := exec.Command("busybox", "--list").Output()
	if err != nil {
		return err
	}
	for _, a := range strings.Fields(string(applets)) {
		if !c.seen["usr/bin/"+a] && !c.seen["usr/sbin/"+a] {
			c.add("usr/bin/"+a, modeLink, "busybox")
		}
	}
	if err := c.close(); err != nil {
		return err
	}
	return f.Close()
}

// modules adds the kernel's modules below /modules, and the order to load them in.
func (c *cpio) modules(dir string) error {
	set, err := readModules(dir)
	if err != nil {
		return err
	}
	var list []string
	var load strings.Builder
	for i, m := range append(slices.Clone(loaded), later...) {
		had := len(list)
		if list, err = set.order(list, m); err != nil {
			return err
		}
		for _, file := range list[had:] {
			b, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			name := "/modules/" + filepath.Base(file)
			c.add(name, modeFile, string(b))
			if i < len(loaded) {
				load.WriteString(name + "\n")
			}
		}
	}
	c.add("modules.load", modeFile, load.String())
	return nil
}
