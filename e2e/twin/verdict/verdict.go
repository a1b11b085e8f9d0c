// Package verdict is how a suite tells its runner more about a failure than that there is one: whose fault it is, and
// what went wrong first. The harness (package twin) writes it into Ginkgo's report, 'cloudtwin test' reads it there. It
// imports neither.
package verdict

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Blame is whose fault a failure is.
type Blame string

const (
	// Product is what the product, or the spec itself, did wrong. Nothing else excuses it.
	Product Blame = "product"
	// Infrastructure is a fault of the machine: no QEMU, no room on the disk, no memory. Only such failures are tried
	// again.
	Infrastructure Blame = "infrastructure"
)

// Entry is the name of the report entry that holds a Cause as JSON.
const Entry = "cloudtwin.cause"

// Replay is the name of the report entry that holds the command that plays a failed spec's recording again.
const Replay = "play it again with"

// Prefix begins the message of a failure that is the machine's, where nothing but the message survives.
const Prefix = "infrastructure: "

// Cause is what went wrong first, before the assertion that noticed it.
type Cause struct {
	Blame Blame `json:"blame"`
	// What is one line of plain words.
	What string `json:"what"`
	// Time is when it happened; zero when unknown.
	Time time.Time `json:"time,omitzero"`
	// Subject is the guest, node or load balancer.
	Subject string `json:"subject,omitempty"`
	// Path is the file to read on, such as the guest's console.
	Path string `json:"path,omitempty"`
}

// String is what a person reads first.
func (c Cause) String() string {
	text := c.What
	if c.Subject != "" {
		text = c.Subject + ": " + text
	}
	if c.Path != "" {
		text += " (" + c.Path + ")"
	}
	return text
}

// JSON is what the report entry holds.
func (c Cause) JSON() string {
	text, err := json.Marshal(c)
	if err != nil {
		return fmt.Sprintf(`{"blame":%q,"what":%q}`, c.Blame, c.What)
	}
	return string(text)
}

// Parse reads what JSON wrote. An unknown blame is an error: it must not pass for one that excuses.
func Parse(text string) (Cause, error) {
	var c Cause
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return c, fmt.Errorf("read a failure's cause: %w", err)
	}
	if c.Blame != Product && c.Blame != Infrastructure {
		return c, fmt.Errorf("read a failure's cause: blame %q is neither %s nor %s", c.Blame, Product, Infrastructure)
	}
	return c, nil
}

// OfMessage blames by a failure's message alone.
func OfMessage(message string) Blame {
	if strings.HasPrefix(message, Prefix) {
		return Infrastructure
	}
	return Product
}
