package observe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

func TestLevelsArePerModuleAndChangeWhileRunning(t *testing.T) {
	var out bytes.Buffer
	l, err := NewLogger(LogOptions{Format: FormatJSON, Output: &out, Levels: Levels{Default: "info", Modules: map[string]string{"ndp": "debug"}}})
	if err != nil {
		t.Fatal(err)
	}
	ndp, route := l.Module("ndp"), l.Module("policyroute")
	logged := func(log *zap.Logger, level zapcore.Level) bool {
		out.Reset()
		log.Log(level, "hello", zap.String("link", "lan0"))
		return out.Len() > 0
	}
	if !logged(ndp, zap.DebugLevel) || logged(route, zap.DebugLevel) || !logged(route, zap.InfoLevel) {
		t.Error("levels at start")
	}
	var line struct{ TS, Level, Mod, Msg, Link string }
	if err := json.Unmarshal(out.Bytes(), &line); err != nil || line.Level != "info" || line.Mod != "policyroute" || line.Msg != "hello" || line.Link != "lan0" || line.TS == "" {
		t.Errorf("line %s: %+v %v", out.Bytes(), line, err)
	}
	if err := l.SetLevels(Levels{Default: "error"}); err != nil {
		t.Fatal(err)
	}
	if logged(ndp, zap.WarnLevel) || logged(route, zap.InfoLevel) || !logged(l.Module("new"), zap.ErrorLevel) || logged(l.Module("new"), zap.WarnLevel) {
		t.Error("levels after the change")
	}
	if err := l.SetLevels(Levels{Default: "info", Modules: map[string]string{"ndp": "loud"}}); err == nil || !strings.Contains(err.Error(), "ndp") {
		t.Errorf("err = %v", err)
	}
	if logged(route, zap.InfoLevel) {
		t.Error("a refused change took effect")
	}
}

func TestLoggerRefusesUnknownWords(t *testing.T) {
	if _, err := NewLogger(LogOptions{Format: "xml", Levels: Levels{Default: "info"}}); err == nil {
		t.Error("format xml")
	}
	if _, err := NewLogger(LogOptions{Format: FormatConsole, Levels: Levels{Default: "loud"}}); err == nil {
		t.Error("level loud")
	}
}

func TestJournalGetsPriorities(t *testing.T) {
	f, err := os.Create(t.TempDir() + "/journal")
	if err != nil {
		t.Fatal(err)
	}
	fi, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	st := fi.Sys().(*syscall.Stat_t)
	t.Setenv("JOURNAL_STREAM", fmt.Sprintf("%d:%d", st.Dev, st.Ino))
	l, err := NewLogger(LogOptions{Format: FormatConsole, Output: f, Levels: Levels{Default: "debug"}})
	if err != nil {
		t.Fatal(err)
	}
	log := l.Module("x").With(zap.Int("n", 1)) // With clones the encoder
	log.Debug("d")
	log.Info("i")
	log.Warn("w")
	log.Error("e")
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	var got string
	for line := range strings.Lines(string(b)) {
		got += line[:3]
	}
	if got != "<7><6><4><3>" {
		t.Errorf("priorities %q in\n%s", got, b)
	}
	t.Setenv("JOURNAL_STREAM", "1:1")
	if isJournal(f) {
		t.Error("another stream is taken for the journal")
	}
}

func TestFloodsAreThinnedOut(t *testing.T) {
	var out bytes.Buffer
	l, err := NewLogger(LogOptions{Format: FormatJSON, Output: &out, Levels: Levels{Default: "info"}})
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		l.Module("x").Warn("same")
	}
	if n := strings.Count(out.String(), "\n"); n < 100 || n > 400 {
		t.Errorf("%d of 1000 equal lines were written", n)
	}
}
