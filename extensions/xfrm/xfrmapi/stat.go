package xfrmapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
)

// Stat is the answer of GET /v1/xfrm/stat: the counters of /proc/net/xfrm_stat that count here, in its order. In JSON
// it is one object.
type Stat []Counter

// Counter counts packets that were dropped.
type Counter struct {
	Name  string
	Value uint64
}

// MarshalJSON keeps the order.
func (s Stat) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, c := range s {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(append(strconv.AppendQuote(b, c.Name), ':'), c.Value, 10)
	}
	return append(b, '}'), nil
}

// UnmarshalJSON keeps the order.
func (s *Stat) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return fmt.Errorf("counters are an object, not %v", t)
	}
	*s = nil
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		c := Counter{Name: name.(string)} // a key is one
		if err := d.Decode(&c.Value); err != nil {
			return err
		}
		*s = append(*s, c)
	}
	return nil
}
