package policy_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/cloudtwin/cloudtwin/cloud/policy"
)

// meets tells whether a condition lets an Allow apply.
func meets(t *testing.T, condition string, values policy.Context) bool {
	t.Helper()
	set := policy.Set{Identity: []policy.Source{{Name: "p", Document: statements(t, policy.Identity,
		`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{`+condition+`}}`)}}}
	r := policy.Request{Action: "iam:GetUser", Resource: "*", Context: values}
	return set.Evaluate(&r).Allowed()
}

// TestEveryOperator goes through all operators in all their forms: for a value that meets it, for one that does not,
// and for a key that the request has not (User Guide, "IAM JSON policy elements: Condition operators").
func TestEveryOperator(t *testing.T) {
	for _, tt := range []struct {
		name, value string
		good, bad   string
	}{
		{"StringEquals", "alice", "alice", "Alice"},
		{"StringNotEquals", "alice", "Alice", "alice"},
		{"StringEqualsIgnoreCase", "alice", "ALICE", "bob"},
		{"StringNotEqualsIgnoreCase", "alice", "bob", "ALICE"},
		{"StringLike", "alice", "a?i*", "b*"},
		{"StringNotLike", "alice", "b*", "a?i*"},
		{"NumericEquals", "10", "10.0", "11"},
		{"NumericNotEquals", "10", "11", "10"},
		{"NumericLessThan", "10", "11", "10"},
		{"NumericLessThanEquals", "10", "10", "9"},
		{"NumericGreaterThan", "10", "9", "10"},
		{"NumericGreaterThanEquals", "10", "10", "11"},
		{"DateEquals", "2026-05-01T12:00:00Z", "2026-05-01T14:00:00+02:00", "2026-05-01"},
		{"DateNotEquals", "2026-05-01T12:00:00Z", "2026-05-01", "1777636800"},
		{"DateLessThan", "2026-05-01T12:00:00Z", "2026-05-02", "2026-05-01T12:00:00Z"},
		{"DateLessThanEquals", "2026-05-01T12:00:00Z", "2026-05-01T12:00:00Z", "2026-05-01"},
		{"DateGreaterThan", "2026-05-01T12:00:00Z", "2026-05-01", "2026-05-01T12:00:00Z"},
		{"DateGreaterThanEquals", "2026-05-01T12:00:00Z", "2026-05-01T12:00:00Z", "2026-05-02"},
		{"Bool", "true", "true", "false"},
		{"BinaryEquals", "QQ==", "QQ==", "Qg=="},
		{"IpAddress", "10.1.2.3", "10.0.0.0/8", "192.0.2.0/24"},
		{"NotIpAddress", "10.1.2.3", "192.0.2.0/24", "10.1.2.3"},
		{"ArnEquals", "arn:aws:iam::1:role/x", "arn:aws:iam::*:role/*", "arn:aws:iam::1:user/*"},
		{"ArnNotEquals", "arn:aws:iam::1:role/x", "arn:aws:iam::1:user/*", "arn:aws:iam::*:role/*"},
		{"ArnLike", "arn:aws:iam::1:role/x", "arn:aws:iam::1:role/?", "arn:aws:iam::2:role/?"},
		{"ArnNotLike", "arn:aws:iam::1:role/x", "arn:aws:iam::2:role/?", "arn:aws:iam::1:role/?"},
	} {
		values := policy.ContextMap{"aws:present": {tt.value}}
		negated := strings.Contains(tt.name, "Not")
		for form, absent := range map[string]bool{
			tt.name: negated, tt.name + "IfExists": true, "ForAnyValue:" + tt.name: false, "ForAllValues:" + tt.name: true,
			"ForAnyValue:" + tt.name + "IfExists": true, "ForAllValues:" + tt.name + "IfExists": true,
		} {
			t.Run(form, func(t *testing.T) {
				for operand, want := range map[string]bool{tt.good: true, tt.bad: false} {
					if got := meets(t, `"`+form+`":{"aws:Present":"`+operand+`"}`, values); got != want {
						t.Errorf("%s of %s is %v, want %v", tt.value, operand, got, want)
					}
					if got := meets(t, `"`+form+`":{"aws:Absent":"`+operand+`"}`, values); got != absent {
						t.Errorf("an absent key of %s is %v, want %v", operand, got, absent)
					}
				}
			})
		}
	}
}

