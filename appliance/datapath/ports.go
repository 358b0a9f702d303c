package datapath

import (
	"fmt"
	"slices"

	"leveret/appliance/link"
)

// Start begins to run: the host worker now, receive workers as ports are attached. It returns a
// function that stops the host worker and waits for all threads; the ports must be closed before.
func (p *Path) Start() (stop func()) {
	if p.manual {
		return func() {}
	}
	done := make(chan struct{})
	p.threads.Add(1)
	go p.host0.runHost(done)
	return func() {
		close(done)
		p.threads.Wait()
	}
}

// Attach puts a port into the path as the link of that index and starts its workers.
func (p *Path) Attach(index int, lp link.Port) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pt := &port{link: index, port: lp, caps: lp.Caps()}
	p.setPort(index, pt)
	for i := range max(pt.caps.Queues, 1) {
		w := p.newWorker(fmt.Sprintf("link %d queue %d", index, i), pt, lp.Rx(i))
		if !p.manual {
			p.threads.Add(1)
			go w.run()
		}
	}
}

// Detach takes a link's port out of the path and waits until no worker uses it; only then may the
// port be closed.
func (p *Path) Detach(index int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.setPort(index, nil)
	for _, w := range p.workers {
		if w.link == index && w.q != nil {
			w.ended.Store(true)
			w.q.Wake()
		}
		w.mu.Lock() // past this point the worker loads the new set before it sends
		if w.ended.Load() {
			p.retired.addTo(&w.count)
		}
		w.mu.Unlock()
	}
	p.workers = slices.DeleteFunc(p.workers, func(w *Worker) bool { return w.ended.Load() })
}

func (p *Path) setPort(index int, pt *port) {
	old := p.ports.Load()
	byIndex := slices.Clone(old.byIndex)
	for len(byIndex) <= index {
		byIndex = append(byIndex, nil)
	}
	byIndex[index] = pt
	p.ports.Store(&portSet{byIndex})
}

// Step does all the work there is right now, on the caller's goroutine, and reports whether there
// was any. For a path made with Manual.
func (p *Path) Step() bool {
	p.mu.Lock()
	workers := slices.Clone(p.workers)
	p.mu.Unlock()
	worked := false
	for _, w := range workers {
		if w.q == nil {
			worked = w.sendQueued() > 0 || worked
			continue
		}
		if n, _ := w.once(); n > 0 {
			worked = true
		}
	}
	return worked
}
