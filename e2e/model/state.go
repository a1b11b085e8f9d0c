package model

// How large the world can be. All numbers in a State are small and bounded by these and by the budgets.
const (
	maxBalancers    = 2
	maxMachines     = 3
	maxCertificates = 2
	maxTasks        = 2
	maxRequests     = 2
)

// State is the world at one instant. It is a comparable value without pointers.
type State struct {
	Balancer    [maxBalancers]Balancer
	Machine     [maxMachines]Machine
	Certificate [maxCertificates]Certificate
	Task        [maxTasks]Task
	Request     [maxRequests]Request
	IAM         IAM
	// Nonces that the cloud remembers, and those that were answered: a bit each.
	Seen, Answered set
	// NextNonce numbers requests.
	NextNonce uint8
	Left      Budget
}

// set is a set of small numbers, a bit each.
type set uint8

func of(n uint8) set { return 1 << n }

func (s set) has(n uint8) bool { return s&of(n) != 0 }

// grants are a role's policies: policy name to certificate, where 0 means no such policy and n+1 certificate n.
type grants [maxCertificates]uint8

// Life of a load balancer's record.
const (
	absent uint8 = iota
	present
	deleting
)

// Balancer is a load balancer: its record, its role and what elb's process holds about it.
type Balancer struct {
	Record Record
	// Role is the incarnation of the load balancer that the role was made for; 0 means that there is no role.
	Role     uint8
	Policies grants

	// Generation counts incarnations, so that a new load balancer of an old name is another one.
	Generation uint8
	// Lock is the number of the task that holds the load balancer's lock, plus one.
	Lock uint8
	// Queued says that the reconcile loop will look at the load balancer.
	Queued bool
	// Doubt holds the certificates that a call which failed may still name; a reconcile ends it.
	Doubt set
}

// Record is what the store has of a load balancer.
type Record struct {
	Life     uint8
	Prepared bool
	Names    set // certificates that listeners name
	Granted  grants
	Members  set // LBVMs
}

// Life of a machine.
const (
	unborn uint8 = iota
	live
	revoked // runs, but its LBCERT was withdrawn
	ended
)

// maxIdentities is how many LBCERTs a machine can have had.
const maxIdentities = 3

// IAM is the cloud's identity, which signs LBCERTs.
type IAM struct {
	Signs   uint8 // the IAMCERT that signs now
	Retired set   // those of which nothing is good any more
	Forced  bool  // one was retired although machines had nothing else
}

// Machine is an LBVM. Its first LBCERT and LBPK are its own from its launch.
type Machine struct {
	Life     uint8
	Balancer uint8
	// Identity is the LBCERT that it has, Next the one on a medium that it has not read yet; 0 means none. Issuer is the
	// IAMCERT that signed each.
	Identity, Next uint8
	Issuer         [maxIdentities + 1]uint8
	// Generation is the incarnation of the load balancer that launched it.
	Generation uint8
	// Sessions are the incarnations of the role that it holds credentials of.
	Sessions set
}

// Certificate is what stands behind an ARN.
type Certificate struct {
	Revision uint8 // 0 means that there is none
	Made     uint8 // revisions made so far
}

// Budget bounds what may still happen.
type Budget struct {
	Calls    uint8 // API calls on load balancers
	Faults   uint8 // failing steps and crashes
	Ends     uint8 // terminations and revocations
	Uploads  uint8 // changes of what is behind an ARN
	Requests uint8 // new requests
	Resends  uint8 // copies of requests
	Ticks    uint8 // each is longer than a request may live
	Renewals uint8 // new LBCERTs
	Rotates  uint8 // new IAMCERTs, each of which may be followed by the end of those before
}

// World says how large a world is and how it begins.
type World struct {
	Name                                               string
	Balancers, Machines, Certificates, Tasks, Requests uint8
	Budget                                             Budget
	// OneName gives the two certificates one name under different paths: they share a policy's name, and only one of
	// them can exist.
	OneName bool
	// Begin is what each load balancer names at first; none means that it does not exist.
	Begin [maxBalancers]set
	// Bare makes them begin without LBVMs.
	Bare  bool
	Rules Rules
}

// Rules are the checks of the product, each of which a test can switch off.
type Rules uint32

// The checks. The numbers are the protocol's.
const (
	RuleRole      Rules = 1 << iota // 2: the session is of the role as it is now, not of an earlier one of its name
	RuleRevoked                     // 3: the LBCERT's instance is live and not revoked
	RuleInstance                    // 4: the LBCERT is that of the session's instance
	RuleTime                        // 5: the request is young
	RuleSignature                   // 6: LBPK signed it
	RuleNonce                       // 7: it was not seen before
	RulePolicy                      // 8: the role is granted the certificate
	RuleCertain                     // the answer's facts held all at one instant
	RuleLock                        // elb works on a load balancer one task at a time
	RuleIntent                      // elb notes a grant down before it puts it
	RuleAgain                       // a grant that was noted down and that no listener called for is put again
	RuleWithdraw                    // a grant goes with its listener
	RuleSettle                      // a grant of another certificate under the same policy name is put right
	RuleDropRole                    // the role goes with its load balancer
	RuleStrays                      // LBVMs that the record does not name are ended
	RuleProfile                     // an instance gets sessions of the role it was launched with only
	RuleHonest                      // a deletion is answered only when the role is gone
	RuleLatest                      // 3: the LBCERT is the one that its instance was given last, or is being given
	RuleRetired                     // 3: the IAMCERT that signed it is not retired
	RuleOverlap                     // an IAMCERT is not retired by itself while a live machine has an LBCERT of it

	everyRule Rules = 1<<iota - 1
)

// AllRules is the product as it should be.
func AllRules() Rules { return everyRule }

func (w *World) rule(r Rules) bool { return w.Rules&r != 0 }

// policyName is which of a role's policies a certificate's grant is.
func (w *World) policyName(certificate uint8) uint8 {
	if w.OneName {
		return 0
	}
	return certificate
}

// grants returns the policies that listeners call for.
func (w *World) grants(names set) grants {
	var g grants
	for c := range w.Certificates {
		if names.has(c) {
			g[w.policyName(c)] = c + 1
		}
	}
	return g
}

// initial is the world before anything happens: every load balancer that exists has its role, grants and one LBVM.
func (w *World) initial() State {
	s := State{Left: w.Budget}
	for c := range w.Certificates {
		if c > 0 && w.OneName {
			break
		}
		s.Certificate[c] = Certificate{Revision: 1, Made: 1}
	}
	next := uint8(0)
	for b := range w.Balancers {
		if w.Begin[b] == 0 {
			continue
		}
		g := w.grants(w.Begin[b])
		s.Balancer[b] = Balancer{
			Record: Record{Life: present, Prepared: true, Names: w.Begin[b], Granted: g, Members: of(next)},
			Role:   1, Policies: g, Generation: 1,
		}
		if w.Bare {
			s.Balancer[b].Record.Members, s.Balancer[b].Queued = 0, true
			continue
		}
		s.Machine[next] = Machine{Life: live, Balancer: b, Generation: 1, Sessions: of(1), Identity: 1}
		next++
	}
	return s
}
