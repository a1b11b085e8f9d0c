package twin

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	ginkgo "github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"
	"github.com/onsi/gomega/gexec"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/operator"
	"github.com/cloudtwin/cloudtwin/e2e/twin/console"
	"github.com/cloudtwin/cloudtwin/node"
	"github.com/cloudtwin/cloudtwin/node/shares"
)

// Timeouts on two cores under software emulation. They bound how long a failure takes, not how fast anything is;
// BootTimeout is another.
const (
	ChangeTimeout = 60 * time.Second // a change of a listener or backend to its effect
	startTimeout  = 3 * time.Minute
	pollInterval  = 50 * time.Millisecond
)

// Twin is a running cloud, with one node unless it was started without.
type Twin struct {
	// Operator is the cloud's back door.
	Operator *operator.Client
	// StateDir is the cloud's state folder.
	StateDir string
	IAM      *iam.Client
	STS      *sts.Client
	EC2      *ec2.Client
	ELB      *elasticloadbalancing.Client
	// Binary is the program under test.
	Binary string
	// Config is the AWS configuration of the clients above: the first account's root user.
	Config aws.Config
	// Mode is how its guests come to life.
	Mode node.GuestMode

	began      time.Time
	images     string
	dir        string
	cloudFlags []string
	store      []string // URLs of an external etcd
	nodeFlags  []string
	cloud      *process
	node       *process
	here       *local.Node // its node, when that runs in this process
	keys       keyWatch
	pair       keyPair
	lease      *shares.Lease // of the twin's own node

	share  shares.Share // of the machine, for each node; zero means the usual one
	kept   atomic.Bool  // a failure left it running
	frozen atomic.Bool  // and all that its specs made
	read   console.Reader

	mu      sync.Mutex
	made    int // names made so far
	allowed []*regexp.Regexp
	nodes   []startedNode // every process of a node that was started
	baseURL string
}

// Start starts a cloud and a node for the suite and ends them after it. It fails the suite when it cannot. Call it in
// BeforeSuite or BeforeAll, and KeepEvidence beside that.
func Start(options ...Option) *Twin {
	ginkgo.GinkgoHelper()
	t := StartCloud(options...)
	t.StartNode()
	return t
}

// StartCloud is Start without a node, for suites that need no guest.
func StartCloud(options ...Option) *Twin {
	ginkgo.GinkgoHelper()
	dir, err := os.MkdirTemp("", "ct")
	ExpectMachine(err, "make a folder for the twin")
	t := &Twin{began: time.Now(), dir: dir, StateDir: filepath.Join(dir, "s"), Binary: Program(),
		images: os.Getenv("CLOUDTWIN_IMAGES"),
		Mode:   Mode()}
	for _, option := range options {
		option(t)
	}
	t.Operator = operator.NewClient(filepath.Join(t.StateDir, "operator.sock"))
	ginkgo.DeferCleanup(t.stop)
	t.runCloud()
	return t
}

// Program is the path of the program under test: CLOUDTWIN_BIN, or built now.
func Program() string {
	ginkgo.GinkgoHelper()
	if path := os.Getenv("CLOUDTWIN_BIN"); path != "" {
		return path
	}
	path, err := gexec.Build("github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin", "-tags", "libvirt_dlopen")
	gomega.Expect(err).NotTo(gomega.HaveOccurred(), "build cloudtwin")
	ginkgo.DeferCleanup(gexec.CleanupBuildArtifacts)
	return path
}

// run starts the program with what every command of a twin needs.
func (t *Twin) run(name string, share *shares.Lease, args ...string) *process {
	ginkgo.GinkgoHelper()
	if t.images != "" {
		args = append(args, "--images", t.images)
	}
	args = append(args, "--guests", string(t.Mode), "--log", "debug")
	p, err := startProcess(name, filepath.Join(t.dir, name+".log"), share, t.Binary, args...)
	ExpectMachine(err, "start %s", name)
	return p
}

func (t *Twin) waitForCloud() {
	ginkgo.GinkgoHelper()
	gomega.Eventually(func(g gomega.Gomega) {
		if code, ended := t.cloud.exited(); ended {
			t.cloud.blameExit()
			gomega.StopTrying(fmt.Sprintf("the cloud ended with code %d:\n%s", code, t.cloud.tail())).Now()
		}
		_, err := t.Operator.Status(context.Background())
		g.Expect(err).NotTo(gomega.HaveOccurred())
	}).WithTimeout(startTimeout).WithPolling(pollInterval).Should(gomega.Succeed(), "the cloud's start")
}

// StartNode starts the twin's node, again after KillNode, and returns when the cloud sees it up.
func (t *Twin) StartNode() {
	ginkgo.GinkgoHelper()
	ctx, begun := context.Background(), time.Now()
	status, err := t.Operator.Status(ctx)
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	token, err := t.Operator.NewNodeToken(ctx)
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	t.watchMedia()
	command := []string{"node", "--id", nodeID, "--state", t.NodeDir(), "--cloud", status.NodeLink, "--token", token}
	if t.lease == nil {
		t.lease = t.admit(nodeID)
	}
	t.node = t.run("node", t.lease, slices.Concat(command, t.memoryFlags(), t.nodeFlags)...)
	t.note(t.node, t.NodeDir())
	t.awaitNode(begun, t.node.done)
}

