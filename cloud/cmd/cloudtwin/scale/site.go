package scale

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"golang.org/x/sync/errgroup"

	"github.com/cloudtwin/cloudtwin/cloud"
	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
	"github.com/cloudtwin/cloudtwin/node"
	"github.com/cloudtwin/cloudtwin/node/hypervisor/sim"
)

const (
	hostname = "www.example.test"
	// nodeMemoryMB and nodeCores are room for any number of guests: they cost this process, not the node.
	nodeMemoryMB = 1 << 20
	nodeCores    = 64
	// startsAtOnce is how many nodes enrol at the same time, and closesAtOnce how many are closed.
	startsAtOnce, closesAtOnce = 8, 8
)

// site is the cloud with its nodes.
type site struct {
	cfg      Config
	dir      *room // state on disk
	run      *room // state in memory
	host     *loopback
	cloud    *cloud.Cloud
	mu       sync.Mutex
	nodes    []*hostNode
	tracker  *tracker
	meter    meter
	nodeKB   float64
	elb      *elasticloadbalancing.Client
	ca       *pki.Authority
	pair     *pki.Pair
	arn      string // of the certificate that every load balancer serves
	progress *progress
}

// hostNode is a node with the driver of its guests.
type hostNode struct {
	node   *node.Node
	driver *sim.Driver
}

// startSite starts the cloud and enrols the nodes. close must be called whatever the outcome.
func startSite(ctx context.Context, cfg Config) (*site, error) {
	s := &site{cfg: cfg, host: newLoopback(), progress: newProgress(cfg.Progress)}
	var err error
	if s.dir, err = openRoom(cmp.Or(cfg.Dir, os.TempDir())); err != nil {
		return s, fmt.Errorf("state: %w", err)
	}
	if s.run, err = openRoom(memoryDir); err != nil {
		return s, fmt.Errorf("media: %w", err)
	}
	images := filepath.Join(s.dir.path, "images")
	if err := sim.WriteImages(images); err != nil {
		return s, err
	}
	s.cloud, err = cloud.Start(ctx, cloud.Config{
		Dir: filepath.Join(s.dir.path, "cloud"), Journal: filepath.Join(s.dir.path, "journal.jsonl"),
		Images: []ec2.ImageInfo{{Name: "lbvm"}, {Name: "web", Public: true}},
	})
	if err != nil {
		return s, err
	}
	s.tracker = follow(s.cloud)
	if err := s.startNodes(ctx, images); err != nil {
		return s, err
	}
	return s, s.furnish(ctx)
}

// memoryDir is where nodes keep their guests' media.
const memoryDir = "/dev/shm"

func (s *site) startNodes(ctx context.Context, images string) error {
	before := residentKB()
	group, starting := errgroup.WithContext(ctx)
	group.SetLimit(startsAtOnce)
	for i := range s.cfg.Nodes {
		group.Go(func() error {
			if err := s.startNode(starting, fmt.Sprintf("node-%05d", i), images); err != nil {
				return err
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			s.progress.say("nodes: %d of %d", len(s.nodes), s.cfg.Nodes)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := s.tracker.awaitNodes(ctx, s.cfg); err != nil {
		return err
	}
	s.nodeKB = (residentKB() - before) / float64(s.cfg.Nodes)
	return nil
}

func (s *site) startNode(ctx context.Context, id, images string) error {
	token, err := s.cloud.NewNodeToken(ctx)
	if err != nil {
		return err
	}
	driver, err := sim.New(sim.Config{Dir: filepath.Join(s.dir.path, "nodes", id, "machines")})
	if err != nil {
		return err
	}
	n, err := node.Start(ctx, node.Config{
		ID: id, Dir: filepath.Join(s.dir.path, "nodes", id, "node"), RunDir: filepath.Join(s.run.path, id),
		CloudAddress: s.cloud.NodeLink(), Token: token, Images: images, Driver: driver, Guests: node.GuestsSim,
		MemoryMB: nodeMemoryMB, Cores: nodeCores, HandOver: s.cloud.HandOver, Listen: s.host.listen,
	})
	if err != nil {
		return errors.Join(fmt.Errorf("start %s: %w", id, err), driver.Close())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes = append(s.nodes, &hostNode{node: n, driver: driver})
	return nil
}

// furnish uploads the certificate as a user does.
func (s *site) furnish(ctx context.Context) error {
	keys, err := s.cloud.Credentials(ctx)
	if err != nil {
		return err
	}
	cfg := aws.Config{Region: "us-east-1", BaseEndpoint: aws.String(s.cloud.Endpoint()), RetryMaxAttempts: 3,
		Credentials: credentials.NewStaticCredentialsProvider(keys.AccessKeyID, keys.SecretAccessKey, "")}
	s.elb = elasticloadbalancing.NewFromConfig(cfg)
	if s.ca, err = pki.NewAuthority("scale CA"); err != nil {
		return err
	}
	if s.pair, err = s.ca.Server(pki.P256, hostname); err != nil {
		return err
	}
	uploaded, err := iam.NewFromConfig(cfg).UploadServerCertificate(ctx, &iam.UploadServerCertificateInput{
		ServerCertificateName: aws.String(hostname), CertificateBody: aws.String(string(s.pair.CertPEM)),
		PrivateKey: aws.String(string(s.pair.KeyPEM)), CertificateChain: aws.String(string(s.ca.PEM))})
	if err != nil {
		return fmt.Errorf("upload certificate: %w", err)
	}
	s.arn = aws.ToString(uploaded.ServerCertificateMetadata.Arn)
	return nil
}

// close ends nodes, guests and cloud and removes what they left.
func (s *site) close() error {
	s.progress.say("cleaning up")
	errs := make([]error, len(s.nodes), len(s.nodes)+4)
	var group errgroup.Group
	group.SetLimit(closesAtOnce)
	for i, n := range s.nodes {
		group.Go(func() error {
			errs[i] = errors.Join(n.node.Close(), n.driver.Close())
			return nil
		})
	}
	_ = group.Wait() // the errors are in errs
	if s.tracker != nil {
		s.tracker.stop()
	}
	if s.cloud != nil {
		errs = append(errs, s.cloud.Close())
	}
	errs = append(errs, s.run.close(), s.dir.close())
	s.progress.end()
	return errors.Join(errs...)
}
