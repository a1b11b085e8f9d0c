package replay

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	ec2model "github.com/cloudtwin/cloudtwin/cloud/model/ec2"
	elbmodel "github.com/cloudtwin/cloudtwin/cloud/model/elb"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	stsmodel "github.com/cloudtwin/cloudtwin/cloud/model/sts"
)

// maxAnswer bounds an answer that is read, in bytes.
const maxAnswer = 64 << 20

// callTimeout bounds one attempt of a call. The cloud ends one after 75 s.
const callTimeout = 90 * time.Second

// credential is a key with which calls are signed; the zero credential signs nothing.
type credential struct{ id, secret, token string }

// caller sends calls to the new cloud.
type caller struct {
	endpoint, region string
	root             credential            // of the first account
	rootARN          string                // its ARN
	keys             map[string]credential // by the recorded key's id
	http             *http.Client
}

// outcome is what came of a call.
type outcome struct {
	status  int
	code    string
	message string
	body    []byte
}

// same says whether it came out as recorded.
func (o outcome) same(call *Call) bool { return o.status == call.Status && o.code == call.Code }

// short is what is compared of it.
func (o outcome) short() string { return strings.TrimSpace(fmt.Sprintf("%d %s", o.status, o.code)) }

func (o outcome) String() string {
	if o.code == "" {
		return fmt.Sprint(o.status)
	}
	return fmt.Sprintf("%d %s: %s", o.status, o.code, o.message)
}

// credentialFor is the key that stands for the recorded caller's. Of a call that was refused for its signature it has
// the same fault.
func (c *caller) credentialFor(call *Call) (credential, error) {
	const unknownKey = "AKIAREPLAYEDUNKNOWN0"
	if key, ok := c.keys[call.AccessKeyID]; ok {
		return key, nil
	}
	switch {
	case call.Caller == c.rootARN:
		return c.root, nil
	case call.Caller != "":
		return credential{}, unplayable("the key %s of %s was not made in the recording", call.AccessKeyID, call.Caller)
	}
	switch call.Code {
	case "MissingAuthenticationToken", "MissingAuthenticationTokenException":
		return credential{}, nil
	case "InvalidClientTokenId", "AuthFailure", "UnrecognizedClientException":
		return credential{id: unknownKey, secret: unknownKey}, nil
	case "SignatureDoesNotMatch":
		return credential{id: c.root.id, secret: unknownKey}, nil
	case "InvalidAction", "MissingAction", "ValidationError", "":
		return c.root, nil
	}
	return credential{}, unplayable("it was refused with %s before its caller was known", call.Code)
}

// versions are those of the services' APIs.
func versions() map[string]string {
	return map[string]string{"iam": iammodel.Service().Version, "sts": stsmodel.Service().Version,
		"ec2": ec2model.Service().Version, "elasticloadbalancing": elbmodel.Service().Version}
}

// send sends a call once. An error means that there was no answer.
func (c *caller) send(ctx context.Context, call *Call, form url.Values, key credential) (outcome, error) {
	service, operation, known := strings.Cut(call.Action, ":")
	if !known {
		service, operation = "iam", call.Action
	}
	sent := url.Values{"Version": {versions()[service]}}
	if !known {
		sent.Del("Version")
	}
	if operation != "none" {
		sent.Set("Action", operation)
	}
	for name, values := range form {
		sent[name] = values
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	body := []byte(sent.Encode())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint+"/", bytes.NewReader(body))
	if err != nil {
		return outcome{}, fmt.Errorf("call %s: %w", call.Action, err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	req.Header.Set("User-Agent", call.UserAgent)
	if key != (credential{}) {
		sum := sha256.Sum256(body)
		if err := v4.NewSigner().SignHTTP(ctx, aws.Credentials{AccessKeyID: key.id, SecretAccessKey: key.secret,
			SessionToken: key.token}, req, hex.EncodeToString(sum[:]), service, c.region, time.Now()); err != nil {
			return outcome{}, fmt.Errorf("sign %s: %w", call.Action, err)
		}
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return outcome{}, fmt.Errorf("call %s: %w", call.Action, err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return outcome{}, fmt.Errorf("read the answer to %s: %w", call.Action, err)
	}
	o := outcome{status: resp.StatusCode, body: answer}
	if o.status != http.StatusOK {
		o.code, o.message = firstOf(answer, "Code"), firstOf(answer, "Message")
	}
	return o, nil
}

// learn notes the keys that an answer gives, for the recorded ones in the same places.
func (c *caller) learn(recorded, replayed []string, answer []byte) {
	for _, key := range keysIn(answer) {
		for i := range min(len(recorded), len(replayed)) {
			if replayed[i] == key.id {
				c.keys[recorded[i]] = key
			}
		}
	}
}

// keysIn finds the access key in an answer; no answer with a secret gives two.
func keysIn(answer []byte) []credential {
	key := credential{id: firstOf(answer, "AccessKeyId"), secret: firstOf(answer, "SecretAccessKey"),
		token: firstOf(answer, "SessionToken")}
	if key.id == "" || key.secret == "" {
		return nil
	}
	return []credential{key}
}

// firstOf returns the text of the first element of a name.
func firstOf(answer []byte, element string) (found string) {
	eachElement(answer, func(name, text string) bool {
		if name == element {
			found = text
		}
		return found == ""
	})
	return found
}

// eachElement hands on elements that hold text alone until handle returns false or the XML ends or is none.
func eachElement(answer []byte, handle func(name, text string) bool) {
	decoder := xml.NewDecoder(bytes.NewReader(answer))
	var text strings.Builder
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) || err != nil {
			return
		}
		switch t := token.(type) {
		case xml.StartElement:
			text.Reset()
		case xml.CharData:
			text.Write(t)
		case xml.EndElement:
			if !handle(t.Name.Local, text.String()) {
				return
			}
			text.Reset()
		}
	}
}

// newHTTPClient keeps one connection: calls are made one by one.
func newHTTPClient() *http.Client {
	return &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}}
}
