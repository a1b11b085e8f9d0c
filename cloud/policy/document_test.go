package policy_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/cloud/policy"
	"github.com/cloudtwin/cloudtwin/fixtures/bounded"
)

func TestParseAccepts(t *testing.T) {
	tests := []struct {
		name    string
		grammar policy.Grammar
		text    string
	}{
		{"single statement", policy.Identity,
			`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`},
		{"list of statements", policy.Identity,
			`{"Version":"2008-10-17","Statement":[{"Effect":"Allow","Action":["s3:*"],"Resource":["*"]}]}`},
		{"no version", policy.Identity, `{"Statement":[{"Effect":"Deny","NotAction":"iam:*","NotResource":"*"}]}`},
		{"trust", policy.Trust, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow",
			"Principal":{"Service":"ec2.amazonaws.com","AWS":["123456789012","arn:aws:iam::123456789012:user/a/b"]},
			"Action":"sts:AssumeRole","Condition":{"StringEquals":{"sts:ExternalId":"x"}}}]}`},
		{"trust for everybody", policy.Trust,
			`{"Statement":{"Effect":"Allow","Principal":"*","Action":["sts:AssumeRole","sts:TagSession"]}}`},
		{"resource", policy.Resource, `{"Statement":{"Sid":"","Effect":"Deny","NotPrincipal":{"AWS":"*"},
			"Action":"s3:GetObject","Resource":"arn:aws:s3:::b/*"}}`},
		{"condition scalars", policy.Identity, `{"Statement":{"Effect":"Allow","Action":"s3:List?ucket",
			"Resource":"arn:aws:s3:::${aws:username}","Condition":{"Bool":{"aws:SecureTransport":true},
			"NumericLessThan":{"s3:max-keys":10},"Null":{"aws:TokenIssueTime":"false"},
			"ForAllValues:StringLikeIfExists":{"aws:TagKeys":["a*","b"]},"DateLessThan":{"aws:CurrentTime":"2030-01-01"},
			"NotIpAddress":{"aws:SourceIp":["10.0.0.0/8","::1"]}}}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, err := policy.Parse(tt.text, tt.grammar)
			if err != nil {
				t.Fatal(err)
			}
			if d.Text() != tt.text {
				t.Error("Text is not what was parsed")
			}
		})
	}
}

