package ec2_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	ec2model "github.com/cloudtwin/cloudtwin/cloud/model/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// tool runs a program that a user has, on a file with these contents in place of KEY among its arguments.
func tool(t *testing.T, key, script string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script)
	cmd.Env = append(cmd.Environ(), "KEY="+file)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
	return strings.TrimSpace(string(out))
}

// The scripts by which EC2's users verify fingerprints.
const (
	createdRSA  = `openssl pkcs8 -in "$KEY" -inform PEM -outform DER -topk8 -nocrypt | openssl sha1 -c | sed 's/.*= //'`
	importedRSA = `openssl rsa -in "$KEY" -pubout -outform DER 2>/dev/null | openssl md5 -c | sed 's/.*= //'`
	sshKeygen   = `ssh-keygen -l -f "$KEY" | sed 's/.*SHA256:\([^ ]*\).*/\1/'`
)

func TestCreateKeyPair(t *testing.T) {
	c := start(t)
	for _, tt := range []struct{ name, kind, begins, script, pad string }{
		{"rsa by default", "", "-----BEGIN RSA PRIVATE KEY-----", createdRSA, ""},
		{"rsa", "rsa", "-----BEGIN RSA PRIVATE KEY-----", createdRSA, ""},
		{"ed25519", "ed25519", "-----BEGIN OPENSSH PRIVATE KEY-----", sshKeygen, "="},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pairs := []string{"KeyName=" + tt.name, "TagSpecification.1.ResourceType=key-pair",
				"TagSpecification.1.Tag.1.Key=for", "TagSpecification.1.Tag.1.Value=" + tt.name}
			if tt.kind != "" {
				pairs = append(pairs, "KeyType="+tt.kind)
			}
			out := do[ec2model.CreateKeyPairOutput](t, c, root(demo), "CreateKeyPair", pairs...)
			if !strings.HasPrefix(*out.KeyMaterial, tt.begins) || !strings.HasPrefix(*out.KeyPairId, "key-") {
				t.Errorf("material begins %.40q, id %s", *out.KeyMaterial, *out.KeyPairId)
			}
			if want := tool(t, *out.KeyMaterial, tt.script) + tt.pad; *out.KeyFingerprint != want {
				t.Errorf("fingerprint %s, users compute %s", *out.KeyFingerprint, want)
			}
			signer, err := ssh.ParsePrivateKey([]byte(*out.KeyMaterial))
			if err != nil {
				t.Fatal(err)
			}
			told := do[ec2model.DescribeKeyPairsOutput](t, c, root(demo), "DescribeKeyPairs", "IncludePublicKey=true",
				"Filter.1.Name=tag:for", "Filter.1.Value.1="+tt.name)
			if len(told.KeyPairs) != 1 {
				t.Fatalf("described %d key pairs", len(told.KeyPairs))
			}
			want := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))) + " " + tt.name
			if got := model.Val(told.KeyPairs[0].PublicKey); got != want {
				t.Errorf("public key %q, want %q", got, want)
			}
			_, err = c.call(t, root(demo), "CreateKeyPair", pairs...)
			wantCode(t, err, "InvalidKeyPair.Duplicate", tt.name)
		})
	}
}

