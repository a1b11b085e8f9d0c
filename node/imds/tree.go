package imds

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// versions are the service's, all with the same items: what a version leaves out, its guests do not ask for.
var versions = []string{
	"1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10", "2007-12-15", "2008-02-01", "2008-09-01",
	"2009-04-04", "2011-01-01", "2011-05-01", "2012-01-12", "2014-02-25", "2014-11-05", "2015-10-20", "2016-04-19",
	"2016-06-30", "2016-09-02", "2018-03-28", "2018-08-17", "2018-09-24", "2019-10-01", "2020-10-27", "2021-01-03",
	"2021-03-23", "2021-07-15", "2022-09-24", "2024-04-11", "latest",
}

func knownVersion(v string) bool { return slices.Contains(versions, v) }

// item is a directory or a leaf of an instance's metadata.
type item interface {
	content(ctx context.Context) ([]byte, error)
	contentType() string
	find(path []string) item // nil when there is none
}

// text is a leaf.
type text string

func (t text) content(context.Context) ([]byte, error) { return []byte(t), nil }
func (t text) contentType() string                     { return contentText }

func (t text) find(path []string) item {
	if len(path) > 0 {
		return nil
	}
	return t
}

// octets is a leaf that is no text: user data.
type octets struct{ text }

func (octets) contentType() string { return "application/octet-stream" }

func (o octets) find(path []string) item {
	if len(path) > 0 {
		return nil
	}
	return o
}

// computed is a leaf that is made when it is asked for.
type computed func(ctx context.Context) ([]byte, error)

func (c computed) content(ctx context.Context) ([]byte, error) { return c(ctx) }
func (c computed) contentType() string                         { return contentText }

func (c computed) find(path []string) item {
	if len(path) > 0 {
		return nil
	}
	return c
}

// dir is a directory; its listing names directories with a slash at their end. Nil items are not there.
type dir map[string]item

