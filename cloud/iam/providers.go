package iam

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
	"github.com/cloudtwin/cloudtwin/cloud/store"
)

// The most of each kind that an account or a provider can have.
const (
	maxSAMLProviders = 100
	maxOIDCProviders = 100
	maxClientIDs     = 100
	maxThumbprints   = 5
)

// providerRecord is an identity provider, of SAML or of OpenID Connect.
type providerRecord struct {
	AccountID   string
	Kind        string // kindSAML or kindOIDC
	Name        string // of OpenID Connect: the issuer's URL without https://
	Created     time.Time
	ValidUntil  time.Time `json:",omitzero"`  // SAML
	Metadata    string    `json:",omitempty"` // SAML
	ClientIDs   []string  `json:",omitempty"` // OpenID Connect
	Thumbprints []string  `json:",omitempty"` // OpenID Connect: SHA-1 of certificates, hex in lower case
	Tags        []tag     `json:",omitempty"`
}

func (r *providerRecord) arn() string { return entityARN(r.AccountID, r.Kind, "/", r.Name) }

func providerKey(accountID, kind, name string) string {
	return accountID + "/" + kind + "/" + strings.ToLower(name)
}

func noProvider(err error, arn string) error {
	return missing(err, "Manifest not found for arn %s", arn)
}

// Provider is an identity provider as sts needs it.
type Provider struct {
	ARN, AccountID string
	SAMLMetadata   string   // of a SAML provider
	Issuer         string   // of an OpenID Connect provider: its URL
	ClientIDs      []string // its audiences
	Thumbprints    []string // SHA-1 of the certificates one of which its server shows, hex in lower case
}

// Provider returns an identity provider by its ARN, or a NoSuchEntity error.
func (s *Service) Provider(ctx context.Context, arn string) (Provider, error) {
	rec, err := s.provider(ctx, accountOf(arn), arn)
	if err != nil {
		return Provider{}, noProvider(err, arn)
	}
	p := Provider{
		ARN: rec.arn(), AccountID: rec.AccountID, SAMLMetadata: rec.Metadata, ClientIDs: rec.ClientIDs,
		Thumbprints: rec.Thumbprints,
	}
	if rec.Kind == kindOIDC {
		p.Issuer = "https://" + rec.Name
	}
	return p, nil
}

// OIDCProviderFor returns the account's OpenID Connect provider of an issuer, or a NoSuchEntity error.
func (s *Service) OIDCProviderFor(ctx context.Context, accountID, issuer string) (Provider, error) {
	name := strings.TrimPrefix(issuer, "https://")
	return s.Provider(ctx, entityARN(accountID, kindOIDC, "/", name))
}

func (s *Service) provider(ctx context.Context, accountID, arn string) (*providerRecord, error) {
	kind := kindSAML
	if strings.Contains(arn, ":"+kindOIDC+"/") {
		kind = kindOIDC
	}
	if accountID == "" || accountOf(arn) != accountID {
		return nil, store.ErrNotFound
	}
	rec, err := s.providers.cached(ctx, tagKey(kind, accountID, arn))
	if err == nil && rec.arn() != arn {
		return nil, store.ErrNotFound
	}
	return rec, err
}

// callersProvider returns a provider of the caller's account, of the given kind.
func (s *Service) callersProvider(ctx context.Context, kind, arn string) (*providerRecord, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	rec, err := s.provider(ctx, id, arn)
	if err == nil && rec.Kind != kind {
		err = store.ErrNotFound
	}
	return rec, noProvider(err, arn)
}

// changeProvider changes a provider of the caller's account.
func (s *Service) changeProvider(ctx context.Context, kind, arn string, change func(*providerRecord) error) error {
	id, err := account(ctx)
	if err != nil {
		return err
	}
	return noProvider(changeRecord(ctx, s, s.providers, tagKey(kind, id, arn), func(_ *store.Tx, r *providerRecord) error {
		if r.arn() != arn || r.Kind != kind {
			return store.ErrNotFound
		}
		return change(r)
	}), arn)
}

func (s *Service) createProvider(ctx context.Context, rec providerRecord, quota string, limit int) error {
	of := func(ctx context.Context, prefix string) (int, error) {
		return s.providers.Count(ctx, prefix+rec.Kind+"/")
	}
	if err := belowLimit(ctx, of, rec.AccountID, quota, limit); err != nil {
		return err
	}
	return taken(s.providers.Create(ctx, providerKey(rec.AccountID, rec.Kind, rec.Name), rec),
		"Provider with ARN %s already exists.", rec.arn())
}

func (s *Service) deleteProvider(ctx context.Context, kind, arn string) error {
	id, err := account(ctx)
	if err != nil {
		return err
	}
	if _, err := s.callersProvider(ctx, kind, arn); err != nil {
		return err
	}
	return noProvider(s.providers.Delete(ctx, tagKey(kind, id, arn)), arn)
}

func (s *Service) listProviders(ctx context.Context, kind string) ([]providerRecord, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	return s.providers.List(ctx, id+"/"+kind+"/")
}

// CreateOpenIDConnectProvider makes the account trust an issuer of OpenID Connect tokens. Its URL begins with https://;
// sts asks it for its keys on loopback addresses only.
func (s *Service) CreateOpenIDConnectProvider(
	ctx context.Context, in *iammodel.CreateOpenIDConnectProviderInput,
) (*iammodel.CreateOpenIDConnectProviderOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	name, err := issuerName(model.Val(in.Url))
	if err != nil {
		return nil, err
	}
	tags, err := readTags(in.Tags)
	if err != nil {
		return nil, err
	}
	rec := providerRecord{
		AccountID: id, Kind: kindOIDC, Name: name, Created: s.now(), ClientIDs: in.ClientIDList, Tags: tags,
	}
	if len(rec.ClientIDs) > maxClientIDs {
		return nil, errLimit("ClientIdsPerOpenIdConnectProvider", maxClientIDs)
	}
	if rec.Thumbprints, err = readThumbprints(in.ThumbprintList); err != nil {
		return nil, err
	}
	if err := s.createProvider(ctx, rec, "OpenIdConnectProvidersPerAccount", maxOIDCProviders); err != nil {
		return nil, err
	}
	return &iammodel.CreateOpenIDConnectProviderOutput{
		OpenIDConnectProviderArn: model.Ptr(rec.arn()), Tags: viewTags(tags),
	}, nil
}

