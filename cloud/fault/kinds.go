package fault

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Kind is what goes wrong: a layer and an event, with a dot between them.
type Kind string

// The kinds of faults. Catalogue tells what each of them takes.
const (
	APILatency  Kind = "api.latency"
	APIError    Kind = "api.error"
	APIThrottle Kind = "api.throttle"

	StoreSlow        Kind = "store.slow"
	StoreUnavailable Kind = "store.unavailable"
	StoreFull        Kind = "store.full"
	StoreLeaderLost  Kind = "store.leader-lost"

	NodeKill        Kind = "node.kill"
	NodeFreeze      Kind = "node.freeze"
	NodeClockSkew   Kind = "node.clock-skew"
	NodeOutOfMemory Kind = "node.out-of-memory"
	NodeOutOfDisk   Kind = "node.out-of-disk"

	WireLoss      Kind = "wire.loss"
	WireDelay     Kind = "wire.delay"
	WireJitter    Kind = "wire.jitter"
	WireDuplicate Kind = "wire.duplicate"
	WireReorder   Kind = "wire.reorder"
	WirePartition Kind = "wire.partition"
	WireBandwidth Kind = "wire.bandwidth"

	MediumReadError Kind = "medium.read-error"
	MediumEject     Kind = "medium.eject"
	MediumSwap      Kind = "medium.swap"
	MediumCorrupt   Kind = "medium.corrupt"

	GuestKill      Kind = "guest.kill"
	GuestPause     Kind = "guest.pause"
	GuestNMI       Kind = "guest.nmi"
	GuestPanic     Kind = "guest.panic"
	GuestClockJump Kind = "guest.clock-jump"
	GuestNoEntropy Kind = "guest.no-entropy"

	CredentialExpire  Kind = "credential.expire" //nolint:gosec // the name of a kind, no credential
	CertificateExpire Kind = "certificate.expire"
)

// Scope is what a kind's target names.
type Scope string

// The scopes.
const (
	Operations Scope = "operation" // a glob of an API operation's name
	Records    Scope = "store"     // *, read or write
	Nodes      Scope = "node"      // a glob of a node's id
	Guests     Scope = "guest"     // a Selector
)

// Info is what a kind takes.
type Info struct {
	Kind  Kind
	Scope Scope
	// Moment kinds happen once, to what is there then, and have no length.
	Moment bool
	// Chance kinds heed Fault.Rate.
	Chance bool
	// About is for people, one line.
	About string
	// With are its parameters, in the order in which they are shown.
	With []Parameter
}

// Parameter is one of a kind's.
type Parameter struct {
	Name    string
	Default string // what an absent one means; empty where it must be given
	About   string
	check   func(string) error
}

// Required says whether it must be given.
func (p Parameter) Required() bool { return p.Default == "" }

func duration(name, byDefault, about string, least, most time.Duration) Parameter {
	return Parameter{Name: name, Default: byDefault, About: about, check: func(text string) error {
		d, err := time.ParseDuration(text)
		if err != nil || d < least || d > most {
			return fmt.Errorf("want a duration from %s to %s, such as 200ms", least, most)
		}
		return nil
	}}
}

func number(name, byDefault, about string, least, most int) Parameter {
	return Parameter{Name: name, Default: byDefault, About: about, check: func(text string) error {
		n, err := strconv.Atoi(text)
		if err != nil || n < least || n > most {
			return fmt.Errorf("want a whole number from %d to %d", least, most)
		}
		return nil
	}}
}

func choice(name, byDefault, about string, of ...string) Parameter {
	return Parameter{Name: name, Default: byDefault, About: about, check: func(text string) error {
		if !slices.Contains(of, text) {
			return fmt.Errorf("want one of %s", strings.Join(of, ", "))
		}
		return nil
	}}
}

func words(name, byDefault, about string, most int) Parameter {
	return Parameter{Name: name, Default: byDefault, About: about, check: func(text string) error {
		control := func(r rune) bool { return r < ' ' || r == 0x7f }
		if text == "" || len(text) > most || strings.ContainsFunc(text, control) {
			return fmt.Errorf("want 1 to %d bytes on one line", most)
		}
		return nil
	}}
}

// The bounds of parameters. A longer delay is an unavailability.
const (
	maxDelay   = time.Minute
	maxJump    = 10 * 365 * 24 * time.Hour
	maxSector  = 2879 // of a 1.44 MB floppy
	maxPerSec  = 1_000_000
	maxBits    = 1_000_000
	maxMessage = 200
)

func delays(byDefault string) []Parameter {
	return []Parameter{
		duration("delay", byDefault, "how long each waits", 0, maxDelay),
		duration("jitter", "0s", "added or taken, evenly spread", 0, maxDelay),
	}
}

func direction() Parameter {
	return choice("direction", "both", "in: to the guest; out: from it", "both", "in", "out")
}

func offset() Parameter {
	return duration("offset", "", "how far ahead the clock goes; behind, when negative", -maxJump, maxJump)
}

