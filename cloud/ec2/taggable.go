package ec2

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/http"
	"regexp"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/authn"
	"github.com/cloudtwin/cloudtwin/cloud/model"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// taggables are what a request names that is to get tags or lose some.
type taggables struct {
	instances []*entry
	account   string    // of the pairs
	pairs     []KeyPair // as they were when the request came
}

// tagChange makes a resource's tags of those that it has.
type tagChange func(old map[string]string) (map[string]string, error)

// try makes sure that no change fails: it is all or nothing, and the limits count for each resource.
func (t *taggables) try(change tagChange) error {
	for _, e := range t.instances {
		if _, err := change(e.inst.Tags); err != nil {
			return err
		}
	}
	for i := range t.pairs {
		if _, err := change(t.pairs[i].Tags); err != nil {
			return err
		}
	}
	return nil
}

var resourceIDPattern = regexp.MustCompile(`^[a-z]{1,12}-[0-9a-f]{8}([0-9a-f]{9})?$`)

// taggable checks that all resources are instances or key pairs of the account.
func (s *Service) taggable(ctx context.Context, caller authn.Caller, ids []string) (*taggables, error) {
	if len(ids) == 0 {
		return nil, model.Errorf("MissingParameter", http.StatusBadRequest,
			"The request must contain the parameter ResourceId")
	}
	found := &taggables{account: caller.AccountID}
	var instances []string
	for _, id := range ids {
		switch {
		case strings.HasPrefix(id, "i-"):
			instances = append(instances, id)
		case keyPairIDPattern.MatchString(id):
			pair, err := s.keyPairByID(ctx, caller.AccountID, id)
			if err != nil {
				return nil, err
			}
			found.pairs = append(found.pairs, pair)
		case !resourceIDPattern.MatchString(id):
			return nil, model.Errorf("InvalidID", http.StatusBadRequest,
				"The ID '%.64s' is not valid (parameter ResourceId)", id)
		case strings.HasPrefix(id, "ami-"):
			return nil, model.Errorf("UnauthorizedOperation", http.StatusForbidden,
				"The image '%s' is not yours to tag", id)
		default:
			return nil, model.Errorf("InvalidID", http.StatusBadRequest,
				"The ID '%s' does not exist (parameter ResourceId); only instances and key pairs have tags here", id)
		}
	}
	if len(instances) == 0 {
		return found, nil
	}
	var err error
	found.instances, err = s.selectInstances(caller, instances)
	return found, err
}

// keyPairByID finds a key pair of an account, with EC2's error for one that is not there.
func (s *Service) keyPairByID(ctx context.Context, account, id string) (KeyPair, error) {
	gone := model.Errorf("InvalidKeyPair.NotFound", http.StatusBadRequest, "The key pair ID '%.64s' does not exist", id)
	name, err := s.keyPairName(ctx, account, id)
	if err != nil {
		return KeyPair{}, err
	}
	if name == "" {
		return KeyPair{}, gone
	}
	pair, err := s.keyPairs.Get(ctx, keyPairKey(account, name))
	if errors.Is(err, store.ErrNotFound) {
		return KeyPair{}, gone
	}
	return pair, err
}

// taggedARNs names resources that are to get tags or lose some. A key pair that is not there is any key pair, so that
// only who may tag all learns that.
func (s *Service) taggedARNs(ctx context.Context, caller authn.Caller, ids []string) ([]string, error) {
	arns := make([]string, 0, len(ids))
	for _, id := range ids {
		if !keyPairIDPattern.MatchString(id) {
			arns = append(arns, s.arn(caller.AccountID, instanceResource, id))
			continue
		}
		name, err := s.keyPairName(ctx, caller.AccountID, id)
		if err != nil {
			return nil, err
		}
		arns = append(arns, s.arn(caller.AccountID, keyPairResource, cmp.Or(name, "*")))
	}
	return arns, nil
}

func (s *Service) changeTags(ctx context.Context, list *taggables, change tagChange) error {
	for _, e := range list.instances {
		if _, err := s.update(ctx, e.inst.ID, func(_ *store.Tx, inst *Instance) error {
			tags, err := change(inst.Tags)
			if err != nil {
				return err
			}
			if maps.Equal(tags, inst.Tags) {
				return errUnchanged
			}
			inst.Tags = tags
			inst.Generation++
			return nil
		}); err != nil {
			return err
		}
	}
	for i := range list.pairs {
		id := list.pairs[i].ID
		_, err := s.keyPairs.Update(ctx, keyPairKey(list.account, list.pairs[i].Name), func(p *KeyPair) (err error) {
			if p.ID != id { // another one of the same name
				return store.ErrNotFound
			}
			p.Tags, err = change(p.Tags)
			return err
		})
		if err != nil && !errors.Is(err, store.ErrNotFound) { // one that is deleted by now needs no tags
			return err
		}
	}
	return nil
}
