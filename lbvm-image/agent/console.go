package agent

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// The stages of a guest's life as they appear on its console, in the order in which they come. Those up to
// StageNetwork are reported by whoever makes the World.
const (
	StageBooted         = "booted"
	StageModules        = "modules"
	StageNetwork        = "network"          // addr
	StageReadyForMedium = "ready-for-medium" // lbvm only, as all up to StageListenerClosed
	StageRehearsed      = "rehearsed"        // a template's copy alone, after a medium that asked for it
	StageMediumRead     = "medium-read"      // instance, credential (which of the node's media)
	StageMediumRefused  = "medium-refused"   // reason; a new medium did not fit, the old identity stays
	StageCredentials    = "credentials"      // role
	StageListeners      = "listeners"        // revision, count
	StageKeyReceived    = "key-received"     // listener, arn, fingerprint
	StageServing        = "serving"          // lbvm: listener, protocol; web: port
	StageListenerFailed = "listener-failed"  // listener, reason
	StageListenerClosed = "listener-closed"  // listener
	StageSSH            = "ssh"              // port, fingerprint; web only, with a key pair
	// Either counts: listener, begun, failed, reason (of the last failure). Or a single one, as far as there are not too
	// many: listener, result (ok or failed), version, cipher, sni, resumed, or the failure's reason.
	StageHandshakes = "tls-handshakes"
	StageFailed     = "failed" // reason; the guest stops
	StagePowerOff   = "power-off"
)

// MilestonePrefix starts each line of the console that is a milestone; one JSON object follows.
const MilestonePrefix = "@cloudtwin "

// maxAttribute bounds one attribute's text in bytes: a milestone is a line, not a log.
const maxAttribute = 512

// LineConsole writes milestones as lines of text:
//
//	@cloudtwin {"stage":"serving","t":3.214,"listener":"443","protocol":"HTTPS"}
//
// t is seconds since the boot. A value that is a slog.LogValuer is resolved first, so redacted types stay redacted.
type LineConsole struct {
	mu     sync.Mutex
	w      io.Writer
	uptime func() time.Duration
}

var _ Console = (*LineConsole)(nil)

// NewConsole writes to w, each milestone in one Write call; uptime tells how long ago the guest booted.
// Errors of w are dropped: a guest without a console still serves.
func NewConsole(w io.Writer, uptime func() time.Duration) *LineConsole {
	return &LineConsole{w: w, uptime: uptime}
}

// Milestone implements Console.
func (c *LineConsole) Milestone(stage string, attrs ...slog.Attr) {
	var line strings.Builder
	line.WriteString(MilestonePrefix)
	fmt.Fprintf(&line, `{"stage":%s,"t":%.3f`, quote(stage), c.uptime().Seconds())
	for _, attr := range attrs {
		fmt.Fprintf(&line, `,%s:%s`, quote(attr.Key), quote(attr.Value.Resolve().String()))
	}
	line.WriteString("}\n")
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = io.WriteString(c.w, line.String())
}

// quote makes a JSON string; json never fails on a string, and replaces what is no UTF-8.
func quote(s string) string {
	if len(s) > maxAttribute {
		s = strings.ToValidUTF8(s[:maxAttribute], "") + "..."
	}
	b, err := json.Marshal(s)
	if err != nil {
		return `""`
	}
	return string(b)
}
