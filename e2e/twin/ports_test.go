package twin

import "testing"

// TestConnected has curl's ends as a guest's shell tells them, real and simulated.
func TestConnected(t *testing.T) {
	const refused = "curl: (7) Failed to connect to 10.64.0.16:81: dial tcp 10.64.0.16:81: connect: refused"
	const simulated = "curl: (7) Failed to connect to 10.64.0.16:81: dial 10.64.0.16:81: connection refused"
	const banner = `curl: (7) Failed to connect to 10.64.0.16:22: malformed HTTP response "SSH-2.0-cloudtwin"`
	for _, tt := range []struct {
		name string
		out  Output
		want bool
	}{
		{"answered", Output{Stdout: "ok"}, true},
		{"silent", Output{Stderr: "curl: (28) Operation timed out after 5s", Code: 28}, true},
		{"no HTTP", Output{Stderr: banner, Code: 7}, true},
		{"closed at once", Output{Stderr: "curl: (7) Failed to connect to 10.64.0.16:9: EOF", Code: 7}, true},
		{"refused", Output{Stderr: refused, Code: 7}, false},
		{"refused in a simulated guest", Output{Stderr: simulated, Code: 7}, false},
		{"the guest ended", Output{Code: GuestGone}, false},
		{"no such command", Output{Code: 127}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := connected(tt.out); got != tt.want {
				t.Errorf("connected: %t", got)
			}
		})
	}
}
