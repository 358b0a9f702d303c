package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"leveret/appliance/control/api"
)

// Client speaks to a [Server]. It may be used by any goroutine.
type Client struct {
	socket  string
	timeout time.Duration
	http    *http.Client
}

// NewClient returns a client of the socket at path. timeout bounds each Get and Post from the
// connection to the end of the answer, and how long a stream may take to begin; 0 = no bound.
func NewClient(path string, timeout time.Duration) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: timeout}).DialContext(ctx, "unix", path)
	}
	return &Client{socket: path, timeout: timeout, http: &http.Client{Transport: &http.Transport{
		DialContext: dial, DisableCompression: true, ResponseHeaderTimeout: timeout,
	}}}
}

// NotReachableError says that nobody answers at the socket, or not in time.
type NotReachableError struct {
	Socket string
	Err    error
}

func (e *NotReachableError) Error() string {
	var timeout net.Error
	switch {
	case errors.As(e.Err, &timeout) && timeout.Timeout():
		return fmt.Sprintf("the appliance at %s does not answer in time (--timeout)", e.Socket)
	case errors.Is(e.Err, net.ErrClosed), errors.Is(e.Err, io.EOF), errors.Is(e.Err, io.ErrUnexpectedEOF):
		return fmt.Sprintf("the appliance at %s closed the connection", e.Socket)
	}
	return fmt.Sprintf("the appliance is not reachable at %s: is `leveret run` running? (--socket PATH)", e.Socket)
}

func (e *NotReachableError) Unwrap() error { return e.Err }

// StatusError is an answer other than 2xx: the appliance understood and said no.
type StatusError struct {
	Status int
	Msg    string
	Faults []api.Fault
}

func (e *StatusError) Error() string { return e.Msg }

// Get asks for path with a filter (see [Query]) and fills out.
func (c *Client) Get(ctx context.Context, path string, filter, out any) error {
	q, err := Query(filter)
	if err != nil {
		return err
	}
	return c.call(ctx, http.MethodGet, path, q, nil, out)
}

// Post sends body to path and fills out, unless that is nil.
func (c *Client) Post(ctx context.Context, path string, body, out any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return c.call(ctx, http.MethodPost, path, nil, b, out)
}

// Stream asks for path and returns the answer as it comes; the caller closes it. A nil body means
// GET with filter, otherwise it is a POST.
func (c *Client) Stream(ctx context.Context, path string, filter, body any) (io.ReadCloser, error) {
	q, err := Query(filter)
	if err != nil {
		return nil, err
	}
	method, b := http.MethodGet, []byte(nil)
	if body != nil {
		method = http.MethodPost
		if b, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	resp, err := c.do(ctx, method, path, q, b)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		defer resp.Body.Close()
		return nil, c.statusError(resp)
	}
	return resp.Body, nil
}

// Lines calls f for every JSON line of a stream until it ends, ctx does or f returns an error.
func Lines[T any](ctx context.Context, r io.Reader, f func(T) error) error {
	d := json.NewDecoder(r)
	for {
		var v T
		err := d.Decode(&v)
		switch {
		case ctx.Err() != nil, errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("the appliance's answer ended early: %w", err)
		}
		if err := f(v); err != nil {
			return err
		}
	}
}

func (c *Client) call(ctx context.Context, method, path string, q url.Values, body []byte, out any) error {
	if c.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.timeout)
		defer cancel()
	}
	resp, err := c.do(ctx, method, path, q, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return c.statusError(resp)
	}
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return c.unreachable(ctx, fmt.Errorf("answer to %s: %w", path, err))
	}
	return nil
}

func (c *Client) do(ctx context.Context, method, path string, q url.Values, body []byte) (*http.Response, error) {
	u := url.URL{Scheme: "http", Host: "leveret", Path: path, RawQuery: q.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	return resp, nil
}

// unreachable wraps a transport error; a context that the caller ended stays what it is.
func (c *Client) unreachable(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	return &NotReachableError{Socket: c.socket, Err: err}
}

func (c *Client) statusError(resp *http.Response) error {
	var body api.Error
	if err := json.NewDecoder(io.LimitReader(resp.Body, MaxBody)).Decode(&body); err != nil || body.Error == "" {
		body.Error = "the appliance answered " + resp.Status
	}
	return &StatusError{Status: resp.StatusCode, Msg: body.Error, Faults: body.Faults}
}