// TestParseRefuses holds for each rule a document that breaks it alone; element and position must be named.
func TestParseRefuses(t *testing.T) {
	id := func(rest string) string {
		return `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"` + rest + `}}`
	}
	tests := []struct {
		name    string
		grammar policy.Grammar
		text    string
		element string
		message string
	}{
		{"empty", policy.Identity, ``, "", "ends early"},
		{"no JSON", policy.Identity, `hello`, "", "syntax error"},
		{"cut off", policy.Identity, `{"Statement":[{"Effect":"Allow"`, "", "ends early"},
		{"text behind", policy.Identity, id("") + "x", "", "after the document"},
		{"a list", policy.Identity, `[]`, "", "must be an object"},
		{"not UTF-8", policy.Identity, "{\"\xff\":1}", "", "not UTF-8"},
		{"too deep", policy.Identity, strings.Repeat(`{"a":`, 40), "a.a.a.a.a.a.a.a.a.a.a.a.a", "nested"},
		{"too long", policy.Identity, strings.Repeat(" ", 200<<10), "", "longer"},
		{"given twice", policy.Identity, id(`,"Effect":"Deny"`), "Statement.Effect", "twice"},
		{"unknown element", policy.Identity, id(`,"Actions":"*"`), "Statement.Actions", "unknown element"},
		{"unknown top element", policy.Identity, `{"Versions":"x"}`, "Versions", "unknown element"},
		{"bad version", policy.Identity, `{"Version":"2013-01-01","Statement":[]}`, "Version", "2012-10-17"},
		{"no statement", policy.Identity, `{"Version":"2012-10-17"}`, "Statement", "missing"},
		{"empty statements", policy.Identity, `{"Statement":[]}`, "Statement", "at least one"},
		{"statement is text", policy.Identity, `{"Statement":["x"]}`, "Statement[0]", "must be an object"},
		{"no effect", policy.Identity, `{"Statement":[{"Action":"*","Resource":"*"}]}`, "Statement[0].Effect", "missing"},
		{"bad effect", policy.Identity, `{"Statement":[{"Effect":"allow"}]}`, "Statement[0].Effect", "Allow"},
		{"no action", policy.Identity, `{"Statement":[{"Effect":"Allow","Resource":"*"}]}`, "Statement[0].Action", "missing"},
		{"empty action", policy.Identity, `{"Statement":[{"Effect":"Allow","Action":[],"Resource":"*"}]}`,
			"Statement[0].Action", "empty"},
		{"action number", policy.Identity, `{"Statement":[{"Effect":"Allow","Action":[1]}]}`,
			"Statement[0].Action", "string"},
		{"action without vendor", policy.Identity, `{"Statement":[{"Effect":"Allow","Action":"GetUser"}]}`,
			"Statement[0].Action", "vendor"},
		{"action wildcard vendor", policy.Identity, `{"Statement":[{"Effect":"Allow","Action":"i*m:GetUser"}]}`,
			"Statement[0].Action", "not the name"},
		{"action beside NotAction", policy.Identity, id(`,"NotAction":"iam:*"`), "Statement.NotAction", "beside"},
		{"no resource", policy.Identity, `{"Statement":[{"Effect":"Allow","Action":"*"}]}`,
			"Statement[0].Resource", "missing"},
		{"resource no ARN", policy.Identity, `{"Statement":[{"Effect":"Allow","Action":"*","Resource":"bucket"}]}`,
			"Statement[0].Resource", "ARN format"},
		{"resource partition", policy.Identity,
			`{"Statement":[{"Effect":"Allow","Action":"*","Resource":"arn:azure:s3:::x"}]}`,
			"Statement[0].Resource", "ARN format"},
		{"variable not closed", policy.Identity,
			`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::${x"}]}`,
			"Statement[0].Resource", "not closed"},
		{"principal", policy.Identity, id(`,"Principal":"*"`), "Statement.Principal", "should not specify a principal"},
		{"sid characters", policy.Identity, id(`,"Sid":"a b"`), "Statement.Sid", "letters"},
		{"sid twice", policy.Identity, `{"Statement":[{"Sid":"a","Effect":"Allow","Action":"*","Resource":"*"},
			{"Sid":"a","Effect":"Allow","Action":"*","Resource":"*"}]}`, "Statement[1].Sid", "unique"},
		{"unknown operator", policy.Identity, id(`,"Condition":{"StringsEqual":{"aws:x":"y"}}`),
			"Statement.Condition.StringsEqual", "unknown condition operator"},
		{"Null takes no IfExists", policy.Identity, id(`,"Condition":{"NullIfExists":{"aws:x":"true"}}`),
			"Statement.Condition.NullIfExists", "unknown condition operator"},
		{"key without vendor", policy.Identity, id(`,"Condition":{"StringEquals":{"username":"y"}}`),
			"Statement.Condition.StringEquals.username", "vendor"},
		{"bad date", policy.Identity, id(`,"Condition":{"DateEquals":{"aws:CurrentTime":"soon"}}`),
			"Statement.Condition.DateEquals.aws:CurrentTime", "date"},
		{"bad number", policy.Identity, id(`,"Condition":{"NumericEquals":{"s3:max-keys":"ten"}}`),
			"Statement.Condition.NumericEquals.s3:max-keys", "number"},
		{"bad address", policy.Identity, id(`,"Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/99"}}`),
			"Statement.Condition.IpAddress.aws:SourceIp", "CIDR"},
		{"bad boolean", policy.Identity, id(`,"Condition":{"Bool":{"aws:SecureTransport":"yes"}}`),
			"Statement.Condition.Bool.aws:SecureTransport", "true or false"},
		{"bad ARN operand", policy.Identity, id(`,"Condition":{"ArnLike":{"aws:PrincipalArn":"a:b"}}`),
			"Statement.Condition.ArnLike.aws:PrincipalArn", "six parts"},
		{"null operand", policy.Identity, id(`,"Condition":{"StringEquals":{"aws:x":null}}`),
			"Statement.Condition.StringEquals.aws:x", "null"},
		{"trust with resource", policy.Trust,
			`{"Statement":{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole","Resource":"*"}}`,
			"Statement.Resource", "no place"},
		{"trust without principal", policy.Trust, `{"Statement":{"Effect":"Allow","Action":"sts:AssumeRole"}}`,
			"Statement.Principal", "missing"},
		{"trust for other actions", policy.Trust, `{"Statement":{"Effect":"Allow","Principal":"*","Action":"iam:PassRole"}}`,
			"Statement.Action", "STS"},
		{"trust allows all but some", policy.Trust,
			`{"Statement":{"Effect":"Allow","NotPrincipal":{"AWS":"123456789012"},"Action":"sts:AssumeRole"}}`,
			"Statement.NotPrincipal", "Effect Allow"},
		{"principal wildcard in ARN", policy.Trust,
			`{"Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::123456789012:user/*"},"Action":"sts:AssumeRole"}}`,
			"Statement.Principal.AWS", "invalid principal"},
		{"unknown principal kind", policy.Trust,
			`{"Statement":{"Effect":"Allow","Principal":{"Azure":"x"},"Action":"sts:AssumeRole"}}`,
			"Statement.Principal.Azure", "unknown kind"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := policy.Parse(tt.text, tt.grammar)
			var perr *policy.Error
			if !errors.As(err, &perr) {
				t.Fatalf("Parse: %v, want an *Error", err)
			}
			if diff := cmp.Diff(tt.element, perr.Element); diff != "" {
				t.Errorf("element of %q (-want +got):\n%s", err, diff)
			}
			if !strings.Contains(err.Error(), tt.message) {
				t.Errorf("message %q lacks %q", err, tt.message)
			}
			if perr.Line < 1 || perr.Column < 1 {
				t.Errorf("position (%d,%d)", perr.Line, perr.Column)
			}
		})
	}
}

