// Package servo is the wire of a load-balancer guest's talk with elb: what it is to serve
// (DescribeLoadBalancersByServo) and what it sees (PutServoStates). Names and nesting are the original's, so that
// its guests work; Revision, CertificateRevision, WaitSeconds are our additions, which they ignore. payload.go is the
// user data by which they find the cloud.
package servo

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"
)

// Version and the actions' names, as form fields.
const (
	Version        = "2012-06-01"
	DescribeAction = "DescribeLoadBalancersByServo"
	PutAction      = "PutServoStates"
	Namespace      = "http://elasticloadbalancing.amazonaws.com/doc/2012-06-01/"
)

// MaxWait bounds a long poll. The front door lets a request take a little longer than this.
const MaxWait = 60 * time.Second

// maxBody bounds a description's XML.
const maxBody = 4 << 20

// Description is all that an LBVM is to serve.
type Description struct {
	LoadBalancers []LoadBalancer
	Revision      string // changes with everything above; opaque
	Metadata      Intervals
}

// Intervals tell the guest how often to call, in seconds.
type Intervals struct {
	GetLBInterval             int `xml:"GetLBInterval"`
	PutMetricInterval         int `xml:"PutMetricInterval"`
	PutInstanceHealthInterval int `xml:"PutInstanceHealthInterval"`
}

// LoadBalancer is one load balancer as its guest sees it. Every element is on the wire, empty lists too.
type LoadBalancer struct {
	Name              string              `xml:"LoadBalancerName"`
	DNSName           string              `xml:"DNSName"`
	Listeners         List[Listener]      `xml:"ListenerDescriptions"`
	Policies          List[Policy]        `xml:"PolicyDescriptions"`
	BackendServers    List[BackendServer] `xml:"BackendServerDescriptions"`
	AvailabilityZones List[string]        `xml:"AvailabilityZones"`
	Backends          List[Backend]       `xml:"BackendInstances"`
	HealthCheck       HealthCheck         `xml:"HealthCheck"`
	CreatedTime       string              `xml:"CreatedTime"` // RFC 3339 in UTC
	Scheme            string              `xml:"Scheme"`
	Attributes        LoadBalancerParams  `xml:"LoadBalancerAttributes"`
}

// Listener is one port of a load balancer.
type Listener struct {
	Protocol            string       `xml:"Listener>Protocol"` // HTTP, HTTPS, TCP, SSL
	LoadBalancerPort    int          `xml:"Listener>LoadBalancerPort"`
	InstanceProtocol    string       `xml:"Listener>InstanceProtocol"`
	InstancePort        int          `xml:"Listener>InstancePort"`
	SSLCertificateID    string       `xml:"Listener>SSLCertificateId,omitempty"`
	CertificateRevision string       `xml:"Listener>CertificateRevision,omitempty"` // changes with the key behind the ARN
	PolicyNames         List[string] `xml:"PolicyNames"`
}

// Policy is a load-balancer policy (stickiness, ciphers).
type Policy struct {
	Name       string                `xml:"PolicyName"`
	TypeName   string                `xml:"PolicyTypeName"`
	Attributes List[PolicyAttribute] `xml:"PolicyAttributeDescriptions"`
}

// PolicyAttribute is one setting of a Policy.
type PolicyAttribute struct {
	Name  string `xml:"AttributeName"`
	Value string `xml:"AttributeValue"`
}

// BackendServer names the policies for one instance port.
type BackendServer struct {
	InstancePort int          `xml:"InstancePort"`
	PolicyNames  List[string] `xml:"PolicyNames"`
}

// Backend is a registered instance.
type Backend struct {
	InstanceID        string `xml:"InstanceId"`
	IPAddress         string `xml:"InstanceIpAddress"`
	ReportHealthCheck bool   `xml:"ReportHealthCheck"`
}

// HealthCheck says how backends are checked; Interval and Timeout in seconds.
type HealthCheck struct {
	Target             string `xml:"Target"` // HTTP:80/path, HTTPS:443/path, TCP:80, SSL:443
	Interval           int    `xml:"Interval"`
	Timeout            int    `xml:"Timeout"`
	UnhealthyThreshold int    `xml:"UnhealthyThreshold"`
	HealthyThreshold   int    `xml:"HealthyThreshold"`
}

