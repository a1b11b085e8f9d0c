package ec2

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	ec2model "github.com/cloudtwin/cloudtwin/cloud/model/ec2"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// KeyPair is the record of a key pair: what is known of it, which never includes the private key.
type KeyPair struct {
	ID          string // key-…
	Name        string
	Type        string // rsa, ed25519
	Fingerprint string
	PublicKey   string // one line in OpenSSH's format, the name as its comment
	Created     time.Time
	Tags        map[string]string
}

// Limits of key pairs.
const (
	maxKeyName  = 255  // characters
	maxKeyPairs = 5000 // of an account
)

var keyPairIDPattern = regexp.MustCompile(`^key-[0-9a-f]{8}([0-9a-f]{9})?$`)

// keyPairKey is where a record is. A name may hold any visible character, slashes too.
func keyPairKey(account, name string) string { return account + "/" + hex.EncodeToString([]byte(name)) }

// CreateKeyPair makes a key pair and answers its private key, this once.
func (s *Service) CreateKeyPair(ctx context.Context, in *ec2model.CreateKeyPairInput) (*ec2model.CreateKeyPairOutput,
	error) {
	if model.Val(in.KeyFormat) == ec2model.KeyFormatPpk {
		return nil, model.Errorf("UnsupportedOperation", http.StatusBadRequest,
			"The value 'ppk' of parameter KeyFormat is not supported by this cloud; use 'pem' and convert it with puttygen.")
	}
	name := model.Val(in.KeyName)
	tags, err := s.checkNewKeyPair(ctx, name, in.TagSpecifications)
	if err != nil {
		return nil, err
	}
	if err := s.authorizePairTags(ctx, "CreateKeyPair", name, tags); err != nil {
		return nil, err
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	material, private, err := newKeyPair(cmp.Or(model.Val(in.KeyType), ec2model.KeyTypeRsa), name)
	if err != nil {
		return nil, err
	}
	defer clear(private)
	pair, err := s.keepKeyPair(ctx, name, material, tags)
	if err != nil {
		return nil, err
	}
	return &ec2model.CreateKeyPairOutput{
		KeyFingerprint: model.Ptr(pair.Fingerprint), KeyMaterial: model.Ptr(strings.TrimSpace(string(private))),
		KeyName: model.Ptr(pair.Name), KeyPairId: model.Ptr(pair.ID), Tags: wireTags(pair.Tags),
	}, nil
}

// ImportKeyPair keeps the public key of a user's own key pair.
func (s *Service) ImportKeyPair(ctx context.Context, in *ec2model.ImportKeyPairInput) (*ec2model.ImportKeyPairOutput,
	error) {
	name := model.Val(in.KeyName)
	tags, err := s.checkNewKeyPair(ctx, name, in.TagSpecifications)
	if err != nil {
		return nil, err
	}
	material, err := parsePublicKey(in.PublicKeyMaterial)
	if err != nil {
		return nil, model.Errorf("InvalidKey.Format", http.StatusBadRequest,
			"Key is not in valid OpenSSH public key format (parameter PublicKeyMaterial): %w", err)
	}
	if err := s.authorizePairTags(ctx, "ImportKeyPair", name, tags); err != nil {
		return nil, err
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	pair, err := s.keepKeyPair(ctx, name, material, tags)
	if err != nil {
		return nil, err
	}
	return &ec2model.ImportKeyPairOutput{
		KeyFingerprint: model.Ptr(pair.Fingerprint), KeyName: model.Ptr(pair.Name), KeyPairId: model.Ptr(pair.ID),
		Tags: wireTags(pair.Tags),
	}, nil
}

// checkNewKeyPair checks all that is known before the key is.
func (s *Service) checkNewKeyPair(ctx context.Context, name string, specs []ec2model.TagSpecification) (
	map[string]string, error) {
	caller, err := callerFrom(ctx)
	if err != nil {
		return nil, err
	}
	if name == "" || len(name) > maxKeyName || strings.TrimSpace(name) != name ||
		strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r > '~' }) {
		return nil, model.Errorf("InvalidParameterValue", http.StatusBadRequest,
			"Value (%.64q) for parameter KeyName is invalid. Expecting 1 to %d ASCII characters, no space at either end.",
			name, maxKeyName)
	}
	var all []ec2model.Tag
	for _, spec := range specs {
		if t := model.Val(spec.ResourceType); t != ec2model.ResourceTypeKeyPair {
			return nil, model.Errorf("InvalidParameterValue", http.StatusBadRequest,
				"'%.64s' is not a valid taggable resource type for this operation (parameter TagSpecification.ResourceType)", t)
		}
		all = append(all, spec.Tags...)
	}
	tags, err := parseTags(all)
	if err != nil {
		return nil, err
	}
	if _, err := s.keyPairs.Get(ctx, keyPairKey(caller.AccountID, name)); err == nil {
		return nil, keyPairExists(name)
	} else if !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	have, err := s.keyPairs.List(ctx, caller.AccountID+"/")
	if err == nil && len(have) >= maxKeyPairs {
		err = model.Errorf("ResourceLimitExceeded", http.StatusBadRequest,
			"The account has %d key pairs, at most %d; delete one that is not used", len(have), maxKeyPairs)
	}
	return tags, err
}

