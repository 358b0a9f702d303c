package xfrmapi

import (
	"strconv"
	"strings"

	"leveret/extensions/xfrm/proto"
	"leveret/extensions/xfrm/sad"
)

// StateRequest is the body of POST /v1/xfrm/state: add, update, delete (src, if given, dst, proto, spi and mark name the
// state) or allocspi (addresses, proto, mode, reqid, seq and mark are used). The answer of allocspi is a [sad.Listed].
type StateRequest struct {
	Op string `json:"op"`
	sad.Spec
	Min uint32 `json:"min,omitempty"` // of allocspi, with Max: the SPIs to choose from
	Max uint32 `json:"max,omitempty"`
}

// StateID names a state: the query of GET /v1/xfrm/state/get, whose answer is a [sad.Listed].
type StateID struct {
	Src   string `json:"src,omitempty"`
	Dst   string `json:"dst,omitempty"`
	Proto string `json:"proto,omitempty"`
	SPI   string `json:"spi,omitempty"`
	Mark  string `json:"mark,omitempty"`
	Mask  string `json:"mask,omitempty"`
	// ShowKeys, if "true": the answer has keys. For root, and for the user that the appliance runs as.
	ShowKeys string `json:"show_keys,omitempty"`
}

// NewStateID names the state of a request.
func NewStateID(r *sad.Request) StateID {
	id := StateID{Proto: r.Proto.String(), SPI: number(&r.SPI)}
	if r.SAddr.IsValid() {
		id.Src = r.SAddr.String()
	}
	if r.DAddr.IsValid() {
		id.Dst = r.DAddr.String()
	}
	if r.Mark != (sad.Mark{}) {
		id.Mark, id.Mask = number(&r.Mark.Value), number(&r.Mark.Mask)
	}
	return id
}

// Words are those after "ip xfrm state get".
func (i *StateID) Words() []string {
	return given("src", i.Src, "dst", i.Dst, "proto", i.Proto, "spi", i.SPI, "mark", i.Mark, "mask", i.Mask)
}

// StateFilter selects states: the query of GET /v1/xfrm/state, whose answer is a list of [sad.Listed], the newest first,
// and the body of POST /v1/xfrm/state/deleteall, without ShowKeys. Empty fields match all.
type StateFilter struct {
	Src      string `json:"src,omitempty"` // PREFIX
	Dst      string `json:"dst,omitempty"`
	Proto    string `json:"proto,omitempty"`
	SPI      string `json:"spi,omitempty"`
	Mode     string `json:"mode,omitempty"`
	ReqID    string `json:"reqid,omitempty"`
	Flag     string `json:"flag,omitempty"` // words: any of them
	ShowKeys string `json:"show_keys,omitempty"`
}

// NewStateFilter writes a filter.
func NewStateFilter(f *sad.Filter) StateFilter {
	s := StateFilter{SPI: number(f.SPI), ReqID: number(f.ReqID), Flag: f.Flags.String()}
	if f.Src.IsValid() {
		s.Src = f.Src.String()
	}
	if f.Dst.IsValid() {
		s.Dst = f.Dst.String()
	}
	if f.Proto != 0 {
		s.Proto = f.Proto.String()
	}
	if f.Mode != nil {
		s.Mode = f.Mode.String()
	}
	return s
}

// Words are those after "ip xfrm state list".
func (f *StateFilter) Words() []string {
	w := given("src", f.Src, "dst", f.Dst, "proto", f.Proto, "spi", f.SPI, "mode", f.Mode, "reqid", f.ReqID)
	if f.Flag != "" {
		w = append(append(w, "flag"), strings.Fields(f.Flag)...)
	}
	return w
}

// StateFlush is the body of POST /v1/xfrm/state/flush: the protocol of the states to delete, absent = all.
type StateFlush struct {
	Proto proto.Proto `json:"proto,omitempty"`
}

// Flushed is the answer of deleteall and flush: how many are gone.
type Flushed struct {
	Flushed int `json:"flushed"`
}

// StateCount is the answer of GET /v1/xfrm/state/count.
type StateCount struct {
	Count      int `json:"count"`
	Buckets    int `json:"buckets"` // of the table that SPIs are looked up in
	MaxBuckets int `json:"max_buckets"`
}

func number(n *uint32) string {
	if n == nil {
		return ""
	}
	return strconv.FormatUint(uint64(*n), 10)
}

// given are the words of the pairs that have a value.
func given(pairs ...string) (words []string) {
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			words = append(words, pairs[i], pairs[i+1])
		}
	}
	return words
}
