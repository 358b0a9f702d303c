package policyroute

import (
	"fmt"
	"strconv"
)

// tableNames are the tables' names, both ways. Immutable once it is in force.
type tableNames struct {
	byName map[string]uint32
	byID   map[uint32]string
}

// defaultNames are those that every node has (rt_tables).
func defaultNames() tableNames {
	n := tableNames{map[string]uint32{}, map[uint32]string{}}
	for id, name := range map[uint32]string{tableDefault: "default", tableMain: "main", tableLocal: "local"} {
		n.byName[name], n.byID[id] = id, name
	}
	return n
}

// add gives a table a name; msg says what is wrong with key.
func (n tableNames) add(tc TableConfig) (key, msg string) {
	_, number := strconv.ParseUint(tc.Name, 0, 32)
	switch {
	case tc.ID == 0:
		return "id", "want a number from 1 on"
	case tc.Name == "" || tc.Name == "all" || tc.Name == "cache" || number == nil:
		return "name", fmt.Sprintf("%q is no name for a table", tc.Name)
	case n.byID[tc.ID] == tc.Name: // as it is
		return "", ""
	case n.byID[tc.ID] != "":
		return "id", fmt.Sprintf("table %d is %q already", tc.ID, n.byID[tc.ID])
	case n.byName[tc.Name] != 0:
		return "name", fmt.Sprintf("%q is table %d already", tc.Name, n.byName[tc.Name])
	}
	n.byName[tc.Name], n.byID[tc.ID] = tc.ID, tc.Name
	return "", ""
}

// id reads a table's name or number; no text is main.
func (n tableNames) id(s string) (uint32, bool) {
	if s == "" {
		return tableMain, true
	}
	if id, ok := n.byName[s]; ok {
		return id, true
	}
	id, err := strconv.ParseUint(s, 0, 32)
	return uint32(id), err == nil && id != 0
}

// name writes a table by name if it has one.
func (n tableNames) name(id uint32) string {
	if s, ok := n.byID[id]; ok {
		return s
	}
	return strconv.FormatUint(uint64(id), 10)
}
