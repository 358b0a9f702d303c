package xfrm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"

	crand "crypto/rand"

	"go.uber.org/zap"

	"leveret/appliance/clock"
)

const (
	ivFile = "ipsec_iv" // in state_dir: the first number that no run has had
	// ivBlock is how many numbers are taken from the file at once.
	ivBlock = 1024
	// ivEnd is the first number that does not fit.
	ivEnd = 1 << 32
)

// ivs hands out the numbers that are the high halves of IVs, each once: an SA takes one, and another when it has
// sent 2^32 packets, so that no IV comes again with the same key, whatever restarts, reloads and goroutines there are
// (docs/adr/0005).
type ivs struct {
	next  atomic.Uint64 // the first that is free
	limit atomic.Uint64 // the first that is not reserved
}

// take returns a number; false: there is none now. Any goroutine.
func (v *ivs) take() (uint32, bool) {
	for {
		n := v.next.Load()
		if n >= v.limit.Load() {
			return 0, false
		}
		if v.next.CompareAndSwap(n, n+1) {
			return uint32(n), true
		}
	}
}

// low reports whether the numbers that are reserved run out.
func (v *ivs) low() bool { return v.next.Load()+ivBlock/2 > v.limit.Load() }

// openIVs begins with numbers that no run before has had: those behind the file's, or what the clock says if that is
// more. Where nothing can be kept, at a random place: that the same SA begins there again is as likely as one number
// out of 2^32. In a lab run, which is to be the same each time, IVs are too.
func (m *Module) openIVs() {
	if m.keep.opened {
		return
	}
	m.keep.opened = true
	if m.keep.lab {
		m.ivs.next.Store(uint64(m.host.Rand().Uint32N(1 << 31)))
		m.ivs.limit.Store(ivEnd)
		return
	}
	first, err := m.readIVs()
	if err == nil {
		first = max(first, uint64(max(m.host.Clock().Wall().Unix(), 1)))
		err = m.writeIVs(min(first+ivBlock, ivEnd))
	}
	if err != nil {
		m.host.Log().Warn("the numbers that IVs begin with cannot be kept: they begin at a random one", zap.Error(err))
		var b [4]byte
		crand.Read(b[:]) //nolint:errcheck // never fails
		m.keep.dir = ""
		m.ivs.next.Store(uint64(binary.BigEndian.Uint32(b[:])) / 2)
		m.ivs.limit.Store(ivEnd)
		return
	}
	m.ivs.next.Store(first)
	m.ivs.limit.Store(min(first+ivBlock, ivEnd))
}

// reserve takes more numbers from the file before they run out.
func (m *Module) reserve(clock.Instant) {
	limit := m.ivs.limit.Load()
	if !m.keep.opened || !m.ivs.low() || limit >= ivEnd {
		return
	}
	more := min(limit+ivBlock, ivEnd)
	if err := m.writeIVs(more); err != nil {
		m.host.Log().Warn("the numbers that IVs begin with cannot be kept: SAs that need one cannot send", zap.Error(err))
		return
	}
	m.ivs.limit.Store(more)
}

func (m *Module) ivName() string { return filepath.Join(m.keep.dir, ivFile) }

func (m *Module) readIVs() (uint64, error) {
	if m.keep.dir == "" {
		return 0, errors.New("system.state_dir is not set")
	}
	b, err := os.ReadFile(m.ivName())
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(string(bytes.TrimSpace(b)), 10, 64)
	if err == nil && n >= ivEnd {
		err = fmt.Errorf("%s: %d is beyond %d", m.ivName(), n, uint32(math.MaxUint32))
	}
	return n, err
}

// writeIVs is on the disk before a number below limit is used.
func (m *Module) writeIVs(limit uint64) error {
	if err := os.MkdirAll(m.keep.dir, 0o750); err != nil {
		return err
	}
	f, err := os.CreateTemp(m.keep.dir, ivFile+".*")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%d\n", limit)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), m.ivName())
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	d, err := os.Open(m.keep.dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
