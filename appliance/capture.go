package appliance

import (
	"context"
	"io"
	"strconv"
	"sync"

	"go.uber.org/zap"

	"leveret/appliance/clock"
	"leveret/appliance/config"
	"leveret/appliance/control"
	"leveret/appliance/datapath"
	"leveret/appliance/module"
	"leveret/appliance/observe"
	"leveret/appliance/packet"
)

// tapped shows the path's packets to the captures.
type tapped struct {
	taps  *observe.Taps
	clock clock.Clock
}

// Offer implements [datapath.Tap].
func (t *tapped) Offer(at datapath.Point, link int, ethernet bool, frame []byte, r packet.Reason) {
	f := observe.Frame{
		Point: observe.Point(at), Link: link, Ethernet: ethernet, Outbound: at == datapath.Egress || link == 0,
		Data: frame, At: t.clock.Now(),
	}
	if at == datapath.DropPoint {
		f.Reason, f.Ref = r.String(), r.Ref()
	}
	t.taps.Offer(&f)
}

// Capture opens a tap on the path; close what it returns. Any goroutine.
func (a *Appliance) Capture(o observe.TapOptions) (*observe.Tap, func(), error) {
	tap, err := a.taps.Add(o)
	if err != nil {
		return nil, nil, err
	}
	a.path.SetTap(&tapped{a.taps, a.clock})
	return tap, func() {
		tap.Close()
		if !a.taps.Active() {
			a.path.SetTap(nil)
		}
	}, nil
}

func (a *Appliance) writeOptions() observe.WriteOptions {
	return observe.WriteOptions{Clock: a.clock, Links: a.linkSnap.Load}
}

// captureStream answers `leveret capture`.
func (a *Appliance) captureStream(ctx context.Context, req module.Request, w io.Writer) error {
	if err := req.Selectors("link", "point", "snaplen"); err != nil {
		return err
	}
	o := observe.TapOptions{}
	if name := req.Query["link"]; name != "" && name != "any" {
		l := a.linkSnap.Load().Name(name)
		if l == nil {
			return noDevice(name)
		}
		o.Link = l.Index
	}
	var err error
	if o.Points, err = observe.ParsePoints(req.Query["point"]); err != nil {
		return control.BadRequest("%v", err)
	}
	if s := req.Query["snaplen"]; s != "" {
		if o.Snaplen, err = strconv.Atoi(s); err != nil {
			return control.BadRequest("snaplen %q is not a number", s)
		}
	}
	tap, done, err := a.Capture(o)
	if err != nil {
		return module.Refuse(err.Error())
	}
	defer done()
	return observe.Stream(ctx, tap, a.writeOptions(), w)
}

// fileCapture is one capture of the configuration.
type fileCapture struct {
	cfg  config.Capture
	stop func()
}

// setCaptures makes the running captures those of the configuration. applyMu is held.
func (a *Appliance) setCaptures(want []config.Capture) {
	var keep []*fileCapture
	for _, c := range a.captures {
		if i := indexOf(want, c.cfg); i >= 0 {
			keep = append(keep, c)
			continue
		}
		c.stop()
	}
	for _, w := range want {
		running := false
		for _, k := range keep {
			running = running || k.cfg == w
		}
		if !running {
			if c := a.startCapture(w); c != nil {
				keep = append(keep, c)
			}
		}
	}
	a.captures = keep
}

func indexOf(list []config.Capture, c config.Capture) int {
	for i, x := range list {
		if x == c {
			return i
		}
	}
	return -1
}

func (a *Appliance) startCapture(c config.Capture) *fileCapture {
	o := observe.TapOptions{}
	if l := a.linkSnap.Load().Name(c.Link); l != nil {
		o.Link = l.Index
	}
	if c.Filter == "dropped" {
		o.Points = []observe.Point{observe.Dropped}
	}
	tap, done, err := a.Capture(o)
	if err != nil {
		a.log.Error("capture not started", zap.String("capture", c.Name), zap.Error(err))
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		defer done()
		if err := observe.File(ctx, tap, a.writeOptions(), c.File, int64(c.MaxBytes)); err != nil {
			a.log.Error("capture ended", zap.String("capture", c.Name), zap.Error(err))
		}
	}()
	return &fileCapture{cfg: c, stop: func() { cancel(); wg.Wait() }}
}

// stopCaptures ends every configured capture. applyMu is held.
func (a *Appliance) stopCaptures() { a.setCaptures(nil) }
