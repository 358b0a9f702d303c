// Package channel is what the harness and the guest's agent say to each other: JSON objects, one a line,
// so that any number of commands run at a time and output of any content keeps its borders.
package channel

// Port is the name of the virtio-serial port.
const Port = "leveret.test"

// Request is a command for the guest's shell.
type Request struct {
	ID           uint64
	Command      string
	Milliseconds int64 // then it is killed
}

// Reply is what became of the request with that ID. The first one, of ID 0, comes unasked: the guest is up.
type Reply struct {
	ID       uint64
	Output   []byte // standard output and error
	Code     int    // exit code; 128 + number when a signal ended it
	TimedOut bool
	Fault    string // it could not be run
}