var catalogue = []Info{
	{Kind: APILatency, Scope: Operations, Chance: true, About: "API calls are answered late", With: delays("1s")},
	{Kind: APIError, Scope: Operations, Chance: true, About: "API calls fail", With: []Parameter{
		words("code", "InternalFailure", "AWS error code", 64),
		number("status", "500", "HTTP status", 400, 599),
		words("message", "an injected fault", "the error's message", maxMessage)}},
	{Kind: APIThrottle, Scope: Operations, About: "API calls beyond a rate are throttled", With: []Parameter{
		number("perSecond", "1", "calls a second that pass", 0, maxPerSec)}},
	{Kind: StoreSlow, Scope: Records, Chance: true, About: "the store answers late", With: delays("200ms")},
	{Kind: StoreUnavailable, Scope: Records, Chance: true,
		About: "the store does not answer; API calls that need it fail with 503"},
	{Kind: StoreFull, Scope: Records, Chance: true, About: "the store has no room for writes"},
	{Kind: StoreLeaderLost, Scope: Records, Chance: true, About: "the store changes its leader during writes",
		With: []Parameter{choice("committed", "false",
			"whether a write that fails so is kept all the same", "false", "true")}},
	{Kind: NodeKill, Scope: Nodes, Moment: true, About: "the node's process is killed", With: []Parameter{
		duration("down", "1s", "until the node within 'cloudtwin up' is started again", 0, maxDelay)}},
	{Kind: NodeFreeze, Scope: Nodes, About: "the node's process stands still"},
	{Kind: NodeClockSkew, Scope: Nodes, About: "the node's clock is wrong", With: []Parameter{offset()}},
	{Kind: NodeOutOfMemory, Scope: Nodes, About: "the node has no memory for another guest"},
	{Kind: NodeOutOfDisk, Scope: Nodes, About: "the node cannot write files"},
	{Kind: WireLoss, Scope: Guests, Chance: true, About: "frames are lost", With: []Parameter{direction()}},
	{Kind: WireDelay, Scope: Guests, Chance: true, About: "frames are late", With: append(delays("100ms"), direction())},
	{Kind: WireJitter, Scope: Guests, Chance: true, About: "frames are late by chance", With: []Parameter{
		duration("jitter", "50ms", "at most so late", 0, maxDelay), direction()}},
	{Kind: WireDuplicate, Scope: Guests, Chance: true, About: "frames come twice", With: []Parameter{direction()}},
	{Kind: WireReorder, Scope: Guests, Chance: true, About: "frames are overtaken by later ones", With: []Parameter{
		duration("delay", "20ms", "how long those wait", 0, maxDelay), direction()}},
	{Kind: WirePartition, Scope: Guests, About: "no frame passes", With: []Parameter{direction()}},
	{Kind: WireBandwidth, Scope: Guests, About: "frames pass no faster than this", With: []Parameter{
		number("bytesPerSecond", "65536", "each way", 64, 1_000_000_000), direction()}},
	{Kind: MediumReadError, Scope: Guests, Chance: true, About: "sectors of the medium cannot be read", With: []Parameter{
		number("sector", "", "the first that cannot be read, from 0", 0, maxSector),
		number("sectors", "1", "how many", 1, maxSector+1)}},
	{Kind: MediumEject, Scope: Guests, About: "the medium falls out of the drive, and is put back at the end"},
	{Kind: MediumSwap, Scope: Guests, About: "the medium is exchanged with another guest's", With: []Parameter{
		words("with", "", "which guests, a selector", maxTarget)}},
	{Kind: MediumCorrupt, Scope: Guests, Chance: true, About: "bits of the medium's files are flipped", With: []Parameter{
		number("bits", "8", "how many", 1, maxBits)}},
	{Kind: GuestKill, Scope: Guests, Moment: true, About: "the guest is gone from one moment to the next"},
	{Kind: GuestPause, Scope: Guests, About: "the guest's processors stand still"},
	{Kind: GuestNMI, Scope: Guests, Moment: true, About: "the guest gets a non-maskable interrupt"},
	{Kind: GuestPanic, Scope: Guests, Moment: true, About: "the guest's kernel panics"},
	{Kind: GuestClockJump, Scope: Guests, With: []Parameter{offset()},
		About: "the clock of guests that take the time from a medium meanwhile, all but those booted cold, is wrong"},
	{Kind: GuestNoEntropy, Scope: Guests, About: "guests that get a medium meanwhile get no entropy with it"},
	{Kind: CredentialExpire, Scope: Guests, About: "role credentials of guests expire soon", With: []Parameter{
		duration("life", "10s", "how long they are good", time.Second, maxDelay)}},
	{Kind: CertificateExpire, Scope: Guests, About: "LBCERTs of guests expire soon", With: []Parameter{
		duration("life", "10s", "how long they are good", time.Second, maxDelay)}},
}

// Catalogue lists all kinds, by layer.
func Catalogue() []Info { return slices.Clone(catalogue) }

// InfoOf returns what a kind takes; false for one that is not known.
func InfoOf(kind Kind) (Info, bool) {
	at := slices.IndexFunc(catalogue, func(i Info) bool { return i.Kind == kind })
	if at < 0 {
		return Info{}, false
	}
	return catalogue[at], true
}

// OnNodes says whether it is a node that does it, not the cloud.
func (i Info) OnNodes() bool {
	return i.Scope == Nodes || i.Scope == Guests && i.Kind != CredentialExpire && i.Kind != CertificateExpire
}
