package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/cloudtwin/cloudtwin/cloud"
	"github.com/cloudtwin/cloudtwin/cloud/api"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	stsmodel "github.com/cloudtwin/cloudtwin/cloud/model/sts"
	"github.com/cloudtwin/cloudtwin/cloud/sts"
)

const (
	// recordPairs is how often a turn with all events and one with the audit alone follow each other: the difference is
	// small, and what else the machine does must not be taken for it.
	recordPairs = 80
	recordTurn  = turn / 3
	// overheadAim is what recording may cost, in percent of the throughput.
	overheadAim = 3
	// bytesAim is 50 MB an hour at 100 events a second.
	bytesAim = 50e6 / (100 * 3600)
)

// benchRecord measures what recording costs: the throughput of the cheapest request and of deliveries with all events
// and with the audit alone, turn by turn on the same cloud, and what an event takes of the disk.
func benchRecord(ctx context.Context, s *suite) (err error) {
	d, err := openDelivery(ctx, s.room, keydelivery.Profile2)
	defer func() { err = errors.Join(err, d.close()) }()
	if err != nil {
		return err
	}
	requests, err := d.requests(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, requests.close()) }()
	callers, err := d.overhead(func() (rate, error) {
		return drive(ctx, requests.workers, recordTurn, func(worker int) error {
			return requests.client.discard(ctx, worker)
		})
	})
	if err != nil {
		return err
	}
	size, err := d.eventSize()
	if err != nil {
		return err
	}
	guests := guestsPerCore * runtime.GOMAXPROCS(0)
	first, _, err := d.turn(ctx, guests, firstDeliveries)
	if err != nil {
		return err
	}
	each := max(guests, int(first.perSecond()*recordTurn.Seconds()))
	deliveries, err := d.overhead(func() (rate, error) {
		r, _, err := d.turn(ctx, guests, each)
		return r, err
	})
	if err != nil {
		return err
	}
	const reference = "the audit alone is 0"
	for name, value := range map[string]float64{
		nameRecordAPI: callers, nameRecordDelivery: deliveries, nameRecordOverhead: max(callers, deliveries),
	} {
		s.emit(result{Name: name, Value: value, Unit: percent}.against(reference, 0, aim{}.within(overheadAim)))
	}
	s.emit(result{Name: nameRecordBytes, Value: size, Unit: bytesEach}.
		against("50 MB an hour at 100 events a second", bytesAim, atMost(1)))
	return nil
}

// overhead is what recording all events takes of a throughput, in percent: the mean of pairs of turns, but for the
// quarters of them that tell most and least.
func (d *delivery) overhead(measure func() (rate, error)) (float64, error) {
	var lost []float64
	for i := range recordPairs {
		// Which of a pair comes first changes, so that neither gains by it.
		var pair [2]float64
		for _, auditOnly := range []bool{i%2 == 0, i%2 != 0} {
			d.events.AuditOnly(auditOnly)
			r, err := measure()
			if err != nil {
				return 0, err
			}
			if auditOnly {
				pair[1] = r.perSecond()
			} else {
				pair[0] = r.perSecond()
			}
		}
		lost = append(lost, 100*(1-pair[0]/pair[1]))
	}
	d.events.AuditOnly(false)
	slices.Sort(lost)
	sum := 0.0
	for _, percent := range lost[recordPairs/4 : 3*recordPairs/4] {
		sum += percent
	}
	return sum / (recordPairs / 2), nil
}

// eventSize is what an event takes of the disk, in bytes, in an hour of 100 a second: compressed, and its share of the
// file that is written to, which is not yet.
func (d *delivery) eventSize() (float64, error) {
	const hour, largestFile = 100 * 3600, 4 << 20
	path := filepath.Join(d.dir, "journal.jsonl")
	if err := compressed(path); err != nil {
		return 0, err
	}
	events := 0
	if err := journal.Read(path, func(journal.Event) { events++ }); err != nil {
		return 0, err
	}
	newest, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	files, err := filepath.Glob(path + ".*")
	size := float64(0)
	for _, name := range files {
		info, statErr := os.Stat(name)
		if statErr != nil {
			return 0, statErr
		}
		size += float64(info.Size())
	}
	if events -= bytes.Count(newest, []byte("\n")); events == 0 {
		return 0, fmt.Errorf("no file of %s is full after the load: nothing can be said of its size", path)
	}
	return size/float64(events) + largestFile/float64(hour), err
}

// compressed waits until the files that the journal put aside are: that begins when there is calm.
func compressed(path string) error {
	const patience, pause = 30 * time.Second, 100 * time.Millisecond
	for begun := time.Now(); ; time.Sleep(pause) {
		files, err := filepath.Glob(path + ".*")
		if err != nil {
			return err
		}
		waiting := slices.DeleteFunc(files, func(name string) bool { return filepath.Ext(name) == ".zst" })
		if len(waiting) == 0 {
			return nil
		}
		if time.Since(begun) > patience {
			return fmt.Errorf("the journal has not compressed %v after %v", waiting, patience)
		}
	}
}

// callerIdentity is a front door that answers GetCallerIdentity, and a client of it.
type callerIdentity struct {
	server  *http.Server
	served  chan error
	client  *client
	workers int
}

func (c *callerIdentity) close() error {
	c.client.close()
	err := c.server.Close()
	if served := <-c.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// requests opens a front door to the delivery's iam.
func (d *delivery) requests(ctx context.Context) (*callerIdentity, error) {
	service := sts.New(d.iam)
	handler, err := api.New(api.Config{Identity: d.iam, Authorizer: d.iam, Journal: d.events,
		Services: []api.Binding{{Service: stsmodel.Service(), Operations: stsmodel.Operations(),
			Handlers: stsmodel.Handlers(service), Resources: service.Resources, SelfAuthorized: service.SelfAuthorized()}}})
	if err != nil {
		return nil, err
	}
	keyID, secret, err := d.iam.EnsureRootKey(ctx, cloud.UserAccountID)
	if err != nil {
		return nil, err
	}
	defer secret.Wipe()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	endpoint := "http://" + listener.Addr().String()
	c := &callerIdentity{server: &http.Server{Handler: handler, ReadHeaderTimeout: turn}, served: make(chan error, 1),
		workers: 2 * runtime.GOMAXPROCS(0)}
	go func() { c.served <- c.server.Serve(listener) }()
	signed, err := sign(ctx, aws.Config{Region: "us-east-1",
		Credentials: credentials.NewStaticCredentialsProvider(keyID, string(secret), "")}, endpoint, apiCall{
		service: "sts", form: url.Values{"Action": {"GetCallerIdentity"}, "Version": {"2011-06-15"}}})
	c.client = newClient(endpoint, signed, c.workers)
	if err == nil {
		_, err = c.client.ask(ctx, 0)
	}
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}
