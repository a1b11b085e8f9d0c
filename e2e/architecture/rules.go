// Package architecture holds the house rules that a compiler does not check: which package may import which, how
// long a file may be, and which folder names mean nothing. The rules are data in this file; the tests beside it read
// the tree and name the offender and the rule. A package that no rule covers fails too, so a new one gets a floor
// on the day it is made.
package architecture

import "strings"

// modulePath is what every package of ours begins with.
const modulePath = "github.com/cloudtwin/cloudtwin"

// rule says what the packages at and below Package may import of ours. Imports within the same Package are always
// allowed. Paths are relative to the module; "." is everything of ours.
type rule struct {
	Package string
	// Exact makes the rule cover Package alone, without what lies below it.
	Exact  bool
	Floor  string
	Allows []string
}

// leaves import nothing of ours; every floor of the cloud above them may import them.
var leaves = []string{
	"cloud/authn", "cloud/fault", "cloud/journal", "cloud/keydelivery", "cloud/model", "cloud/nodelink", "cloud/policy",
	"cloud/store",
}

// rules in order; the first that covers a package is its rule.
var rules = []rule{
	{Package: "cloud/cmd", Floor: "the binary ties everything", Allows: []string{"."}},
	{Package: "e2e", Floor: "suites tie everything", Allows: []string{"."}},

	{Package: "cloud/authn", Floor: "leaf"},
	{Package: "cloud/fault/play", Floor: "above the leaves", Allows: leaves},
	{Package: "cloud/fault", Floor: "leaf"},
	{Package: "cloud/journal", Floor: "leaf"},
	{Package: "cloud/keydelivery", Floor: "leaf"},
	{Package: "cloud/model", Floor: "leaf"},
	{Package: "cloud/nodelink", Floor: "leaf"},
	{Package: "cloud/policy", Floor: "leaf"},
	{Package: "cloud/store", Floor: "leaf"},

	{Package: "cloud/iam", Floor: "above the leaves", Allows: leaves},
	{Package: "cloud/placement", Floor: "above the leaves", Allows: leaves},
	{Package: "cloud/ec2", Floor: "above iam and placement", Allows: with(leaves, "cloud/iam", "cloud/placement")},
	{Package: "cloud/sts", Floor: "above iam and placement", Allows: with(leaves, "cloud/iam", "cloud/placement")},
	{Package: "cloud/elb", Floor: "above ec2 and sts",
		Allows: with(leaves, "cloud/iam", "cloud/placement", "cloud/ec2", "cloud/sts")},
	{Package: "cloud/api", Floor: "the front door, above the services",
		Allows: with(leaves, "cloud/iam", "cloud/placement", "cloud/ec2", "cloud/sts", "cloud/elb")},
	{Package: "cloud/operator", Floor: "the operator's door, above the services",
		Allows: with(leaves, "cloud/iam", "cloud/placement", "cloud/ec2", "cloud/sts", "cloud/elb")},
	{Package: "cloud", Exact: true, Floor: "assembles a control plane", Allows: []string{"cloud"}},

	{Package: "node/floppy", Floor: "leaf of the node"},
	{Package: "node/imds", Floor: "leaf of the node"},
	{Package: "node/vnet", Floor: "leaf of the node"},
	{Package: "node/hypervisor/sim", Floor: "simulated guests run the agent's own code",
		Allows: []string{"node/hypervisor", "node/vnet", "node/floppy", "lbvm-image/agent", "cloud/keydelivery"}},
	{Package: "node/hypervisor/drivertest/guest", Floor: "a guest's binary, which reaches its drive as the agent does",
		Allows: []string{"node/hypervisor", "lbvm-image/agent/guest"}},
	{Package: "node/hypervisor", Floor: "leaf of the node"},
	{Package: "node", Floor: "of the cloud, only what they share on the wire",
		Allows: []string{"cloud/keydelivery", "cloud/nodelink", "cloud/fault"}},

	{Package: "lbvm-image/agent/guest", Floor: "the guest's machine: its drive is read as the node writes it",
		Allows: []string{"lbvm-image/agent", "cloud/keydelivery", "node/floppy"}},
	{Package: "lbvm-image/agent", Floor: "the guest knows the key protocol and its medium's format, nothing else",
		Allows: []string{"cloud/keydelivery", "node/floppy"}},
	{Package: "lbvm-image/builder", Floor: "leaf"},
	{Package: "lbvm-image/cmd", Floor: "the guest's binary", Allows: []string{"lbvm-image/agent"}},
	{Package: "fixtures", Floor: "leaf"},
}

// maxLines is how long a Go file that a person wrote may be.
const maxLines = 450

// emptyNames say nothing about what is inside.
var emptyNames = []string{"util", "utils", "common", "helpers", "helper", "misc", "pkg", "internal"}

// topFolders are the only ones at the top of the tree.
var topFolders = []string{"cloud", "node", "lbvm-image", "e2e", "fixtures", "vagrant"}

func with(base []string, more ...string) []string {
	return append(append([]string(nil), base...), more...)
}

// covers reports whether path is root or lies below it.
func covers(root, path string) bool {
	return root == "." || path == root || strings.HasPrefix(path, root+"/")
}

// ruleOf finds the rule of a package by its path relative to the module.
func ruleOf(path string) (rule, bool) {
	for _, r := range rules {
		if r.Exact && path == r.Package || !r.Exact && covers(r.Package, path) {
			return r, true
		}
	}
	return rule{}, false
}

// allows reports whether a package under r may import the package of ours at path.
func (r rule) allows(path string) bool {
	if covers(r.Package, path) && !r.Exact {
		return true
	}
	for _, root := range r.Allows {
		if covers(root, path) {
			return true
		}
	}
	return false
}
