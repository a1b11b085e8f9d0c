package sim

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"syscall"
	"testing"
	"time"
)

// BenchmarkServing starts b.N load-balancer guests, each with its medium, until all serve TLS, and tells what an idle
// one of them costs with its port, its wire and the other end of its long poll.
func BenchmarkServing(b *testing.B) {
	c := newFakeCloud(b)
	s := newSite(b, c, Config{})
	media := make([]string, b.N)
	specs := s.started
	for i := range media {
		spec, _ := s.spec(LBVM)
		media[i] = c.medium(s.dir, spec.ID)
	}
	s.started = specs
	beforeBytes, beforeGoroutines := weigh()
	beforeCPU := cpuTime(b)
	b.ResetTimer()
	for i := range b.N {
		spec, ip := s.spec(LBVM)
		spec.Medium = media[i]
		s.start(spec, ip)
	}
	for range b.N {
		select {
		case <-c.served:
		case <-time.After(time.Minute):
			b.Fatal("a guest does not serve")
		}
	}
	for _, spec := range s.machines {
		awaitStage(b, spec.record.Console, "serving")
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "starts/s")
	b.ReportMetric(float64((cpuTime(b)-beforeCPU).Milliseconds())/float64(b.N), "cpu-ms/start")
	afterBytes, afterGoroutines := weigh()
	b.ReportMetric((afterBytes-beforeBytes)/float64(b.N), "bytes/guest")
	b.ReportMetric(float64(afterGoroutines-beforeGoroutines)/float64(b.N), "goroutines/guest")
	if dir := os.Getenv("SIM_PROFILE"); dir != "" {
		for _, name := range []string{"heap", "goroutine"} {
			f, err := os.Create(filepath.Join(dir, name))
			if err != nil {
				b.Fatal(err)
			}
			_ = pprof.Lookup(name).WriteTo(f, 0)
			_ = f.Close()
		}
	}
}

// cpuTime is what the process has used of all processors.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// weigh returns the bytes that live, stacks included, and the number of goroutines.
func weigh() (inUse float64, goroutines int) {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc + m.StackInuse), runtime.NumGoroutine()
}

// awaitStage waits until a console log holds a milestone.
func awaitStage(t testing.TB, console, stage string) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	want := []byte(`"stage":"` + stage + `"`)
	for {
		if text, err := os.ReadFile(console); err == nil && bytes.Contains(text, want) {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			text, _ := os.ReadFile(console)
			t.Fatalf("no milestone %s on the console:\n%s", stage, text)
		}
	}
}