func keyPairExists(name string) error {
	return model.Errorf("InvalidKeyPair.Duplicate", http.StatusBadRequest, "The keypair '%s' already exists.", name)
}

func (s *Service) keepKeyPair(ctx context.Context, name string, m keyMaterial, tags map[string]string) (KeyPair,
	error) {
	caller, err := callerFrom(ctx)
	if err != nil {
		return KeyPair{}, err
	}
	id, err := newID("key")
	if err != nil {
		return KeyPair{}, err
	}
	pair := KeyPair{ID: id, Name: name, Type: m.kind, Fingerprint: m.fingerprint, PublicKey: m.line + " " + name,
		Created: s.cfg.Clock().UTC().Truncate(time.Millisecond), Tags: tags}
	err = s.keyPairs.Create(ctx, keyPairKey(caller.AccountID, name), pair)
	if errors.Is(err, store.ErrExists) {
		return KeyPair{}, keyPairExists(name)
	}
	return pair, err
}

// DescribeKeyPairs lists the account's key pairs in the order of their names.
func (s *Service) DescribeKeyPairs(ctx context.Context, in *ec2model.DescribeKeyPairsInput) (
	*ec2model.DescribeKeyPairsOutput, error) {
	caller, err := callerFrom(ctx)
	if err != nil {
		return nil, err
	}
	fs, err := parseFilters(in.Filters, "key-pair-id", "fingerprint", "key-name", "tag:", "tag-key")
	if err != nil {
		return nil, err
	}
	all, err := s.keyPairs.List(ctx, caller.AccountID+"/")
	if err != nil {
		return nil, err
	}
	if err := knowsKeyPairs(all, in.KeyNames, in.KeyPairIds); err != nil {
		return nil, err
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	sortBy(all, func(p KeyPair) string { return p.Name })
	out := &ec2model.DescribeKeyPairsOutput{}
	for i := range all {
		p := &all[i]
		named := len(in.KeyNames)+len(in.KeyPairIds) == 0 || slices.Contains(in.KeyNames, p.Name) ||
			slices.Contains(in.KeyPairIds, p.ID)
		if named && fs.match(p.attributes) {
			out.KeyPairs = append(out.KeyPairs, p.wire(model.Val(in.IncludePublicKey)))
		}
	}
	return out, nil
}

// knowsKeyPairs refuses names and ids that are not among the key pairs.
func knowsKeyPairs(all []KeyPair, names, ids []string) error {
	for _, name := range names {
		if !slices.ContainsFunc(all, func(p KeyPair) bool { return p.Name == name }) {
			return noKeyPair(name)
		}
	}
	for _, id := range ids {
		if !slices.ContainsFunc(all, func(p KeyPair) bool { return p.ID == id }) {
			return model.Errorf("InvalidKeyPair.NotFound", http.StatusBadRequest,
				"The key pair ID '%.64s' does not exist", id)
		}
	}
	return nil
}

func noKeyPair(name string) error {
	return model.Errorf("InvalidKeyPair.NotFound", http.StatusBadRequest, "The key pair '%.255s' does not exist", name)
}

func (p *KeyPair) wire(withKey bool) ec2model.KeyPairInfo {
	info := ec2model.KeyPairInfo{
		CreateTime: model.Ptr(p.Created), KeyFingerprint: model.Ptr(p.Fingerprint), KeyName: model.Ptr(p.Name),
		KeyPairId: model.Ptr(p.ID), KeyType: model.Ptr(p.Type), Tags: wireTags(p.Tags),
	}
	if withKey {
		info.PublicKey = model.Ptr(p.PublicKey)
	}
	return info
}

func (p *KeyPair) attributes(name string) []string {
	switch name {
	case "key-pair-id":
		return []string{p.ID}
	case "fingerprint":
		return []string{p.Fingerprint}
	case "key-name":
		return []string{p.Name}
	}
	return tagAttributes(p.Tags, name)
}

// DeleteKeyPair forgets a key pair. Instances that were launched with it keep its public key. One that is not there is
// deleted already.
func (s *Service) DeleteKeyPair(ctx context.Context, in *ec2model.DeleteKeyPairInput) (*ec2model.DeleteKeyPairOutput,
	error) {
	caller, err := callerFrom(ctx)
	if err != nil {
		return nil, err
	}
	name, id := model.Val(in.KeyName), model.Val(in.KeyPairId)
	switch {
	case name == "" && id == "":
		return nil, model.Errorf("MissingParameter", http.StatusBadRequest,
			"The request must contain the parameter KeyName or KeyPairId")
	case name != "" && id != "":
		return nil, model.Errorf("InvalidParameterCombination", http.StatusBadRequest,
			"The parameter KeyName may not be used in combination with KeyPairId")
	case id != "" && !keyPairIDPattern.MatchString(id):
		return nil, model.Errorf("InvalidParameterValue", http.StatusBadRequest,
			"Value (%.64s) for parameter KeyPairId is invalid. Expecting key- and 8 or 17 hexadecimal digits.", id)
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	out := &ec2model.DeleteKeyPairOutput{Return: model.Ptr(true)}
	if name == "" {
		if name, err = s.keyPairName(ctx, caller.AccountID, id); name == "" {
			return out, err
		}
	}
	pair, err := s.keyPairs.Get(ctx, keyPairKey(caller.AccountID, name))
	if err == nil {
		err = s.keyPairs.Delete(ctx, keyPairKey(caller.AccountID, name))
		out.KeyPairId = model.Ptr(pair.ID)
	}
	if errors.Is(err, store.ErrNotFound) {
		err = nil
	}
	return out, err
}

// keyPairName finds a key pair by its id; empty when there is none.
func (s *Service) keyPairName(ctx context.Context, account, id string) (string, error) {
	all, err := s.keyPairs.List(ctx, account+"/")
	if err != nil {
		return "", err
	}
	for i := range all {
		if all[i].ID == id {
			return all[i].Name, nil
		}
	}
	return "", nil
}

// keyPairOf finds the key pair that a launch names.
func (s *Service) keyPairOf(ctx context.Context, account string, name *string) (KeyPair, error) {
	if model.Val(name) == "" {
		return KeyPair{}, nil
	}
	pair, err := s.keyPairs.Get(ctx, keyPairKey(account, *name))
	if errors.Is(err, store.ErrNotFound) {
		return KeyPair{}, noKeyPair(*name)
	}
	return pair, err
}
