package iam

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"regexp"

	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// Errors of the operator's own making.
var (
	// ErrAccountExists means that the name or number is another account's.
	ErrAccountExists = errors.New("there is such an account")
	// ErrAccountInput means that a name or number is not what it must be.
	ErrAccountInput = errors.New("not an account's name or number")
	// ErrNoAccount means that no account has the name or number.
	ErrNoAccount = errors.New("there is no such account")
)

// NewAccount says which account to make.
type NewAccount struct {
	ID   string // twelve digits; empty means that they are chosen
	Name string // unique: 1 to 50 letters, digits and . _ -, not twelve digits
	// System marks an account of the cloud's own services.
	System   bool
	LinkedTo string // see Account
}

var accountName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,49}$`)

// accountNameRecord is under an account's name, so that no two have the same.
type accountNameRecord struct{ ID string }

func (s *Service) accountNames() *store.Table[accountNameRecord] {
	return store.NewTable[accountNameRecord](s.cfg.Store, "iam-account-names")
}

// CreateAccount makes an account with its root user, which has no key yet (EnsureRootKey makes one). Its number never
// changes and is never given to another account.
func (s *Service) CreateAccount(ctx context.Context, in NewAccount) (Account, error) {
	fail := func(err error) (Account, error) { return Account{}, fmt.Errorf("create account %q: %w", in.Name, err) }
	switch {
	case !accountName.MatchString(in.Name) || isAccountID(in.Name):
		return fail(fmt.Errorf("%w: a name has 1 to 50 letters, digits and . _ - and is no account number", ErrAccountInput))
	case in.ID != "" && !isAccountID(in.ID):
		return fail(fmt.Errorf("%w: a number has twelve digits, got %q", ErrAccountInput, in.ID))
	}
	// The cloud's first accounts have no record of their name.
	switch have, err := s.FindAccount(ctx, in.Name); {
	case err == nil:
		return fail(fmt.Errorf("%w: %s", ErrAccountExists, have.ID))
	case !errors.Is(err, ErrNoAccount):
		return fail(err)
	}
	const attempts = 8 // a number that is chosen may be taken
	for try := 0; ; try++ {
		rec := accountRecord{Account: Account{ID: in.ID, Name: in.Name, System: in.System, Created: s.now(),
			LinkedTo: in.LinkedTo}}
		if rec.ID == "" {
			id, err := randomAccountID()
			if err != nil {
				return fail(err)
			}
			rec.ID = id
		}
		step, err := s.storeAccount(ctx, rec)
		switch {
		case err == nil:
			return rec.Account, nil
		case !errors.Is(err, store.ErrExists):
			return fail(err)
		case step == "name" || in.ID != "" || try == attempts:
			return fail(fmt.Errorf("%w with that %s", ErrAccountExists, step))
		}
	}
}

// storeAccount writes a new account's records; step is what it came to: the account's name, or its number.
func (s *Service) storeAccount(ctx context.Context, rec accountRecord) (step string, err error) {
	err = s.txn(ctx, func(tx *store.Tx) error {
		step = "name"
		if err := s.accountNames().In(tx).Create(rec.Name, accountNameRecord{rec.ID}); err != nil {
			return err
		}
		step = "number"
		return s.accounts.In(tx).Create(rec.ID, rec)
	}, func() { s.accounts.cache.drop(rec.ID) })
	return step, err
}

func randomAccountID() (string, error) {
	n, err := rand.Int(rand.Reader, big.NewInt(900_000_000_000))
	if err != nil {
		return "", fmt.Errorf("choose a number: %w", err)
	}
	return fmt.Sprint(100_000_000_000 + n.Int64()), nil // no zero at the front, which spreadsheets lose
}

// FindAccount returns the account with a number or name; the error is ErrNoAccount when there is none.
func (s *Service) FindAccount(ctx context.Context, idOrName string) (Account, error) {
	all, err := s.Accounts(ctx)
	if err != nil {
		return Account{}, fmt.Errorf("find account %q: %w", idOrName, err)
	}
	for _, a := range all {
		if a.ID == idOrName || a.Name == idOrName {
			return a, nil
		}
	}
	return Account{}, fmt.Errorf("%w: %q", ErrNoAccount, idOrName)
}

// LinkedAccount returns the system account that stands for another one, and makes it when there is none. Its name is
// prefix and the other's number.
func (s *Service) LinkedAccount(ctx context.Context, prefix, accountID string) (Account, error) {
	name := prefix + accountID
	have, err := s.FindAccount(ctx, name)
	if errors.Is(err, ErrNoAccount) {
		have, err = s.CreateAccount(ctx, NewAccount{Name: name, System: true, LinkedTo: accountID})
		if errors.Is(err, ErrAccountExists) { // made by another process a moment ago
			have, err = s.FindAccount(ctx, name)
		}
	}
	if err == nil && (have.LinkedTo != accountID || !have.System) {
		err = fmt.Errorf("%w: %s is called %s and is not linked to %s", ErrAccountExists, have.ID, name, accountID)
	}
	return have, err
}
