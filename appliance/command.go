package appliance

import (
	"context"
	"encoding/json"
	"fmt"

	"leveret/appliance/clock"
	"leveret/appliance/module"
)

// Command runs one command of a module, as the control socket would: for programs that embed the
// appliance, and for scripts in tests. body is the JSON text, "" for none.
func (a *Appliance) Command(method, path string, query map[string]string, body string) (any, error) {
	for _, h := range a.handlers {
		if h.method != method || h.path != path {
			continue
		}
		req := module.Request{Query: query, Decode: func(v any) error {
			if body == "" {
				return nil
			}
			return json.Unmarshal([]byte(body), v)
		}}
		var v any
		err := h.loop.on(context.Background(), func(now clock.Instant) (err error) {
			v, err = h.f(now, req)
			return err
		})
		return v, err
	}
	return nil, fmt.Errorf("no command %s %s", method, path)
}
