package sts

import (
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"github.com/beevik/etree"
	dsig "github.com/russellhaering/goxmldsig"
	"github.com/russellhaering/goxmldsig/etreeutils"

	"github.com/cloudtwin/cloudtwin/cloud/iam"
	stsmodel "github.com/cloudtwin/cloudtwin/cloud/model/sts"
)

const (
	nsAssertion = "urn:oasis:names:tc:SAML:2.0:assertion"
	nsProtocol  = "urn:oasis:names:tc:SAML:2.0:protocol"
	// samlSuccess is the status of a response that holds an assertion.
	samlSuccess = "urn:oasis:names:tc:SAML:2.0:status:Success"
	// samlBearer is how a subject proves to be it: by having the assertion.
	samlBearer = "urn:oasis:names:tc:SAML:2.0:cm:bearer" //nolint:gosec // a name, no credential
	// samlAge is how old an assertion may be: AWS takes them for five minutes.
	samlAge = 5 * time.Minute
)

// recipients are whom an assertion is for.
func recipients() []string {
	return []string{"https://signin.aws.amazon.com/saml", "urn:amazon:webservices"}
}

// assertion is what a verified assertion says.
type assertion struct {
	issuer, subject, format, recipient, provider string
	attributes                                   map[string][]string
	sessionEnd                                   time.Time // zero when it names none
}

func badAssertion(format string, args ...any) error {
	return stsmodel.ErrInvalidIdentityToken("Invalid SAML response: "+format, args...)
}

// openAssertion verifies a SAML response and reads what it says. Nothing is read of what no signature covers.
func openAssertion(text string, m *iam.SAMLMetadata, now time.Time) (*assertion, error) {
	raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		return nil, badAssertion("it is not base64")
	}
	doc := etree.NewDocument()
	if err := doc.ReadFromBytes(raw); err != nil || doc.Root() == nil {
		return nil, badAssertion("it is not XML")
	}
	root := doc.Root()
	if root.Tag != "Response" || root.NamespaceURI() != nsProtocol {
		return nil, badAssertion("it is no Response of SAML 2.0")
	}
	if status := child(child(root, nsProtocol, "Status"), nsProtocol, "StatusCode"); status == nil ||
		status.SelectAttrValue("Value", "") != samlSuccess {
		return nil, badAssertion("its status is not success")
	}
	el, err := verified(root, m, now)
	if err != nil {
		return nil, err
	}
	a, err := readAssertion(el, now)
	if err == nil && a.issuer != m.EntityID {
		err = badAssertion("its issuer is %.100q, the provider's is %.100q", a.issuer, m.EntityID)
	}
	return a, err
}

// verified returns the one assertion, as the signature of it or of the whole response covers it.
func verified(root *etree.Element, m *iam.SAMLMetadata, now time.Time) (*etree.Element, error) {
	if len(children(root, nsAssertion, "EncryptedAssertion")) > 0 {
		return nil, badAssertion("encrypted assertions are not read by this cloud")
	}
	validation := dsig.NewDefaultValidationContext(&dsig.MemoryX509CertificateStore{Roots: m.Certificates})
	validation.Clock = dsig.NewFakeClockAt(now)
	check := func(el *etree.Element) (*etree.Element, error) {
		good, err := validation.Validate(el)
		if err != nil {
			return nil, badAssertion("its signature is not good: %w", err)
		}
		return good, nil
	}
	const nsSignature = "http://www.w3.org/2000/09/xmldsig#"
	whole := child(root, nsSignature, "Signature") != nil
	if whole {
		good, err := check(root)
		if err != nil {
			return nil, err
		}
		root = good
	}
	found := children(root, nsAssertion, "Assertion")
	if len(found) != 1 {
		return nil, badAssertion("it must hold one assertion, not %d", len(found))
	}
	if whole {
		return found[0], nil
	}
	ns, err := etreeutils.NSBuildParentContext(found[0])
	if err != nil {
		return nil, badAssertion("its namespaces are not good")
	}
	detached, err := etreeutils.NSDetatch(ns, found[0])
	if err != nil {
		return nil, badAssertion("its namespaces are not good")
	}
	return check(detached)
}

// readAssertion reads a verified assertion and checks when, for whom and by whom it may be used.
func readAssertion(el *etree.Element, now time.Time) (*assertion, error) {
	a := &assertion{attributes: make(map[string][]string)}
	a.issuer = strings.TrimSpace(textOf(child(el, nsAssertion, "Issuer")))
	subject := child(el, nsAssertion, "Subject")
	if id := child(subject, nsAssertion, "NameID"); id != nil {
		a.subject, a.format = strings.TrimSpace(id.Text()), id.SelectAttrValue("Format", "")
	}
	if a.issuer == "" || a.subject == "" {
		return nil, badAssertion("it names no issuer or no subject")
	}
	issued, err := timeOf(el, "IssueInstant")
	if err != nil || issued.IsZero() {
		return nil, badAssertion("IssueInstant is required")
	}
	if now.After(issued.Add(samlAge)) || now.Add(tokenLeeway).Before(issued) {
		return nil, stsmodel.ErrExpiredTokenException("Token must be redeemed within 5 minutes of issuance")
	}
	if err := a.checkConditions(child(el, nsAssertion, "Conditions"), now); err != nil {
		return nil, err
	}
	if err := a.checkSubject(subject, now); err != nil {
		return nil, err
	}
	a.provider = a.issuer
	if err := a.checkSessions(el, now); err != nil {
		return nil, err
	}
	for _, statement := range children(el, nsAssertion, "AttributeStatement") {
		for _, attribute := range children(statement, nsAssertion, "Attribute") {
			name := attribute.SelectAttrValue("Name", "")
			for _, v := range children(attribute, nsAssertion, "AttributeValue") {
				a.attributes[name] = append(a.attributes[name], strings.TrimSpace(v.Text()))
			}
		}
	}
	return a, nil
}

func (a *assertion) checkConditions(conditions *etree.Element, now time.Time) error {
	if conditions == nil {
		return badAssertion("it has no Conditions")
	}
	from, err := timeOf(conditions, "NotBefore")
	until, uerr := timeOf(conditions, "NotOnOrAfter")
	if err != nil || uerr != nil {
		return badAssertion("Conditions hold no times")
	}
	if !from.IsZero() && now.Add(tokenLeeway).Before(from) {
		return badAssertion("it is not valid before %s", from.Format(time.RFC3339))
	}
	if !until.IsZero() && !now.Before(until) {
		return stsmodel.ErrExpiredTokenException("The assertion was valid until %s", until.Format(time.RFC3339))
	}
	for _, restriction := range children(conditions, nsAssertion, "AudienceRestriction") {
		fits := slices.ContainsFunc(children(restriction, nsAssertion, "Audience"), func(el *etree.Element) bool {
			return slices.Contains(recipients(), strings.TrimSpace(el.Text()))
		})
		if !fits {
			return badAssertion("its audience is not one of %s", strings.Join(recipients(), ", "))
		}
	}
	return nil
}

// checkSubject wants a confirmation by bearer that is for AWS and still good.
func (a *assertion) checkSubject(subject *etree.Element, now time.Time) error {
	for _, c := range children(subject, nsAssertion, "SubjectConfirmation") {
		data := child(c, nsAssertion, "SubjectConfirmationData")
		if c.SelectAttrValue("Method", "") != samlBearer || data == nil {
			continue
		}
		recipient := data.SelectAttrValue("Recipient", "")
		until, err := timeOf(data, "NotOnOrAfter")
		if err == nil && !until.IsZero() && now.Before(until) && slices.Contains(recipients(), recipient) {
			a.recipient = recipient
			return nil
		}
	}
	return badAssertion("no SubjectConfirmation by bearer is good now for recipient %s", recipients()[0])
}

// checkSessions takes up when the provider's session ends, which must not be yet.
func (a *assertion) checkSessions(el *etree.Element, now time.Time) (err error) {
	for _, statement := range children(el, nsAssertion, "AuthnStatement") {
		if a.sessionEnd, err = timeOf(statement, "SessionNotOnOrAfter"); err != nil {
			return badAssertion("SessionNotOnOrAfter is no time")
		}
		if !a.sessionEnd.IsZero() && !now.Before(a.sessionEnd) {
			return stsmodel.ErrExpiredTokenException("The session that the assertion tells of has ended")
		}
	}
	return nil
}

// timeOf reads an attribute; the zero time when it is absent.
func timeOf(el *etree.Element, name string) (time.Time, error) {
	text := el.SelectAttrValue(name, "")
	if text == "" {
		return time.Time{}, nil
	}
	return time.Parse(time.RFC3339Nano, text)
}

func textOf(el *etree.Element) string {
	if el == nil {
		return ""
	}
	return el.Text()
}

// child returns the first direct child of that name; nil when there is none or no element.
func child(el *etree.Element, namespace, tag string) *etree.Element {
	if found := children(el, namespace, tag); len(found) > 0 {
		return found[0]
	}
	return nil
}

func children(el *etree.Element, namespace, tag string) []*etree.Element {
	if el == nil {
		return nil
	}
	var out []*etree.Element
	for _, c := range el.ChildElements() {
		if c.Tag == tag && c.NamespaceURI() == namespace {
			out = append(out, c)
		}
	}
	return out
}
