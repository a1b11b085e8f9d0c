package agent_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent"
)

func TestConsole(t *testing.T) {
	tests := []struct {
		name  string
		attrs []slog.Attr
		want  string
	}{
		{"bare", nil, `@cloudtwin {"stage":"serving","t":3.214}`},
		{
			"attributes", []slog.Attr{slog.String("listener", "443"), slog.Int("count", 2)},
			`@cloudtwin {"stage":"serving","t":3.214,"listener":"443","count":"2"}`,
		},
		{
			"line breaks and quotes", []slog.Attr{slog.String("reason", "a\n@cloudtwin {\"stage\"}")},
			`@cloudtwin {"stage":"serving","t":3.214,"reason":"a\n@cloudtwin {\"stage\"}"}`,
		},
		{
			"secrets", []slog.Attr{slog.Any("key", keydelivery.Secret("key"))},
			`@cloudtwin {"stage":"serving","t":3.214,"key":"[redacted]"}`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			agent.NewConsole(&out, func() time.Duration { return 3214 * time.Millisecond }).Milestone("serving", tt.attrs...)
			if got := out.String(); got != tt.want+"\n" {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// FuzzConsole: whatever an attribute holds, a milestone is one line of bounded length whose JSON parses.
func FuzzConsole(f *testing.F) {
	f.Add("reason", "timeout")
	f.Add("a\x00\xff", "b\r\n\u2028\xc3")
	f.Add("long", strings.Repeat("\xe2\x82\xac", 400))
	f.Fuzz(func(t *testing.T, name, value string) {
		var out bytes.Buffer
		agent.NewConsole(&out, func() time.Duration { return 0 }).Milestone("failed", slog.String(name, value))
		line, whole := strings.CutSuffix(out.String(), "\n")
		text, marked := strings.CutPrefix(line, agent.MilestonePrefix)
		if !whole || !marked || strings.ContainsAny(line, "\r\n") || len(line) > 8000 {
			t.Fatalf("not one line of bounded length: %q", line)
		}
		var parsed map[string]any
		if err := json.Unmarshal([]byte(text), &parsed); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
	})
}
