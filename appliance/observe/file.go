package observe

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// MinFileBytes is the least that [File] can be bounded to.
const MinFileBytes = 256 << 10

// maxBlock is more than one packet with its options and what the pcapng writer buffers.
const maxBlock = MaxSnaplen + 8<<10

// File writes what tap takes to the file at path until ctx ends. The capture never takes more
// than maxBytes of disk (0 = no bound): when half of that is used the file becomes path.1, in
// the place of an older one, and a new file begins. Both are whole pcapng files at any time but
// for a block that is being written. A file that is there already is replaced.
func File(ctx context.Context, tap *Tap, o WriteOptions, path string, maxBytes int64) error {
	if maxBytes != 0 && maxBytes < MinFileBytes {
		return fmt.Errorf("capture file %s: max_bytes %d is below %d", path, maxBytes, MinFileBytes)
	}
	r := &rotating{tap: tap, o: o, path: path, half: maxBytes / 2}
	err := r.open()
	if err == nil {
		err = drain(ctx, tap, r.write, func() error { return r.sec.flush() }, func() error { return r.sec.end() })
	}
	if r.file != nil {
		err = errors.Join(err, r.file.Close())
	}
	if err != nil {
		return fmt.Errorf("capture file: %w", err)
	}
	return nil
}

type rotating struct {
	tap  *Tap
	o    WriteOptions
	path string
	half int64 // octets of one file; 0 = no bound
	file *os.File
	sec  *section
}

func (r *rotating) open() error {
	f, err := os.OpenFile(r.path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	r.file = f
	r.sec, err = newSection(r.tap, r.o, f)
	return err
}

func (r *rotating) write(s *slot) error {
	if r.half > 0 && r.sec.out.n+maxBlock > r.half {
		if err := r.rotate(); err != nil {
			return err
		}
	}
	return r.sec.write(s)
}

func (r *rotating) rotate() error {
	if err := r.sec.end(); err != nil {
		return err
	}
	err := r.file.Close()
	r.file = nil
	if err != nil {
		return err
	}
	if err := os.Rename(r.path, r.path+".1"); err != nil {
		return err
	}
	return r.open()
}
