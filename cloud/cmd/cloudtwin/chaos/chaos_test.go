package chaos

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/cloud/fault"
	"github.com/cloudtwin/cloudtwin/cloud/fault/play"
)

// written makes a test's log a Writer.
type written struct{ t *testing.T }

func (w written) Write(p []byte) (int, error) {
	w.t.Helper()
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// TestSeeds plays some seeds. 'make test-all' plays 200.
func TestSeeds(t *testing.T) {
	report, err := Run(t.Context(), Config{Seed: 1, Seeds: 3, Length: 500 * time.Millisecond, Faults: 4, Parallel: 3,
		Artifacts: t.TempDir(), Progress: written{t}})
	if err != nil {
		t.Error(err)
	}
	for _, f := range report.Failures {
		for _, b := range f.Broken {
			t.Errorf("seed %d: %v", f.Seed, b)
		}
		t.Errorf("%s", f.Schedule.JSON())
	}
	if err == nil && (report.Seeds != 3 || report.Faults != 12) {
		t.Errorf("played %d seeds with %d faults", report.Seeds, report.Faults)
	}
}

func TestSameSeed(t *testing.T) {
	for seed := range uint64(20) {
		length := time.Second
		if diff := cmp.Diff(plan(seed, length), plan(seed, length), cmp.AllowUnexported(step{})); diff != "" {
			t.Errorf("seed %d: two workloads:\n%s", seed, diff)
		}
		if diff := cmp.Diff(ScheduleOf(Config{}, seed), ScheduleOf(Config{}, seed)); diff != "" {
			t.Errorf("seed %d: two schedules:\n%s", seed, diff)
		}
	}
	if cmp.Equal(plan(1, time.Minute), plan(2, time.Minute), cmp.AllowUnexported(step{})) {
		t.Error("two seeds with the same workload")
	}
}

// forgetful stands between the workload and the cloud: while API calls are late, it answers requests for users as if
// the cloud had carried them out, and loses them.
func forgetful(twin *local.Twin, next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		req.Body = io.NopCloser(strings.NewReader(string(body)))
		form, err := url.ParseQuery(string(body))
		if err != nil || form.Get("Action") != "CreateUser" {
			return next.RoundTrip(req)
		}
		list, err := twin.Faults(req.Context())
		late := slices.ContainsFunc(list, func(s play.Status) bool {
			return s.State == play.Active && s.Kind == fault.APILatency
		})
		if err != nil || !late {
			return next.RoundTrip(req)
		}
		return &http.Response{StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req,
			Header: http.Header{"Content-Type": {"text/xml"}}, Body: io.NopCloser(strings.NewReader(
				`<CreateUserResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><CreateUserResult><User>` +
					`<UserName>u</UserName></User></CreateUserResult></CreateUserResponse>`))}, nil
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// TestFindsABug has chaos find a cloud that loses what it acknowledged, and the one fault of four that it takes.
func TestFindsABug(t *testing.T) {
	short := fault.Duration{Duration: 200 * time.Millisecond}
	schedule := fault.Schedule{Version: fault.Version, Seed: 5, Faults: []fault.Fault{
		{ID: "slow", Kind: fault.StoreSlow, For: short, With: map[string]string{"delay": "5ms"}},
		{ID: "guilty", Kind: fault.APILatency, Target: "CreateUser", For: short, With: map[string]string{"delay": "1ms"}},
		{ID: "jitter", Kind: fault.WireJitter, For: short, With: map[string]string{"jitter": "5ms"}},
		{ID: "double", Kind: fault.WireDuplicate, For: short, Rate: 0.1},
	}}
	report, err := Run(t.Context(), Config{Seed: 5, Length: 200 * time.Millisecond, Schedule: &schedule, Shrink: true,
		Bug: forgetful, Artifacts: t.TempDir(), Progress: written{t}})
	if !errors.Is(err, ErrBroken) || len(report.Failures) != 1 {
		t.Fatalf("error %v with %+v, want ErrBroken with one failure", err, report)
	}
	f := report.Failures[0]
	if f.Broken[0].Invariant != "no acknowledged write lost" {
		t.Errorf("broken: %v", f.Broken[0])
	}
	if len(f.Schedule.Faults) != 1 || f.Schedule.Faults[0].ID != "guilty" {
		t.Errorf("the smallest schedule has %v", f.Schedule.Faults)
	}
	if f.Schedule.Faults[0].For.Duration >= short.Duration {
		t.Errorf("the fault still lasts %s", f.Schedule.Faults[0].For)
	}
}

func TestConfig(t *testing.T) {
	for want, cfg := range map[string]Config{
		"length 1ns": {Length: 1}, "must not be negative": {Seeds: -1}, `kind "x" is not known`: {Kinds: []fault.Kind{"x"}},
		"version 0": {Schedule: &fault.Schedule{}}, "with one seed": {Seeds: 2, Schedule: &fault.Schedule{Version: 1}},
	} {
		if _, err := Run(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}
