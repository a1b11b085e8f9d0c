package elb

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/iam"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// broadcast sends values to all watchers; nothing is lost, and a watcher that is slow holds up nobody.
type broadcast[T any] struct {
	mu       sync.Mutex
	watchers map[chan struct{}]*[]T
}

func (b *broadcast[T]) send(value T) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for wake, pending := range b.watchers {
		*pending = append(*pending, value)
		select {
		case wake <- struct{}{}:
		default:
		}
	}
}

func (b *broadcast[T]) watch(ctx context.Context, initial []T) <-chan T {
	wake, pending, out := make(chan struct{}, 1), &initial, make(chan T)
	wake <- struct{}{}
	b.mu.Lock()
	if b.watchers == nil {
		b.watchers = map[chan struct{}]*[]T{}
	}
	b.watchers[wake] = pending
	b.mu.Unlock()
	go func() {
		defer close(out)
		for {
			select {
			case <-wake:
			case <-ctx.Done():
				return
			}
			b.mu.Lock()
			batch := *pending
			*pending = nil
			b.mu.Unlock()
			for _, value := range batch {
				select {
				case out <- value:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return out
}

type fakeIAM struct {
	mu        sync.Mutex
	certs     map[string]string            // ARN to revision
	roles     map[string]map[string]string // role to policy to document
	made      map[string]iam.ServiceRole
	failPut   error
	asked     []string // of Authorize
	forbid    string   // an action
	denied    int
	check     func(context.Context, string) (string, bool, error)
	broadcast broadcast[string]
}

func newFakeIAM(certs ...string) *fakeIAM {
	f := &fakeIAM{certs: map[string]string{}, roles: map[string]map[string]string{}, made: map[string]iam.ServiceRole{}}
	for _, arn := range certs {
		f.certs[arn] = "1"
	}
	return f
}

func noSuchEntity(what string) error {
	return model.Errorf("NoSuchEntity", http.StatusNotFound, "%s cannot be found", what)
}

func (f *fakeIAM) ServerCertificateRevision(_ context.Context, arn string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if revision, ok := f.certs[arn]; ok {
		return revision, nil
	}
	return "", noSuchEntity(arn)
}

func (f *fakeIAM) setRevision(arn, revision string) {
	f.mu.Lock()
	f.certs[arn] = revision
	f.mu.Unlock()
	f.broadcast.send(arn)
}

func (f *fakeIAM) WatchServerCertificates(ctx context.Context) (<-chan string, error) {
	return f.broadcast.watch(ctx, nil), nil
}

func (f *fakeIAM) SetCertificateUseCheck(check func(context.Context, string) (string, bool, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.check = check
}

// SetCertificateRename does nothing: the fake renames none. TestRename has the real one.
func (f *fakeIAM) SetCertificateRename(func(context.Context, *store.Tx, string, string) ([]iam.GrantMove, error)) {
}

func (f *fakeIAM) HoldCertificate(_ *store.Tx, arn, _ string) error {
	_, err := f.ServerCertificateRevision(context.Background(), arn)
	return err
}

func (f *fakeIAM) EnsureServiceRole(_ context.Context, role iam.ServiceRole) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.roles[role.Name] == nil {
		f.roles[role.Name] = map[string]string{}
	}
	f.made[role.Name] = role
	return nil
}

// LinkedAccount gives every account one whose number ends alike.
func (f *fakeIAM) LinkedAccount(_ context.Context, prefix, accountID string) (iam.Account, error) {
	return iam.Account{ID: "9" + accountID[1:], Name: prefix + accountID, System: true, LinkedTo: accountID}, nil
}

func (f *fakeIAM) AssumeForService(_ context.Context, accountID, role, service, session string) (authn.Caller, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r := f.made[role]; r.AccountID != accountID || r.TrustService != service {
		return authn.Caller{}, noSuchEntity(role)
	}
	return authn.Caller{Kind: authn.KindRole, AccountID: accountID, RoleName: role, SessionName: session,
		ARN: iam.SessionARN(accountID, role, session)}, nil
}

func (f *fakeIAM) Authorize(_ context.Context, caller authn.Caller, action string, resources []string,
	_ map[string][]string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if action == "elasticloadbalancing:AddTags" && action != f.forbid {
		return nil
	}
	for _, document := range f.roles[caller.RoleName] {
		if action != f.forbid && strings.Contains(document, `"`+action+`"`) {
			f.asked = append(f.asked, caller.ARN+" "+action+" "+resources[0])
			return nil
		}
	}
	f.denied++
	return model.Errorf("AccessDenied", http.StatusForbidden, "%s may not do %s", caller.ARN, action)
}

func (f *fakeIAM) PutServiceRolePolicy(_ context.Context, _, role, name, document string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failPut != nil {
		return f.failPut
	}
	if f.roles[role] == nil {
		return noSuchEntity(role)
	}
	f.roles[role][name] = document
	return nil
}

func (f *fakeIAM) DeleteServiceRolePolicy(_ context.Context, _, role, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.roles[role], name)
	return nil
}

func (f *fakeIAM) DeleteServiceRole(_ context.Context, _, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.roles, name)
	return nil
}

// policies returns the names of a role's policies; false when there is no such role.
func (f *fakeIAM) policies(role string) ([]string, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	list, ok := f.roles[role]
	return slices.Sorted(maps.Keys(list)), ok
}

// grant returns a policy's document.
func (f *fakeIAM) grant(role, policy string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.roles[role][policy]
}

func (f *fakeIAM) setRole(role string, policies map[string]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.roles[role] = policies
}

func (f *fakeIAM) setFailPut(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failPut = err
}

type fakeEC2 struct {
	mu         sync.Mutex
	next       int
	instances  map[string]ec2.Instance
	tokens     map[string]string
	launches   []ec2.Launch
	failLaunch error
	launching  func(ec2.Instance) // called when an instance is there and Launch has not returned
	broadcast  broadcast[ec2.Instance]
}

func newFakeEC2() *fakeEC2 {
	return &fakeEC2{instances: map[string]ec2.Instance{}, tokens: map[string]string{}}
}

// run adds an instance of an account and returns its id.
func (f *fakeEC2) run(accountID string) string {
	return f.add(ec2.Instance{AccountID: accountID, State: ec2.Running}).ID
}

func (f *fakeEC2) add(inst ec2.Instance) ec2.Instance {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.addLocked(inst)
}

func (f *fakeEC2) addLocked(inst ec2.Instance) ec2.Instance {
	f.next++
	inst.ID = fmt.Sprintf("i-%017x", f.next)
	inst.PrivateIP = fmt.Sprintf("10.64.1.%d", f.next)
	f.instances[inst.ID] = inst
	f.broadcast.send(inst)
	return inst
}

func (f *fakeEC2) Launch(_ context.Context, l ec2.Launch) (ec2.Instance, error) {
	inst, err := f.launch(l)
	if err == nil && f.launching != nil {
		f.launching(inst)
	}
	return inst, err
}

func (f *fakeEC2) launch(l ec2.Launch) (ec2.Instance, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failLaunch != nil {
		return ec2.Instance{}, f.failLaunch
	}
	if id, ok := f.tokens[l.ClientToken]; ok {
		return f.instances[id], nil
	}
	f.launches = append(f.launches, l)
	inst := f.addLocked(ec2.Instance{
		AccountID: l.AccountID, System: l.System, State: ec2.Pending, Tags: l.Tags, ImageName: l.ImageName,
		Exposures: l.Exposures, OwnedFor: l.OwnedFor, Hidden: l.Hidden,
	})
	f.tokens[l.ClientToken] = inst.ID
	return inst, nil
}

func (f *fakeEC2) change(id string, change func(*ec2.Instance)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	inst := f.instances[id]
	change(&inst)
	f.instances[id] = inst
	f.broadcast.send(inst)
}

func (f *fakeEC2) end(id string) {
	f.change(id, func(inst *ec2.Instance) { inst.State = ec2.Terminated })
}

func (f *fakeEC2) Terminate(_ context.Context, accountID string, ids ...string) error {
	for _, id := range ids {
		f.mu.Lock()
		inst, ok := f.instances[id]
		f.mu.Unlock()
		if ok && inst.AccountID != accountID {
			return ec2.ErrNotFound
		}
		if ok {
			f.end(id)
		}
	}
	return nil
}

func (f *fakeEC2) Instance(_ context.Context, id string) (ec2.Instance, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if inst, ok := f.instances[id]; ok {
		return inst, nil
	}
	return ec2.Instance{}, fmt.Errorf("%w: %s", ec2.ErrNotFound, id)
}

func (f *fakeEC2) WatchInstances(ctx context.Context) (<-chan ec2.Instance, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.broadcast.watch(ctx, slices.Collect(maps.Values(f.instances))), nil
}

func (f *fakeEC2) SetExposures(_ context.Context, id string, exposures []ec2.Exposure) error {
	f.mu.Lock()
	inst, ok := f.instances[id]
	f.mu.Unlock()
	if !ok || !live(inst) {
		return ec2.ErrNotFound
	}
	f.change(id, func(inst *ec2.Instance) { inst.Exposures = exposures })
	return nil
}

func (f *fakeEC2) setFailLaunch(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failLaunch = err
}

// launched returns the launches that made an instance.
func (f *fakeEC2) launched() []ec2.Launch {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.launches)
}

// lbvms returns the live instances of the system account.
func (f *fakeEC2) lbvms() []ec2.Instance {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []ec2.Instance
	for _, id := range slices.Sorted(maps.Keys(f.instances)) {
		if inst := f.instances[id]; inst.System && live(inst) {
			list = append(list, inst)
		}
	}
	return list
}

var (
	errStore  = errors.New("the store is out of reach")
	errNoRoom = errors.New("no room")
)