// startedNode is a node's process with its state folder.
type startedNode struct {
	process *process
	state   string
}

// note remembers a node's process, for who wants to end it by hand.
func (t *Twin) note(p *process, state string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.nodes = append(t.nodes, startedNode{p, state})
}

// awaitNode returns when the node has connected since begun, which the cloud may not have seen go; ended is closed when
// it never will.
func (t *Twin) awaitNode(begun time.Time, ended <-chan struct{}) {
	ginkgo.GinkgoHelper()
	t.awaitConnected(nodeID, begun, ended, t.nodeTail)
}

// awaitConnected is awaitNode for any node; tail tells what its process said last.
func (t *Twin) awaitConnected(id string, begun time.Time, ended <-chan struct{}, tail func() string) {
	ginkgo.GinkgoHelper()
	gomega.Eventually(func(g gomega.Gomega) {
		select {
		case <-ended:
			gomega.StopTrying("the node ended: " + tail()).Now()
		default:
		}
		events, err := t.Events()
		g.Expect(err).NotTo(gomega.HaveOccurred())
		g.Expect(slices.ContainsFunc(events, func(ev journal.Event) bool {
			return ev.Kind == "node.connected" && ev.Subject == id && ev.Time.After(begun)
		})).To(gomega.BeTrue(), "node.connected of "+id)
		status, err := t.Operator.Status(context.Background())
		g.Expect(err).NotTo(gomega.HaveOccurred())
		g.Expect(status.Nodes).To(gomega.ContainElement(gomega.And(
			gomega.HaveField("ID", id), gomega.HaveField("State", "up"))))
	}).WithTimeout(startTimeout).WithPolling(pollInterval).Should(gomega.Succeed(), "the start of %s", id)
}

// nodeTail is what the node's process said last.
func (t *Twin) nodeTail() string {
	if t.node == nil {
		return "it has no log of its own"
	}
	t.node.blameExit()
	return t.node.tail()
}

// nodeID is the twin's node.
const nodeID = "node-1"

// NodeDir is the node's state folder.
func (t *Twin) NodeDir() string { return filepath.Join(t.dir, "n") }

// KillNode ends the node's process with SIGKILL. Its guests go on.
func (t *Twin) KillNode() {
	ginkgo.GinkgoHelper()
	gomega.Expect(t.node.signal(syscall.SIGKILL)).To(gomega.Succeed())
	gomega.Eventually(t.node.done).WithTimeout(startTimeout).Should(gomega.BeClosed(), "the node's end")
}

// connect makes the AWS clients.
func (t *Twin) connect() {
	ginkgo.GinkgoHelper()
	status, err := t.Operator.Status(context.Background())
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	keys, err := t.Operator.Credentials(context.Background())
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	t.baseURL = status.Endpoint
	t.Config = t.As(keys.AccessKeyID, keys.SecretAccessKey, "")
	t.IAM, t.STS = iam.NewFromConfig(t.Config), sts.NewFromConfig(t.Config)
	t.EC2, t.ELB = ec2.NewFromConfig(t.Config), elasticloadbalancing.NewFromConfig(t.Config)
}

// As returns an AWS configuration for other credentials. Nothing is tried twice, so that a spec sees every answer.
func (t *Twin) As(accessKeyID, secret, token string) aws.Config {
	return aws.Config{Region: "us-east-1", BaseEndpoint: aws.String(t.baseURL), RetryMaxAttempts: 1,
		HTTPClient: wholeAnswers(), Credentials: credentials.NewStaticCredentialsProvider(accessKeyID, secret, token)}
}

// Command runs the program under test with args on this twin and returns its exit code and what it printed.
func (t *Twin) Command(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	ginkgo.GinkgoHelper()
	return t.command(ctx, append(args, "--state", t.StateDir)...)
}

func (t *Twin) command(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	ginkgo.GinkgoHelper()
	cmd := exec.CommandContext(ctx, t.Binary, args...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if cmd.ProcessState == nil {
		gomega.Expect(err).NotTo(gomega.HaveOccurred(), "run %v", args)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// name makes a name that no other spec has.
func (t *Twin) name(prefix string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.made++
	return fmt.Sprintf("%s-%d", prefix, t.made)
}

// stop ends node and cloud, with all guests, and fails the suite when something is left or a key is where none may be.
func (t *Twin) stop() {
	ginkgo.GinkgoHelper()
	if t.kept.Load() {
		fmt.Print(t.wayIn())
		return
	}
	leaks := t.FindLeaks()
	for _, p := range []*process{t.node, t.cloud} {
		if p != nil {
			p.end(startTimeout)
		}
	}
	code, _, stderr := t.Command(context.Background(), "down")
	gomega.Expect(code).To(gomega.BeZero(), "down: %s", stderr)
	code, _, stderr = t.command(context.Background(), "node", "--remove", "--state", t.NodeDir())
	gomega.Expect(code).To(gomega.BeZero(), "remove the node: %s", stderr)
	gomega.Expect(t.GuestProcesses(t.dir)).To(gomega.BeEmpty(), "guests that outlive their twin")
	gomega.Expect(t.lease.Release()).To(gomega.Succeed())
	gomega.Expect(os.RemoveAll(t.dir)).To(gomega.Succeed())
	gomega.Expect(leaks).NotTo(gomega.HaveOccurred(), "search for the run's private keys")
}
