package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/gopacket/gopacket/pcapgo"
	"go.uber.org/zap"

	"leveret/appliance/clock"
	"leveret/appliance/control/api"
	"leveret/appliance/module"
	"leveret/appliance/observe"
)

func TestEventsStream(t *testing.T) {
	wall := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	bus := observe.NewBus(func() time.Time { return wall })
	s := NewServer(zap.NewNop())
	ServeEvents(s, bus)
	c := start(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r, err := c.Stream(ctx, "/v1/events", api.EventFilter{Topics: "link,addr"}, nil) // returns once subscribed
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	bus.Publish("neigh", body{1})
	bus.Publish("link", body{2})
	stop := errors.New("seen")
	err = Lines(ctx, r, func(ev api.Event) error {
		if ev.Topic != "link" || string(ev.Event) != `{"n":2}` || !ev.Time.Equal(wall) {
			t.Errorf("got %+v", ev)
		}
		return stop
	})
	if !errors.Is(err, stop) {
		t.Error(err)
	}
	var status *StatusError
	if _, err := c.Stream(ctx, "/v1/events", api.CaptureFilter{Link: "lan0"}, nil); !errors.As(err, &status) || status.Status != 400 {
		t.Errorf("err = %v", err)
	}
}

func TestOverrunIsAnEventOfItsOwn(t *testing.T) {
	line, err := eventLine(observe.Event{Lost: 7})
	var ev api.Event
	if err != nil || json.Unmarshal(line, &ev) != nil || ev.Topic != api.TopicOverrun || string(ev.Event) != `{"overrun":7}` {
		t.Errorf("%s %v", line, err)
	}
}

func TestCaptureStream(t *testing.T) {
	links := module.NewLinks([]*module.Link{{Index: 1, Name: "lan0", Ethernet: true}})
	var taps observe.Taps
	s := NewServer(zap.NewNop())
	clk := clock.NewManual()
	ServeCapture(s, &taps, observe.WriteOptions{Clock: clk, Links: func() *module.Links { return links }})
	c := start(t, s)
	for _, f := range []struct {
		api.CaptureFilter
		want string
	}{
		{api.CaptureFilter{Link: "nope"}, `Cannot find device "nope"`},
		{api.CaptureFilter{Link: "lan0", Point: "middle"}, `point "middle": want ingress, egress or drop`},
		{api.CaptureFilter{Link: "lan0", Snaplen: "x"}, `snaplen "x" is not a number`},
		{api.CaptureFilter{Link: "lan0", Snaplen: "1"}, `snaplen 1 is outside 64..65589`},
	} {
		if _, err := c.Stream(t.Context(), "/v1/capture", f.CaptureFilter, nil); err == nil || err.Error() != f.want {
			t.Errorf("%+v: %v", f.CaptureFilter, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r, err := c.Stream(ctx, "/v1/capture", api.CaptureFilter{Link: "any", Point: "ingress"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	frame := bytes.Repeat([]byte{1}, 60)
	taps.Offer(&observe.Frame{Point: observe.Ingress, Link: 1, Ethernet: true, Data: frame, At: clk.Now()})
	ng, err := pcapgo.NewNgReader(io.Reader(r), pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	data, _, err := ng.ReadPacketData() // live: the stream has not ended
	if err != nil || !bytes.Equal(data, frame) {
		t.Errorf("%x %v", data, err)
	}
}
