package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/url"
)

// decode fills v from a JSON body strictly: an unknown key, a wrong type or anything behind the
// value is an error. An empty body leaves v as it is.
func decode(body []byte, v any) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return BadRequest("request body: %v", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return BadRequest("request body: something follows the JSON value")
	}
	return nil
}

// Query turns a filter, a struct of strings with JSON keys, into a query. Empty fields are left
// out.
func Query(filter any) (url.Values, error) {
	q := url.Values{}
	if filter == nil {
		return q, nil
	}
	b, err := json.Marshal(filter)
	if err != nil {
		return nil, err
	}
	var m map[string]string
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, err
	}
	for k, v := range m {
		if v != "" {
			q.Set(k, v)
		}
	}
	return q, nil
}
