package play_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud/fault"
	"github.com/cloudtwin/cloudtwin/cloud/fault/play"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

func seconds(n float64) fault.Duration {
	return fault.Duration{Duration: time.Duration(n * float64(time.Second))}
}

// world is a player with its journal.
type world struct {
	*play.Player
	journal bytes.Buffer
	file    string
}

func newWorld(t *testing.T) *world {
	w := &world{file: filepath.Join(t.TempDir(), "faults.json")}
	w.Player = play.New(play.Config{Journal: journal.New(&w.journal), File: w.file})
	t.Cleanup(w.Close)
	return w
}

// events are the journal's kinds with the faults that they are about.
func (w *world) events(t *testing.T) (out []string) {
	t.Helper()
	for line := range strings.Lines(w.journal.String()) {
		var ev journal.Event
		if err := json.Unmarshal([]byte(line), &ev); err != nil {
			t.Fatal(err)
		}
		out = append(out, ev.Kind+" "+ev.Attributes["fault"])
	}
	return out
}

func TestScheduleInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := fault.Schedule{Version: 1, Seed: 3, Faults: []fault.Fault{
			{ID: "b", Kind: fault.StoreFull, At: seconds(2), For: seconds(4)},
			{ID: "a", Kind: fault.APIError, Target: "Create*", At: seconds(1), For: seconds(2),
				With: map[string]string{"code": "Odd", "status": "418"}},
			{ID: "c", Kind: fault.GuestKill, Target: "lb:web", At: seconds(5)},
		}}
		if err := w.Load(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		type now struct{ create, describe, write, read bool } // what fails
		look := func() (n now) {
			err := w.API(t.Context(), "CreateLoadBalancer")
			if fail, ok := errors.AsType[*model.Error](err); ok && fail.Code == "Odd" && fail.Status == 418 {
				n.create = true
			}
			n.describe = w.API(t.Context(), "DescribeLoadBalancers") != nil
			_, err = w.Store(t.Context(), true)
			n.write = errors.Is(err, store.ErrFull)
			_, err = w.Store(t.Context(), false)
			n.read = err != nil
			return n
		}
		for _, want := range []now{
			{}, {create: true}, {create: true, write: true}, {write: true}, {write: true}, {write: true}, {},
		} {
			synctest.Wait()
			if diff := cmp.Diff(want, look(), cmp.AllowUnexported(now{})); diff != "" {
				t.Error(diff)
			}
			time.Sleep(time.Second)
		}
		var kinds []string
		for _, ev := range w.events(t) {
			if !strings.HasPrefix(ev, play.EventApplied) {
				kinds = append(kinds, ev)
			}
		}
		want := []string{"fault.began a", "fault.began b", "fault.ended a", "fault.began c", "fault.ended c", "fault.ended b"}
		if diff := cmp.Diff(want, kinds); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		text, err := os.ReadFile(w.file)
		if err != nil {
			t.Fatal(err)
		}
		kept, err := fault.Parse(text)
		if err != nil || len(kept.Faults) != 3 || kept.Seed != 3 {
			t.Errorf("the file holds %s, %v", text, err)
		}
	})
}

func TestAddAndClear(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		first, err := w.Add(t.Context(), fault.Fault{Kind: fault.StoreUnavailable})
		if err != nil || first.ID != "f1" {
			t.Fatalf("added %+v, %v", first, err)
		}
		time.Sleep(3 * time.Second)
		second, err := w.Add(t.Context(), fault.Fault{Kind: fault.APIError, At: seconds(1)})
		if err != nil || second.At != seconds(4) {
			t.Fatalf("added %+v, %v; want it to begin 4 s after the first", second, err)
		}
		if _, err := w.Add(t.Context(), first); !errors.Is(err, play.ErrExists) {
			t.Errorf("added twice: %v", err)
		}
		if _, err := w.Add(t.Context(), fault.Fault{Kind: "api.eror"}); !errors.Is(err, fault.ErrInvalid) {
			t.Errorf("added an unknown kind: %v", err)
		}
		if _, err := w.Store(t.Context(), false); !errors.Is(err, store.ErrUnreachable) {
			t.Errorf("store: %v", err)
		}
		if err := w.Clear(t.Context(), "f1"); err != nil {
			t.Fatal(err)
		}
		if err := w.Clear(t.Context(), "f1"); !errors.Is(err, play.ErrUnknown) {
			t.Errorf("cleared twice: %v", err)
		}
		if _, err := w.Store(t.Context(), false); err != nil {
			t.Errorf("store after its fault was cleared: %v", err)
		}
		if got := w.Schedule().Faults[0].For; got != seconds(3) {
			t.Errorf("the cleared fault lasts %s in the schedule, want the 3 s that it did", got)
		}
		if err := w.Clear(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if err := w.API(t.Context(), "X"); err != nil {
			t.Errorf("a fault that was cleared before its time: %v", err)
		}
		if list := w.List(); len(list) != 1 || list[0].State != play.Ended {
			t.Errorf("left: %+v", list)
		}
	})
}

func TestLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for _, f := range []fault.Fault{
			{Kind: fault.APILatency, With: map[string]string{"delay": "2s"}},
			{Kind: fault.StoreSlow, Target: "write", With: map[string]string{"delay": "3s", "jitter": "1s"}},
			{Kind: fault.APIThrottle, Target: "Get*", With: map[string]string{"perSecond": "2"}},
		} {
			if _, err := w.Add(t.Context(), f); err != nil {
				t.Fatal(err)
			}
		}
		took := func(f func()) time.Duration {
			begun := time.Now()
			f()
			return time.Since(begun)
		}
		if d := took(func() { _ = w.API(t.Context(), "X") }); d != 2*time.Second {
			t.Errorf("a call took %s", d)
		}
		if d := took(func() { _, _ = w.Store(t.Context(), true) }); d < 2*time.Second || d > 4*time.Second {
			t.Errorf("a write took %s", d)
		}
		if d := took(func() { _, _ = w.Store(t.Context(), false) }); d != 0 {
			t.Errorf("a read took %s", d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := w.API(ctx, "X"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a call that is given up: %v", err)
		}
		passed := 0
		if err := w.Clear(t.Context(), "f1"); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			if w.API(t.Context(), "GetUser") == nil {
				passed++
			}
		}
		if passed != 2 {
			t.Errorf("%d calls of 10 passed, want the 2 of a second", passed)
		}
	})
}

// TestSameChance plays a schedule twice.
func TestSameChance(t *testing.T) {
	s := fault.Schedule{Version: 1, Seed: 9, Faults: []fault.Fault{
		{ID: "a", Kind: fault.APIError, Rate: 0.5}, {ID: "b", Kind: fault.StoreUnavailable, Rate: 0.3}}}
	run := func() (out []bool) {
		w := newWorld(t)
		if err := w.Load(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		for range 200 {
			_, err := w.Store(t.Context(), true)
			out = append(out, w.API(t.Context(), "X") != nil, err != nil)
		}
		return out
	}
	if diff := cmp.Diff(run(), run()); diff != "" {
		t.Error(diff)
	}
}
