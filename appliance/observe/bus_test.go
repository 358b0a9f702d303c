package observe

import (
	"context"
	"errors"
	"testing"
	"time"
)

func fixedWall() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

func mustNext(t *testing.T, s *Subscription) Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ev, err := s.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return ev
}

func TestBusDeliversTheTopicsAskedFor(t *testing.T) {
	b := NewBus(fixedWall)
	b.Publish("neigh", 0) // nobody is watching
	all, err := b.Subscribe()
	if err != nil {
		t.Fatal(err)
	}
	some, err := b.Subscribe("route", "addr")
	if err != nil {
		t.Fatal(err)
	}
	b.Publish("neigh", 1)
	b.Publish("route", 2)
	for want := 1; want <= 2; want++ {
		if ev := mustNext(t, all); ev.Data != want || ev.Lost != 0 || !ev.Time.Equal(fixedWall()) {
			t.Errorf("got %+v, want data %d", ev, want)
		}
	}
	if ev := mustNext(t, some); ev.Topic != "route" || ev.Data != 2 {
		t.Errorf("got %+v", ev)
	}
	some.Close()
	b.Publish("route", 3)
	if ev, ok := some.take(); ok {
		t.Errorf("a closed subscription got %+v", ev)
	}
	if ev := mustNext(t, all); ev.Data != 3 {
		t.Errorf("got %+v", ev)
	}
}

func TestSlowSubscriberLosesTheOldestAndIsTold(t *testing.T) {
	b := NewBus(fixedWall)
	s, err := b.Subscribe()
	if err != nil {
		t.Fatal(err)
	}
	for i := range eventsHeld + 5 {
		b.Publish("x", i)
	}
	if ev := mustNext(t, s); ev.Lost != 5 || ev.Data != nil {
		t.Errorf("first: %+v, want 5 lost", ev)
	}
	for want := 5; want < eventsHeld+5; want++ {
		if ev := mustNext(t, s); ev.Data != want || ev.Lost != 0 {
			t.Fatalf("got %+v, want data %d", ev, want)
		}
	}
	if ev, ok := s.take(); ok {
		t.Errorf("one too many: %+v", ev)
	}
}

func TestNextEndsWithItsContext(t *testing.T) {
	b := NewBus(fixedWall)
	s, err := b.Subscribe()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
}

func TestSubscribersAreBounded(t *testing.T) {
	b := NewBus(fixedWall)
	var last *Subscription
	for range MaxSubscribers {
		s, err := b.Subscribe()
		if err != nil {
			t.Fatal(err)
		}
		last = s
	}
	if _, err := b.Subscribe(); !errors.Is(err, ErrTooManySubscribers) {
		t.Errorf("err = %v", err)
	}
	last.Close()
	if _, err := b.Subscribe(); err != nil {
		t.Errorf("after one left: %v", err)
	}
}