// TestValuesOfAnotherType stand in no relation to an operand, which the negated operators take for a difference.
func TestValuesOfAnotherType(t *testing.T) {
	values := policy.ContextMap{"aws:text": {"alice"}}
	for condition, want := range map[string]bool{
		`"NumericEquals":{"aws:Text":1}`: false, `"NumericNotEquals":{"aws:Text":1}`: true,
		`"NumericLessThan":{"aws:Text":1}`: false, `"NumericGreaterThanEquals":{"aws:Text":1}`: false,
		`"DateEquals":{"aws:Text":"2026-05-01"}`: false, `"DateNotEquals":{"aws:Text":"2026-05-01"}`: true,
		`"DateLessThan":{"aws:Text":"2026-05-01"}`: false, `"Bool":{"aws:Text":"false"}`: false,
		`"IpAddress":{"aws:Text":"0.0.0.0/0"}`: false, `"NotIpAddress":{"aws:Text":"0.0.0.0/0"}`: true,
		`"ArnLike":{"aws:Text":"arn:aws:*:*:*:*"}`: false, `"ArnNotLike":{"aws:Text":"arn:aws:*:*:*:*"}`: true,
		`"NumericEqualsIfExists":{"aws:Text":1}`: false, `"IpAddressIfExists":{"aws:Text":"::/0"}`: false,
	} {
		if got := meets(t, condition, values); got != want {
			t.Errorf("%s is %v, want %v", condition, got, want)
		}
	}
}

// TestErrorPositions: § stands before what an error must point at.
func TestErrorPositions(t *testing.T) {
	for _, tt := range []struct {
		name    string
		grammar policy.Grammar
		text    string
	}{
		{"element unknown", policy.Identity, "{\n \"Version\":\"2012-10-17\",\n  §\"Statements\":[]}"},
		{"version", policy.Identity, `{"Version":§"2012-10-18"}`},
		{"no statement", policy.Identity, "\n §{\"Version\":\"2012-10-17\"}"},
		{"empty list", policy.Identity, `{"Statement":§[]}`},
		{"effect", policy.Identity, "{\"Statement\":[\n{\"Effect\":\n\t§\"allow\",\"Action\":\"*\",\"Resource\":\"*\"}]}"},
		{"no effect", policy.Identity, "{\"Statement\":[\n §{\"Action\":\"*\",\"Resource\":\"*\"}]}"},
		{"no resource in the second", policy.Identity, `{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},` +
			"\n\n§{\"Effect\":\"Deny\",\"Action\":\"*\"}]}"},
		{"action of a list", policy.Identity, `{"Statement":{"Effect":"Allow","Action":["s3:*",` + "\n  §\"GetUser\"]," +
			`"Resource":"*"}}`},
		{"both forms", policy.Identity, `{"Statement":{"Effect":"Allow","Action":"*",§"NotAction":"*","Resource":"*"}}`},
		{"resource", policy.Identity, `{"Statement":{"Effect":"Allow","Action":"*","Resource":["*",§"bucket"]}}`},
		{"open variable", policy.Identity, `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*",` +
			`"Resource":§"arn:aws:s3:::${aws:username"}}`},
		{"principal", policy.Identity, `{"Statement":{"Effect":"Allow",§"Principal":"*","Action":"*","Resource":"*"}}`},
		{"resource of a trust policy", policy.Trust,
			`{"Statement":{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole",§"Resource":"*"}}`},
		{"operator", policy.Identity, `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{` +
			"\n§\"StringEqual\":{\"aws:username\":\"a\"}}}}"},
		{"condition key", policy.Identity, `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{` +
			`"StringEquals":{§"username":"a"}}}}`},
		{"operand", policy.Identity, `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{` +
			`"IpAddress":{"aws:SourceIp":["10.0.0.0/8",` + "\n §\"10.0.0.0/33\"]}}}}"},
		{"column in bytes", policy.Identity, `{"Id":"äöü",§"X":1}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before, after, ok := strings.Cut(tt.text, "§")
			if !ok {
				t.Fatal("the case has no mark")
			}
			_, err := policy.Parse(before+after, tt.grammar)
			wrong, ok := errors.AsType[*policy.Error](err)
			if !ok {
				t.Fatalf("error %v", err)
			}
			line := 1 + strings.Count(before, "\n")
			column := len(before) - strings.LastIndexByte(before, '\n')
			if wrong.Line != line || wrong.Column != column {
				t.Errorf("%v, want position (%d,%d)", wrong, line, column)
			}
		})
	}
}