func TestPrivateKeyIsNowhere(t *testing.T) {
	c := start(t)
	out := do[ec2model.CreateKeyPairOutput](t, c, root(demo), "CreateKeyPair", "KeyName=secret")
	block, _ := pem.Decode([]byte(*out.KeyMaterial))
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	prime := base64.StdEncoding.EncodeToString(key.Primes[0].Bytes())[4:40]
	found := false
	if err := c.store.Dump(t.Context(), func(r store.Raw) error {
		found = found || strings.Contains(r.Key, "ec2-key-pairs/")
		if value := string(r.Value); strings.Contains(value, "PRIVATE KEY") || strings.Contains(value, prime) {
			t.Errorf("record %s holds a private key", r.Key)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if !found {
		t.Error("the store has no record of the key pair")
	}
}

func TestImportKeyPair(t *testing.T) {
	c := start(t)
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaLine := authorized(t, private.Public())
	rsaPEM := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8(t, private)}))
	rsaPrint := tool(t, rsaPEM, importedRSA)
	pkix, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	edPublic, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edLine := authorized(t, edPublic)
	for _, tt := range []struct{ name, material, kind, fingerprint string }{
		{"OpenSSH", rsaLine + " me@home", "rsa", rsaPrint},
		{"RFC 4716", tool(t, rsaLine, `ssh-keygen -e -m RFC4716 -f "$KEY"`), "rsa", rsaPrint},
		{"PEM", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pkix})), "rsa", rsaPrint},
		{"base64 of DER", base64.StdEncoding.EncodeToString(pkix), "rsa", rsaPrint},
		{"PKCS 1", tool(t, rsaLine, `ssh-keygen -e -m PEM -f "$KEY"`), "rsa", rsaPrint},
		{"ED25519", edLine, "ed25519", tool(t, edLine, sshKeygen) + "="},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out := do[ec2model.ImportKeyPairOutput](t, c, root(demo), "ImportKeyPair", "KeyName="+tt.name,
				"PublicKeyMaterial="+b64(tt.material))
			if *out.KeyFingerprint != tt.fingerprint {
				t.Errorf("fingerprint %s, users compute %s", *out.KeyFingerprint, tt.fingerprint)
			}
			told := do[ec2model.DescribeKeyPairsOutput](t, c, root(demo), "DescribeKeyPairs",
				"KeyPairId.1="+*out.KeyPairId, "IncludePublicKey=true")
			line := rsaLine
			if tt.kind == "ed25519" {
				line = edLine
			}
			if p := told.KeyPairs[0]; *p.KeyType != tt.kind || *p.PublicKey != line+" "+tt.name {
				t.Errorf("key pair %s %q, want %s %q", *p.KeyType, *p.PublicKey, tt.kind, line)
			}
		})
	}
}

func TestImportKeyPairRefuses(t *testing.T) {
	c := start(t)
	small, err := rsa.GenerateKey(rand.Reader, 1536)
	if err != nil {
		t.Fatal(err)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, material, code, word string }{
		{"no key", "hello", "InvalidKey.Format", "OpenSSH"},
		{"odd size", authorized(t, small.Public()), "InvalidKey.Format", "1536"},
		{"another kind", authorized(t, curve.Public()), "InvalidKey.Format", "ED25519"},
		{"private key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8(t, curve)})),
			"InvalidKey.Format", "OpenSSH"},
		{"too long", strings.Repeat("A", 17<<10), "InvalidKey.Format", "at most"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := c.call(t, root(demo), "ImportKeyPair", "KeyName=k", "PublicKeyMaterial="+b64(tt.material))
			wantCode(t, err, tt.code, tt.word)
		})
	}
}

func TestKeyPairNames(t *testing.T) {
	c := start(t)
	for _, tt := range []struct {
		name, operation string
		pairs           []string
		code, word      string
	}{
		{"empty", "CreateKeyPair", []string{"KeyName="}, "InvalidParameterValue", "KeyName"},
		{"missing", "CreateKeyPair", nil, "MissingParameter", "KeyName"},
		{"too long", "CreateKeyPair", []string{"KeyName=" + strings.Repeat("x", 256)}, "InvalidParameterValue", "255"},
		{"space before", "CreateKeyPair", []string{"KeyName= x"}, "InvalidParameterValue", "KeyName"},
		{"not ASCII", "CreateKeyPair", []string{"KeyName=clé"}, "InvalidParameterValue", "ASCII"},
		{"line", "CreateKeyPair", []string{"KeyName=a\nssh-rsa AAAA"}, "InvalidParameterValue", "ASCII"},
		{"putty", "CreateKeyPair", []string{"KeyName=x", "KeyFormat=ppk"}, "UnsupportedOperation", "KeyFormat"},
		{"kind", "CreateKeyPair", []string{"KeyName=x", "KeyType=dsa"}, "InvalidParameterValue", "dsa"},
		{"tags of another kind", "CreateKeyPair", []string{"KeyName=x", "TagSpecification.1.ResourceType=instance",
			"TagSpecification.1.Tag.1.Key=a"}, "InvalidParameterValue", "ResourceType"},
		{"dry run", "CreateKeyPair", []string{"KeyName=x", "DryRun=true"}, "DryRunOperation", "DryRun"},
		{"unknown name", "DescribeKeyPairs", []string{"KeyName.1=none"}, "InvalidKeyPair.NotFound", "'none'"},
		{"unknown id", "DescribeKeyPairs", []string{"KeyPairId.1=key-0"}, "InvalidKeyPair.NotFound", "key-0"},
		{"unknown filter", "DescribeKeyPairs", []string{"Filter.1.Name=x", "Filter.1.Value.1=y"},
			"InvalidParameterValue", "'x'"},
		{"delete nothing", "DeleteKeyPair", nil, "MissingParameter", "KeyPairId"},
		{"delete both", "DeleteKeyPair", []string{"KeyName=x", "KeyPairId=key-00000000"},
			"InvalidParameterCombination", "KeyName"},
		{"delete odd id", "DeleteKeyPair", []string{"KeyPairId=x"}, "InvalidParameterValue", "KeyPairId"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := c.call(t, root(demo), tt.operation, tt.pairs...)
			wantCode(t, err, tt.code, tt.word)
		})
	}
}

