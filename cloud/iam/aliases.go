package iam

import (
	"context"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// aliasRecord says whose an alias is. Aliases are unique in the whole cloud.
type aliasRecord struct{ AccountID string }

func checkAlias(alias string) error {
	bad := func(c rune) bool { return c != '-' && (c < 'a' || c > 'z') && (c < '0' || c > '9') }
	if strings.ContainsFunc(alias, bad) || strings.HasPrefix(alias, "-") || strings.HasSuffix(alias, "-") ||
		strings.Contains(alias, "--") || isAccountID(alias) {
		return invalid("accountAlias", "It must hold only lower case letters, digits and single hyphens inside, and be no "+
			"account id")
	}
	return nil
}

// CreateAccountAlias gives the account a name, in place of the one that it has.
func (s *Service) CreateAccountAlias(
	ctx context.Context, in *iammodel.CreateAccountAliasInput,
) (*iammodel.CreateAccountAliasOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	alias := model.Val(in.AccountAlias)
	if err := checkAlias(alias); err != nil {
		return nil, err
	}
	return nil, s.changeAlias(ctx, id, func(tx *store.Tx, rec *accountRecord) error {
		if rec.Alias == alias {
			return nil
		}
		if rec.Alias != "" {
			if err := s.aliases.In(tx).Delete(rec.Alias); err != nil {
				return err
			}
		}
		rec.Alias = alias
		return taken(s.aliases.In(tx).Create(alias, aliasRecord{AccountID: id}),
			"The account alias %s already exists.", alias)
	})
}

func (s *Service) changeAlias(ctx context.Context, accountID string,
	change func(*store.Tx, *accountRecord) error,
) error {
	return changeRecord(ctx, s, s.accounts, accountID, change)
}

// DeleteAccountAlias takes the account's name away.
func (s *Service) DeleteAccountAlias(
	ctx context.Context, in *iammodel.DeleteAccountAliasInput,
) (*iammodel.DeleteAccountAliasOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	alias := model.Val(in.AccountAlias)
	return nil, s.changeAlias(ctx, id, func(tx *store.Tx, rec *accountRecord) error {
		if rec.Alias != alias {
			return iammodel.ErrNoSuchEntity("The account alias %s does not exist.", alias)
		}
		rec.Alias = ""
		return s.aliases.In(tx).Delete(alias)
	})
}

// ListAccountAliases lists the account's name, if it has one.
func (s *Service) ListAccountAliases(
	ctx context.Context, _ *iammodel.ListAccountAliasesInput,
) (*iammodel.ListAccountAliasesOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	rec, err := s.accounts.cached(ctx, id)
	if err != nil {
		return nil, err
	}
	out := &iammodel.ListAccountAliasesOutput{AccountAliases: []string{}, IsTruncated: model.Ptr(false)}
	if rec.Alias != "" {
		out.AccountAliases = append(out.AccountAliases, rec.Alias)
	}
	return out, nil
}
