package iam

import (
	"context"
	"slices"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// maxTags is how many tags an entity can have.
const maxTags = 50

// addTags adds tags or replaces those of the same key. Keys are the same without regard to case.
func addTags(have, more []tag) ([]tag, error) {
	out := slices.Clone(have)
	for _, t := range more {
		if i := slices.IndexFunc(out, func(o tag) bool { return strings.EqualFold(o.Key, t.Key) }); i >= 0 {
			out[i] = t
			continue
		}
		out = append(out, t)
	}
	if len(out) > maxTags {
		return nil, iammodel.ErrLimitExceeded("The number of tags has reached the maximum limit of %d.", maxTags)
	}
	return out, nil
}

func removeTags(have []tag, keys []string) []tag {
	return slices.DeleteFunc(slices.Clone(have), func(t tag) bool {
		return slices.ContainsFunc(keys, func(k string) bool { return strings.EqualFold(k, t.Key) })
	})
}

// tag adds tags to an entity of the caller's account, which ref names: by its name, or where AWS does so by its ARN.
func (s *Service) tag(ctx context.Context, kind string, ref *string, in []iammodel.Tag) error {
	more, err := readTags(in)
	if err != nil {
		return err
	}
	return s.changeTags(ctx, kind, model.Val(ref), func(have []tag) ([]tag, error) { return addTags(have, more) })
}

func (s *Service) untag(ctx context.Context, kind string, ref *string, keys []string) error {
	return s.changeTags(ctx, kind, model.Val(ref), func(have []tag) ([]tag, error) { return removeTags(have, keys), nil })
}

func (s *Service) changeTags(ctx context.Context, kind, ref string, change func([]tag) ([]tag, error)) error {
	id, err := account(ctx)
	if err != nil {
		return err
	}
	edit := func(arn, name string, tags *[]tag) (err error) {
		if ref != arn && ref != name {
			return store.ErrNotFound
		}
		*tags, err = change(*tags)
		return err
	}
	key := tagKey(kind, id, ref)
	switch kind {
	case kindUser:
		err = changeRecord(ctx, s, s.users, key, func(_ *store.Tx, r *userRecord) error {
			return edit(r.arn(), r.Name, &r.Tags)
		})
	case kindRole:
		err = changeRecord(ctx, s, s.roles, key, func(_ *store.Tx, r *roleRecord) error {
			return edit(r.arn(), r.Name, &r.Tags)
		})
	case kindPolicy:
		err = changeRecord(ctx, s, s.managed, key, func(_ *store.Tx, r *managedRecord) error {
			return edit(r.arn(), r.arn(), &r.Tags)
		})
	case kindProfile:
		err = changeRecord(ctx, s, s.profiles, key, func(_ *store.Tx, r *profileRecord) error {
			return edit(r.arn(), r.Name, &r.Tags)
		})
	case kindCertificate:
		err = changeRecord(ctx, s, s.certificates, key, func(_ *store.Tx, r *certificateRecord) error {
			return edit(r.arn(), r.Name, &r.Tags)
		})
	case kindMFA:
		err = changeRecord(ctx, s, s.devices, key, func(_ *store.Tx, r *deviceRecord) error {
			return edit(r.arn(), r.arn(), &r.Tags)
		})
	default:
		err = changeRecord(ctx, s, s.providers, key, func(_ *store.Tx, r *providerRecord) error {
			return edit(r.arn(), r.arn(), &r.Tags)
		})
	}
	return noEntity(err, kind, ref)
}

// tagKey is the key of the record that ref, a name or an ARN, names.
func tagKey(kind, accountID, ref string) string {
	if rest, ok := strings.CutPrefix(ref, "arn:aws:iam::"+accountID+":"+kind+"/"); ok {
		if kind == kindSAML || kind == kindOIDC {
			return providerKey(accountID, kind, rest)
		}
		ref = rest[strings.LastIndexByte(rest, '/')+1:]
	}
	return recordKey(accountID, ref)
}

// noEntity words NoSuchEntity as the operations on that kind of entity do.
func noEntity(err error, kind, ref string) error {
	switch kind {
	case kindUser:
		return noUser(err, ref)
	case kindRole:
		return noRole(err, ref)
	case kindPolicy:
		return noPolicy(err, ref)
	case kindProfile:
		return noProfile(err, ref)
	case kindCertificate:
		return noCertificate(err, ref)
	case kindMFA:
		return noDevice(err, ref)
	}
	return noProvider(err, ref)
}

// tagsOf returns an entity's tags; store.ErrNotFound when ref, a name or an ARN, names none.
func (s *Service) tagsOf(ctx context.Context, kind, accountID, ref string) ([]tag, error) {
	key := tagKey(kind, accountID, ref)
	switch kind {
	case kindUser:
		return tagsIn(ctx, s.users, key, ref, func(r *user) (string, string, []tag) { return r.fullARN, r.Name, r.Tags })
	case kindRole:
		return tagsIn(ctx, s.roles, key, ref, func(r *role) (string, string, []tag) { return r.fullARN, r.Name, r.Tags })
	case kindProfile:
		return tagsIn(ctx, s.profiles, key, ref,
			func(r *profileRecord) (string, string, []tag) { return r.arn(), r.Name, r.Tags })
	case kindCertificate:
		return tagsIn(ctx, s.certificates, key, ref,
			func(r *certificateRecord) (string, string, []tag) { return r.arn(), r.Name, r.Tags })
	case kindMFA:
		return tagsIn(ctx, s.devices, key, ref,
			func(r *deviceRecord) (string, string, []tag) { return r.arn(), "", r.Tags })
	case kindSAML, kindOIDC:
		return tagsIn(ctx, s.providers, key, ref,
			func(r *providerRecord) (string, string, []tag) { return r.arn(), "", r.Tags })
	case kindPolicy:
		r, err := s.managedPolicy(ctx, accountID, ref)
		if err != nil {
			return nil, err
		}
		return r.Tags, nil
	}
	return nil, store.ErrNotFound
}

// tagsIn is tagsOf in one table. An empty name means that the ARN alone names the entity.
func tagsIn[T, V any](ctx context.Context, t *table[T, V], key, ref string, of func(V) (arn, name string, tags []tag),
) ([]tag, error) {
	v, err := t.cached(ctx, key)
	if err != nil {
		return nil, err
	}
	arn, name, tags := of(v)
	if ref != arn && (name == "" || ref != name) {
		return nil, store.ErrNotFound
	}
	return tags, nil
}

// tagPage lists an entity's tags by key.
func (s *Service) tagPage(ctx context.Context, kind string, ref, marker *string, maxItems *int64) (
	page[iammodel.Tag], error,
) {
	id, err := account(ctx)
	if err != nil {
		return page[iammodel.Tag]{}, err
	}
	tags, err := s.tagsOf(ctx, kind, id, model.Val(ref))
	if err != nil {
		return page[iammodel.Tag]{}, noEntity(err, kind, model.Val(ref))
	}
	views := append([]iammodel.Tag{}, viewTags(tags)...)
	order := func(t iammodel.Tag) string { return *t.Key }
	return paginate(sortedBy(views, order), order, marker, maxItems)
}
