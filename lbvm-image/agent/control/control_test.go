package control

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudtwin/cloudtwin/fixtures/bounded"
)

func TestParseError(t *testing.T) {
	tests := []struct {
		name, body string
		want       Error
		final      bool
	}{
		{
			name: "IAM's form",
			body: `<ErrorResponse xmlns="x"><Error><Type>Sender</Type><Code>NoSuchEntity</Code><Message>gone</Message></Error>
				</ErrorResponse>`,
			want: Error{Status: 400, Code: "NoSuchEntity", Message: "gone"}, final: true,
		},
		{
			name: "EC2's form",
			body: `<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>no</Message></Error></Errors></Response>`,
			want: Error{Status: 400, Code: "UnauthorizedOperation", Message: "no"}, final: true,
		},
		{
			name: "control characters", body: "<a><Code>Thro\nttling</Code></a>",
			want: Error{Status: 400, Code: "Thro ttling"},
		},
		{name: "no XML", body: "oops", want: Error{Status: 400, Message: "Bad Request"}},
		{name: "empty", want: Error{Status: 400, Message: "Bad Request"}},
		{name: "cut off", body: "<a><Code>NoSuch", want: Error{Status: 400, Message: "Bad Request"}},
		{
			name: "long", body: "<a><Code>" + strings.Repeat("x", 1000) + "</Code></a>",
			want: Error{Status: 400, Code: strings.Repeat("x", 64)},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got *Error
			if err := parseError(http.StatusBadRequest, []byte(tt.body)); !errors.As(err, &got) {
				t.Fatalf("got %v", err)
			}
			if diff := cmp.Diff(tt.want, *got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if got.Final() != tt.final {
				t.Errorf("final is %t", got.Final())
			}
		})
	}
}

// FuzzParseError: whatever a cloud answers, the refusal is short and printable.
func FuzzParseError(f *testing.F) {
	f.Add([]byte("<ErrorResponse><Error><Code>NoSuchEntity</Code><Message>x</Message></Error></ErrorResponse>"))
	f.Add([]byte("<Code><Code/><Message>&#10;</Message>"))
	f.Add([]byte("<?xml version='1.0' encoding='latin1'?><Code>\xff</Code>"))
	f.Fuzz(func(t *testing.T, body []byte) {
		bounded.Memory(t, len(body), func() {
			text := parseError(http.StatusForbidden, body).Error()
			if utf8.RuneCountInString(text) > 500 || strings.ContainsAny(text, "\r\n\x00") {
				t.Errorf("%q", text)
			}
		})
	})
}

func TestConfigValidate(t *testing.T) {
	err := Config{IAM: "http://169.254.169.253", ELB: "https://169.254.169.253"}.Validate()
	for _, part := range []string{"iam endpoint", "dialer"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error %v does not name the %s", err, part)
		}
	}
	if strings.Contains(err.Error(), "elb endpoint") {
		t.Errorf("error %v blames a good endpoint", err)
	}
}
