package observe

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// The bounds of the bus.
const (
	MaxSubscribers = 64
	eventsHeld     = 1024 // for each subscriber
)

// packetTopic has an event for each message on the wire: who wants it has to name it.
const packetTopic = "ndp"

// ErrTooManySubscribers is returned by [Bus.Subscribe].
var ErrTooManySubscribers = errors.New("too many subscribers")

// Event is one piece of news. Data renders as one JSON object and must not change any more.
type Event struct {
	Topic string
	Time  time.Time
	Data  any
	// Lost is not zero for the event that stands where that many were lost because the
	// subscriber was slow; it has nothing else.
	Lost uint64
}

// Bus carries events from the modules to those who watch. Publishing never waits: a subscriber
// that is too slow loses its oldest events and is told how many.
type Bus struct {
	wall func() time.Time
	subs atomic.Pointer[[]*Subscription] // copied on change

	mu sync.Mutex // serializes changes of subs
}

// NewBus returns a bus that stamps events with wall.
func NewBus(wall func() time.Time) *Bus {
	b := &Bus{wall: wall}
	b.subs.Store(&[]*Subscription{})
	return b
}

// Publish tells the subscribers of topic about v. It never waits and costs nothing when nobody
// is watching. Any goroutine.
func (b *Bus) Publish(topic string, v any) {
	subs := *b.subs.Load()
	if len(subs) == 0 {
		return
	}
	ev := Event{Topic: topic, Time: b.wall(), Data: v}
	for _, s := range subs {
		if s.takes(topic) {
			s.put(ev)
		}
	}
}

// Watched reports whether anybody subscribes to topic. Any goroutine.
func (b *Bus) Watched(topic string) bool {
	return slices.ContainsFunc(*b.subs.Load(), func(s *Subscription) bool { return s.takes(topic) })
}

func (s *Subscription) takes(topic string) bool {
	if len(s.topics) == 0 {
		return topic != packetTopic
	}
	return slices.Contains(s.topics, topic)
}

// Subscription is one subscriber's ring of events.
type Subscription struct {
	bus    *Bus
	topics []string
	ready  chan struct{} // one element when there may be something to read

	mu     sync.Mutex
	events [eventsHeld]Event
	head   int // the oldest
	n      int
	lost   uint64 // before the oldest
}

// Subscribe returns a subscription of those topics; if there are none, of all but "ndp", which has one
// event a packet. Close it.
func (b *Bus) Subscribe(topics ...string) (*Subscription, error) {
	s := &Subscription{bus: b, topics: topics, ready: make(chan struct{}, 1)}
	b.mu.Lock()
	defer b.mu.Unlock()
	subs := *b.subs.Load()
	if len(subs) >= MaxSubscribers {
		return nil, ErrTooManySubscribers
	}
	next := append(slices.Clip(subs), s)
	b.subs.Store(&next)
	return s, nil
}

// Close ends the subscription.
func (s *Subscription) Close() {
	s.bus.mu.Lock()
	defer s.bus.mu.Unlock()
	next := slices.DeleteFunc(slices.Clone(*s.bus.subs.Load()), func(o *Subscription) bool { return o == s })
	s.bus.subs.Store(&next)
}

func (s *Subscription) put(ev Event) {
	s.mu.Lock()
	if s.n == eventsHeld {
		s.head = (s.head + 1) % eventsHeld
		s.n--
		s.lost++
	}
	s.events[(s.head+s.n)%eventsHeld] = ev
	s.n++
	s.mu.Unlock()
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// Next returns the next event, waiting for it until ctx ends. One goroutine may call it at a
// time.
func (s *Subscription) Next(ctx context.Context) (Event, error) {
	for {
		if ev, ok := s.take(); ok {
			return ev, nil
		}
		select {
		case <-s.ready:
		case <-ctx.Done():
			return Event{}, ctx.Err()
		}
	}
}

func (s *Subscription) take() (Event, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.lost; n > 0 {
		s.lost = 0
		return Event{Lost: n, Time: s.bus.wall()}, true
	}
	if s.n == 0 {
		return Event{}, false
	}
	ev := s.events[s.head]
	s.events[s.head] = Event{} // let go of its data
	s.head = (s.head + 1) % eventsHeld
	s.n--
	return ev, true
}