// LoadBalancerParams are a load balancer's attributes; times in seconds.
type LoadBalancerParams struct {
	CrossZone          bool      `xml:"CrossZoneLoadBalancing>Enabled"`
	AccessLog          AccessLog `xml:"AccessLog"`
	ConnectionDraining bool      `xml:"ConnectionDraining>Enabled"`
	DrainingTimeout    int       `xml:"ConnectionDraining>Timeout"`
	IdleTimeout        int       `xml:"ConnectionSettings>IdleTimeout"`
}

// AccessLog says where requests are logged. This cloud's load balancers have no access logs yet.
type AccessLog struct {
	Enabled      bool   `xml:"Enabled"`
	EmitInterval int    `xml:"EmitInterval,omitempty"` // minutes
	Bucket       string `xml:"S3BucketName,omitempty"`
	Prefix       string `xml:"S3BucketPrefix,omitempty"`
}

// describeResult is the part that both directions share.
type describeResult struct {
	LoadBalancers List[LoadBalancer] `xml:"LoadBalancerDescriptions"`
	Revision      string             `xml:"Revision"`
}

// MarshalXMLBody returns the description as the response's body.
func (d *Description) MarshalXMLBody(requestID string) ([]byte, error) {
	out := struct {
		XMLName   xml.Name       `xml:"DescribeLoadBalancersByServoResponse"`
		Namespace string         `xml:"xmlns,attr"`
		Result    describeResult `xml:"DescribeLoadBalancersByServoResult"`
		Servo     Intervals      `xml:"ServoResponseMetadata"`
		RequestID string         `xml:"ResponseMetadata>RequestId"`
	}{
		Namespace: Namespace, Servo: d.Metadata, RequestID: requestID,
		Result: describeResult{LoadBalancers: d.LoadBalancers, Revision: d.Revision},
	}
	body, err := xml.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("encode servo description: %w", err)
	}
	return append([]byte(xml.Header), body...), nil
}

// ParseDescription reads a response's body.
func ParseDescription(body []byte) (*Description, error) {
	if len(body) > maxBody {
		return nil, fmt.Errorf("servo description of %d bytes is too long", len(body))
	}
	var in struct {
		XMLName xml.Name       `xml:"DescribeLoadBalancersByServoResponse"`
		Result  describeResult `xml:"DescribeLoadBalancersByServoResult"`
		Servo   Intervals      `xml:"ServoResponseMetadata"`
	}
	if err := xml.NewDecoder(bytes.NewReader(body)).Decode(&in); err != nil {
		return nil, fmt.Errorf("decode servo description: %w", err)
	}
	return &Description{LoadBalancers: in.Result.LoadBalancers, Revision: in.Result.Revision, Metadata: in.Servo}, nil
}

// DescribeForm returns the form fields that ask for the description of an instance's load balancers: at once when
// revision is empty or no longer current, else as soon as it changes or wait has passed.
func DescribeForm(instanceID, revision string, wait time.Duration) url.Values {
	form := url.Values{"Action": {DescribeAction}, "Version": {Version}, "InstanceId": {instanceID}}
	if revision != "" {
		form.Set("Revision", revision)
		form.Set("WaitSeconds", strconv.Itoa(int(wait/time.Second)))
	}
	return form
}

// ParseDescribe reads DescribeForm's fields.
func ParseDescribe(form url.Values) (instanceID, revision string, wait time.Duration, err error) {
	if instanceID = form.Get("InstanceId"); instanceID == "" {
		return "", "", 0, errors.New("InstanceId is missing")
	}
	if text := form.Get("WaitSeconds"); text != "" {
		seconds, err := strconv.Atoi(text)
		if err != nil || seconds < 0 || seconds > int(MaxWait/time.Second) {
			return "", "", 0, fmt.Errorf("WaitSeconds must be a whole number from 0 to %d", int(MaxWait/time.Second))
		}
		wait = time.Duration(seconds) * time.Second
	}
	return instanceID, form.Get("Revision"), wait, nil
}
