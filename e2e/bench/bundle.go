package main

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/bundle"
	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
)

// nameBundleOpen is how long it takes to open a bundle of a million events, to verify it and to sum it up.
const nameBundleOpen = "bundle.open.1m_events"

const (
	bundleEvents = 1_000_000
	bundleGuests = 500
	bundleOpens  = 3 // the median of as many counts
	bundleLimit  = 3 // seconds
)

// benchBundleOpen opens what a person opens with 'cloudtwin inspect'. Its peer is the least that anything must do which
// reads the same events: unpack them with gzip and hand each line to encoding/json, one after another.
func benchBundleOpen(ctx context.Context, s *suite) error {
	dir, err := os.MkdirTemp("", "cloudtwin-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	state := local.Layout(filepath.Join(dir, "state"))
	plain := filepath.Join(dir, "events.gz")
	if err := errors.Join(os.Mkdir(string(state), 0o700), writeEvents(ctx, state.Journal(), plain)); err != nil {
		return fmt.Errorf("write %d events: %w", bundleEvents, err)
	}
	file := filepath.Join(dir, "b.zip")
	if _, err := bundle.Write(ctx, file, bundle.Source{State: state, Images: dir}, nil); err != nil {
		return err
	}
	opened, err := medianOf(ctx, bundleOpens, func() error { return openBundle(file) })
	if err != nil {
		return err
	}
	scanned, err := medianOf(ctx, 1, func() error { return scanPlain(plain) })
	if err != nil {
		return err
	}
	s.emit(result{Name: nameBundleOpen, Value: opened, Unit: seconds}.against("gunzip and encoding/json, one core",
		scanned, atMost(1).within(bundleLimit)))
	return nil
}

func medianOf(ctx context.Context, times int, do func() error) (float64, error) {
	var took []time.Duration
	for range times {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		begun := time.Now()
		if err := do(); err != nil {
			return 0, err
		}
		took = append(took, time.Since(begun))
	}
	return median(took).Seconds(), nil
}

func openBundle(file string) error {
	b, err := bundle.Open(file)
	if err != nil {
		return err
	}
	report, err := b.Report()
	if err == nil && report.Events != bundleEvents {
		err = fmt.Errorf("the bundle has %d events, want %d", report.Events, bundleEvents)
	}
	return errors.Join(err, b.Verify(), b.Close())
}

// writeEvents writes a journal as a busy cloud does, and the same lines with gzip.
func writeEvents(ctx context.Context, path, plain string) error {
	j, err := journal.Open(path)
	if err != nil {
		return err
	}
	f, err := os.Create(plain)
	if err != nil {
		return errors.Join(err, j.Close())
	}
	z := gzip.NewWriter(f)
	encoder := json.NewEncoder(z)
	begun := time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC)
	for i := range bundleEvents {
		ev := journal.Event{Seq: uint64(i + 1),
			Time: begun.Add(time.Duration(i) * 10 * time.Millisecond), Kind: "store.write",
			Subject: fmt.Sprintf("ec2-instances/i-%017x", i%bundleGuests),
			Trace:   fmt.Sprintf("%032x", i/12), Span: fmt.Sprintf("%016x", i/3),
			Attributes: map[string]string{"revision": fmt.Sprint(i)}}
		switch i % 10 {
		case 0:
			ev.Kind, ev.Subject = "api.request", "elasticloadbalancing:DescribeLoadBalancers"
			ev.Attributes = map[string]string{"status": "200", "requestId": fmt.Sprintf("%08x-0000-4000-8000-%012x", i, i),
				"caller": "arn:aws:iam::123456789012:root", "durationMs": "0.412", "sourceIp": "127.0.0.1"}
		case 1:
			ev.Kind, ev.Subject = "guest.milestone", fmt.Sprintf("i-%017x", i%bundleGuests)
			ev.Attributes = map[string]string{"stage": fmt.Sprintf("stage-%d", i/bundleGuests%20), "node": "node-1",
				"at": ev.Time.Format(time.RFC3339Nano)}
		}
		j.Record(ctx, ev)
		if err := encoder.Encode(ev); err != nil {
			return errors.Join(err, j.Close(), f.Close())
		}
	}
	return errors.Join(j.Close(), z.Close(), f.Close())
}

func scanPlain(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(bufio.NewReader(f))
	if err != nil {
		return err
	}
	lines := bufio.NewReader(z)
	for {
		text, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		var ev journal.Event
		if err = errors.Join(err, json.Unmarshal(text, &ev)); err != nil {
			return err
		}
	}
}
