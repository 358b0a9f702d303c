package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"leveret/appliance/control/api"
	"leveret/appliance/module"
	"leveret/appliance/observe"
)

// The types of the streams.
const (
	TypeJSONLines = "application/x-ndjson"
	TypePcapng    = "application/x-pcapng"
)

// ServeEvents adds GET /v1/events: the events of a bus as JSON lines.
func ServeEvents(s *Server, bus *observe.Bus) {
	s.Stream("GET", "/v1/events", TypeJSONLines, func(ctx context.Context, req module.Request, w io.Writer) error {
		var f api.EventFilter
		if err := Filter(req.Query, &f); err != nil {
			return err
		}
		var topics []string
		if f.Topics != "" {
			topics = strings.Split(f.Topics, ",")
		}
		sub, err := bus.Subscribe(topics...)
		if err != nil {
			return module.Refuse(err.Error())
		}
		defer sub.Close()
		if _, err := w.Write(nil); err != nil {
			return err
		}
		for {
			ev, err := sub.Next(ctx)
			if err != nil {
				return err
			}
			line, err := eventLine(ev)
			if err != nil {
				return err
			}
			if _, err := w.Write(line); err != nil {
				return err
			}
		}
	})
}

func eventLine(ev observe.Event) ([]byte, error) {
	out := api.Event{Topic: ev.Topic, Time: ev.Time}
	data := ev.Data
	if ev.Lost > 0 {
		out.Topic, data = api.TopicOverrun, api.Overrun{Overrun: ev.Lost}
	}
	var err error
	if out.Event, err = json.Marshal(data); err != nil {
		return nil, fmt.Errorf("event %s: %w", ev.Topic, err)
	}
	line, err := json.Marshal(out)
	return append(line, '\n'), err
}

// ServeCapture adds GET /v1/capture: what the taps see, as pcapng.
func ServeCapture(s *Server, taps *observe.Taps, o observe.WriteOptions) {
	s.Stream("GET", "/v1/capture", TypePcapng, func(ctx context.Context, req module.Request, w io.Writer) error {
		opts, err := captureOptions(req, o.Links())
		if err != nil {
			return err
		}
		tap, err := taps.Add(opts)
		if errors.Is(err, observe.ErrTooManyTaps) {
			return module.Refuse(err.Error())
		}
		if err != nil {
			return BadRequest("%v", err)
		}
		defer tap.Close()
		return observe.Stream(ctx, tap, o, w)
	})
}

func captureOptions(req module.Request, links *module.Links) (observe.TapOptions, error) {
	var f api.CaptureFilter
	var o observe.TapOptions
	if err := Filter(req.Query, &f); err != nil {
		return o, err
	}
	if f.Link != "any" {
		l := links.Name(f.Link)
		if l == nil {
			return o, module.Refuse(fmt.Sprintf("Cannot find device %q", f.Link))
		}
		o.Link = l.Index
	}
	var err error
	if o.Points, err = observe.ParsePoints(f.Point); err != nil {
		return o, BadRequest("%v", err)
	}
	if f.Snaplen != "" {
		if o.Snaplen, err = strconv.Atoi(f.Snaplen); err != nil {
			return o, BadRequest("snaplen %q is not a number", f.Snaplen)
		}
	}
	return o, nil
}