func TestKeyPairsAreTheAccounts(t *testing.T) {
	c := start(t)
	out := do[ec2model.CreateKeyPairOutput](t, c, root(demo), "CreateKeyPair", "KeyName=mine", "KeyType=ed25519")
	if told := do[ec2model.DescribeKeyPairsOutput](t, c, root(other), "DescribeKeyPairs"); len(told.KeyPairs) != 0 {
		t.Errorf("another account sees %d key pairs", len(told.KeyPairs))
	}
	for _, which := range []string{"KeyName=mine", "KeyPairId=" + *out.KeyPairId} {
		do[ec2model.DeleteKeyPairOutput](t, c, root(other), "DeleteKeyPair", which)
	}
	do[ec2model.DescribeKeyPairsOutput](t, c, root(demo), "DescribeKeyPairs", "KeyName.1=mine")
	gone := do[ec2model.DeleteKeyPairOutput](t, c, root(demo), "DeleteKeyPair", "KeyPairId="+*out.KeyPairId)
	if model.Val(gone.KeyPairId) != *out.KeyPairId || !model.Val(gone.Return) {
		t.Errorf("deleted %q, %t", model.Val(gone.KeyPairId), model.Val(gone.Return))
	}
	do[ec2model.DeleteKeyPairOutput](t, c, root(demo), "DeleteKeyPair", "KeyName=mine") // again
	if told := do[ec2model.DescribeKeyPairsOutput](t, c, root(demo), "DescribeKeyPairs"); len(told.KeyPairs) != 0 {
		t.Errorf("%d key pairs are left", len(told.KeyPairs))
	}
}

func TestRunInstancesWithKeyPair(t *testing.T) {
	c := start(t)
	c.addNode(t, "node-1", bigNode())
	_, err := c.call(t, root(demo), "RunInstances", "ImageId="+ec2.ImageID("web"), "MinCount=1", "MaxCount=1",
		"KeyName=login")
	wantCode(t, err, "InvalidKeyPair.NotFound", "'login'")
	do[ec2model.CreateKeyPairOutput](t, c, root(demo), "CreateKeyPair", "KeyName=login", "KeyType=ed25519")
	ids := c.run(t, demo, "KeyName=login", "MinCount=2", "MaxCount=2")
	plain := c.run(t, demo)
	do[ec2model.DeleteKeyPairOutput](t, c, root(demo), "DeleteKeyPair", "KeyName=login")
	seen := map[string]bool{}
	for _, id := range ids {
		inst, err := c.Instance(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		ip, err := netip.ParseAddr(inst.PublicIP)
		if err != nil || !netip.MustParsePrefix("127.128.0.0/10").Contains(ip) || seen[inst.PublicIP] {
			t.Errorf("public address %q", inst.PublicIP)
		}
		seen[inst.PublicIP] = true
		want := ec2.Exposure{HostAddress: inst.PublicIP + ":22", GuestPort: 22}
		if len(inst.Exposures) != 1 || inst.Exposures[0] != want {
			t.Errorf("exposures %v, want %v", inst.Exposures, want)
		}
		if !strings.HasPrefix(inst.PublicKey, "ssh-ed25519 ") || !strings.HasSuffix(inst.PublicKey, " login") {
			t.Errorf("public key %q", inst.PublicKey)
		}
	}
	told := do[ec2model.DescribeInstancesOutput](t, c, root(demo), "DescribeInstances", "Filter.1.Name=key-name",
		"Filter.1.Value.1=login")
	if got := told.Reservations[0].Instances; len(got) != 2 || model.Val(got[0].KeyName) != "login" ||
		!seen[model.Val(got[0].PublicIpAddress)] {
		t.Errorf("described %+v", got)
	}
	inst, err := c.Instance(t.Context(), plain[0])
	if err != nil || inst.PublicIP != "" || len(inst.Exposures) != 0 {
		t.Errorf("an instance without a key pair has %q, %v, %v", inst.PublicIP, inst.Exposures, err)
	}
}

func TestKeyPairResources(t *testing.T) {
	c := start(t)
	out := do[ec2model.CreateKeyPairOutput](t, c, root(demo), "CreateKeyPair", "KeyName=login", "KeyType=ed25519")
	const prefix = "arn:aws:ec2:us-east-1:" + demo + ":key-pair/"
	for _, tt := range []struct {
		name string
		in   any
		want string
	}{
		{"create", &ec2model.CreateKeyPairInput{KeyName: model.Ptr("new")}, prefix + "new"},
		{"import", &ec2model.ImportKeyPairInput{KeyName: model.Ptr("new")}, prefix + "new"},
		{"delete", &ec2model.DeleteKeyPairInput{KeyName: model.Ptr("login")}, prefix + "login"},
		{"delete by id", &ec2model.DeleteKeyPairInput{KeyPairId: out.KeyPairId}, prefix + "login"},
		{"delete by unknown id", &ec2model.DeleteKeyPairInput{KeyPairId: model.Ptr("key-00000000")}, prefix + "*"},
		{"launch", &ec2model.RunInstancesInput{ImageId: model.Ptr("ami-1"), KeyName: model.Ptr("login")}, prefix + "login"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			arns, err := c.Resources(context.Background(), "", root(demo), tt.in)
			if err != nil || len(arns) == 0 || arns[len(arns)-1] != tt.want {
				t.Errorf("resources %v, %v; want %s", arns, err, tt.want)
			}
		})
	}
}

