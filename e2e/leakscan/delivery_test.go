package leakscan

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/keydelivery"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	"github.com/cloudtwin/cloudtwin/cloud/store"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

// The variables that make the test's own program a cloud that delivers: its folder and the ARNs.
const (
	childDir  = "LEAKSCAN_TEST_DIR"
	childARNs = "LEAKSCAN_TEST_ARNS"
)

const (
	systemAccount = "000000000001"
	userAccount   = "123456789012"
	roleName      = "loadbalancer-vm-123456789012-web"
	instanceID    = "i-0123456789abcdef0"
	deliveries    = 20
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := deliverAndWait(dir, strings.Split(os.Getenv(childARNs), ",")); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func openIAM(ctx context.Context, dir string) (*iam.Service, func(), error) {
	s, err := store.Open(ctx, store.Config{Dir: dir})
	if err != nil {
		return nil, nil, err
	}
	service, err := iam.New(ctx, iam.Config{Store: s, RootKeyFile: filepath.Join(dir, rootKeyFile)})
	if err != nil {
		return nil, nil, err
	}
	return service, func() { service.Close(); _ = s.Close() }, nil
}

// deliverAndWait is a cloud's process that was started on keys that are in its store, delivers each many times and then
// waits to be looked at.
func deliverAndWait(dir string, arns []string) error {
	ctx := context.Background()
	service, done, err := openIAM(ctx, dir)
	if err != nil {
		return err
	}
	defer done()
	creds, err := service.InstanceCredentials(ctx, systemAccount, roleName, instanceID)
	if err != nil {
		return err
	}
	_, caller, err := service.Identify(ctx, creds.AccessKeyID, creds.Token)
	if err != nil {
		return err
	}
	own, text, err := keydelivery.NewLBKey()
	if err != nil {
		return err
	}
	cert, _, err := service.SignLBCert(ctx, instanceID, own.Public(), time.Hour)
	if err != nil {
		return err
	}
	for range deliveries {
		for _, arn := range arns {
			r, err := keydelivery.NewRequest(arn, keydelivery.Identity{CertPEM: cert, Key: text}, time.Now())
			if err != nil {
				return err
			}
			if _, _, err := service.DownloadServerCertificate(authn.WithCaller(ctx, caller), r.Form()); err != nil {
				return err
			}
		}
	}
	fmt.Println("delivered")
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	return nil
}

// TestDeliveryLeavesNoKey looks at the memory of a process that has delivered keys which it did not take in itself:
// USERPK was there in clear for the length of each delivery and is gone. IAMPK and the root key must be there, which
// shows that the search sees the process's keys.
func TestDeliveryLeavesNoKey(t *testing.T) {
	dir := t.TempDir()
	arns := uploadAll(t, dir)
	keys, err := StateKeys(t.Context(), dir, dir)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, k := range keys {
		names = append(names, k.Name)
	}
	for _, name := range []string{"IAMPK", "root key", "USERPK of " + arns[0], "USERPK of " + arns[1]} {
		if !slices.Contains(names, name) {
			t.Fatalf("keys of the store: %v, want %s among them", names, name)
		}
	}
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), childDir+"="+dir, childARNs+"="+strings.Join(arns, ","))
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	child.Stderr = os.Stderr
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = in.Close()
		_ = child.Wait()
	}()
	for lines := bufio.NewScanner(out); ; {
		if !lines.Scan() {
			t.Fatal("the cloud's process ended")
		}
		if lines.Text() == "delivered" {
			break
		}
		t.Log(lines.Text())
	}
	report, err := Run{
		Keys: keys, Trees: []string{dir}, Processes: []Process{{Role: Cloud, Name: "cloud", PID: child.Process.Pid}},
	}.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Log(report)
	if err := report.Err(); err != nil {
		t.Error(err)
	}
}

// uploadAll makes a store with two certificates and a role that may have both, and returns their ARNs.
func uploadAll(t *testing.T, dir string) []string {
	t.Helper()
	service, done, err := openIAM(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	for id, system := range map[string]bool{systemAccount: true, userAccount: false} {
		if _, err := service.EnsureAccount(t.Context(), id, "account-"+id, system); err != nil {
			t.Fatal(err)
		}
	}
	err = service.EnsureServiceRole(t.Context(), iam.ServiceRole{
		AccountID: systemAccount, Name: roleName, TrustService: iam.ServiceEC2,
	})
	if err != nil {
		t.Fatal(err)
	}
	ca, err := pki.NewAuthority("CA")
	if err != nil {
		t.Fatal(err)
	}
	user := authn.WithCaller(t.Context(), authn.Caller{Kind: authn.KindRoot, AccountID: userAccount})
	var arns []string
	for i, algorithm := range []pki.Algorithm{pki.RSA2048, pki.P256} {
		pair, err := ca.Server(algorithm, "www.example.test")
		if err != nil {
			t.Fatal(err)
		}
		out, err := service.UploadServerCertificate(user, &iammodel.UploadServerCertificateInput{
			ServerCertificateName: model.Ptr(fmt.Sprintf("c%d", i)), CertificateBody: model.Ptr(string(pair.CertPEM)),
			PrivateKey: model.Ptr(string(pair.KeyPEM)),
		})
		if err != nil {
			t.Fatal(err)
		}
		arn := model.Val(out.ServerCertificateMetadata.Arn)
		arns = append(arns, arn)
		err = service.PutServiceRolePolicy(t.Context(), systemAccount, roleName, fmt.Sprintf("p%d", i),
			`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"`+iam.ActionDownload+`","Resource":"`+arn+`"}]}`)
		if err != nil {
			t.Fatal(err)
		}
	}
	return arns
}
