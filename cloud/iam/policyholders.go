package iam

import (
	"context"
	"slices"
	"strings"

	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// holderUse says how one user, group or role has a managed policy. It lies under the account, the policy's ARN and who
// has it, so that those who have a policy can be listed without reading all others. Each number is 0 or 1.
type holderUse struct{ Attached, Boundary int }

// entity names a user, group or role of an account.
type entity struct{ kind, name string }

// useKey is where the use of a policy by e lies; without a name, how the keys of all of e's kind begin.
func (e entity) useKey(accountID, arn string) string {
	return accountID + "/" + arn + " " + e.kind + "/" + strings.ToLower(e.name)
}

// indexUse notes that e has a policy in another way than before. It returns by how much the uses grew that are noted:
// those that were made before there was this index are not.
func (s *Service) indexUse(tx *store.Tx, accountID, arn string, e entity, attached, boundary int) (int, error) {
	key, t := e.useKey(accountID, arn), s.policyHolders.In(tx)
	have, err := t.Get(key)
	if err := ignoreMissing(err); err != nil {
		return 0, err
	}
	now := holderUse{Attached: max(have.Attached+attached, 0), Boundary: max(have.Boundary+boundary, 0)}
	grown := now.Attached + now.Boundary - have.Attached - have.Boundary
	switch {
	case now != holderUse{}:
		return grown, t.Put(key, now)
	case err == nil:
		return grown, t.Delete(key)
	}
	return grown, nil
}

// moveUses turns what is noted of an entity's policies to its new name.
func (s *Service) moveUses(tx *store.Tx, accountID string, h *holder, from, to entity) error {
	arns := slices.Clone(h.Attached)
	if h.Boundary != "" && !slices.Contains(arns, h.Boundary) {
		arns = append(arns, h.Boundary)
	}
	t := s.policyHolders.In(tx)
	for _, arn := range arns {
		use, err := t.Get(from.useKey(accountID, arn))
		if isMissing(err) {
			continue
		}
		if err != nil {
			return err
		}
		if err := t.Put(to.useKey(accountID, arn), use); err != nil {
			return err
		}
		if err := t.Delete(from.useKey(accountID, arn)); err != nil {
			return err
		}
	}
	return nil
}

// policyHolder is one user, group or role that has a policy.
type policyHolder struct{ kind, name, id string }

// holders are the account's groups, roles and users that have a policy and of which has says yes: those of one kind, or
// of all when filter is empty. filtered says that has may say no to one that has the policy.
func (s *Service) holders(ctx context.Context, accountID, arn, filter string, filtered bool,
	has func(h *holder, path string) bool,
) ([]part[policyHolder], error) {
	uses, err := s.policyUses.Get(ctx, accountID+"/"+arn)
	if err := ignoreMissing(err); err != nil {
		return nil, err
	}
	if uses.Indexed != uses.Attached+uses.Boundary { // some are from before there was an index
		return wantedParts(s.everyHolder(accountID, has), filter), nil
	}
	list := holderList{s: s, accountID: accountID, arn: arn, filtered: filtered}
	return wantedParts([]part[policyHolder]{
		holdersOf(list, kindGroup, s.groups.Table, func(r *groupRecord) (policyHolder, bool) {
			return policyHolder{kindGroup, r.Name, r.ID}, has(&r.holder, r.Path)
		}),
		holdersOf(list, kindRole, s.roles.Table, func(r *roleRecord) (policyHolder, bool) {
			return policyHolder{kindRole, r.Name, r.ID}, has(&r.holder, r.Path)
		}),
		holdersOf(list, kindUser, s.users.Table, func(r *userRecord) (policyHolder, bool) {
			return policyHolder{kindUser, r.Name, r.ID}, has(&r.holder, r.Path)
		}),
	}, filter), nil
}

// wantedParts keeps the parts of groups, roles and users that a filter asks for.
func wantedParts(parts []part[policyHolder], filter string) []part[policyHolder] {
	wanted := map[string]int{iammodel.EntityTypeGroup: 0, iammodel.EntityTypeRole: 1, iammodel.EntityTypeUser: 2}
	switch i, ok := wanted[filter]; {
	case filter == "":
		return parts
	case !ok:
		return nil
	default:
		return parts[i : i+1]
	}
}

// holderList is what is the same for each kind of holders.
type holderList struct {
	s              *Service
	accountID, arn string
	filtered       bool
}

// holdersOf is the part of those of one kind, whose records are in t: as many are read as have the policy.
func holdersOf[T any](l holderList, kind string, t *store.Table[T], show func(*T) (policyHolder, bool),
) part[policyHolder] {
	prefix := entity{kind: kind}.useKey(l.accountID, l.arn)
	read := func(ctx context.Context, after string, limit int) (b batch[policyHolder], err error) {
		_, keys, more, err := l.s.policyHolders.Page(ctx, prefix, after, limit)
		if err != nil {
			return b, err
		}
		records := make([]string, len(keys))
		for i, key := range keys {
			records[i] = recordKey(l.accountID, strings.TrimPrefix(key, prefix))
		}
		found, err := t.GetMany(ctx, records)
		b.more = more
		for i, key := range keys {
			b.last = key
			rec, there := found[records[i]]
			if !there { // it went in between
				continue
			}
			if h, wanted := show(&rec); wanted {
				b.items, b.keys = append(b.items, h), append(b.keys, key)
			}
		}
		return b, err
	}
	return part[policyHolder]{name: kind + " ", prefix: prefix, filtered: l.filtered, read: read}
}

// everyHolder are the groups, roles and users of which has says yes, found by asking all of the account's.
func (s *Service) everyHolder(accountID string, has func(h *holder, path string) bool) []part[policyHolder] {
	prefix := accountID + "/"
	return []part[policyHolder]{
		tablePart(kindGroup+" ", s.groups, prefix,
			func(r *groupRecord) bool { return has(&r.holder, r.Path) },
			func(r *groupRecord) (policyHolder, error) { return policyHolder{kindGroup, r.Name, r.ID}, nil }),
		tablePart(kindRole+" ", s.roles, prefix,
			func(r *roleRecord) bool { return has(&r.holder, r.Path) },
			func(r *roleRecord) (policyHolder, error) { return policyHolder{kindRole, r.Name, r.ID}, nil }),
		tablePart(kindUser+" ", s.users, prefix,
			func(r *userRecord) bool { return has(&r.holder, r.Path) },
			func(r *userRecord) (policyHolder, error) { return policyHolder{kindUser, r.Name, r.ID}, nil }),
	}
}
