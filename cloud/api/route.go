package api

import (
	"net/http"

	"github.com/cloudtwin/cloudtwin/cloud/model"
)

// target is where a request goes.
type target struct {
	binding *Binding
	action  string
	handler model.Handler
	raw     RawHandler
	// missing marks an operation that AWS has and this cloud has not.
	missing bool
}

// permission is the action's name in policies.
func (t *target) permission() string { return t.binding.Service.Name + ":" + t.action }

// routes finds operations by Action. Several services may have one of the same name.
type routes map[string][]*target

func newRoutes(services []Binding) routes {
	r := routes{}
	for i := range services {
		b := &services[i]
		for _, op := range b.Operations {
			h, ok := b.Handlers[op.Name]
			r[op.Name] = append(r[op.Name], &target{binding: b, action: op.Name, handler: h, missing: !ok})
		}
		for action, raw := range b.Raw {
			r[action] = append(r[action], &target{binding: b, action: action, raw: raw})
		}
	}
	return r
}

// isVersion says whether a text has the form of all versions of these APIs, YYYY-MM-DD. EC2's goes into the namespace
// of the answer.
func isVersion(text string) bool {
	const form = "0000-00-00"
	if len(text) != len(form) {
		return false
	}
	for i := range len(form) {
		digit := text[i] >= '0' && text[i] <= '9'
		if digit != (form[i] == '0') || !digit && text[i] != '-' {
			return false
		}
	}
	return true
}

// find returns the operation that action means in version; scope is the service that the client signed for, which
// only decides where the version does not: some clients sign for another service than they call.
func (r routes) find(action, version string, scope func() string) (*target, error) {
	if action == "" {
		return nil, model.Errorf("MissingAction", http.StatusBadRequest,
			"The request must contain the parameter Action")
	}
	if version != "" && !isVersion(version) {
		return nil, model.Errorf("InvalidParameterValue", http.StatusBadRequest,
			"The parameter Version must have the form YYYY-MM-DD, got '%.20s'", version)
	}
	var room [4]*target
	found := room[:0]
	for _, t := range r[action] {
		// EC2 has had the same operations under a hundred versions.
		if version == "" || version == t.binding.Service.Version || t.binding.Service.Protocol == model.ProtocolEC2 {
			found = append(found, t)
		}
	}
	if len(found) == 0 {
		shown := version
		if shown == "" {
			shown = "NO_VERSION_SPECIFIED"
		}
		return nil, model.Errorf("InvalidAction", http.StatusBadRequest,
			"Could not find operation %.100s for version %s", action, shown)
	}
	t := choose(found, version, scope)
	if t.missing {
		return t, model.Errorf("InvalidAction", http.StatusBadRequest,
			"The operation %s of %s is not implemented by this cloud", action, t.binding.Service.Name)
	}
	return t, nil
}

func choose(found []*target, version string, scope func() string) *target {
	if len(found) > 1 {
		signedFor := scope()
		for _, t := range found {
			if t.binding.Service.Name == signedFor {
				return t
			}
		}
		for _, t := range found {
			if t.binding.Service.Version == version {
				return t
			}
		}
	}
	return found[0]
}