func (d dir) content(context.Context) ([]byte, error) {
	names := make([]string, 0, len(d))
	for name, it := range d {
		switch it.(type) {
		case dir, listed:
			name += "/"
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return []byte(strings.Join(names, "\n")), nil
}

func (d dir) contentType() string { return contentText }

func (d dir) find(path []string) item {
	if len(path) == 0 {
		return d
	}
	it, ok := d[path[0]]
	if !ok {
		return nil
	}
	return it.find(path[1:])
}

// listed is a directory whose listing is not made of its names.
type listed struct {
	dir
	listing string
}

func (l listed) content(context.Context) ([]byte, error) { return []byte(l.listing), nil }

func (l listed) find(path []string) item {
	if len(path) == 0 {
		return l
	}
	return l.dir.find(path)
}

// tree makes an instance's items below a version.
func (s *service) tree(in Instance) item {
	root := dir{"meta-data": s.metaData(in), "dynamic": dir{"instance-identity": s.identity(in)}}
	names := "dynamic\nmeta-data" // without slashes, unlike all listings below
	if len(in.UserData) > 0 {
		root["user-data"] = octets{text(in.UserData)}
		names += "\nuser-data"
	}
	return listed{root, names}
}

func (s *service) metaData(in Instance) dir {
	d := dir{
		"ami-launch-index":  text(strconv.Itoa(in.LaunchIndex)),
		"ami-manifest-path": text("(unknown)"),
		// The names that EC2 gives an instance-store image's. The root is in the guest's memory; tools ask all the same.
		"block-device-mapping": dir{"ami": text("sda1"), "root": text("/dev/sda1")},
		"instance-action":      text("none"),
		"instance-life-cycle":  text("on-demand"),
		"profile":              text("default-hvm"),
		"security-groups":      text(groups(in)),
		"services":             dir{"domain": text("amazonaws.com"), "partition": text("aws")},
	}
	address, public := ipText(in.PrivateIP), ipText(in.PublicIP)
	d.put("ami-id", in.ImageID)
	d.put("hostname", hostname(in))
	d.put("instance-id", in.ID)
	d.put("instance-type", in.Type)
	d.put("local-hostname", hostname(in))
	d.put("local-ipv4", address)
	d.put("mac", in.MAC)
	d.put("public-ipv4", public)
	d.put("reservation-id", in.ReservationID)
	place := dir{}
	place.put("availability-zone", in.AvailabilityZone)
	place.put("availability-zone-id", in.AvailabilityZoneID)
	place.put("region", in.Region)
	if len(place) > 0 {
		d["placement"] = place
	}
	if in.MAC != "" {
		card := dir{"device-number": text("0"), "network-card": text("0"), "security-groups": text(groups(in))}
		// The one card of an instance has the instance's own digits.
		if digits, ok := strings.CutPrefix(in.ID, "i-"); ok {
			card.put("interface-id", "eni-"+digits)
		}
		card.put("local-hostname", hostname(in))
		card.put("local-ipv4s", address)
		card.put("mac", in.MAC)
		card.put("owner-id", in.AccountID)
		if public != "" {
			card["public-ipv4s"] = text(public)
			card["ipv4-associations"] = dir{public: text(address)}
		}
		d["network"] = dir{"interfaces": dir{"macs": dir{in.MAC: card}}}
	}
	if in.RoleName != "" || in.InstanceProfileARN != "" {
		d["iam"] = s.iam(in)
	}
	if keys := publicKeys(in.PublicKeys); len(keys.dir) > 0 {
		d["public-keys"] = keys
	}
	if in.Options.Tags {
		d["tags"] = dir{"instance": tags(in.Tags)}
	}
	return d
}

// ipText is empty for no address.
func ipText(ip netip.Addr) string {
	if !ip.IsValid() {
		return ""
	}
	return ip.String()
}

// put adds a leaf unless it is empty.
func (d dir) put(name, value string) {
	if value != "" {
		d[name] = text(value)
	}
}

func groups(in Instance) string {
	if len(in.SecurityGroups) == 0 {
		return "default"
	}
	return strings.Join(in.SecurityGroups, "\n")
}

// hostname is made of the address as EC2 does, unless there is one.
func hostname(in Instance) string {
	if in.Hostname != "" || !in.PrivateIP.IsValid() {
		return in.Hostname
	}
	domain := in.Region + ".compute.internal"
	if in.Region == "" || in.Region == "us-east-1" {
		domain = "ec2.internal"
	}
	return "ip-" + strings.ReplaceAll(in.PrivateIP.String(), ".", "-") + "." + domain
}

// publicKeys lists keys as INDEX=NAME and holds each as INDEX/openssh-key.
func publicKeys(keys []PublicKey) listed {
	l := listed{dir: dir{}}
	names := make([]string, 0, len(keys))
	for i, k := range keys {
		index := strconv.Itoa(i)
		l.dir[index] = dir{"openssh-key": text(k.Key)}
		names = append(names, index+"="+k.Name)
	}
	l.listing = strings.Join(names, "\n")
	return l
}

// tags holds those whose keys can be part of a path. EC2 lets an instance have no others together with this option.
func tags(all map[string]string) dir {
	d := dir{}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if key != "" && !strings.Contains(key, "/") {
			d[key] = text(all[key])
		}
	}
	return d
}

func (s *service) iam(in Instance) dir {
	since := in.InstanceProfileTime
	if since.IsZero() {
		since = in.LaunchTime
	}
	info := func(context.Context) ([]byte, error) {
		if in.InstanceProfileID == "" {
			return indented(profileMissing{
				"InstanceProfileNotFound",
				"Instance Profile cannot be found. It was deleted, or another has its name now.", stamp(s.cfg.Clock())})
		}
		return indented(profileInfo{"Success", stamp(since), in.InstanceProfileARN, in.InstanceProfileID})
	}
	d := dir{"info": computed(info)}
	if in.RoleName != "" {
		credentials := func(ctx context.Context) ([]byte, error) { return s.credentials(ctx, in) }
		d["security-credentials"] = dir{in.RoleName: computed(credentials)}
	}
	return d
}

// credentials is the role's document. A role that may not be assumed gives a document too: its Code tells why, and
// clients show it instead of trying again.
func (s *service) credentials(ctx context.Context, in Instance) ([]byte, error) {
	c, err := s.cfg.Source.RoleCredentials(ctx, in.ID)
	if errors.Is(err, ErrUnauthorized) {
		return indented(roleRefused{
			"AssumeRoleUnauthorizedAccess",
			"EC2 cannot assume the role " + in.RoleName + ".",
			stamp(s.cfg.Clock()),
		})
	}
	if err != nil {
		return nil, fmt.Errorf("get role credentials: %w", err)
	}
	return indented(roleCredentials{
		"Success", stamp(c.LastUpdated), "AWS-HMAC", c.AccessKeyID, c.SecretAccessKey, c.Token, stamp(c.Expiration),
	})
}

type profileInfo struct {
	Code, LastUpdated  string
	InstanceProfileArn string
	InstanceProfileId  string
}

type profileMissing struct {
	Code, Message, LastUpdated string
}

type roleCredentials struct {
	Code, LastUpdated, Type string
	AccessKeyId             string
	SecretAccessKey, Token  string
	Expiration              string
}

type roleRefused struct {
	Code, Message, LastUpdated string
}

// identityDocument is the instance identity document; what an instance here never has is null, as for EC2's own.
type identityDocument struct {
	AccountID        string  `json:"accountId"`
	Architecture     string  `json:"architecture"`
	AvailabilityZone string  `json:"availabilityZone"`
	BillingProducts  *string `json:"billingProducts"`
	DevpayCodes      *string `json:"devpayProductCodes"`
	MarketplaceCodes *string `json:"marketplaceProductCodes"`
	ImageID          string  `json:"imageId"`
	InstanceID       string  `json:"instanceId"`
	InstanceType     string  `json:"instanceType"`
	KernelID         *string `json:"kernelId"`
	PendingTime      string  `json:"pendingTime"`
	PrivateIP        string  `json:"privateIp"`
	RamdiskID        *string `json:"ramdiskId"`
	Region           string  `json:"region"`
	Version          string  `json:"version"`
}

// identity holds the document and, where the source has it signed, the cloud's signatures of it.
func (s *service) identity(in Instance) dir {
	d := dir{"document": computed(func(context.Context) ([]byte, error) { return document(in) })}
	signer, ok := s.cfg.Source.(Signer)
	if !ok {
		return d
	}
	for name, pick := range map[string]func(Signatures) string{
		"signature": func(s Signatures) string { return s.Signature },
		"pkcs7":     func(s Signatures) string { return s.PKCS7 },
		"rsa2048":   func(s Signatures) string { return s.RSA2048 },
	} {
		d[name] = computed(func(ctx context.Context) ([]byte, error) {
			signed, err := signer.Signatures(ctx, in.ID)
			if err != nil {
				return nil, fmt.Errorf("get %s of identity document: %w", name, err)
			}
			return []byte(pick(signed)), nil
		})
	}
	return d
}

func document(in Instance) ([]byte, error) {
	d := identityDocument{
		AccountID: in.AccountID, Architecture: in.Architecture, AvailabilityZone: in.AvailabilityZone,
		ImageID: in.ImageID, InstanceID: in.ID, InstanceType: in.Type, PendingTime: stamp(in.LaunchTime),
		Region: in.Region, Version: "2017-09-30",
	}
	if d.Architecture == "" {
		d.Architecture = "x86_64"
	}
	d.PrivateIP = ipText(in.PrivateIP)
	return indented(d)
}

// indented prints a document as EC2 does, byte for byte: there is a space on either side of the colons.
func indented(v any) ([]byte, error) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode document: %w", err)
	}
	lines := strings.Split(string(b), "\n")
	for i, line := range lines { // each has one name at most, and that comes first
		if name, value, ok := strings.Cut(line, `": `); ok {
			lines[i] = name + `" : ` + value
		}
	}
	return []byte(strings.Join(lines, "\n")), nil
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }
