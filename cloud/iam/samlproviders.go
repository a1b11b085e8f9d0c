package iam

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"strings"
	"time"

	"github.com/cloudtwin/cloudtwin/cloud/model"
	iammodel "github.com/cloudtwin/cloudtwin/cloud/model/iam"
)

// SAMLMetadata is what an identity provider's metadata document says, as far as it matters here.
type SAMLMetadata struct {
	EntityID   string
	ValidUntil time.Time // zero when the document names no end
	// Certificates are the provider's for signatures.
	Certificates []*x509.Certificate
}

// samlEntity is the XML of such a document (SAML 2.0 metadata, 2.3.2 and 2.4.3).
type samlEntity struct {
	XMLName    xml.Name  `xml:"urn:oasis:names:tc:SAML:2.0:metadata EntityDescriptor"`
	EntityID   string    `xml:"entityID,attr"`
	ValidUntil time.Time `xml:"validUntil,attr"`
	IDP        *struct {
		Keys []struct {
			Use          string   `xml:"use,attr"`
			Certificates []string `xml:"KeyInfo>X509Data>X509Certificate"`
		} `xml:"KeyDescriptor"`
	} `xml:"IDPSSODescriptor"`
}

// ParseSAMLMetadata reads an identity provider's metadata document.
func ParseSAMLMetadata(text string) (*SAMLMetadata, error) {
	var e samlEntity
	if err := xml.Unmarshal([]byte(text), &e); err != nil {
		return nil, errors.New("read SAML metadata: it is no EntityDescriptor of SAML 2.0")
	}
	if e.EntityID == "" || e.IDP == nil {
		return nil, errors.New("read SAML metadata: entityID and IDPSSODescriptor are required")
	}
	m := &SAMLMetadata{EntityID: e.EntityID, ValidUntil: e.ValidUntil.UTC()}
	for _, k := range e.IDP.Keys {
		if k.Use == "encryption" {
			continue
		}
		for _, c := range k.Certificates {
			der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(c), ""))
			if err != nil {
				return nil, errors.New("read SAML metadata: a X509Certificate is not base64")
			}
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				return nil, errors.New("read SAML metadata: a X509Certificate is no certificate")
			}
			m.Certificates = append(m.Certificates, cert)
		}
	}
	if len(m.Certificates) == 0 {
		return nil, errors.New("read SAML metadata: it has no certificate for signatures")
	}
	return m, nil
}

// defaultSAMLValidity is how long a provider is shown as valid whose document names no end.
const defaultSAMLValidity = 100

func (s *Service) samlValidity(m *SAMLMetadata, now time.Time) (time.Time, error) {
	if m.ValidUntil.IsZero() {
		return now.AddDate(defaultSAMLValidity, 0, 0), nil
	}
	if !now.Before(m.ValidUntil) {
		return time.Time{}, iammodel.ErrInvalidInput("SAML metadata was valid until %s only.",
			m.ValidUntil.Format(time.RFC3339))
	}
	return m.ValidUntil, nil
}

// CreateSAMLProvider makes the account trust a SAML identity provider, by its metadata document.
func (s *Service) CreateSAMLProvider(
	ctx context.Context, in *iammodel.CreateSAMLProviderInput,
) (*iammodel.CreateSAMLProviderOutput, error) {
	id, err := account(ctx)
	if err != nil {
		return nil, err
	}
	tags, err := readTags(in.Tags)
	if err != nil {
		return nil, err
	}
	rec := providerRecord{
		AccountID: id, Kind: kindSAML, Name: model.Val(in.Name), Created: s.now(), Tags: tags,
		Metadata: model.Val(in.SAMLMetadataDocument),
	}
	m, err := ParseSAMLMetadata(rec.Metadata)
	if err != nil {
		return nil, iammodel.ErrInvalidInput("Could not parse metadata: %w", err)
	}
	if rec.ValidUntil, err = s.samlValidity(m, s.now()); err != nil {
		return nil, err
	}
	if err := s.createProvider(ctx, rec, "SAMLProvidersPerAccount", maxSAMLProviders); err != nil {
		return nil, err
	}
	return &iammodel.CreateSAMLProviderOutput{SAMLProviderArn: model.Ptr(rec.arn()), Tags: viewTags(tags)}, nil
}

// GetSAMLProvider returns a SAML provider with its metadata document.
func (s *Service) GetSAMLProvider(
	ctx context.Context, in *iammodel.GetSAMLProviderInput,
) (*iammodel.GetSAMLProviderOutput, error) {
	rec, err := s.callersProvider(ctx, kindSAML, model.Val(in.SAMLProviderArn))
	if err != nil {
		return nil, err
	}
	return &iammodel.GetSAMLProviderOutput{
		SAMLMetadataDocument: model.Ptr(rec.Metadata), CreateDate: model.Ptr(rec.Created),
		ValidUntil: model.Ptr(rec.ValidUntil), Tags: viewTags(rec.Tags),
	}, nil
}

// ListSAMLProviders lists the account's SAML providers.
func (s *Service) ListSAMLProviders(
	ctx context.Context, _ *iammodel.ListSAMLProvidersInput,
) (*iammodel.ListSAMLProvidersOutput, error) {
	recs, err := s.listProviders(ctx, kindSAML)
	out := &iammodel.ListSAMLProvidersOutput{SAMLProviderList: []iammodel.SAMLProviderListEntry{}}
	for i := range recs {
		out.SAMLProviderList = append(out.SAMLProviderList, iammodel.SAMLProviderListEntry{
			Arn: model.Ptr(recs[i].arn()), CreateDate: model.Ptr(recs[i].Created), ValidUntil: model.Ptr(recs[i].ValidUntil),
		})
	}
	return out, err
}

// UpdateSAMLProvider replaces a provider's metadata document.
func (s *Service) UpdateSAMLProvider(
	ctx context.Context, in *iammodel.UpdateSAMLProviderInput,
) (*iammodel.UpdateSAMLProviderOutput, error) {
	text := model.Val(in.SAMLMetadataDocument)
	m, err := ParseSAMLMetadata(text)
	if err != nil {
		return nil, iammodel.ErrInvalidInput("Could not parse metadata: %w", err)
	}
	until, err := s.samlValidity(m, s.now())
	if err != nil {
		return nil, err
	}
	err = s.changeProvider(ctx, kindSAML, model.Val(in.SAMLProviderArn), func(r *providerRecord) error {
		r.Metadata, r.ValidUntil = text, until
		return nil
	})
	return &iammodel.UpdateSAMLProviderOutput{SAMLProviderArn: in.SAMLProviderArn}, err
}

// DeleteSAMLProvider deletes a provider. Roles that trust it are not assumed by its assertions any more.
func (s *Service) DeleteSAMLProvider(
	ctx context.Context, in *iammodel.DeleteSAMLProviderInput,
) (*iammodel.DeleteSAMLProviderOutput, error) {
	return nil, s.deleteProvider(ctx, kindSAML, model.Val(in.SAMLProviderArn))
}
