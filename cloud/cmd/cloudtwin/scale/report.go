package scale

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// Report is what a run measured.
type Report struct {
	Nodes         int `json:"nodes"`
	LoadBalancers int `json:"loadBalancers"`
	Concurrency   int `json:"concurrency"`
	CPUs          int `json:"cpus"`
	// NodesSeconds is how long it took to start the cloud and enrol all nodes.
	NodesSeconds float64 `json:"nodesSeconds"`
	// NodeKB is resident memory per node without guests.
	NodeKB float64 `json:"nodeKB"`
	// DeliveryMeasured says where the deliveries' times were taken.
	DeliveryMeasured string `json:"deliveryMeasured"`
	Rows             []Row  `json:"rows"`
	// IdleCPUMillis is the processor's time that a load balancer takes in a second when nothing happens, nodes and
	// control plane included.
	IdleCPUMillis float64 `json:"idleCPUMillis"`
	// Handshakes is how many load balancers were asked for their certificate from outside, and gave the right one.
	Handshakes int `json:"handshakes"`
}

// Row is one step: the load balancers since the step before, and what there is now.
type Row struct {
	LoadBalancers     int     `json:"loadBalancers"` // that serve now
	Seconds           float64 `json:"seconds"`       // of this step
	StartsPerSecond   float64 `json:"startsPerSecond"`
	CPUMillisPerStart float64 `json:"cpuMillisPerStart"` // of all threads, guests and clients included
	CreateP99Millis   float64 `json:"createP99Millis"`   // CreateLoadBalancer, as its client sees it
	DeliveryP50Millis float64 `json:"deliveryP50Millis"`
	DeliveryP99Millis float64 `json:"deliveryP99Millis"`
	RSSMB             float64 `json:"rssMB"`     // after garbage was collected and given back
	PeakRSSMB         float64 `json:"peakRSSMB"` // the most there was so far, garbage included
	LiveHeapMB        float64 `json:"liveHeapMB"`
	GuestKB           float64 `json:"guestKB"` // resident memory per load balancer, nodes not counted
	EtcdMB            float64 `json:"etcdMB"`
	EtcdKeys          int64   `json:"etcdKeys"`
	Goroutines        int     `json:"goroutines"`
	OpenFiles         int     `json:"openFiles"`
}

// Seconds is how long all steps together took.
func (r Report) Seconds() (sum float64) {
	for _, row := range r.Rows {
		sum += row.Seconds
	}
	return sum
}

// WriteTable writes the report for people.
func (r Report) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	print := func(format string, args ...any) { _, _ = fmt.Fprintf(t, format, args...) }
	print("load balancers\tseconds\tstarts/s\tCPU ms/start\tcreate p99 ms\tdelivery p50 ms\tdelivery p99 ms\t" +
		"RSS MB\tpeak MB\tlive heap MB\tKB/guest\tetcd MB\tetcd keys\tgoroutines\tfiles\t\n")
	for _, row := range r.Rows {
		print("%d\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%d\t%d\t%d\t\n", row.LoadBalancers,
			row.Seconds, row.StartsPerSecond, row.CPUMillisPerStart, row.CreateP99Millis, row.DeliveryP50Millis,
			row.DeliveryP99Millis, row.RSSMB, row.PeakRSSMB, row.LiveHeapMB, row.GuestKB, row.EtcdMB, row.EtcdKeys,
			row.Goroutines, row.OpenFiles)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%d nodes in %.1f s, %.0f KB each; %d load balancers in %.1f s on %d CPUs, %d under way at "+
		"once; %d gave the right certificate to a client outside; idle, each takes %.2f ms of CPU a second\n"+
		"delivery: measured %s\n", r.Nodes, r.NodesSeconds, r.NodeKB,
		r.LoadBalancers, r.Seconds(), r.CPUs, r.Concurrency, r.Handshakes, r.IdleCPUMillis,
		r.DeliveryMeasured)
	return err
}
