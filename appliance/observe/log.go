// Package observe is how the appliance is watched: the log, the event bus behind `leveret
// monitor`, and captures.
//
// Three kinds of news, three ways out. What an operator has to act on goes to the log. What
// changed in a table goes to the [Bus]. What happened to packets is counted, and shown octet by
// octet to those who ask through [Taps]; it is never logged.
package observe

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"
)

// The log formats.
const (
	FormatJSON    = "json"
	FormatConsole = "console"
)

// LogOptions say what is logged and where.
type LogOptions struct {
	// Format is [FormatJSON] or [FormatConsole].
	Format string
	Levels Levels
	// Output defaults to standard output for JSON, which is what containers collect, and to
	// standard error for the console.
	Output io.Writer
}

// Levels say how much is logged, in zap's words: debug, info, warn, error.
type Levels struct {
	Default string
	Modules map[string]string // by module name
}

// Logger makes the loggers of the modules and changes their levels while they run.
type Logger struct {
	encoder zapcore.Encoder
	out     zapcore.WriteSyncer

	mu      sync.Mutex
	levels  Levels
	modules map[string]*moduleLogger
}

type moduleLogger struct {
	level zap.AtomicLevel
	log   *zap.Logger
}

// NewLogger returns a logger; an unknown format or level is an error.
func NewLogger(o LogOptions) (*Logger, error) {
	ec := zap.NewProductionEncoderConfig()
	ec.TimeKey, ec.NameKey, ec.StacktraceKey = "ts", "mod", zapcore.OmitKey
	ec.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	l := &Logger{modules: map[string]*moduleLogger{}}
	out := o.Output
	switch o.Format {
	case FormatJSON:
		l.encoder = zapcore.NewJSONEncoder(ec)
		if out == nil {
			out = os.Stdout
		}
	case FormatConsole:
		ec.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		ec.EncodeLevel = zapcore.CapitalLevelEncoder
		ec.ConsoleSeparator = " "
		l.encoder = zapcore.NewConsoleEncoder(ec)
		if out == nil {
			out = os.Stderr
		}
	default:
		return nil, fmt.Errorf("log format %q: want %s or %s", o.Format, FormatJSON, FormatConsole)
	}
	if isJournal(out) {
		l.encoder = &journalEncoder{l.encoder}
	}
	l.out = zapcore.Lock(zapcore.AddSync(out))
	if err := l.SetLevels(o.Levels); err != nil {
		return nil, err
	}
	return l, nil
}

// Module returns the logger of one module, or of the appliance itself for "". Floods of one
// message are thinned out: a hundred a second, then one in a hundred. Any goroutine.
func (l *Logger) Module(name string) *zap.Logger {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m, ok := l.modules[name]; ok {
		return m.log
	}
	m := &moduleLogger{level: zap.NewAtomicLevelAt(l.levels.of(name))}
	core := zapcore.NewSamplerWithOptions(zapcore.NewCore(l.encoder, l.out, m.level), time.Second, 100, 100)
	m.log = zap.New(core).Named(name)
	l.modules[name] = m
	return m.log
}

// SetLevels changes the levels of loggers made and to be made. On an error nothing changes. Any
// goroutine.
func (l *Logger) SetLevels(v Levels) error {
	if _, err := zapcore.ParseLevel(v.Default); err != nil {
		return fmt.Errorf("log level: %w", err)
	}
	for name, level := range v.Modules {
		if _, err := zapcore.ParseLevel(level); err != nil {
			return fmt.Errorf("log level of module %s: %w", name, err)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.levels = v
	for name, m := range l.modules {
		m.level.SetLevel(v.of(name))
	}
	return nil
}

// of returns a module's level; the words have been checked.
func (v Levels) of(module string) zapcore.Level {
	word, ok := v.Modules[module]
	if !ok {
		word = v.Default
	}
	level, err := zapcore.ParseLevel(word)
	if err != nil {
		panic("observe: level not checked: " + err.Error())
	}
	return level
}

// isJournal reports whether w is the journal: systemd.exec(5), $JOURNAL_STREAM.
func isJournal(w io.Writer) bool {
	f, ok := w.(*os.File)
	stream := os.Getenv("JOURNAL_STREAM")
	if !ok || stream == "" {
		return false
	}
	fi, err := f.Stat()
	if err != nil {
		return false
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && stream == strconv.FormatUint(uint64(st.Dev), 10)+":"+strconv.FormatUint(st.Ino, 10)
}

// journalEncoder writes the priority that the journal takes from the start of a line
// (sd-daemon(3)).
type journalEncoder struct{ zapcore.Encoder }

// Clone implements [zapcore.Encoder].
func (e *journalEncoder) Clone() zapcore.Encoder { return &journalEncoder{e.Encoder.Clone()} }

// EncodeEntry implements [zapcore.Encoder].
func (e *journalEncoder) EncodeEntry(ent zapcore.Entry, fields []zapcore.Field) (*buffer.Buffer, error) {
	line, err := e.Encoder.EncodeEntry(ent, fields)
	if err != nil {
		return nil, err
	}
	defer line.Free()
	b := bufferPool.Get()
	b.AppendString(priority(ent.Level))
	_, err = b.Write(line.Bytes())
	return b, err
}

var bufferPool = buffer.NewPool()

// priority returns a level's prefix in syslog's numbers.
func priority(l zapcore.Level) string {
	switch {
	case l >= zapcore.DPanicLevel:
		return "<2>"
	case l >= zapcore.ErrorLevel:
		return "<3>"
	case l >= zapcore.WarnLevel:
		return "<4>"
	case l >= zapcore.InfoLevel:
		return "<6>"
	}
	return "<7>"
}
