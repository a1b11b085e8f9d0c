package control

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/metadata"
)

// TestSignAsTheSDKDoes compares with AWS's own signer.
func TestSignAsTheSDKDoes(t *testing.T) {
	by := metadata.Credentials{AccessKeyID: "ASIAEXAMPLE", SecretAccessKey: "secret/key+", Token: "token=="}
	now := time.Date(2026, 1, 2, 23, 4, 5, 6, time.FixedZone("", 3600))
	for name, to := range map[string]endpoint{
		"address":  {service: serviceIAM, host: "169.254.169.253", path: "/"},
		"port":     {service: serviceELB, host: "cloud.example:8443", path: "/services/LoadBalancing/"},
		"no field": {service: serviceELB, host: "cloud.example", path: "/services"},
	} {
		t.Run(name, func(t *testing.T) {
			body := []byte("Action=Describe&InstanceId=i-1")
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+to.host+to.path,
				bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Content-Type", formType)
			digest := sha256.Sum256(body)
			if err := v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{
				AccessKeyID: by.AccessKeyID, SecretAccessKey: by.SecretAccessKey, SessionToken: by.Token,
			}, request, hex.EncodeToString(digest[:]), to.service, "eu-west-1", now); err != nil {
				t.Fatal(err)
			}
			for _, f := range sign(to, "eu-west-1", by, now, body) {
				if want := request.Header.Get(f.Name); f.Value != want {
					t.Errorf("%s\ngot  %s\nwant %s", f.Name, f.Value, want)
				}
			}
		})
	}
}
