package scale

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestValidate(t *testing.T) {
	for _, test := range []struct {
		name string
		cfg  Config
		want string // in the error; empty means that there is none
	}{
		{"least", Config{Nodes: 1, LoadBalancers: 1}, ""},
		{"steps", Config{Nodes: 1, LoadBalancers: 10, Steps: []int{2, 10}}, ""},
		{"nothing", Config{}, "nodes: 0"},
		{"too many", Config{Nodes: 1, LoadBalancers: 60_001}, "load balancers: 60001, must be 1 to 60000"},
		{"falling steps", Config{Nodes: 1, LoadBalancers: 10, Steps: []int{5, 5}}, "steps: 5"},
		{"step beyond the end", Config{Nodes: 1, LoadBalancers: 10, Steps: []int{11}}, "steps: 11"},
		{"negative patience", Config{Nodes: 1, LoadBalancers: 1, Patience: -time.Second}, "patience"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := test.cfg.Validate()
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("Validate: %v, want %q", err, test.want)
			}
		})
	}
}

// TestRun runs a cloud of three nodes and finds that each load balancer served, and that nothing is left.
func TestRun(t *testing.T) {
	defer goleak.VerifyNone(t)
	dir := t.TempDir()
	var progress bytes.Buffer
	report, err := Run(t.Context(), Config{
		Nodes: 3, LoadBalancers: 9, Steps: []int{3}, Idle: -1, Dir: dir, Progress: &progress,
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	if report.Handshakes != 9 || len(report.Rows) != 2 || report.Rows[1].LoadBalancers != 9 {
		t.Errorf("report %+v, want two rows and nine handshakes", report)
	}
	for _, row := range report.Rows {
		if row.StartsPerSecond <= 0 || row.DeliveryP99Millis <= 0 || row.EtcdKeys <= 0 || row.CPUMillisPerStart <= 0 {
			t.Errorf("row %+v has zeros", row)
		}
	}
	var table bytes.Buffer
	if err := report.WriteTable(&table); err != nil || !strings.Contains(table.String(), "3 nodes") {
		t.Errorf("table: %v\n%s", err, table.String())
	}
	nothingLeft(t, dir)
}

// TestInterrupted ends a run in its middle, as Ctrl-C does.
func TestInterrupted(t *testing.T) {
	defer goleak.VerifyNone(t)
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := Run(ctx, Config{Nodes: 2, LoadBalancers: 1000, Dir: dir, Progress: writerFunc(func(line string) {
		if strings.Contains(line, "serving") {
			cancel()
		}
	})})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v, want context.Canceled", err)
	}
	nothingLeft(t, dir)
}

type writerFunc func(string)

func (w writerFunc) Write(p []byte) (int, error) {
	w(string(p))
	return len(p), nil
}

func nothingLeft(t *testing.T, dir string) {
	t.Helper()
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("folder of states after the run: %v, %v, want it empty", entries, err)
	}
	if left, _ := filepath.Glob(fmt.Sprintf("%s/cloudtwin-scale-%d-*", memoryDir, os.Getpid())); len(left) > 0 {
		t.Errorf("folders of media after the run: %v", left)
	}
}
