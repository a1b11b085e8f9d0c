package api

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestStockCLI runs Debian's aws-cli as users do after `eval "$(cloudtwin env)"`: environment variables only.
func TestStockCLI(t *testing.T) {
	const cli = "/usr/bin/aws"
	if _, err := os.Stat(cli); err != nil {
		t.Skip("needs Debian's aws-cli: apt-get install awscli")
	}
	tw := newTwin(t)
	home := t.TempDir()
	files, err := ClientData(tw.url)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		path := filepath.Join(home, "data", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name    string
		command string
		want    string
		fails   bool
	}{
		{"identity", "sts get-caller-identity", "arn:aws:iam::123456789012:root", false},
		{"empty list", "iam list-users", `"Users": []`, false},
		{
			"listener shorthand", "elb create-load-balancer --load-balancer-name web --availability-zones us-east-1a " +
				"--listeners Protocol=HTTP,LoadBalancerPort=80,InstancePort=80", "127.1.2.3", false,
		},
		{"instances", "ec2 describe-instances --instance-ids i-1", `"PrivateIpAddress": "10.64.0.2"`, false},
		{"not there", "ec2 describe-instances --instance-ids i-gone", "(InvalidInstanceID.NotFound)", true},
		{"not implemented", "iam create-group --group-name g", "CreateGroup of iam is not implemented", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			c := exec.CommandContext(ctx, cli, strings.Fields(tt.command)...)
			c.Env = []string{
				"PATH=/usr/bin:/bin", "HOME=" + home, "AWS_DATA_PATH=" + filepath.Join(home, "data"),
				"AWS_ENDPOINT_URL=" + tw.url, "AWS_DEFAULT_REGION=us-east-1", "AWS_ACCESS_KEY_ID=" + testKey,
				"AWS_SECRET_ACCESS_KEY=" + testSecret, "AWS_EC2_METADATA_DISABLED=true", "AWS_PAGER=",
			}
			out, err := c.CombinedOutput()
			if (err != nil) != tt.fails || !strings.Contains(string(out), tt.want) {
				t.Errorf("aws %s: %v, printed %s; want %q", tt.command, err, out, tt.want)
			}
		})
	}
}

func TestClientDataRefusesWhatIsNoURL(t *testing.T) {
	for _, endpoint := range []string{"", "127.0.0.1:80", "ftp://127.0.0.1", "http://"} {
		if _, err := ClientData(endpoint); err == nil {
			t.Errorf("ClientData(%q) gives no error", endpoint)
		}
	}
}