func TestParseErrorPosition(t *testing.T) {
	_, err := policy.Parse("{\n  \"Statement\": {\n    \"Effect\": \"Maybe\"\n  }\n}", policy.Identity)
	var perr *policy.Error
	if !errors.As(err, &perr) {
		t.Fatalf("Parse: %v", err)
	}
	if diff := cmp.Diff([2]int{3, 15}, [2]int{perr.Line, perr.Column}); diff != "" {
		t.Errorf("position (-want +got):\n%s", diff)
	}
}

func TestPrincipals(t *testing.T) {
	d, err := policy.Parse(`{"Statement":[{"Effect":"Allow","Principal":{"AWS":["123456789012","*"],"Service":"x"},
		"Action":"sts:AssumeRole"},{"Effect":"Deny","Principal":{"AWS":"123456789012"},"Action":"sts:AssumeRole"}]}`,
		policy.Trust)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"123456789012"}, d.Principals()); diff != "" {
		t.Errorf("Principals (-want +got):\n%s", diff)
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := policy.NewCache(2)
	text := func(action string) string {
		return `{"Statement":{"Effect":"Allow","Action":"` + action + `","Resource":"*"}}`
	}
	first, err := c.Parse(text("a:A"), policy.Identity)
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := c.Parse(text("a:A"), policy.Identity); again != first {
		t.Error("the same text was compiled twice")
	}
	for _, action := range []string{"a:B", "a:C"} {
		if _, err := c.Parse(text(action), policy.Identity); err != nil {
			t.Fatal(err)
		}
	}
	if again, _ := c.Parse(text("a:A"), policy.Identity); again == first {
		t.Error("the oldest document did not leave")
	}
	if _, err := c.Parse("{", policy.Identity); err == nil {
		t.Error("a broken document was accepted")
	}
	if c.Len() != 2 {
		t.Errorf("%d documents kept, want 2", c.Len())
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `{"Statement":[]}`, `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`,
		`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","NotAction":["iam:*"],
			"NotResource":"arn:aws:s3:::${aws:username, 'x'}/*",
			"Condition":{"ForAnyValue:StringLikeIfExists":{"aws:TagKeys":["${*}a?"]},"NumericLessThan":{"a:b":1e3},
			"ArnLike":{"aws:PrincipalArn":"arn:*:iam::${aws:PrincipalAccount}:*"},"DateEquals":{"a:c":"2020-01-01T00:00Z"}}}]}`,
		`{"Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::123456789012:root"},"Action":"sts:AssumeRole"}}`,
		`[[[[[[[[[[[[[[[[`, `{"a":{"a":{"a":{"a":1e999}}}}`, `{"Statement":"\ud800"}`,
	} {
		f.Add(seed)
	}
	values := policy.ContextMap{"aws:username": {"al*ce"}, "aws:tagkeys": {"a", "ab"}, "a:b": {"7"}, "a:c": {"x"}}
	f.Fuzz(func(t *testing.T, text string) {
		bounded.Memory(t, len(text), func() {
			for _, g := range []policy.Grammar{policy.Identity, policy.Trust, policy.Resource} {
				d, err := policy.Parse(text, g)
				if err != nil {
					continue
				}
				set := policy.Set{Identity: []policy.Source{{Name: "fuzz", Document: d}}}
				r := policy.Request{Action: "iam:GetUser", Resource: "arn:aws:iam::123456789012:user/a", Context: values}
				if got, want := set.Explain(&r).Decision, set.Evaluate(&r); got != want {
					t.Errorf("Explain decides %v, Evaluate %v", got, want)
				}
			}
		})
	})
}
