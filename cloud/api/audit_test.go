package api

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	ec2model "github.com/cloudtwin/cloudtwin/cloud/model/ec2"
	elbmodel "github.com/cloudtwin/cloudtwin/cloud/model/elb"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	stsmodel "github.com/cloudtwin/cloudtwin/cloud/model/sts"
)

// secretNames are the names of parameters that hold secrets, said here once more so that a tag that gets lost in the
// generated types is missed.
var secretNames = regexp.MustCompile(`Password$|^PrivateKey|SecretAccessKey|AuthenticationCode|TokenCode|` +
	`SAMLAssertion$|WebIdentityToken|UserData`)

// fill gives every member of a request a value: a marked one where a secret belongs.
func fill(form url.Values, t reflect.Type, tag reflect.StructTag, path, mark string, ec2 bool, depth int) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	entry := path + ".member.1"
	if ec2 {
		entry = path + ".1"
	}
	switch {
	case depth > 6:
	case t == reflect.TypeFor[time.Time]():
		form.Set(path, "2026-11-22T00:00:00Z")
	case t == reflect.TypeFor[[]byte]():
		form.Set(path, base64.StdEncoding.EncodeToString([]byte(mark)))
	case t.Kind() == reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			name := f.Name
			if q := f.Tag.Get("query"); q != "" {
				name = q
			}
			value := "told"
			if f.Tag.Get("sensitive") == "true" || secretNames.MatchString(name) {
				value = mark
			}
			fill(form, f.Type, f.Tag, strings.TrimPrefix(path+"."+name, "."), value, ec2, depth+1)
		}
	case t.Kind() == reflect.Slice:
		fill(form, t.Elem(), tag, entry, mark, ec2, depth+1)
	case t.Kind() == reflect.Map:
		form.Set(path+".entry.1.key", "told")
		form.Set(path+".entry.1.value", mark)
	case t.Kind() == reflect.String:
		form.Set(path, mark)
	default:
		form.Set(path, "1")
	}
}

// everything makes every operation callable; all fail.
func everything(s model.Service, operations []model.Operation) Binding {
	for i := range operations {
		operations[i].Bind = func(any) (model.Call, bool) {
			return func(context.Context, any) (any, error) { return nil, errors.ErrUnsupported }, true
		}
	}
	return Binding{Service: s, Operations: operations, Handlers: model.NewHandlers(s, operations, struct{}{})}
}

// TestNoSecretIsRecorded sends every operation of every service with marked values where secrets belong.
func TestNoSecretIsRecorded(t *testing.T) {
	services := []Binding{
		everything(iammodel.Service(), iammodel.Operations()), everything(stsmodel.Service(), stsmodel.Operations()),
		everything(elbmodel.Service(), elbmodel.Operations()), everything(ec2model.Service(), ec2model.Operations()),
	}
	tw := newTwin(t, func(c *Config) { c.Services = services })
	const mark = "MARKED"
	encoded := base64.StdEncoding.EncodeToString([]byte(mark))
	sent, marked := 0, 0
	for _, s := range services {
		for _, op := range s.Operations {
			parameters := url.Values{"Action": {op.Name}, "Version": {s.Service.Version}}
			fill(parameters, reflect.TypeOf(op.NewInput()).Elem(), "", "", mark, s.Service.Protocol == model.ProtocolEC2, 0)
			for _, v := range parameters {
				if v[0] == mark || v[0] == encoded {
					marked++
				}
			}
			send(t, signed(t, tw.url, parameters, s.Service.Name, nil))
			sent++
		}
	}
	events := tw.events(t)
	if len(events) != sent || marked < 14 {
		t.Fatalf("%d events of %d requests with %d marks", len(events), sent, marked)
	}
	for _, ev := range events {
		for name, value := range ev.Attributes {
			if strings.Contains(value, mark) || strings.Contains(value, encoded) {
				t.Errorf("%s: %s is %s", ev.Subject, name, value)
			}
		}
	}
}

func TestRecordOfParameters(t *testing.T) {
	tests := []struct {
		name string
		form url.Values
		want map[string]string
	}{
		{"user data by their size", form("Action", "RunInstances", "ImageId", "ami-1", "MinCount", "1", "MaxCount", "1",
			"UserData", base64.StdEncoding.EncodeToString([]byte("hello"))),
			map[string]string{"params": "ImageId=ami-1&MaxCount=1&MinCount=1&UserData=%28secret%29", "userDataBytes": "5",
				"made": "i-0123456789abcdef0"}},
		{"user data that are none", form("Action", "RunInstances", "UserData", "%"),
			map[string]string{"params": "UserData=%28secret%29"}},
		{"too long", form("Action", "RunInstances", "ImageId", strings.Repeat("x", maxParameters), "MinCount", "1"),
			map[string]string{"params": "MinCount=1", "paramsCut": "true"}},
		{"none", form("Action", "DescribeInstances"), map[string]string{}},
		{"unknown ones", form("Action", "DescribeInstances", "PrivateKeys", "x"), map[string]string{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tw := newTwin(t)
			tw.ec2.made = "i-0123456789abcdef0"
			send(t, signed(t, tw.url, tt.form, "ec2", nil))
			got := map[string]string{}
			for _, name := range []string{"params", "paramsCut", "made", "userDataBytes"} {
				if value, ok := tw.events(t)[0].Attributes[name]; ok {
					got[name] = value
				}
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestMade(t *testing.T) {
	const answer = `<?xml version="1.0"?><A xmlns="http://x/"><r>r-0123456789abcdef0</r><i>i-0123456789abcdef0</i>` +
		`<again>i-0123456789abcdef0</again><k>AKIAIOSFODNN7EXAMPLE</k><s>AKIAIOSFODNN7EXAMPLE/secret</s><e/>` +
		`<iip>iip-assoc-0123456789abcdef0</iip><DNSName>127.1.2.3</DNSName><n>x-0123456789</n><n>i-short</n>` +
		`<SecretAccessKey>wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY</SecretAccessKey><t>i-0123456789ABCDEF0</t><cut>i-`
	want := []string{"r-0123456789abcdef0", "i-0123456789abcdef0", "AKIAIOSFODNN7EXAMPLE", "iip-assoc-0123456789abcdef0",
		"127.1.2.3"}
	if d := cmp.Diff(want, Made([]byte(answer))); d != "" {
		t.Error(d)
	}
	var long strings.Builder
	for i := range maxMade + 1 {
		fmt.Fprintf(&long, "<i>i-%017x</i>", i)
	}
	if got := Made([]byte(long.String())); len(got) != maxMade || !slices.IsSorted(got) {
		t.Errorf("%d identifiers, want %d", len(got), maxMade)
	}
}