func authorized(t *testing.T, public any) string {
	t.Helper()
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

func pkcs8(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestKeyPairTags are given and taken like those of instances, beside them in one request.
func TestKeyPairTags(t *testing.T) {
	c := start(t)
	c.addNode(t, "node-1", bigNode())
	instance := c.run(t, demo)[0]
	pair := *do[ec2model.CreateKeyPairOutput](t, c, root(demo), "CreateKeyPair", "KeyName=k", "KeyType=ed25519").KeyPairId
	both := []string{"ResourceId.1=" + pair, "ResourceId.2=" + instance}
	tags := func() (shown string) {
		for _, tag := range do[ec2model.DescribeTagsOutput](t, c, root(demo), "DescribeTags").Tags {
			shown += *tag.ResourceType + " " + *tag.ResourceId + " " + *tag.Key + "=" + *tag.Value + "\n"
		}
		return shown
	}
	do[ec2model.CreateTagsOutput](t, c, root(demo), "CreateTags", append(both, "Tag.1.Key=a", "Tag.1.Value=1")...)
	if got, want := tags(), "instance "+instance+" a=1\nkey-pair "+pair+" a=1\n"; got != want {
		t.Errorf("tags\n%swant\n%s", got, want)
	}
	found := do[ec2model.DescribeKeyPairsOutput](t, c, root(demo), "DescribeKeyPairs", "Filter.1.Name=tag:a",
		"Filter.1.Value.1=1").KeyPairs
	if len(found) != 1 || *found[0].KeyPairId != pair {
		t.Errorf("key pairs with the tag: %v", found)
	}
	do[ec2model.DeleteTagsOutput](t, c, root(demo), "DeleteTags", append(both, "Tag.1.Key=a")...)
	if got := tags(); got != "" {
		t.Errorf("tags that were taken away: %s", got)
	}
	_, err := c.call(t, root(other), "CreateTags", "ResourceId.1="+pair, "Tag.1.Key=a", "Tag.1.Value=1")
	wantCode(t, err, "InvalidKeyPair.NotFound", pair)
	_, err = c.call(t, root(demo), "CreateTags", append(both, "ResourceId.3=i-0123456789abcdef0", "Tag.1.Key=b",
		"Tag.1.Value=1")...)
	wantCode(t, err, "InvalidInstanceID.NotFound", "i-0")
	if got := tags(); got != "" {
		t.Errorf("tags of a request that was refused: %s", got)
	}
}
