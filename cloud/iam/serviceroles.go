package iam

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/cloudtwin/cloudtwin/cloud/policy"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// ServiceRole is a role that a service of the cloud keeps for itself, with an instance profile of the same name.
type ServiceRole struct {
	AccountID    string
	Name         string // 1 to 64 characters
	Path         string // "/internal/loadbalancer" and "/internal/loadbalancer/" mean the same; empty means "/"
	TrustService string // the service principal that may assume it, such as ServiceEC2
}

func (r ServiceRole) validate() (path string, err error) {
	path = r.Path
	if path == "" {
		path = "/"
	}
	if path[len(path)-1] != '/' {
		path += "/"
	}
	if !isAccountID(r.AccountID) {
		err = errors.New("AccountID must have twelve digits")
	}
	if r.TrustService == "" {
		err = errors.Join(err, errors.New("TrustService is required"))
	}
	_, perr := checkPath("path", &path)
	return path, errors.Join(err, perr, checkName("roleName", r.Name, 64, "_"))
}

// EnsureServiceRole makes a role and its instance profile unless they are there. It asks no permission and counts
// towards no quota: it is for the cloud's services. A role or profile of that name that is not a service's is left
// alone and is an error.
func (s *Service) EnsureServiceRole(ctx context.Context, in ServiceRole) error {
	path, err := in.validate()
	if err != nil {
		return fmt.Errorf("ensure service role %q: %w", in.Name, err)
	}
	trust, err := json.Marshal(map[string]any{
		"Version": "2012-10-17",
		"Statement": []map[string]any{{
			"Effect": "Allow", "Principal": map[string]string{"Service": in.TrustService}, "Action": actionAssume,
		}},
	})
	if err != nil {
		return fmt.Errorf("ensure service role %s: %w", in.Name, err)
	}
	key := recordKey(in.AccountID, in.Name)
	newRole := roleRecord{
		AccountID: in.AccountID, Name: in.Name, Path: path, ID: newID("AROA"), Created: s.now(), Trust: string(trust),
		MaxSession: int64(maxSession.Seconds()), InstanceProfiles: []string{in.Name}, Service: true,
	}
	newProfile := profileRecord{
		AccountID: in.AccountID, Name: in.Name, Path: path, ID: newID("AIPA"), Created: s.now(), RoleName: in.Name,
		Service: true,
	}
	err = s.txn(ctx, func(tx *store.Tx) error {
		r, err := s.roles.In(tx).Get(key)
		p, perr := s.profiles.In(tx).Get(key)
		switch {
		case err == nil && perr == nil && r.Service && p.Service && r.Name == in.Name:
			return nil
		case err == nil || perr == nil:
			return errors.New("a role or instance profile of that name exists that is not a service's")
		case !isMissing(err) || !isMissing(perr):
			return errors.Join(err, perr)
		}
		if err := s.roles.In(tx).Create(key, newRole); err != nil {
			return err
		}
		return s.profiles.In(tx).Create(key, newProfile)
	}, s.dropRole(key)...)
	if err != nil {
		return fmt.Errorf("ensure service role %s: %w", in.Name, err)
	}
	return nil
}

func (s *Service) dropRole(key string) []func() {
	return []func(){func() { s.roles.cache.drop(key) }, func() { s.profiles.cache.drop(key) }}
}

// PutServiceRolePolicy adds or replaces an inline policy of a service role. Its name may have up to 256 characters,
// more than AWS allows, because grants are named after a load balancer and a certificate. It holds at once.
func (s *Service) PutServiceRolePolicy(ctx context.Context, accountID, roleName, name, document string) error {
	if err := checkName("policyName", name, 256, "_"); err != nil {
		return err
	}
	if _, err := s.checkDocument(document, policy.Identity); err != nil {
		return err
	}
	return s.updateRole(ctx, accountID, roleName, func(rec *roleRecord) (err error) {
		rec.Policies, err = putInline(rec.Policies, inlinePolicy{Name: name, Document: document}, "role "+roleName, 0)
		return err
	})
}

// DeleteServiceRolePolicy removes an inline policy of a service role; it is no error when it is not there.
func (s *Service) DeleteServiceRolePolicy(ctx context.Context, accountID, roleName, name string) error {
	return s.updateRole(ctx, accountID, roleName, func(rec *roleRecord) error {
		rec.Policies = slices.DeleteFunc(rec.Policies, func(p inlinePolicy) bool { return p.Name == name })
		return nil
	})
}

// DeleteServiceRole deletes a service role with its policies and its instance profile; it is no error when they are
// not there. Sessions of the role end with it.
func (s *Service) DeleteServiceRole(ctx context.Context, accountID, name string) error {
	key := recordKey(accountID, name)
	err := s.txn(ctx, func(tx *store.Tx) error {
		r, err := s.roles.In(tx).Get(key)
		if err == nil && !r.Service {
			return errors.New("it is not a service's")
		}
		if err == nil {
			err = s.roles.In(tx).Delete(key)
		}
		if err := ignoreMissing(err); err != nil {
			return err
		}
		p, err := s.profiles.In(tx).Get(key)
		if err == nil && p.Service {
			err = s.profiles.In(tx).Delete(key)
		}
		return ignoreMissing(err)
	}, s.dropRole(key)...)
	if err != nil {
		return fmt.Errorf("delete service role %s: %w", name, err)
	}
	return nil
}