func issuerName(text string) (string, error) {
	u, err := url.Parse(text)
	bad := err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil
	if bad {
		return "", iammodel.ErrInvalidInput("Invalid Open ID Connect Provider URL: it must begin with https:// and have " +
			"neither query nor fragment")
	}
	return u.Host + strings.TrimSuffix(u.EscapedPath(), "/"), nil
}

func readThumbprints(list []string) ([]string, error) {
	if len(list) > maxThumbprints {
		return nil, errLimit("ThumbprintsPerOpenIdConnectProvider", maxThumbprints)
	}
	var out []string
	for _, t := range list {
		t = strings.ToLower(t)
		if strings.Trim(t, "0123456789abcdef") != "" {
			return nil, iammodel.ErrInvalidInput("Thumbprint %s is not 40 hexadecimal digits", t)
		}
		out = append(out, t)
	}
	return out, nil
}

// GetOpenIDConnectProvider returns an OpenID Connect provider.
func (s *Service) GetOpenIDConnectProvider(
	ctx context.Context, in *iammodel.GetOpenIDConnectProviderInput,
) (*iammodel.GetOpenIDConnectProviderOutput, error) {
	rec, err := s.callersProvider(ctx, kindOIDC, model.Val(in.OpenIDConnectProviderArn))
	if err != nil {
		return nil, err
	}
	return &iammodel.GetOpenIDConnectProviderOutput{
		Url: model.Ptr(rec.Name), ClientIDList: rec.ClientIDs, ThumbprintList: rec.Thumbprints,
		CreateDate: model.Ptr(rec.Created), Tags: viewTags(rec.Tags),
	}, nil
}

// ListOpenIDConnectProviders lists the ARNs of the account's OpenID Connect providers.
func (s *Service) ListOpenIDConnectProviders(
	ctx context.Context, _ *iammodel.ListOpenIDConnectProvidersInput,
) (*iammodel.ListOpenIDConnectProvidersOutput, error) {
	recs, err := s.listProviders(ctx, kindOIDC)
	out := &iammodel.ListOpenIDConnectProvidersOutput{
		OpenIDConnectProviderList: []iammodel.OpenIDConnectProviderListEntry{},
	}
	for i := range recs {
		out.OpenIDConnectProviderList = append(out.OpenIDConnectProviderList,
			iammodel.OpenIDConnectProviderListEntry{Arn: model.Ptr(recs[i].arn())})
	}
	return out, err
}

// DeleteOpenIDConnectProvider deletes a provider. Roles that trust it are not assumed by its tokens any more.
func (s *Service) DeleteOpenIDConnectProvider(
	ctx context.Context, in *iammodel.DeleteOpenIDConnectProviderInput,
) (*iammodel.DeleteOpenIDConnectProviderOutput, error) {
	return nil, s.deleteProvider(ctx, kindOIDC, model.Val(in.OpenIDConnectProviderArn))
}

// UpdateOpenIDConnectProviderThumbprint replaces a provider's thumbprints.
func (s *Service) UpdateOpenIDConnectProviderThumbprint(
	ctx context.Context, in *iammodel.UpdateOpenIDConnectProviderThumbprintInput,
) (*iammodel.UpdateOpenIDConnectProviderThumbprintOutput, error) {
	list, err := readThumbprints(in.ThumbprintList)
	if err != nil {
		return nil, err
	}
	return nil, s.changeProvider(ctx, kindOIDC, model.Val(in.OpenIDConnectProviderArn), func(r *providerRecord) error {
		r.Thumbprints = list
		return nil
	})
}

// AddClientIDToOpenIDConnectProvider adds an audience; it is no error when it is there.
func (s *Service) AddClientIDToOpenIDConnectProvider(
	ctx context.Context, in *iammodel.AddClientIDToOpenIDConnectProviderInput,
) (*iammodel.AddClientIDToOpenIDConnectProviderOutput, error) {
	client := model.Val(in.ClientID)
	return nil, s.changeProvider(ctx, kindOIDC, model.Val(in.OpenIDConnectProviderArn), func(r *providerRecord) error {
		switch {
		case slices.Contains(r.ClientIDs, client):
		case len(r.ClientIDs) >= maxClientIDs:
			return errLimit("ClientIdsPerOpenIdConnectProvider", maxClientIDs)
		default:
			r.ClientIDs = append(r.ClientIDs, client)
		}
		return nil
	})
}

// RemoveClientIDFromOpenIDConnectProvider takes an audience away; it is no error when it is not there.
func (s *Service) RemoveClientIDFromOpenIDConnectProvider(
	ctx context.Context, in *iammodel.RemoveClientIDFromOpenIDConnectProviderInput,
) (*iammodel.RemoveClientIDFromOpenIDConnectProviderOutput, error) {
	client := model.Val(in.ClientID)
	return nil, s.changeProvider(ctx, kindOIDC, model.Val(in.OpenIDConnectProviderArn), func(r *providerRecord) error {
		r.ClientIDs = slices.DeleteFunc(r.ClientIDs, func(c string) bool { return c == client })
		return nil
	})
}
