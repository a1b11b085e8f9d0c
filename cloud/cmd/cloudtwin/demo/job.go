package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/operator"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

// Cloud is the running cloud that the demo uses.
type Cloud interface {
	Status(ctx context.Context) (operator.Status, error)
	Credentials(ctx context.Context) (operator.Credentials, error)
	Follow(ctx context.Context) <-chan journal.Event
}

// Config of a run.
type Config struct {
	// Start starts the cloud and its node and returns when both are up.
	Start func(ctx context.Context) (Cloud, error)
	// Journal is the path of the cloud's journal file, copied into Evidence.
	Journal string
	// Evidence is the folder for consoles, events and reports.
	Evidence  string
	Presenter Presenter
	// Hostname of the certificate; empty means www.example.test.
	Hostname string
	// StepTimeout bounds every step; zero means 60 s.
	StepTimeout time.Duration
}

// job is one run: every method is a step.
type job struct {
	cfg    Config
	report *Report
	cloud  Cloud
	aws    clients
	ca     *pki.Authority
	pair   *pki.Pair
	track  *tracker
	last   time.Time // when the step before ended
	backs  []string
	lb     operator.LoadBalancer
}

type clients struct {
	iam *iam.Client
	ec2 *ec2.Client
	elb *elasticloadbalancing.Client
}

// Run does the main job. The report is never nil; on failure it tells which step went wrong, and the evidence
// gathered so far lies in its folder.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	if cfg.Hostname == "" {
		cfg.Hostname = "www.example.test"
	}
	if cfg.StepTimeout == 0 {
		cfg.StepTimeout = time.Minute
	}
	j := &job{cfg: cfg, report: &Report{Started: time.Now(), Evidence: cfg.Evidence}}
	j.last = j.report.Started
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err := j.steps(ctx)
	j.report.Seconds = time.Since(j.report.Started).Seconds()
	if err != nil {
		j.report.Failure = err.Error()
	}
	if j.cloud != nil {
		// Evidence matters most when the run was broken off.
		last, done := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer done()
		status, statusErr := j.cloud.Status(last)
		err = errors.Join(err, statusErr, j.report.collect(status, cfg.Journal))
	}
	if err == nil {
		cfg.Presenter.Report(j.report)
	}
	return j.report, err
}

func (j *job) steps(ctx context.Context) error {
	for _, s := range []struct {
		step Step
		do   func(context.Context) (string, error)
	}{
		{Step{"", "start a cloud and a node"}, j.start},
		{Step{"", "make a CA and a certificate"}, j.makeCertificate},
		{Step{"", "start two backend instances"}, j.runBackends},
		{Step{"1", "upload the certificate; iam seals the key"}, j.upload},
		{Step{"2", "create the load balancer; elb grants its role"}, j.createLoadBalancer},
	} {
		if err := j.step(s.step, func() (string, error) { return s.do(ctx) }); err != nil {
			return err
		}
	}
	fork := false
	for _, l := range journey {
		if l.boot && fork {
			continue
		}
		if err := j.step(l.step, func() (string, error) {
			ev, err := j.track.wait(ctx, l)
			fork = fork || forked(ev)
			if err != nil || l.detail == nil {
				return "", err
			}
			return l.detail(ev), nil
		}); err != nil {
			return err
		}
	}
	handshake := func() (string, error) { return j.handshake(ctx) }
	if err := j.step(Step{"", "first verified TLS handshake"}, handshake); err != nil {
		return err
	}
	return j.step(Step{"", "both backends answer through it"}, func() (string, error) { return j.askBackends(ctx) })
}

// step runs one step and shows it. Its time counts from the end of the step before, so that the times add up.
func (j *job) step(s Step, do func() (string, error)) error {
	j.cfg.Presenter.Begin(s)
	detail, err := do()
	now := time.Now()
	took := now.Sub(j.last)
	j.last = now
	j.report.Timings = append(j.report.Timings, Timing{Number: s.Number, Title: s.Title, Seconds: took.Seconds()})
	j.cfg.Presenter.End(took, detail, err)
	if err != nil {
		return fmt.Errorf("%s: %w", s.Title, err)
	}
	return nil
}

func (j *job) start(ctx context.Context) (string, error) {
	cloud, err := j.cfg.Start(ctx)
	if err != nil {
		return "", err
	}
	j.cloud = cloud
	status, err := cloud.Status(ctx)
	if err != nil {
		return "", err
	}
	keys, err := cloud.Credentials(ctx)
	if err != nil {
		return "", err
	}
	cfg := aws.Config{
		Region: status.Region, BaseEndpoint: aws.String(status.Endpoint), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(keys.AccessKeyID, keys.SecretAccessKey, ""),
	}
	j.aws = clients{iam.NewFromConfig(cfg), ec2.NewFromConfig(cfg), elasticloadbalancing.NewFromConfig(cfg)}
	j.track = &tracker{events: cloud.Follow(ctx), deadline: j.cfg.StepTimeout}
	return status.Endpoint, nil
}

func (j *job) makeCertificate(context.Context) (string, error) {
	var err error
	if j.ca, err = pki.NewAuthority("cloudtwin demo CA"); err != nil {
		return "", err
	}
	if j.pair, err = j.ca.Server(pki.P256, j.cfg.Hostname); err != nil {
		return "", err
	}
	j.report.UploadedFingerprint = j.pair.Fingerprint()
	return "CN=" + j.cfg.Hostname, nil
}
