package routeapi

// Label is one row of the policy table (RFC 6724 2.1), in the answer of GET /v1/addrlabel, in the keys
// of "ip -6 -j addrlabel"; the precedence, for destinations, is ours.
type Label struct {
	Address    string `json:"address"`
	PrefixLen  int    `json:"prefixlen"`
	Label      int    `json:"label"`
	Precedence int    `json:"precedence"`
}

// LabelSpec is a row as an operator writes it: an item of routing.source_selection.labels.
type LabelSpec struct {
	Prefix string `json:"prefix" mapstructure:"prefix"`
	Label  *int   `json:"label,omitempty" mapstructure:"label"`
	// Precedence, if left out, is that of the row the prefix was in before.
	Precedence *int `json:"precedence,omitempty" mapstructure:"precedence"`
}

// LabelRequest is the body of POST /v1/addrlabel: add (refused if the prefix has a row), replace, del, or
// flush, which puts the rows of RFC 6724 2.1 back.
type LabelRequest struct {
	Op string `json:"op"`
	LabelSpec
}
