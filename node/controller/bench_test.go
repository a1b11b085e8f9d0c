package controller

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/nodelink"
	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

// quietDriver runs machines that cost nothing: each says a guest's usual words and then nothing more.
type quietDriver struct{ *fakeDriver }

func (d quietDriver) Start(_ context.Context, spec hypervisor.Spec) (hypervisor.Machine, error) {
	return quietMachine{id: spec.ID}, nil
}

type quietMachine struct{ id string }

const usualWords = `@cloudtwin {"stage":"medium-read","t":0.1}
@cloudtwin {"stage":"network","t":0.2,"address":"10.64.0.16"}
@cloudtwin {"stage":"credentials","t":0.3}
@cloudtwin {"stage":"listeners","t":0.4,"count":1}
@cloudtwin {"stage":"key-received","t":0.5,"arn":"arn:aws:iam::000000000000:server-certificate/site"}
@cloudtwin {"stage":"serving","t":0.6,"listener":"443"}
`

func (m quietMachine) ID() string { return m.id }
func (m quietMachine) State(context.Context) (hypervisor.State, error) {
	return hypervisor.Running, nil
}
func (m quietMachine) Stop(context.Context) error                 { return nil }
func (m quietMachine) Kill(context.Context) error                 { return nil }
func (m quietMachine) InsertMedium(context.Context, string) error { return nil }
func (m quietMachine) EjectMedium(context.Context) error          { return nil }
func (m quietMachine) Statistics(context.Context) (hypervisor.Statistics, error) {
	return hypervisor.Statistics{}, nil
}
func (m quietMachine) Console(ctx context.Context) (io.ReadCloser, error) {
	return &quietConsole{ctx: ctx, left: usualWords}, nil
}

type quietConsole struct {
	ctx  context.Context //nolint:containedctx // a reader has no other place for it
	left string
}

func (c *quietConsole) Read(p []byte) (int, error) {
	if c.left == "" {
		<-c.ctx.Done()
		return 0, io.EOF
	}
	n := copy(p, c.left)
	c.left = c.left[n:]
	return n, nil
}

func (c *quietConsole) Close() error { return nil }

// BenchmarkGuests is what the controller itself costs: starts a second, and bytes and goroutines for each guest that
// serves. The cost of one must not grow with their number.
func BenchmarkGuests(b *testing.B) {
	for _, n := range []int{100, 1000, 4000} {
		b.Run(fmt.Sprintf("%d", n), func(b *testing.B) {
			for b.Loop() {
				benchGuests(b, n)
			}
		})
	}
}

func benchGuests(b *testing.B, n int) {
	b.StopTimer()
	w := newWorld(b)
	defer w.remove()
	w.change = func(c *Config) { c.Driver, c.Guests = quietDriver{w.driver}, GuestsSim }
	c, stop := w.start()
	defer stop()
	all := make([]*nodelink.Instance, n)
	credential := w.credential(nodeID, "i-00000000000000001")
	for i := range all {
		all[i] = w.instance("lbvm")
		all[i].PrivateIp = fmt.Sprintf("10.64.%d.%d", i/200, 16+i%200)
	}
	all[0].Credential = credential
	before := measure()
	b.StartTimer()
	began := time.Now()
	w.cloud.run(all...)
	for w.cloud.serving() < n {
		runtime.Gosched()
	}
	took := time.Since(began)
	b.StopTimer()
	after := measure()
	b.ReportMetric(float64(n)/took.Seconds(), "starts/s")
	b.ReportMetric(float64(after.bytes-before.bytes)/float64(n), "B/guest")
	b.ReportMetric(float64(after.goroutines-before.goroutines)/float64(n), "goroutines/guest")
	runtime.KeepAlive(c)
	b.StartTimer()
}

type usage struct{ bytes, goroutines int64 }

func measure() usage {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{bytes: int64(m.HeapAlloc + m.StackInuse), goroutines: int64(runtime.NumGoroutine())}
}

// BenchmarkMedium is the writing and wiping of one guest's medium.
func BenchmarkMedium(b *testing.B) {
	w := newWorld(b)
	defer w.remove()
	inst := w.lbvm()
	c := &Controller{cfg: Config{NodeID: nodeID, Keys: w.keys}.withDefaults(), services: services()}
	var err error
	if c.media, err = openMedia(w.media); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		path, err := c.makeMedium(inst, true)
		if err != nil {
			b.Fatal(err)
		}
		var once sync.Once
		if err := c.media.wipe(path, func() { once.Do(func() {}) }); err != nil {
			b.Fatal(err)
		}
	}
}
