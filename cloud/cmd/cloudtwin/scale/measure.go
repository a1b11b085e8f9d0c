package scale

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// meter measures one step after the other.
type meter struct {
	began    time.Time
	cpu      time.Duration
	residing float64 // KB, before the first load balancer

	mu        sync.Mutex
	creations []time.Duration
	addresses map[int]string
}

func (m *meter) begin(t *tracker) {
	t.takeDeliveries()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.creations = nil
	if m.addresses == nil {
		m.addresses = map[int]string{}
		debug.FreeOSMemory()
		m.residing = residentKB()
	}
	m.began, m.cpu = time.Now(), usedCPU()
}

func (m *meter) created(n int, address string, took time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.creations = append(m.creations, took)
	m.addresses[n] = address
}

func (m *meter) address(n int) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.addresses[n]
}

// end returns the row of a step that made so many load balancers.
func (m *meter) end(ctx context.Context, s *site, total, made int) (Row, error) {
	took, used := time.Since(m.began), usedCPU()-m.cpu
	deliveries := s.tracker.takeDeliveries()
	row := Row{
		LoadBalancers: total, Seconds: took.Seconds(), StartsPerSecond: float64(made) / took.Seconds(),
		CPUMillisPerStart: used.Seconds() * 1000 / float64(made),
		DeliveryP50Millis: millis(percentile(deliveries, 50)), DeliveryP99Millis: millis(percentile(deliveries, 99)),
		Goroutines: runtime.NumGoroutine(), OpenFiles: openFiles(), PeakRSSMB: peakKB() / 1024,
	}
	m.mu.Lock()
	row.CreateP99Millis = millis(percentile(m.creations, 99))
	m.mu.Unlock()
	debug.FreeOSMemory() // collects first: garbage is the process's affair, not a guest's cost
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	row.RSSMB = residentKB() / 1024
	row.LiveHeapMB = float64(memory.HeapAlloc) / (1 << 20)
	row.GuestKB = (row.RSSMB*1024 - m.residing) / float64(total)
	size, records, err := s.cloud.StoreSize(ctx)
	row.EtcdMB = float64(size) / (1 << 20)
	for _, n := range records {
		row.EtcdKeys += n
	}
	return row, err
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// percentile sorts list.
func percentile(list []time.Duration, p int) time.Duration {
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	return list[min(len(list)-1, len(list)*p/100)]
}

// usedCPU is the processor's time that this process has taken, in the kernel too.
func usedCPU() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// residentKB is this process's resident memory (proc(5), statm).
func residentKB() float64 {
	text, err := os.ReadFile("/proc/self/statm")
	fields := strings.Fields(string(text))
	if err != nil || len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return float64(pages) * float64(os.Getpagesize()) / 1024
}

// peakKB is the most memory that this process has had resident (proc(5), status).
func peakKB() float64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	kb, err := strconv.ParseFloat(fields[0], 64)
	if err != nil {
		return 0
	}
	return kb
}

func openFiles() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}
