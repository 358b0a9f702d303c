package vm

import (
	"bufio"
	"fmt"
	"io"
	"path"
	"strings"
)

// cpio writes the archive that the kernel unpacks into its root ("newc", Documentation/driver-api/early-userspace).
type cpio struct {
	w    *bufio.Writer
	at   int
	ino  int
	seen map[string]bool
	err  error
}

const (
	modeDir  = 0o040755
	modeFile = 0o100755
	modeLink = 0o120777
	modeChar = 0o020600
)

func newCpio(w io.Writer) *cpio {
	return &cpio{w: bufio.NewWriterSize(w, 1<<20), seen: map[string]bool{}}
}

func (c *cpio) write(b string) {
	if c.err == nil {
		_, c.err = c.w.WriteString(b)
		c.at += len(b)
	}
}

func (c *cpio) pad() { c.write("\x00\x00\x00"[:-c.at&3]) }

func (c *cpio) entry(name string, mode, major, minor int, data string) {
	c.ino++
	c.write(fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		c.ino, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name)+1, 0))
	c.write(name + "\x00")
	c.pad()
	c.write(data)
	c.pad()
}

// clean is the name in the archive; as in Debian all programs and libraries are below usr.
func clean(name string) string {
	name = strings.TrimPrefix(path.Clean(name), "/")
	if first, _, _ := strings.Cut(name, "/"); first != name && (first == "bin" || first == "sbin" || first == "lib" || first == "lib64") {
		return "usr/" + name
	}
	return name
}

// add makes an entry and the directories above it, once.
func (c *cpio) add(name string, mode int, data string) {
	name = clean(name)
	if c.seen[name] {
		return
	}
	c.dirs(name)
	c.seen[name] = true
	c.entry(name, mode, 0, 0, data)
}

func (c *cpio) dirs(name string) {
	if d := path.Dir(name); d != "." {
		c.add(d, modeDir, "")
	}
}

func (c *cpio) device(name string, major, minor int) {
	c.dirs(clean(name))
	c.entry(clean(name), modeChar, major, minor, "")
}

func (c *cpio) close() error {
	c.entry("TRAILER!!!", 0, 0, 0, "")
	if c.err != nil {
		return c.err
	}
	return c.w.Flush()
}
